//! `matmul` and `linear`.

use super::*;

/// Which result is checked how.
struct Shape {
    m: usize,
    k: usize,
    n: usize,
}

fn matrix_dims(transposed: bool, rows: usize, cols: usize) -> [usize; 2] {
    if transposed { [cols, rows] } else { [rows, cols] }
}

/// Sizes at and around every edge that texts distinguish.
fn sizes(numbers: &mut Numbers) -> Shape {
    let pick = |numbers: &mut Numbers, from: &[usize]| from[numbers.below(from.len())];
    Shape {
        m: pick(numbers, &[1, 2, 3, 5, 8, 9, 12, 16, 17, 31, 32, 33, 64, 65, 100, 129]),
        k: pick(numbers, &[1, 2, 3, 4, 5, 8, 15, 16, 17, 20, 33, 64, 100, 255, 256, 257, 260, 512, 530]),
        n: pick(numbers, &[1, 2, 3, 4, 5, 7, 8, 10, 16, 31, 32, 33, 36, 63, 64, 65, 100, 128, 132]),
    }
}

#[test]
fn products_stay_within_the_bound_and_integers_are_exact() {
    let Some(mut lab) = Lab::open() else { return };
    let disguises = disguises(&lab.traits);
    let mut numbers = Numbers(1);
    for case in 0..60 {
        let Shape { m, k, n } = sizes(&mut numbers);
        let (ta, tb, integers) = (numbers.below(4) == 0, numbers.below(4) == 0, case % 3 == 0);
        let mut fill = |count| if integers { numbers.integers(count) } else { numbers.reals(count) };
        let (x, y) = (fill(m * k), fill(k * n));
        let shift = |numbers: &mut Numbers| if numbers.below(6) == 0 { 1 + numbers.below(3) } else { 0 };
        let mut memory = Memory16::default();
        let a = memory.input(&matrix_dims(ta, m, k), &x, shift(&mut numbers));
        let b = memory.input(&matrix_dims(tb, k, n), &y, shift(&mut numbers));
        let c = memory.result(&[m, n]);
        let op = Op::Matmul { transpose_a: ta, transpose_b: tb };
        let traits = &disguises[case % 3];
        let prepared = prepare(&kernel(op, vec![Some(a), Some(b)], vec![c]), traits);
        let results = memory.run(&mut lab, &prepared, case % 2 == 0);
        let a = Stored { data: &x, rows: m, cols: k, transposed: ta };
        let b = Stored { data: &y, rows: k, cols: n, transposed: tb };
        for row in 0..m {
            for col in 0..n {
                let ((sum, size), got) = (exact(a, b, row, col), f64::from(results[0][row * n + col]));
                let most = if integers { 0.0 } else { gamma(roundings(k)) * size };
                assert!(
                    (got - sum).abs() <= most,
                    "{} {m} {k} {n} {ta} {tb} at {row} {col}: {got} is not {sum}",
                    prepared.calls[0].shader.name
                );
            }
        }
    }
}

