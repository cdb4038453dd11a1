//! Softmax, its logarithm and their gradients against the formulas in f64, at sizes around vectors, blocks and strips; special
//! values; and the bits that threads, other rows and what is appended must not change.

use super::*;
use crate::cpu::{Isa, Pool};

const SHAPES: [(usize, usize, usize); 15] = [
    (0, 3, 1),
    (3, 0, 1),
    (3, 2, 0),
    (4, 1, 1),
    (3, 7, 1),
    (5, 32, 1),
    (1000, 33, 1),
    (3, 1031, 1),
    (1, 70_001, 1),
    (2, 1, 3),
    (3, 5, 2),
    (2, 130, 17),
    (3, 67, 256),
    (2, 9, 257),
    (2, 300, 700),
];

fn every_cpu() -> impl Iterator<Item = Cpu> {
    Isa::available().into_iter().map(|isa| Cpu { isa, pool: Pool::new(3).unwrap() })
}

fn floats(count: usize, seed: u32) -> Vec<f32> {
    let word = |i: u32| i.wrapping_mul(0x9e37_79b9).wrapping_add(seed.wrapping_mul(0x85eb_ca6b)) >> 8;
    (0..count as u32).map(|i| word(i) as f32 / 1_048_576.0 - 8.0).collect()
}

/// Calls `check` with the values of every row, in f64, of each tensor.
fn each_row((outer, count, inner): (usize, usize, usize), tensors: &[&[f32]], mut check: impl FnMut(Vec<Vec<f64>>)) {
    for row in 0..outer * inner {
        let start = row / inner * count * inner + row % inner;
        let values = |t: &&[f32]| (0..count).map(|i| f64::from(t[start + i * inner])).collect();
        check(tensors.iter().map(values).collect());
    }
}

#[test]
fn forward_and_backward_follow_the_formulas() {
    for cpu in every_cpu() {
        for shape in SHAPES {
            let (outer, count, inner) = shape;
            let axes = Middle { outer, count, inner };
            let (x, dy) = (floats(outer * count * inner, 1), floats(outer * count * inner, 2));
            for log in [false, true] {
                let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                softmax(&cpu, log, axes, &x, &mut y);
                softmax_grad(&cpu, log, axes, &dy, &y, &mut dx);
                each_row(shape, &[&x, &dy, &y, &dx], |rows| {
                    let [x, dy, y, dx] = &rows[..] else { unreachable!() };
                    let max = x.iter().copied().fold(f64::MIN, f64::max);
                    let log_sum = x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
                    let soft: Vec<f64> = x.iter().map(|x| (x - max - log_sum).exp()).collect();
                    let dot: f64 = dy.iter().zip(&soft).map(|(a, b)| if log { *a } else { a * b }).sum();
                    let scale: f64 = dy.iter().zip(&soft).map(|(a, b)| (if log { *a } else { a * b }).abs()).sum();
                    for i in 0..x.len() {
                        let want = if log { x[i] - max - log_sum } else { soft[i] };
                        assert!((y[i] - want).abs() <= 1e-6 * want.abs() + 1e-7 * f64::from(log), "{shape:?} {log}");
                        let slope = if log { dy[i] - soft[i] * dot } else { soft[i] * (dy[i] - dot) };
                        let budget =
                            2e-6 * (if log { 1.0 } else { 0.0 } * dy[i].abs() + soft[i] * (dy[i].abs() + scale));
                        assert!(
                            (dx[i] - slope).abs() <= budget + 1e-7 * slope.abs(),
                            "{shape:?} {log}: {} {slope}",
                            dx[i]
                        );
                    }
                });
            }
        }
    }
}

#[test]
fn large_and_infinite_values_behave_as_ieee_says() {
    let inf = f32::INFINITY;
    for cpu in every_cpu() {
        for inner in [1, 2] {
            let row = |values: [f32; 3]| {
                let x: Vec<f32> = values.iter().flat_map(|&v| vec![v; inner]).collect();
                let mut y = vec![0.0; x.len()];
                softmax(&cpu, false, Middle { outer: 1, count: 3, inner }, &x, &mut y);
                [y[0], y[inner], y[2 * inner]]
            };
            assert_eq!(row([1e30, 1e30, -1e30]), [0.5, 0.5, 0.0]);
            assert_eq!(row([0.0, -inf, 0.0]), [0.5, 0.0, 0.5]);
            for undefined in [[-inf, -inf, -inf], [0.0, inf, 0.0], [f32::NAN, 0.0, 0.0]] {
                assert!(row(undefined).iter().all(|y| y.is_nan()), "{undefined:?}");
            }
        }
    }
}

#[test]
fn threads_rows_and_appended_nothing_change_no_bit() {
    for isa in Isa::available() {
        let (one, three) = (Cpu { isa, pool: Pool::new(1).unwrap() }, Cpu { isa, pool: Pool::new(3).unwrap() });
        for (count, inner) in [(33, 1), (1000, 1), (100, 3), (100, 300)] {
            let x = floats(50 * count * inner, 3);
            let run = |cpu: &Cpu, outer, count, x: &[f32]| {
                let mut y = vec![0.0; x.len()];
                softmax(cpu, false, Middle { outer, count, inner }, x, &mut y);
                y.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            };
            let all = run(&three, 50, count, &x);
            assert!(all == run(&one, 50, count, &x));
            let mut alone = x[..count * inner].to_vec();
            alone.resize((count + 70) * inner, f32::NEG_INFINITY);
            assert!(all[..count * inner] == run(&three, 1, count + 70, &alone)[..count * inner]);
        }
    }
}
