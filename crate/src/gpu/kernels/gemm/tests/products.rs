//! `matmul` and `linear`.

use super::choose::Family;
use super::*;

fn matrix_dims(transposed: bool, rows: usize, cols: usize) -> [usize; 2] {
    if transposed { [cols, rows] } else { [rows, cols] }
}

/// Families with their tiles, as adapters of every class would choose them.
fn families(traits: &Traits) -> Vec<Family> {
    let software = |rows, vectors| Family::Software(software::Tile { rows, vectors });
    let simt = |rows, cols| Family::Simt(simt::Tile { rows, cols });
    let mut families = vec![simt(32, 32), simt(64, 64), simt(64, 128), simt(128, 64), simt(128, 128)];
    families.extend([1, 2, 4, 8].map(Family::Rows));
    if traits.subgroup == Some(8) {
        families.extend([software(8, 1), software(8, 2), software(16, 1), software(16, 2)]);
    }
    families
}

/// Sizes at and around every edge that texts distinguish.
fn sizes(numbers: &mut Numbers, case: usize, family: Family) -> [usize; 3] {
    let pick = |numbers: &mut Numbers, from: &[usize]| from[numbers.below(from.len())];
    let m = match family {
        Family::Rows(_) => 1 + numbers.below(8),
        _ => pick(numbers, &[1, 2, 3, 5, 8, 9, 12, 16, 17, 31, 32, 33, 64, 65, 129]),
    };
    let k: &[usize] = match (family, case % 4) {
        (Family::Rows(1), 0 | 2) => &[4, 20, 256],
        (Family::Rows(1), _) => &[1, 33, 255],
        (Family::Rows(2), 0 | 2) => &[260, 300, 512],
        (Family::Rows(2), _) => &[257, 511],
        (Family::Rows(4), 0 | 2) => &[516, 700, 1024],
        (Family::Rows(4), _) => &[513, 1001],
        // More blocks than workers too.
        (Family::Rows(_), 0 | 2) => &[1028, 2048, 2304],
        (Family::Rows(_), _) => &[1025, 2049, 2305],
        (_, 0) => &[4, 8, 20, 64, 240, 256],
        (_, 1) => &[1, 2, 3, 5, 15, 17, 33, 255],
        (_, 2) => &[260, 512, 524],
        _ => &[257, 530],
    };
    let n: &[usize] =
        if case & 4 == 0 { &[4, 8, 16, 32, 36, 64, 100, 128, 132] } else { &[1, 2, 3, 5, 7, 10, 31, 33, 63, 65] };
    [m, pick(numbers, k), pick(numbers, n)]
}

