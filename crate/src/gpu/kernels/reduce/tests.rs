//! Reductions against `cpu`: integers, special values, ties, the bits that other rows and appended zeros must not change; texts.

use super::super::shader::Aligned;
use super::super::testing::{Lab, Settings, operand, validate};
use super::*;
use crate::cpu::{self, Cpu, Isa, Pool};
use crate::gpu::Traits;
use crate::program::Op;

const KINDS: [ReduceOp; 8] = [
    ReduceOp::Sum,
    ReduceOp::Mean,
    ReduceOp::Max,
    ReduceOp::Min,
    ReduceOp::Argmax,
    ReduceOp::Argmin,
    ReduceOp::Variance { correction: 0.0 },
    ReduceOp::Variance { correction: 1.0 },
];

const CLASSES: [Class; 2] = [Class::Discrete, Class::Software];

const NAN: u32 = f32::NAN.to_bits();

/// The operand begins at word 64 + `shift`; the result follows.
fn kernel(kind: ReduceOp, axes: Middle, dtype: Dtype, shift: usize) -> Kernel {
    let Middle { outer, count, inner } = axes;
    let dims = [outer as u32, count as u32, inner as u32];
    let x = operand(dtype, &dims, 64 + shift);
    let to = if matches!(kind, ReduceOp::Argmax | ReduceOp::Argmin) { Dtype::I32 } else { dtype };
    let y = operand(to, &[outer as u32, inner as u32], (64 + shift + x.numel).next_multiple_of(16));
    Kernel { op: Op::Reduce { kind, axes }, inputs: vec![Some(x)], outputs: vec![y], mutates: &[] }
}

fn prepared(kernel: &Kernel, class: Class, traits: &Traits) -> Prepared {
    let traits = Traits { class, ..traits.clone() };
    super::super::prepare_kernel(kernel, Target { traits: &traits, aligned: Aligned::default() }).unwrap()
}

/// Runs it and returns the result; nothing else may have changed.
fn run(lab: &mut Lab, class: Class, kernel: &Kernel, x: &[u32]) -> Vec<u32> {
    let (from, to) = (kernel.inputs[0].unwrap().location.offset, kernel.outputs[0]);
    let (start, end) = (to.location.offset, to.location.offset + to.numel);
    let mut arena = vec![NAN; end + 64];
    arena[from..from + x.len()].copy_from_slice(x);
    let prepared = prepared(kernel, class, &lab.traits);
    let after = lab.run(&prepared, &arena, Settings::default()).arena;
    assert!(after[..start] == arena[..start] && after[end..] == arena[end..]);
    let unchecked = lab.run(&prepared, &arena, Settings { unchecked: true, ..Settings::default() }).arena;
    assert!(after == unchecked);
    after[start..end].to_vec()
}

fn floats(count: usize) -> Vec<u32> {
    let word = |i: u32| i.wrapping_mul(0x9e37_79b9) >> 8;
    (0..count as u32).map(|i| (word(i) as f32 / 1_048_576.0 - 7.5).to_bits()).collect()
}

fn on_cpu(kind: ReduceOp, axes: Middle, dtype: Dtype, x: &[u32]) -> Vec<u32> {
    let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() };
    let mut out = vec![0; axes.outer * axes.inner];
    cpu::reduce::reduce(&cpu, kind, axes, dtype, x, &mut out);
    out
}

/// Holds a result against the cpu's: exactly, but for sums of floats.
fn check(kind: ReduceOp, axes: Middle, dtype: Dtype, x: &[u32], got: &[u32]) {
    let want = on_cpu(kind, axes, dtype, x);
    assert_eq!(got.len(), want.len());
    let rounds = matches!(kind, ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Variance { .. }) && dtype == Dtype::F32;
    for (i, (&got, &want)) in got.iter().zip(&want).enumerate() {
        let (a, b) = (f32::from_bits(got), f32::from_bits(want));
        let magnitude = match kind {
            ReduceOp::Sum => 8.0 * axes.count as f32,
            ReduceOp::Mean => 8.0,
            _ => b.abs(),
        };
        let same = got == want || (dtype == Dtype::F32 && (a == b || (a.is_nan() && b.is_nan())));
        assert!(same || rounds && (a - b).abs() <= 1e-6 * magnitude, "{kind:?} {axes:?} {dtype:?} {i}: {a} {b}");
    }
}

fn shapes() -> Vec<Middle> {
    [
        [0, 7, 31, 255, 256, 257, 8193].map(|count| (3, count, 1)).to_vec(),
        [0, 1, 16, 100, 257].map(|count| (2, count, 3)).to_vec(),
        vec![(300, 5, 1), (70, 64, 1), (1, 100_003, 1), (2, 20_000, 1)],
        vec![(2, 5, 300), (1, 300, 72), (3, 40, 4), (1, 70_000, 2), (5, 3, 0)],
    ]
    .concat()
    .into_iter()
    .map(|(outer, count, inner)| Middle { outer, count, inner })
    .collect()
}

