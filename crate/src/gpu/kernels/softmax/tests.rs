//! Softmax, its logarithm and their gradients against `cpu`, special values, the bits that other rows must not change; texts.

use super::super::shader::Aligned;
use super::super::testing::{Lab, Settings, operand, validate};
use super::*;
use crate::cpu::{self, Cpu, Isa, Pool};
use crate::dtype::Dtype;
use crate::gpu::{Class, Traits};
use crate::plan::Operand;
use crate::program::Op;

const CLASSES: [Class; 2] = [Class::Discrete, Class::Software];

/// Forward, or backward from its result; of the logarithm or not.
const CASES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn kernel(grad: bool, log: bool, axes: Middle, shift: usize) -> Kernel {
    let dims = [axes.outer as u32, axes.count as u32, axes.inner as u32];
    let numel = axes.outer * axes.count * axes.inner;
    let place = |k: usize| 64 + k * (numel + 64).next_multiple_of(16);
    let a = operand(Dtype::F32, &dims, place(0) + shift);
    let b = operand(Dtype::F32, &dims, place(1) + shift);
    let out = operand(Dtype::F32, &dims, place(2));
    let op = if grad { Op::SoftmaxGrad { log, axes } } else { Op::Softmax { log, axes } };
    let inputs = if grad { vec![Some(a), Some(b)] } else { vec![Some(a)] };
    Kernel { op, inputs, outputs: vec![out], mutates: &[] }
}

fn prepared(kernel: &Kernel, class: Class, traits: &Traits) -> Prepared {
    let traits = Traits { class, ..traits.clone() };
    super::super::prepare_kernel(kernel, Target { traits: &traits, aligned: Aligned::default() }).unwrap()
}

/// Runs it and returns the result; nothing but it and its padding may have changed.
fn run(lab: &mut Lab, class: Class, kernel: &Kernel, tensors: &[&[f32]]) -> Vec<f32> {
    let Operand { location, numel, .. } = kernel.outputs[0];
    let (start, end) = (location.offset, location.offset + numel);
    let mut arena = vec![f32::NAN.to_bits(); end + 64];
    for (operand, values) in kernel.inputs.iter().flatten().zip(tensors) {
        let words = &mut arena[operand.location.offset..][..values.len()];
        words.iter_mut().zip(*values).for_each(|(word, x)| *word = x.to_bits());
    }
    let prepared = prepared(kernel, class, &lab.traits);
    let after = lab.run(&prepared, &arena, Settings::default()).arena;
    let padded = end.next_multiple_of(16);
    assert!(after[..start] == arena[..start] && after[padded..] == arena[padded..]);
    let unchecked = lab.run(&prepared, &arena, Settings { unchecked: true, ..Settings::default() }).arena;
    // The sign of a NaN is nobody's.
    let plain = |&word: &u32| if f32::from_bits(word).is_nan() { f32::NAN.to_bits() } else { word };
    assert!(after[..end].iter().map(plain).eq(unchecked[..end].iter().map(plain)));
    assert!(unchecked[padded..] == arena[padded..]);
    after[start..end].iter().map(|&word| f32::from_bits(word)).collect()
}

fn floats(count: usize, seed: u32) -> Vec<f32> {
    let word = |i: u32| i.wrapping_mul(0x9e37_79b9).wrapping_add(seed.wrapping_mul(0x85eb_ca6b)) >> 8;
    (0..count as u32).map(|i| word(i) as f32 / 1_048_576.0 - 8.0).collect()
}

fn on_cpu(grad: bool, log: bool, axes: Middle, a: &[f32], b: &[f32]) -> Vec<f32> {
    let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() };
    let mut out = vec![0.0; a.len()];
    if grad {
        cpu::softmax::softmax_grad(&cpu, log, axes, a, b, &mut out);
    } else {
        cpu::softmax::softmax(&cpu, log, axes, a, &mut out);
    }
    out
}

fn shapes() -> Vec<Middle> {
    [
        [1, 8, 31, 32, 33, 100, 257, 1000, 1024, 4096, 9001].map(|count| (3, count, 1)).to_vec(),
        vec![(0, 3, 1), (3, 0, 1), (3, 2, 0), (300, 10, 1), (70, 100, 1), (1, 20_003, 1)],
        vec![(3, 5, 2), (2, 130, 17), (3, 40, 8), (2, 300, 70)],
    ]
    .concat()
    .into_iter()
    .map(|(outer, count, inner)| Middle { outer, count, inner })
    .collect()
}

#[test]
fn every_text_is_valid_and_none_depends_on_the_batch() {
    for class in CLASSES {
        for (grad, log) in CASES {
            for axes in shapes().into_iter().filter(|axes| axes.outer > 0) {
                for shift in [0, 1] {
                    let texts = |outer| {
                        let kernel = kernel(grad, log, Middle { outer, ..axes }, shift);
                        let all = [Traits::least(class), Traits { subgroup: Some(8), ..Traits::least(class) }];
                        let calls = all.iter().flat_map(|traits| prepared(&kernel, class, traits).calls);
                        calls.inspect(validate).map(|call| call.shader.text.clone()).collect::<Vec<_>>()
                    };
                    assert_eq!(texts(1), texts(20));
                }
            }
        }
    }
}