#[test]
fn the_epilogue_adds_the_bias_and_keeps_z() {
    let Some(mut lab) = Lab::open() else { return };
    let mut numbers = Numbers(2);
    for traits in &disguises(&lab.traits) {
        for (m, k, n) in [(1, 0, 5), (3, 20, 8), (40, 36, 36), (70, 300, 33), (130, 16, 132)] {
            for activation in [Activation::None, Activation::Relu, Activation::GeluTanh, Activation::Sigmoid] {
                for save_z in [false, true] {
                    let (x, w, bias) = (numbers.reals(m * k), numbers.reals(k * n), numbers.reals(n));
                    let mut memory = Memory16::default();
                    let inputs = vec![
                        Some(memory.input(&[m, k], &x, 0)),
                        Some(memory.input(&[k, n], &w, 0)),
                        Some(memory.input(&[n], &bias, 3)),
                    ];
                    let count = if save_z { 2 } else { 1 };
                    let outputs = (0..count).map(|_| memory.result(&[m, n])).collect();
                    let prepared = prepare(&kernel(Op::Linear { activation, save_z }, inputs, outputs), traits);
                    let results = memory.run(&mut lab, &prepared, true);
                    let a = Stored { data: &x, rows: m, cols: k, transposed: false };
                    let b = Stored { data: &w, rows: k, cols: n, transposed: false };
                    for row in 0..m {
                        for (col, &bias) in bias.iter().enumerate() {
                            let (sum, size) = exact(a, b, row, col);
                            let z = sum + f64::from(bias);
                            let near = gamma(roundings(k)) * (size + f64::from(bias).abs());
                            let y = match activation {
                                Activation::Relu => z.max(0.0),
                                Activation::Sigmoid => 1.0 / (1.0 + (-z).exp()),
                                Activation::GeluTanh => {
                                    let u = 0.797_884_560_802_865_4 * (z + 0.044_715 * z * z * z);
                                    0.5 * z * (1.0 + u.tanh())
                                }
                                _ => z,
                            };
                            let at = row * n + col;
                            let got = f64::from(results[0][at]);
                            // No activation here is steeper than 1.13.
                            assert!((got - y).abs() <= 1.13 * near + 1e-6 * y.abs(), "{activation:?} {got} {y}");
                            if save_z {
                                assert!((f64::from(results[1][at]) - z).abs() <= near);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn batches_are_single_products_and_stretched_operands_are_read_again() {
    let Some(mut lab) = Lab::open() else { return };
    let mut numbers = Numbers(3);
    let shapes: [(&[usize], &[usize], &[usize]); 6] = [
        (&[3], &[3], &[3]),
        (&[4], &[1], &[4]),
        (&[1], &[4], &[4]),
        (&[2, 1, 3], &[5, 1], &[2, 5, 3]),
        (&[], &[2, 3], &[2, 3]),
        (&[2, 1, 2, 1, 2, 1], &[1, 2, 1, 2, 1, 3], &[2, 2, 2, 2, 2, 3]),
    ];
    for traits in &disguises(&lab.traits) {
        for (m, k, n) in [(2, 5, 4), (36, 20, 33)] {
            for (a_batch, b_batch, c_batch) in shapes {
                for (ta, tb) in [(false, false), (true, true)] {
                    let count = |dims: &[usize]| dims.iter().product::<usize>();
                    let (x, y) = (numbers.integers(count(a_batch) * m * k), numbers.integers(count(b_batch) * k * n));
                    let mut memory = Memory16::default();
                    let a = memory.input(&[a_batch, &matrix_dims(ta, m, k)[..]].concat(), &x, 0);
                    let b = memory.input(&[b_batch, &matrix_dims(tb, k, n)[..]].concat(), &y, 0);
                    let c = memory.result(&[c_batch, &[m, n][..]].concat());
                    let op = Op::Matmul { transpose_a: ta, transpose_b: tb };
                    let prepared = prepare(&kernel(op, vec![Some(a), Some(b)], vec![c]), traits);
                    let results = memory.run(&mut lab, &prepared, true);
                    for item in 0..count(c_batch) {
                        let of = |batch: &[usize]| {
                            let (mut rest, mut step, mut at) = (item, 1, 0);
                            for (i, &size) in c_batch.iter().rev().enumerate() {
                                let own = batch.len().checked_sub(i + 1).map_or(1, |i| batch[i]);
                                at += if own == 1 { 0 } else { rest % size * step };
                                step *= own;
                                rest /= size;
                            }
                            at
                        };
                        let a = Stored { data: &x[of(a_batch) * m * k..], rows: m, cols: k, transposed: ta };
                        let b = Stored { data: &y[of(b_batch) * k * n..], rows: k, cols: n, transposed: tb };
                        for (row, col) in (0..m).flat_map(|row| (0..n).map(move |col| (row, col))) {
                            let got = f64::from(results[0][(item * m + row) * n + col]);
                            assert_eq!(got, exact(a, b, row, col).0, "{a_batch:?} {b_batch:?} {item} {row} {col}");
                        }
                    }
                }
            }
        }
    }
}
