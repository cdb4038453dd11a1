//! Reductions against f64, on every instruction set, and the promises about order.

use super::*;
use crate::cpu::{Isa, Pool};
use crate::plan::{self, Base, ChainOp, ChainOperand, ChainOutput, Location, Operand};
use crate::program::op::{BinaryOp, ElementOp};
use crate::shape::{Dims, numel};

const SHAPES: [(usize, usize, usize); 29] = [
    (0, 3, 2),
    (2, 0, 3),
    (3, 0, 1),
    (2, 3, 0),
    (1, 1, 1),
    (5, 1, 1),
    (1, 31, 1),
    (3, 33, 1),
    (2, 1023, 1),
    (7, 1024, 1),
    (2, 1025, 1),
    (3, 5003, 1),
    (1, 300_007, 1),
    (1, 1, 7),
    (2, 9, 10),
    (3, 130, 3),
    (1, 70_001, 5),
    (1, 4097, 31),
    (2, 67, 32),
    (1, 301, 1030),
    (1, 700, 1024),
    (3, 5, 2053),
    // More results than a batch of elements holds.
    (1500, 4, 1),
    (1200, 9, 1),
    (300, 64, 1),
    (70, 127, 1),
    (300, 8, 8),
    (40, 70, 5),
    (20, 9, 60),
];

fn every_cpu() -> impl Iterator<Item = Cpu> {
    Isa::available().into_iter().map(|isa| Cpu { isa, pool: Pool::new(3).unwrap() })
}

fn floats(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| ((i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 8_388_608.0 - 0.75).to_bits()).collect()
}

fn run(cpu: &Cpu, kind: ReduceOp, (outer, count, inner): (usize, usize, usize), dtype: Dtype, x: &[u32]) -> Vec<u32> {
    let mut out = vec![0xdead_beef; outer * inner];
    reduce(cpu, kind, Middle { outer, count, inner }, dtype, x, &mut out);
    out
}

/// The values that go into result `index`.
fn values(x: &[u32], (_, count, inner): (usize, usize, usize), index: usize) -> impl Iterator<Item = f32> + '_ {
    let start = index / inner * count * inner + index % inner;
    (0..count).map(move |i| f32::from_bits(x[start + i * inner]))
}

/// The bits of a chain and then a reduction, with operands that stretch over each of the three dimensions.
#[test]
fn what_a_chain_computes_is_reduced_as_if_it_had_been_written() {
    use crate::cpu::elementwise::Chain;
    let op = |op, a, b| ChainOp {
        instruction: 0,
        op,
        operands: [a, b, ChainOperand::None],
        operand_dtype: Dtype::F32,
        dtype: Dtype::F32,
    };
    let operand = |dims: &[u32]| {
        let location = Location { base: Base::Arena, offset: 0 };
        let (dims, numel) = (Dims::new(dims).unwrap(), numel(dims).unwrap());
        Operand { register: 0, value: 0, location, dtype: Dtype::F32, dims, numel }
    };
    let binary = ElementOp::Binary;
    let (input, value) = (ChainOperand::Input, ChainOperand::Op);
    let ops = vec![
        op(binary(BinaryOp::Sub), input(0), input(1)),
        op(binary(BinaryOp::Mul), value(0), value(0)),
        op(binary(BinaryOp::Add), value(1), ChainOperand::Scalar(0, Dtype::F32)),
        op(binary(BinaryOp::Mul), value(2), input(2)),
        op(binary(BinaryOp::Sub), value(3), input(3)),
    ];
    for cpu in every_cpu() {
        for shape @ (outer, count, inner) in
            SHAPES.into_iter().filter(|&(outer, count, inner)| outer * count * inner > 0)
        {
            let dims = [outer as u32, count as u32, inner as u32];
            let (x, [a, b, c]) = (floats(outer * count * inner), [count, outer, inner].map(floats));
            let all = operand(&dims);
            let chain = plan::Chain {
                dims: all.dims,
                numel: all.numel,
                inputs: vec![all, operand(&[1, dims[1], 1]), operand(&[dims[0], 1, 1]), operand(&dims[2..])],
                ops: ops.clone(),
                outputs: vec![ChainOutput { op: 4, operand: all, depends_on: 15, in_place_of: None }],
            };
            let inputs: [&[u32]; 4] = [&x, &a, &b, &c];
            let mut written = vec![0; x.len()];
            Chain::new(&chain).unwrap().run(&cpu, &inputs, &mut [&mut written], &[0.25]);
            let chain = Chain::in_spans(&chain).unwrap();
            let feed = Feed { chain: &chain, inputs: &inputs, scalars: &[0.25] };
            for kind in [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max, ReduceOp::Min] {
                let mut out = vec![0xdead_beef; outer * inner];
                reduce_computed(&cpu, kind, Middle { outer, count, inner }, feed, &mut out).unwrap();
                assert!(out == run(&cpu, kind, shape, Dtype::F32, &written), "{kind:?} {shape:?} on {:?}", cpu.isa);
            }
            let out = &mut vec![0; outer * inner];
            assert!(reduce_computed(&cpu, ReduceOp::Argmax, Middle { outer, count, inner }, feed, out).is_err());
        }
    }
}

