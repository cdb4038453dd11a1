//! Every instruction set of this machine against f64 (error bound of semantics: `γ_K |A||B|`), and bit for bit against
//! itself: rows, threads, packing, transposes, epilogues.

use super::*;
use crate::cpu::{Isa, Pool, activation};
use std::sync::atomic::{AtomicU32, Ordering};

/// Deterministic values in [−1, 1).
fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn transpose(data: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|i| data[i % rows * cols + i / rows]).collect()
}

fn cpus(threads: usize) -> impl Iterator<Item = Cpu> {
    Isa::available().into_iter().map(move |isa| Cpu { isa, pool: Pool::new(threads).unwrap() })
}

fn product<'b>(cpu: &Cpu, a: Matrix, b: impl Into<Operand<'b>>, n: usize) -> Vec<f32> {
    let mut c = vec![f32::NAN; a.rows * n];
    gemm(cpu, a, b, &mut c, Epilogue::NONE).unwrap();
    c
}

#[track_caller]
fn assert_bits(left: &[f32], right: &[f32], what: &str) {
    assert_eq!(left.len(), right.len(), "{what}");
    for (i, (l, r)) in left.iter().zip(right).enumerate() {
        assert!(l.to_bits() == r.to_bits(), "{what}: element {i}: {l:e} and {r:e}");
    }
}

/// The four ways in which the same operands can lie in memory.
fn each_transposition(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize), mut body: impl FnMut(Matrix, Matrix)) {
    let (at, bt) = (transpose(a, m, k), transpose(b, k, n));
    for left in [Matrix::new(a, m, k), Matrix::new(&at, k, m).t()] {
        for right in [Matrix::new(b, k, n), Matrix::new(&bt, n, k).t()] {
            body(left, right);
        }
    }
}

/// 0, 1, primes, and one less, exactly and one more than tiles, panels, blocks and row parts.
const SHAPES: [(usize, usize, usize); 35] = [
    (0, 5, 3),
    (3, 5, 0),
    (2, 0, 3),
    (1, 1, 1),
    (1, 300, 131),
    (2, 64, 128),
    (3, 17, 129),
    (4, 255, 64),
    (5, 256, 65),
    (6, 257, 127),
    (7, 511, 33),
    (8, 512, 16),
    (9, 513, 17),
    (11, 13, 31),
    (12, 16, 32),
    (13, 15, 33),
    (12, 1, 47),
    (23, 2, 1),
    (24, 31, 10),
    (25, 32, 8),
    (37, 41, 43),
    (61, 300, 7),
    (95, 33, 97),
    (191, 19, 29),
    (192, 270, 63),
    (193, 600, 65),
    (209, 37, 130),
    (257, 129, 101),
    // A packed: its rows a multiple of 4 KiB apart (not below seven), or not contiguous and used by many columns.
    (6, 1024, 45),
    (13, 1024, 45),
    (30, 70, 300),
    // Narrow: computed as the transpose.
    (13, 600, 12),
    (129, 257, 1),
    (131, 300, 3),
    (300, 513, 6),
];

#[test]
fn integers_are_exact_for_every_shape_transpose_and_thread_count() {
    for threads in [1, 2, 3] {
        for cpu in cpus(threads) {
            for (m, k, n) in SHAPES {
                let small = |len, seed| values(len, seed).iter().map(|v| (v * 8.0).round()).collect::<Vec<_>>();
                let (a, b) = (small(m * k, 1), small(k * n, 2));
                let expected: Vec<f32> =
                    (0..m * n).map(|i| (0..k).map(|k_i| a[i / n * k + k_i] * b[k_i * n + i % n]).sum()).collect();
                each_transposition(&a, &b, (m, k, n), |a, b| {
                    assert_eq!(product(&cpu, a, b, n), expected, "{:?} {m} {k} {n} {a:?}", cpu.isa);
                });
            }
        }
    }
}