#[test]
fn products_stay_within_the_bound_and_integers_are_exact() {
    let Some(mut lab) = Lab::open() else { return };
    let mut numbers = Numbers(1);
    let (traits, aligned) = (lab.traits.clone(), Aligned::default());
    let (mut cases, mut texts) = (0, std::collections::HashSet::new());
    for (at, family) in families(&traits).into_iter().enumerate() {
        // Compiling takes the time, not running, and longest for large tiles: these meet fewer of the kinds.
        let (rows, cols) = family.tile();
        let kinds = if rows * cols > 4096 { 3 } else { 7 };
        for kind in (0..kinds).map(|kind| (kind * 13 + at * 5) % 32) {
            let (ta, tb) = (kind & 8 != 0, kind & 16 != 0);
            for round in 0..27 {
                let [m, k, n] = sizes(&mut numbers, kind, family);
                let integers = round % 3 == 0;
                let mut fill = |count| if integers { numbers.integers(count) } else { numbers.reals(count) };
                let (x, y) = (fill(m * k), fill(k * n));
                let mut memory = Layout::default();
                let shift = usize::from(kind % 8 == 7);
                let a = memory.input(&matrix_dims(ta, m, k), &x, shift);
                let b = memory.input(&matrix_dims(tb, k, n), &y, 2 * shift);
                let epilogue = Epilogue::plain(Memory::Operand(memory.result(&[m, n])));
                let product = Product {
                    a: side(&a, !ta, aligned),
                    b: side(&b, tb, aligned),
                    m,
                    n,
                    k,
                    batch: Vec::new(),
                    epilogue,
                };
                let mut prepared = Prepared::default();
                let target = Target { traits: &traits, aligned };
                product.dispatch(family, target, &mut prepared).unwrap();
                texts.extend(prepared.calls.iter().map(|call| call.shader.clone()));
                let results = memory.run(&mut lab, &prepared, (kind + at) % 2 == 0);
                let a = Stored { data: &x, rows: m, cols: k, transposed: ta };
                let b = Stored { data: &y, rows: k, cols: n, transposed: tb };
                for (row, col) in (0..m).flat_map(|row| (0..n).map(move |col| (row, col))) {
                    let ((sum, size), got) = (exact(a, b, row, col), f64::from(results[0][row * n + col]));
                    let most = if integers { 0.0 } else { gamma(roundings(k)) * size };
                    let error = (got - sum).abs();
                    assert!(error <= most, "{family:?} {m} {k} {n} {ta} {tb} at {row} {col}: {got} is not {sum}");
                }
                cases += 1;
            }
        }
    }
    eprintln!("{cases} products by {} texts", texts.len());
    assert!(cases >= 2000, "{cases}");
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_any_batch_by_any_family() {
    let Some(mut lab) = Lab::open() else { return };
    let mut numbers = Numbers(5);
    let (traits, aligned) = (lab.traits.clone(), Aligned::default());
    let target = Target { traits: &traits, aligned };
    for (k, n) in [(1000, 36), (1030, 33)] {
        let (x, w, bias) = (numbers.reals(40 * k), numbers.reals(k * n), numbers.reals(n));
        let mut bits: Vec<Vec<u32>> = Vec::new();
        for family in families(&traits) {
            // Workers are a question of K alone.
            if matches!(family, Family::Rows(workers) if workers != rows::workers(k)) {
                continue;
            }
            let counts: &[usize] = if matches!(family, Family::Rows(_)) { &[1, 5, 8] } else { &[1, 7, 40] };
            for &m in counts {
                let mut memory = Layout::default();
                let a = memory.input(&[m, k], &x[..m * k], 0);
                let b = memory.input(&[k, n], &w, 0);
                let bias = Some(memory.input(&[n], &bias, 0));
                let to = Memory::Operand(memory.result(&[m, n]));
                let epilogue = Epilogue { to, bias, activation: Activation::Silu, z: None, after: None };
                let product = Product {
                    a: side(&a, true, aligned),
                    b: side(&b, false, aligned),
                    m,
                    n,
                    k,
                    batch: Vec::new(),
                    epilogue,
                };
                let mut prepared = Prepared::default();
                product.dispatch(family, target, &mut prepared).unwrap();
                let result = &memory.run(&mut lab, &prepared, true)[0];
                for (row, result) in result.chunks(n).enumerate() {
                    let result: Vec<u32> = result.iter().map(|x| x.to_bits()).collect();
                    match bits.get(row) {
                        Some(first) => assert_eq!(first, &result, "{family:?}: row {row} of {m}, K = {k}, N = {n}"),
                        None => bits.push(result),
                    }
                }
            }
        }
        assert_eq!(bits.len(), 40);
    }
}

#[test]
fn not_a_number_times_zero_is_not_a_number() {
    let Some(mut lab) = Lab::open() else { return };
    let (traits, aligned) = (lab.traits.clone(), Aligned::default());
    let (m, k, n) = (3, 20, 36);
    let (x, mut w) = (vec![0.0; m * k], vec![1.0; k * n]);
    w[7 * n + 5] = f32::NAN;
    w[19 * n + 35] = f32::INFINITY;
    for family in families(&traits) {
        let mut memory = Layout::default();
        let (a, b) = (memory.input(&[m, k], &x, 0), memory.input(&[k, n], &w, 0));
        let epilogue = Epilogue::plain(Memory::Operand(memory.result(&[m, n])));
        let product =
            Product { a: side(&a, true, aligned), b: side(&b, false, aligned), m, n, k, batch: Vec::new(), epilogue };
        let mut prepared = Prepared::default();
        product.dispatch(family, Target { traits: &traits, aligned }, &mut prepared).unwrap();
        for (at, y) in memory.run(&mut lab, &prepared, true)[0].iter().enumerate() {
            assert!(if matches!(at % n, 5 | 35) { y.is_nan() } else { *y == 0.0 }, "{family:?} {at} {y}");
        }
    }
}

#[test]
fn operands_of_several_windows_and_products_in_parts_change_nothing() {
    let Some(mut lab) = Lab::open() else { return };
    let whole = lab.traits.clone();
    let mut numbers = Numbers(6);
    let (m, k, n) = (100, 260, 64);
    let (x, w) = (numbers.reals(3 * m * k), numbers.reals(k * n));
    let mut memory = Layout::default();
    let inputs = vec![Some(memory.input(&[3, m, k], &x, 0)), Some(memory.input(&[k, n], &w, 0))];
    let step = kernel(Op::Matmul { transpose_a: false, transpose_b: false }, inputs, vec![memory.result(&[3, m, n])]);
    for traits in disguises(&whole) {
        let expected = memory.run(&mut lab, &prepare(&step, &traits), true);
        let narrow = Traits { binding_bytes: 64 << 10, ..traits.clone() };
        let prepared = prepare(&step, &narrow);
        assert!(prepared.calls[0].windows.len() > 3);
        lab.traits.binding_bytes = narrow.binding_bytes;
        let got = memory.run(&mut lab, &prepared, true);
        lab.traits.binding_bytes = whole.binding_bytes;
        assert!(got == expected);
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
                    let mut memory = Layout::default();
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
                    let mut memory = Layout::default();
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