#[test]
fn rows_that_software_adapters_would_leave_early_are_refused() {
    for (grad, log) in CASES {
        let kernel = |count| kernel(grad, log, Middle { outer: 1, count, inner: 1 }, 0);
        let prepare = |count, class| {
            let traits = Traits::least(class);
            let target = Target { traits: &traits, aligned: Aligned::default() };
            super::super::prepare_kernel(&kernel(count), target).map(|prepared| prepared.calls.len())
        };
        let error = prepare(10_000_000, Class::Software).unwrap_err();
        assert_eq!(error.code(), "ERR_OUT_OF_MEMORY");
        assert!(error.message().contains("rounds of a loop"), "{}", error.message());
        assert_eq!(prepare(10_000_000, Class::Discrete), Ok(1));
        assert_eq!(prepare(5_000_000, Class::Software), Ok(1));
    }
}

#[test]
fn results_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    for class in CLASSES {
        for axes in shapes() {
            let numel = axes.outer * axes.count * axes.inner;
            let row = if axes.inner == 1 { axes.count } else { axes.inner };
            for (grad, log) in CASES {
                let (x, dy) = (floats(numel, 1), floats(numel, 2));
                let y = on_cpu(false, log, axes, &x, &[]);
                let tensors: [&[f32]; 2] = if grad { [&dy, &y] } else { [&x, &[]] };
                let want = on_cpu(grad, log, axes, tensors[0], tensors[1]);
                let scale = want.iter().fold(0.0f32, |scale, x| scale.max(x.abs()));
                // Where vectors are possible, without them too.
                for shift in if row.is_multiple_of(4) { 0..2 } else { 1..2 } {
                    let got = run(&mut lab, class, &kernel(grad, log, axes, shift), &tensors);
                    assert_eq!(got.len(), want.len());
                    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                        let budget = 1e-6 * want.abs() + if log || grad { 1e-6 * scale } else { 0.0 };
                        assert!((got - want).abs() <= budget, "{class:?} {grad} {log} {axes:?} {i}: {got} {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn large_and_infinite_values_behave_as_ieee_says() {
    let Some(mut lab) = Lab::open() else { return };
    let inf = f32::INFINITY;
    for class in CLASSES {
        for (count, inner) in [(3, 1), (3, 2), (40, 1), (500, 1), (9000, 1)] {
            let mut row = |values: [f32; 3], log: bool, others: f32| {
                let mut x: Vec<f32> = values.iter().flat_map(|&v| vec![v; inner]).collect();
                x.resize(count * inner, others);
                let axes = Middle { outer: 1, count, inner };
                let y = run(&mut lab, class, &kernel(false, log, axes, 0), &[&x]);
                [y[0], y[inner], y[2 * inner]]
            };
            assert_eq!(row([1e30, 1e30, -1e30], false, -inf), [0.5, 0.5, 0.0]);
            assert_eq!(row([0.0, -inf, 0.0], false, -1e38), [0.5, 0.0, 0.5]);
            assert_eq!(row([0.0, -inf, -100.0], true, -inf), [0.0, -inf, -100.0]);
            for undefined in [[-inf, -inf, -inf], [0.0, inf, 0.0], [f32::NAN, 0.0, 0.0], [0.0, f32::NAN, inf]] {
                for log in [false, true] {
                    let y = row(undefined, log, -inf);
                    assert!(y.iter().all(|y| y.is_nan()), "{class:?} {count} {inner} {log} {undefined:?}: {y:?}");
                }
            }
        }
    }
}

#[test]
fn neither_other_rows_nor_places_nor_appended_nothing_change_a_bit() {
    let Some(mut lab) = Lab::open() else { return };
    for class in CLASSES {
        for (count, longer, inner) in [
            (4, 30, 1),
            (28, 40, 1),
            (32, 252, 1),
            (252, 1000, 1),
            (300, 1024, 1),
            (1000, 9000, 1),
            (1024, 1028, 1),
            (252, 9000, 1),
            (9000, 20_000, 1),
            (10, 300, 3),
            (20, 40, 4),
        ] {
            for (grad, log) in CASES {
                let rows = 9;
                let x = floats(rows * count * inner, 3);
                let axes = |outer, count| Middle { outer, count, inner };
                let y = if grad { on_cpu(false, log, axes(rows, count), &x, &[]) } else { Vec::new() };
                let mut made = |outer, count, x: &[f32], y: &[f32], shift| {
                    run(&mut lab, class, &kernel(grad, log, axes(outer, count), shift), &[x, y])
                };
                let all = made(rows, count, &x, &y, 0);
                let last_of = |list: &[f32]| list[(rows - 1) * count * inner..].to_vec();
                let all = last_of(&all);
                let (mut x, mut y) = (last_of(&x), if grad { last_of(&y) } else { y });
                assert_eq!(all, made(1, count, &x, &y, 1));
                // Nothing: −∞ before the softmax, 0 or its logarithm behind, no gradient.
                x.resize(longer * inner, if grad { 0.0 } else { f32::NEG_INFINITY });
                y.resize(longer * inner, if log { f32::NEG_INFINITY } else { 0.0 });
                let longer = made(1, longer, &x, if grad { &y } else { &[] }, 0);
                assert_eq!(all, &longer[..count * inner], "{class:?} {grad} {log} {count} {inner}");
            }
        }
    }
}