#[test]
fn errors_stay_within_the_bound_of_the_textbook() {
    let mut worst = 0.0_f64;
    for cpu in cpus(2) {
        for (m, k, n) in SHAPES.into_iter().chain([(33, 2100, 40), (70, 4097, 33)]) {
            let (a, b) = (values(m * k, 3), values(k * n, 4));
            let u = f64::from(f32::EPSILON) / 2.0;
            let gamma = (k + 3) as f64 * u / (1.0 - (k + 3) as f64 * u);
            let c = product(&cpu, Matrix::new(&a, m, k), Matrix::new(&b, k, n), n);
            for i in 0..m * n {
                let terms = || (0..k).map(|k_i| f64::from(a[i / n * k + k_i]) * f64::from(b[k_i * n + i % n]));
                let bound = gamma * terms().map(f64::abs).sum::<f64>();
                let error = (f64::from(c[i]) - terms().sum::<f64>()).abs();
                assert!(error <= bound, "{:?} {m} {k} {n}: {error:e} > {bound:e}", cpu.isa);
                if k > 100 {
                    worst = worst.max(error / bound);
                }
            }
        }
    }
    // A long sum wanders like √K / K of the bound; close to 1 would be a different algorithm.
    assert!(worst < 0.2, "worst error is {worst} of the bound");
}

