//! `linearGrad`.

use super::*;

#[test]
fn gradients_of_linear_stay_within_the_bound() {
    let Some(mut lab) = Lab::open() else { return };
    let mut numbers = Numbers(4);
    for traits in &disguises(&lab.traits) {
        for (m, k, n) in [(0, 3, 5), (4, 3, 0), (1, 3, 5), (9, 20, 8), (130, 33, 36), (300, 36, 10)] {
            for activation in [Activation::None, Activation::Relu, Activation::Tanh] {
                for bits in [1, 2, 4, 7] {
                    let wanted = Wanted { dx: bits & 1 != 0, dweight: bits & 2 != 0, dbias: bits & 4 != 0 };
                    let (dy, saved) = (numbers.reals(m * n), numbers.reals(m * n));
                    let (x, w) = (numbers.reals(m * k), numbers.reals(k * n));
                    let mut memory = Layout::default();
                    let needs = activation != Activation::None;
                    let inputs = vec![
                        Some(memory.input(&[m, n], &dy, 0)),
                        needs.then(|| memory.input(&[m, n], &saved, 0)),
                        wanted.dweight.then(|| memory.input(&[m, k], &x, 0)),
                        wanted.dx.then(|| memory.input(&[k, n], &w, 0)),
                    ];
                    let shapes = [(wanted.dx, vec![m, k]), (wanted.dweight, vec![k, n]), (wanted.dbias, vec![n])];
                    let outputs =
                        shapes.iter().filter(|(wanted, _)| *wanted).map(|(_, dims)| memory.result(dims)).collect();
                    let prepared = prepare(&kernel(Op::LinearGrad { activation, wanted }, inputs, outputs), traits);
                    let results = memory.run(&mut lab, &prepared, bits % 2 == 0);
                    let dz: Vec<f32> = dy
                        .iter()
                        .zip(&saved)
                        .map(|(&dy, &saved)| match activation {
                            Activation::Relu if saved <= 0.0 => 0.0,
                            Activation::Tanh => dy * (1.0 - saved * saved),
                            _ => dy,
                        })
                        .collect();
                    let ones = vec![1.0; m];
                    let stored = |data, rows, cols, transposed| Stored { data, rows, cols, transposed };
                    let gradient = stored(&dz, m, n, false);
                    let expected = [
                        (wanted.dx, gradient, stored(&w, n, k, true), m, k),
                        (wanted.dweight, stored(&x, k, m, true), gradient, k, n),
                        (wanted.dbias, stored(&ones, 1, m, false), gradient, 1, n),
                    ];
                    let mut results = results.iter();
                    for (_, a, b, rows, cols) in expected.into_iter().filter(|(wanted, ..)| *wanted) {
                        let result = results.next().unwrap();
                        for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
                            let ((sum, size), got) = (exact(a, b, row, col), f64::from(result[row * cols + col]));
                            let most = gamma(roundings(a.cols) + 4) * size;
                            assert!((got - sum).abs() <= most, "{activation:?} {wanted:?} {m} {k} {n}: {got} {sum}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_zeros_change_no_bit_of_the_bias_nor_does_the_adapter() {
    let Some(mut lab) = Lab::open() else { return };
    let mut numbers = Numbers(7);
    let wanted = Wanted { dx: false, dweight: false, dbias: true };
    // So few rows that their sum is one strip's, and many.
    for (rows, n) in [(40, 36), (40, 5), (1000, 36), (1000, 5)] {
        let dy = numbers.reals(rows * n);
        let mut first: Option<Vec<u32>> = None;
        for traits in &disguises(&lab.traits) {
            for zeros in [0, 1, 24, 25, 300] {
                let mut dy = dy.clone();
                dy.resize((rows + zeros) * n, 0.0);
                let mut memory = Layout::default();
                let inputs = vec![Some(memory.input(&[rows + zeros, n], &dy, 0)), None, None, None];
                let outputs = vec![memory.result(&[n])];
                let op = Op::LinearGrad { activation: Activation::None, wanted };
                let result = memory.run(&mut lab, &prepare(&kernel(op, inputs, outputs), traits), true).remove(0);
                let bits: Vec<u32> = result.iter().map(|x| x.to_bits()).collect();
                assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{n} {zeros}");
            }
        }
    }
}