#[test]
fn every_text_is_valid_and_none_depends_on_the_batch() {
    for class in CLASSES {
        for kind in KINDS {
            for dtype in [Dtype::F32, Dtype::I32] {
                for axes in shapes() {
                    for shift in [0, 1] {
                        let texts = |outer| {
                            let kernel = kernel(kind, Middle { outer, ..axes }, dtype, shift);
                            let calls = prepared(&kernel, class, &Traits::least(class)).calls;
                            calls.iter().for_each(validate);
                            calls.iter().map(|call| call.shader.text.clone()).collect::<Vec<_>>()
                        };
                        assert_eq!(texts(1), texts(20));
                    }
                }
            }
        }
    }
}

#[test]
fn results_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    for class in CLASSES {
        for axes in shapes() {
            let x = floats(axes.outer * axes.count * axes.inner);
            let row = if axes.inner == 1 { axes.count } else { axes.inner };
            // Where vectors are possible, without them too.
            for shift in if row.is_multiple_of(4) { 0..2 } else { 1..2 } {
                for kind in KINDS {
                    let got = run(&mut lab, class, &kernel(kind, axes, Dtype::F32, shift), &x);
                    check(kind, axes, Dtype::F32, &x, &got);
                }
            }
        }
    }
}

#[test]
fn integers_wrap_and_order_exactly() {
    let Some(mut lab) = Lab::open() else { return };
    for class in CLASSES {
        for axes in shapes() {
            for kind in &KINDS[..6] {
                // Few values, so that there are ties; the extremes of the dtype among them.
                let word = |i: u32| match i.wrapping_mul(0x9e37_79b9) >> 28 {
                    0 => i32::MIN as u32,
                    1 => i32::MAX as u32,
                    k => k.wrapping_sub(8),
                };
                let x: Vec<u32> = (0..(axes.outer * axes.count * axes.inner) as u32).map(word).collect();
                let mean = *kind == ReduceOp::Mean;
                let got = if mean { continue } else { run(&mut lab, class, &kernel(*kind, axes, Dtype::I32, 0), &x) };
                check(*kind, axes, Dtype::I32, &x, &got);
            }
        }
    }
}

#[test]
fn all_equal_gives_the_first_position() {
    let Some(mut lab) = Lab::open() else { return };
    for class in CLASSES {
        for (kind, word) in [(ReduceOp::Argmax, i32::MIN as u32), (ReduceOp::Argmin, i32::MAX as u32)] {
            for count in [1, 33, 300, 9000] {
                let axes = Middle { outer: 2, count, inner: 1 };
                let got = run(&mut lab, class, &kernel(kind, axes, Dtype::I32, 1), &vec![word; 2 * count]);
                assert_eq!(got, [0, 0]);
            }
        }
    }
}

#[test]
fn special_values_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let rows = [
        [1.0, nan, 3.0],
        [inf, 1.0, 2.0],
        [-inf, -inf, -inf],
        [inf, -inf, 0.0],
        [nan, -nan, nan],
        [5.0, 5.0, 1.0],
        [-0.0, 0.0, -0.0],
        [1e-45, -1e-45, 0.0],
        [-0.0, -0.0, -0.0],
    ];
    for class in CLASSES {
        for kind in KINDS {
            let x: Vec<u32> = rows.as_flattened().iter().map(|x| x.to_bits()).collect();
            let axes = Middle { outer: rows.len(), count: 3, inner: 1 };
            check(kind, axes, Dtype::F32, &x, &run(&mut lab, class, &kernel(kind, axes, Dtype::F32, 0), &x));
            let columns: Vec<u32> = (0..3).flat_map(|k| rows.iter().map(move |row| row[k].to_bits())).collect();
            let axes = Middle { outer: 1, count: 3, inner: rows.len() };
            check(
                kind,
                axes,
                Dtype::F32,
                &columns,
                &run(&mut lab, class, &kernel(kind, axes, Dtype::F32, 0), &columns),
            );
            // A lone NaN, or a lone largest, far back.
            for word in [nan.to_bits(), 100.0f32.to_bits(), (-100.0f32).to_bits()] {
                let mut x = floats(20_000);
                x[19_501] = word;
                let axes = Middle { outer: 2, count: 10_000, inner: 1 };
                check(kind, axes, Dtype::F32, &x, &run(&mut lab, class, &kernel(kind, axes, Dtype::F32, 0), &x));
            }
        }
    }
}

#[test]
fn neither_other_rows_nor_places_nor_appended_zeros_change_a_bit() {
    let Some(mut lab) = Lab::open() else { return };
    for class in CLASSES {
        for (count, longer, inner) in
            [(7, 40, 1), (36, 300, 1), (250, 9000, 1), (9000, 20_000, 1), (10, 300, 3), (20, 40, 4)]
        {
            let rows = 9;
            let x = floats(rows * count * inner);
            let mut sum = |outer, count, x: &[u32], shift| {
                let axes = Middle { outer, count, inner };
                run(&mut lab, class, &kernel(ReduceOp::Sum, axes, Dtype::F32, shift), x)
            };
            let all = sum(rows, count, &x, 0);
            let mut last = x[(rows - 1) * count * inner..].to_vec();
            assert_eq!(all[(rows - 1) * inner..], sum(1, count, &last, 1));
            last.resize(longer * inner, 0);
            assert_eq!(all[(rows - 1) * inner..], sum(1, longer, &last, 0));
        }
    }
}