/// The contract, in the plainest code: blocks of 256, a chain of fused multiply-adds in each, sums in order.
#[test]
fn the_sum_is_a_chain_per_block_and_the_blocks_in_order() {
    for cpu in cpus(2) {
        for (m, k, n) in SHAPES {
            let (a, b) = (values(m * k, 5), values(k * n, 6));
            let fused = cpu.isa != Isa::Scalar;
            let block = |i: usize, from: usize| {
                (from..k.min(from + 256)).fold(0.0_f32, |sum, k_i| {
                    let (x, y) = (a[i / n * k + k_i], b[k_i * n + i % n]);
                    if fused { x.mul_add(y, sum) } else { x * y + sum }
                })
            };
            let expected: Vec<f32> =
                (0..m * n).map(|i| (256..k).step_by(256).fold(block(i, 0), |sum, from| sum + block(i, from))).collect();
            each_transposition(&a, &b, (m, k, n), |a, b| {
                assert_bits(&product(&cpu, a, b, n), &expected, &format!("{:?} {m} {k} {n}", cpu.isa));
            });
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_any_batch() {
    let (k, n) = (515, 97);
    let (a, b) = (values(700 * k, 7), values(k * n, 8));
    for cpu in cpus(2) {
        let b = Matrix::new(&b, k, n);
        let alone = |row: usize| product(&cpu, Matrix::new(&a[row * k..], 1, k), b, n);
        for m in (1..30).chain([100, 193, 400, 700]) {
            let all = product(&cpu, Matrix::new(&a, m, k), b, n);
            for row in [0, m / 2, m - 1] {
                assert_bits(&all[row * n..][..n], &alone(row), &format!("{:?}: row {row} of {m}", cpu.isa));
            }
        }
    }
}

#[test]
fn slabs_and_groups_of_blocks_change_no_bit() {
    // More than one slab of rows, of columns, and more than one group of blocks of K.
    for cpu in cpus(2).take(1) {
        for (m, k, n) in [(4200, 300, 40), (200, 300, 4200), (600, 2600, 20), (2100, 770, 33), (3, 5000, 40)] {
            let (a, b) = (values(m * k, 9), values(k * n, 10));
            let packed = PackedB::new(&cpu, Matrix::new(&b, k, n)).unwrap();
            let c = product(&cpu, Matrix::new(&a, m, k), Matrix::new(&b, k, n), n);
            assert_bits(&c, &product(&cpu, Matrix::new(&a, m, k), &packed, n), "packed");
            for row in [0, m / 3, m - 1] {
                let alone = product(&cpu, Matrix::new(&a[row * k..], 1, k), &packed, n);
                assert_bits(&c[row * n..][..n], &alone, &format!("{m} {k} {n}: row {row}"));
            }
        }
    }
}

#[test]
fn packed_operands_and_thread_counts_change_no_bit() {
    for (m, k, n) in SHAPES {
        let (a, b) = (values(m * k, 11), values(k * n, 12));
        for (one, three) in cpus(1).zip(cpus(3)) {
            let expected = product(&one, Matrix::new(&a, m, k), Matrix::new(&b, k, n), n);
            each_transposition(&a, &b, (m, k, n), |a, b| {
                let packed = PackedB::new(&three, b).unwrap();
                assert_eq!((packed.rows(), packed.cols()), (k, n));
                assert!(packed.byte_length() >= k * n * 4);
                for cpu in [&one, &three] {
                    assert_bits(&product(cpu, a, &packed, n), &expected, &format!("{:?} {m} {k} {n}", cpu.isa));
                    assert_bits(&product(cpu, a, b, n), &expected, &format!("{:?} {m} {k} {n}", cpu.isa));
                }
            });
        }
    }
}

#[test]
fn the_epilogue_has_the_bits_of_its_steps_and_touches_nothing_else() {
    const PAD: usize = 40;
    const CANARY: f32 = 12345.678;
    let all = (0..=10).filter_map(Activation::from_code).collect::<Vec<_>>();
    assert_eq!(all.len(), 11);
    for cpu in cpus(2) {
        for (index, (m, k, n)) in SHAPES.into_iter().enumerate() {
            let (a, b) = (values(m * k, 13), values(k * n, 14));
            let mut bias = values(n, 15);
            // Values on which careless implementations of relu differ.
            for (value, slot) in [f32::NAN, -0.0, f32::INFINITY, f32::NEG_INFINITY].into_iter().zip(&mut bias) {
                *slot = value;
            }
            let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            let plain = product(&cpu, a, b, n);
            let z: Vec<f32> = plain.iter().enumerate().map(|(i, c)| c + bias[i % n]).collect();
            for activation in [Activation::None, Activation::Relu, all[index % 11]] {
                let mut y = z.clone();
                activation::apply(cpu.isa, activation, &mut y);
                let what = format!("{:?} {m} {k} {n} {activation:?}", cpu.isa);
                for save in [false, true] {
                    let mut c = vec![CANARY; m * n + 2 * PAD];
                    let mut saved = vec![CANARY; m * n + 2 * PAD];
                    let z_out = save.then_some(&mut saved[PAD..][..m * n]);
                    let epilogue = Epilogue { bias: Some(&bias), activation, z: z_out, then: None };
                    gemm(&cpu, a, b, &mut c[PAD..][..m * n], epilogue).unwrap();
                    assert_bits(&c[PAD..][..m * n], &y, &what);
                    let outside = |v: &[f32]| v[..PAD].iter().chain(&v[PAD + m * n..]).all(|&x| x == CANARY);
                    assert!(outside(&c) && outside(&saved), "{what}: wrote outside");
                    if save {
                        assert_bits(&saved[PAD..][..m * n], &z, &what);
                    }
                }
            }
        }
    }
}

/// Adds to every element a number that tells where it is, and counts it.
fn follow(n: usize, seen: &[AtomicU32]) -> impl Fn(usize, &mut [f32]) + Sync {
    move |first, part| {
        for (i, value) in (first..).zip(part) {
            *value += (i % (7 * n + 1)) as f32;
            seen[i].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn what_follows_sees_every_finished_element_once() {
    let check = |c: &[f32], plain: &[f32], n: usize, seen: Vec<AtomicU32>, what: &str| {
        let expected: Vec<f32> = plain.iter().enumerate().map(|(i, c)| c + (i % (7 * n + 1)) as f32).collect();
        assert_bits(c, &expected, what);
        assert!(seen.into_iter().all(|count| count.into_inner() == 1), "{what}");
    };
    for threads in [1, 2] {
        for cpu in cpus(threads) {
            let shapes = [(1, 64, 5000), (40, 300, 700), (700, 33, 600), (9, 40, 9000), (2500, 8, 40)];
            for (m, k, n) in SHAPES.into_iter().chain(shapes) {
                let (a, b) = (values(m * k, 23), values(k * n, 24));
                let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
                let mut plain = product(&cpu, a, b, n);
                for activation in [Activation::None, Activation::Relu, Activation::Gelu] {
                    let (mut c, seen) = (vec![f32::NAN; m * n], (0..m * n).map(|_| 0.into()).collect::<Vec<_>>());
                    let follow = follow(n, &seen);
                    gemm(&cpu, a, b, &mut c, Epilogue { activation, then: Some(&follow), ..Epilogue::NONE }).unwrap();
                    drop(follow);
                    activation::apply(cpu.isa, activation, &mut plain);
                    check(&c, &plain, n, seen, &format!("{:?} {m} {k} {n} {activation:?}", cpu.isa));
                    plain = product(&cpu, a, b, n);
                }
            }
            for (count, m, k, n) in [(7, 5, 0, 3), (50, 13, 21, 35), (3, 150, 260, 170)] {
                let (a, b) = (values(count * m * k, 25), values(k * n, 26));
                let offsets: Vec<usize> = (0..count).map(|i| i * m * k).collect();
                let (left, zeros) = (Items { matrix: Matrix::new(&a, m, k), offsets: &offsets }, vec![0; count]);
                let right = Items { matrix: Matrix::new(&b, k, n), offsets: &zeros };
                let mut plain = vec![f32::NAN; count * m * n];
                gemm_batched(&cpu, left, right, &mut plain, None).unwrap();
                let (mut c, seen) = (plain.clone(), (0..plain.len()).map(|_| 0.into()).collect::<Vec<_>>());
                let follow = follow(n, &seen);
                gemm_batched(&cpu, left, right, &mut c, Some(&follow)).unwrap();
                drop(follow);
                check(&c, &plain, n, seen, &format!("{:?} {count} {m} {k} {n}", cpu.isa));
            }
        }
    }
}

#[test]
fn batched_products_are_single_products() {
    for threads in [1, 2] {
        for cpu in cpus(threads) {
            for (count, m, k, n) in [(0, 2, 2, 2), (1, 3, 4, 5), (7, 5, 0, 3), (50, 13, 21, 35), (3, 150, 260, 170)] {
                let (a, b) = (values(count * m * k, 16), values(2 * k * n, 17));
                let a_offsets: Vec<usize> = (0..count).map(|i| i * m * k).collect();
                // B is broadcast over every second item, and transposed.
                let b_offsets: Vec<usize> = (0..count).map(|i| i % 2 * k * n).collect();
                let mut c = vec![f32::NAN; count * m * n];
                let b_item = |offset: usize| Matrix::new(&b[offset..], n, k).t();
                let left = Items { matrix: Matrix::new(&a, m, k), offsets: &a_offsets };
                gemm_batched(&cpu, left, Items { matrix: b_item(0), offsets: &b_offsets }, &mut c, None).unwrap();
                for item in 0..count {
                    let alone = product(&cpu, Matrix::new(&a[a_offsets[item]..], m, k), b_item(b_offsets[item]), n);
                    assert_bits(&c[item * m * n..][..m * n], &alone, &format!("{count} {m} {k} {n}: item {item}"));
                }
            }
        }
    }
}

#[test]
fn several_threads_may_multiply_at_once() {
    let cpu = cpus(2).next().unwrap();
    let (a, b) = (values(100 * 300, 18), values(300 * 200, 19));
    let run = || product(&cpu, Matrix::new(&a, 100, 300), Matrix::new(&b, 300, 200), 200);
    let expected = run();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| assert_bits(&run(), &expected, "concurrent")));
        }
    });
}

#[test]
fn misuse_panics_before_anything_is_read() {
    let cpu = cpus(1).next().unwrap();
    let data = [0.0; 12];
    let wrong = |a: Matrix, b: Matrix, c: usize, bias: usize| {
        let run = std::panic::AssertUnwindSafe(|| {
            let epilogue = Epilogue { bias: Some(&data[..bias]), ..Epilogue::NONE };
            gemm(&cpu, a, b, &mut vec![0.0; c], epilogue)
        });
        assert!(std::panic::catch_unwind(run).is_err());
    };
    wrong(Matrix::new(&data, 3, 4), Matrix::new(&data, 3, 4), 12, 4);
    wrong(Matrix::new(&data, 3, 5), Matrix::new(&data, 5, 2), 6, 2);
    wrong(Matrix::new(&data, 2, 4), Matrix::new(&data, 4, 4), 8, 4);
    wrong(Matrix::new(&data, 3, 4), Matrix::new(&data, 4, 3), 8, 3);
    wrong(Matrix::new(&data, 3, 4), Matrix::new(&data, 4, 3), 9, 2);
    wrong(Matrix::new(&data, usize::MAX, 4), Matrix::new(&data, 4, 0), 0, 0);
}