#[test]
fn the_sign_of_zero_decides_not_its_place() {
    for cpu in every_cpu() {
        for count in [2, 63, 64, 65, 20_000] {
            for inner in [1, 3, 100] {
                for at in [0, 1, count - 1] {
                    let mut x = vec![(-0.0_f32).to_bits(); count * inner];
                    x[at * inner..(at + 1) * inner].fill(0.0_f32.to_bits());
                    let shape = (1, count, inner);
                    assert_eq!(run(&cpu, ReduceOp::Max, shape, Dtype::F32, &x), vec![0.0_f32.to_bits(); inner]);
                    assert_eq!(run(&cpu, ReduceOp::Min, shape, Dtype::F32, &x), vec![(-0.0_f32).to_bits(); inner]);
                }
            }
        }
    }
}

/// Every order of words that differ in sign, and NaN of both signs among them.
#[test]
fn extremes_are_those_of_all_kinds_of_floats() {
    let kinds = [f32::INFINITY, 1e30, 1.0, 1e-42, 0.0].into_iter().flat_map(|x| [x, -x]).collect::<Vec<_>>();
    let order = |words: &[u32], kind| {
        let mut sorted: Vec<f32> = words.iter().map(|&w| f32::from_bits(w)).collect();
        sorted.sort_by(f32::total_cmp);
        if kind == ReduceOp::Max { sorted[sorted.len() - 1] } else { sorted[0] }
    };
    for cpu in every_cpu() {
        for count in [1, 2, 3, 8, 9, 31, 32, 33, 100] {
            for inner in [1, 3] {
                for skip in 0..kinds.len() {
                    for take in 1..=kinds.len() - skip {
                        let few = &kinds[skip..skip + take];
                        let x: Vec<u32> = (0..count * inner).map(|i| few[i / inner * 7 % take].to_bits()).collect();
                        let column: Vec<u32> = x.iter().copied().step_by(inner).collect();
                        for kind in [ReduceOp::Max, ReduceOp::Min] {
                            let got = run(&cpu, kind, (1, count, inner), Dtype::F32, &x);
                            assert_eq!(got, vec![order(&column, kind).to_bits(); inner], "{kind:?} of {column:x?}");
                            for nan in [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xff80_0001] {
                                let mut x = x.clone();
                                x[(count - 1) / 2 * inner] = nan;
                                let got = f32::from_bits(run(&cpu, kind, (1, count, inner), Dtype::F32, &x)[0]);
                                assert!(got.is_nan(), "{kind:?} of {nan:x} among {column:x?} on {:?}", cpu.isa);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn sums_means_and_variances_are_close_to_f64() {
    for cpu in every_cpu() {
        for shape in SHAPES {
            let x = floats(shape.0 * shape.1 * shape.2);
            let n = shape.1 as f64;
            let sums = run(&cpu, ReduceOp::Sum, shape, Dtype::F32, &x);
            let means = run(&cpu, ReduceOp::Mean, shape, Dtype::F32, &x);
            let variances = run(&cpu, ReduceOp::Variance { correction: 1.0 }, shape, Dtype::F32, &x);
            for index in 0..sums.len() {
                let at = |words: &[u32]| f64::from(f32::from_bits(words[index]));
                let exact: f64 = values(&x, shape, index).map(f64::from).sum();
                let scale: f64 = values(&x, shape, index).map(|v| f64::from(v.abs())).sum();
                let spread: f64 = values(&x, shape, index).map(|v| (f64::from(v) - exact / n).powi(2)).sum();
                assert!((at(&sums) - exact).abs() <= 1e-6 * scale, "sum {shape:?} on {:?}", cpu.isa);
                if shape.1 == 0 {
                    assert!(at(&means).is_nan() && at(&variances).is_nan());
                    continue;
                }
                assert!((at(&means) - exact / n).abs() <= 1e-6 * scale / n, "mean {shape:?}");
                if shape.1 == 1 {
                    assert!(at(&variances).is_nan(), "0/0");
                } else {
                    let want = spread / (n - 1.0);
                    assert!(
                        (at(&variances) - want).abs() <= 2e-6 * want,
                        "variance {shape:?}: {} {want}",
                        at(&variances)
                    );
                }
            }
        }
    }
}

#[test]
fn the_variance_of_a_shifted_row_does_not_cancel() {
    let cpu = every_cpu().next().unwrap();
    let x: Vec<u32> = (0..2000).map(|i| (1000.0 + (i % 2) as f32).to_bits()).collect();
    let got = run(&cpu, ReduceOp::Variance { correction: 0.0 }, (1, 2000, 1), Dtype::F32, &x);
    assert_eq!(f32::from_bits(got[0]), 0.25);
}

#[test]
fn extremes_and_their_first_positions() {
    for cpu in every_cpu() {
        for shape in SHAPES {
            if shape.1 == 0 {
                continue;
            }
            // Coarse values, so that there are ties.
            let x: Vec<u32> = floats(shape.0 * shape.1 * shape.2)
                .iter()
                .map(|&w| (f32::from_bits(w) * 50.0).round().to_bits())
                .collect();
            let ints: Vec<u32> = x.iter().map(|&w| f32::from_bits(w) as i32 as u32).collect();
            for (kind, arg, largest) in
                [(ReduceOp::Max, ReduceOp::Argmax, true), (ReduceOp::Min, ReduceOp::Argmin, false)]
            {
                let best = run(&cpu, kind, shape, Dtype::F32, &x);
                let first = run(&cpu, arg, shape, Dtype::F32, &x);
                let best_int = run(&cpu, kind, shape, Dtype::I32, &ints);
                let first_int = run(&cpu, arg, shape, Dtype::I32, &ints);
                for index in 0..best.len() {
                    let all = || values(&x, shape, index);
                    let want = all().reduce(|a, b| if largest { a.max(b) } else { a.min(b) }).unwrap();
                    let position = all().position(|v| v == want).unwrap() as u32;
                    assert_eq!(f32::from_bits(best[index]), want, "{kind:?} {shape:?}");
                    assert_eq!(best_int[index] as i32, want as i32, "{kind:?} {shape:?}");
                    assert_eq!((first[index], first_int[index]), (position, position), "{arg:?} {shape:?}");
                }
            }
        }
    }
}

#[test]
fn the_first_nan_wins() {
    for cpu in every_cpu() {
        for shape in [(2, 300, 1), (1, 40, 20)] {
            let mut x = floats(shape.0 * shape.1 * shape.2);
            let (index, second) = (7 * shape.2, 9 * shape.2);
            x[index] = f32::NAN.to_bits();
            x[second] = f32::NAN.to_bits();
            for kind in [ReduceOp::Max, ReduceOp::Min] {
                let best = run(&cpu, kind, shape, Dtype::F32, &x);
                assert!(f32::from_bits(best[0]).is_nan() && !f32::from_bits(best[1]).is_nan());
            }
            for kind in [ReduceOp::Argmax, ReduceOp::Argmin] {
                assert_eq!(run(&cpu, kind, shape, Dtype::F32, &x)[0], 7);
            }
        }
    }
}

#[test]
fn integer_sums_wrap() {
    for cpu in every_cpu() {
        let x = [i32::MAX, 1, -5, 2, 7, -7].map(|i| i as u32);
        let signed =
            |shape| run(&cpu, ReduceOp::Sum, shape, Dtype::I32, &x).iter().map(|&w| w as i32).collect::<Vec<_>>();
        assert_eq!(signed((3, 2, 1)), [i32::MIN, -3, 0]);
        assert_eq!(signed((1, 2, 3)), [i32::MIN + 1, 8, -12]);
        assert_eq!(run(&cpu, ReduceOp::Sum, (2, 0, 2), Dtype::I32, &[]), [0; 4]);
    }
}

#[test]
fn appended_zeros_and_threads_change_no_bit() {
    for isa in Isa::available() {
        let one = Cpu { isa, pool: Pool::new(1).unwrap() };
        let three = Cpu { isa, pool: Pool::new(3).unwrap() };
        for (count, inner) in
            [(5, 1), (1000, 1), (1030, 1), (33_333, 1), (140_000, 1), (9, 10), (4000, 10), (3001, 1500)]
        {
            let x = floats(count * inner);
            let want = run(&one, ReduceOp::Sum, (1, count, inner), Dtype::F32, &x);
            assert!(
                want == run(&three, ReduceOp::Sum, (1, count, inner), Dtype::F32, &x),
                "threads, {count} × {inner}"
            );
            for extra in [1, 3, 31, 1024, 100_000 / inner] {
                let mut longer = x.clone();
                longer.resize((count + extra) * inner, 0);
                let got = run(&three, ReduceOp::Sum, (1, count + extra, inner), Dtype::F32, &longer);
                assert!(got == want, "{extra} zeros after {count} × {inner} on {isa:?}");
            }
        }
    }
}

#[test]
fn a_row_alone_has_the_bits_of_its_batch() {
    for cpu in every_cpu() {
        for (count, inner) in [(700, 1), (5000, 1), (300, 7), (3000, 40)] {
            let x = floats(6 * count * inner);
            let all = run(&cpu, ReduceOp::Sum, (6, count, inner), Dtype::F32, &x);
            for row in 0..6 {
                let alone = &x[row * count * inner..(row + 1) * count * inner];
                let got = run(&cpu, ReduceOp::Sum, (1, count, inner), Dtype::F32, alone);
                assert_eq!(got, all[row * inner..(row + 1) * inner]);
            }
        }
    }
}
