//! Cross-entropy and its gradient against `cpu`: ignored and bad targets, nothing to count; texts through naga.

use super::super::Check;
use super::super::shader::Aligned;
use super::super::testing::{Lab, Outcome, Settings, operand, validate};
use super::*;
use crate::cpu::{self, Cpu, Isa, Pool};
use crate::dtype::Dtype;
use crate::gpu::Traits;
use crate::program::Op;

const CLASSES: [Class; 2] = [Class::Discrete, Class::Software];

/// Logits, targets, ln Σexp, upstream; then losses, ln Σexp and count, or dlogits.
struct Case {
    kernel: Kernel,
    arena: Vec<u32>,
}

impl Case {
    fn new(grad: bool, ignore_index: i32, classes: usize, logits: &[f32], targets: &[i32]) -> Self {
        let items = targets.len();
        let mut end = 64;
        let mut place = |dtype, dims: &[u32]| {
            let operand = operand(dtype, dims, end);
            end = (end + operand.numel).next_multiple_of(16) + 16;
            operand
        };
        let row = [items as u32];
        let matrix = [items as u32, classes as u32];
        let inputs =
            [place(Dtype::F32, &matrix), place(Dtype::I32, &row), place(Dtype::F32, &row), place(Dtype::F32, &row)];
        let outputs = if grad {
            vec![place(Dtype::F32, &matrix)]
        } else {
            vec![place(Dtype::F32, &row), place(Dtype::F32, &row), place(Dtype::F32, &[])]
        };
        let op = if grad { Op::CrossEntropyGrad { ignore_index } } else { Op::CrossEntropy { ignore_index } };
        let inputs: Vec<_> = inputs.into_iter().map(Some).take(if grad { 4 } else { 2 }).collect();
        let mut arena = vec![f32::NAN.to_bits(); end + 64];
        arena[64..64 + logits.len()].copy_from_slice(&logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        let at = inputs[1].map_or(0, |targets| targets.location.offset);
        arena[at..at + items].copy_from_slice(&targets.iter().map(|&t| t as u32).collect::<Vec<_>>());
        Self { kernel: Kernel { op, inputs, outputs, mutates: &[] }, arena }
    }

    fn set(&mut self, input: usize, values: &[f32]) {
        let at = self.kernel.inputs[input].unwrap().location.offset;
        self.arena[at..at + values.len()].copy_from_slice(&values.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    }

    fn prepared(&self, class: Class, traits: &Traits) -> Prepared {
        let traits = Traits { class, ..traits.clone() };
        super::super::prepare_kernel(&self.kernel, Target { traits: &traits, aligned: Aligned::default() }).unwrap()
    }

    /// Runs it; nothing but results and their padding may have changed.
    fn run(&self, lab: &mut Lab, class: Class) -> Outcome {
        let prepared = self.prepared(class, &lab.traits);
        let first = self.kernel.outputs[0].location.offset;
        let mut outcomes = [false, true].map(|unchecked| {
            let outcome = lab.run(&prepared, &self.arena, Settings { unchecked, ..Settings::default() });
            let mut kept = first;
            for output in &self.kernel.outputs {
                assert!(outcome.arena[kept..output.location.offset] == self.arena[kept..output.location.offset]);
                kept = (output.location.offset + output.numel).next_multiple_of(16);
            }
            assert!(outcome.arena[..first] == self.arena[..first] && outcome.arena[kept..] == self.arena[kept..]);
            outcome
        });
        assert!(outcomes[0].arena == outcomes[1].arena);
        std::mem::replace(&mut outcomes[0], Outcome { arena: Vec::new(), cell: [0; 3] })
    }

    fn output(&self, outcome: &Outcome, position: usize) -> Vec<f32> {
        let output = self.kernel.outputs[position];
        outcome.arena[output.location.offset..][..output.numel].iter().map(|&word| f32::from_bits(word)).collect()
    }
}

fn logits(items: usize, classes: usize) -> Vec<f32> {
    (0..items * classes).map(|i| (i * 7919 % 1009) as f32 / 50.0 - 10.0).collect()
}

fn near(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= 1e-6 * want.abs() + 1e-6, "{i}: {got} {want}");
    }
}

#[test]
fn every_text_is_valid_and_none_depends_on_the_batch() {
    for class in CLASSES {
        for grad in [false, true] {
            for classes in [1, 3, 10, 32, 40, 300, 1000, 9000] {
                let texts = |items| {
                    let case = Case::new(grad, -100, classes, &logits(items, classes), &vec![0; items]);
                    let calls = case.prepared(class, &Traits::least(class)).calls;
                    calls.iter().for_each(validate);
                    calls.iter().map(|call| call.shader.text.clone()).collect::<Vec<_>>()
                };
                assert_eq!(texts(1), texts(100));
            }
        }
    }
}

#[test]
fn losses_and_gradients_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() };
    for class in CLASSES {
        for (items, classes) in [(1, 1), (3, 10), (97, 33), (40, 100), (5, 32), (301, 1000), (3, 9001), (600, 5)] {
            let x = logits(items, classes);
            let targets: Vec<i32> =
                (0..items).map(|i| if i % 5 == 3 { -100 } else { (i * 31 % classes) as i32 }).collect();
            let (mut losses, mut log_sums) = (vec![0.0; items], vec![0.0; items]);
            let count = cpu::loss::cross_entropy(&cpu, -100, &x, &targets, &mut losses, &mut log_sums).unwrap();
            let case = Case::new(false, -100, classes, &x, &targets);
            let outcome = case.run(&mut lab, class);
            assert_eq!(outcome.cell, [0; 3]);
            near(&case.output(&outcome, 0), &losses);
            near(&case.output(&outcome, 1), &log_sums);
            assert_eq!(case.output(&outcome, 2), [count as f32]);
            let upstream: Vec<f32> = (0..items).map(|i| i as f32 / items as f32 - 0.3).collect();
            let mut dx = vec![0.0; items * classes];
            cpu::loss::cross_entropy_grad(&cpu, -100, &x, &targets, &log_sums, &upstream, &mut dx).unwrap();
            let mut case = Case::new(true, -100, classes, &x, &targets);
            case.set(2, &log_sums);
            case.set(3, &upstream);
            let outcome = case.run(&mut lab, class);
            assert_eq!(outcome.cell, [0; 3]);
            near(&case.output(&outcome, 0), &dx);
        }
    }
}

#[test]
fn what_is_ignored_contributes_nothing() {
    let Some(mut lab) = Lab::open() else { return };
    for class in CLASSES {
        for classes in [2, 40] {
            let mut x = vec![0.0; 2 * classes];
            (x[0], x[1]) = (f32::NAN, f32::INFINITY);
            let case = Case::new(false, 7, classes, &x, &[7, 0]);
            let outcome = case.run(&mut lab, class);
            let (losses, log_sums) = (case.output(&outcome, 0), case.output(&outcome, 1));
            assert!(losses[0] == 0.0 && losses[1].is_finite() && log_sums[0].is_nan());
            assert_eq!(case.output(&outcome, 2), [1.0]);
            let mut case = Case::new(true, 7, classes, &x, &[7, 0]);
            case.set(2, &log_sums);
            case.set(3, &[f32::NAN, 1.0]);
            let dx = case.output(&case.run(&mut lab, class), 0);
            assert!(dx[..classes].iter().all(|&dx| dx == 0.0) && dx[classes] < 0.0);
        }
    }
}

#[test]
fn the_first_bad_target_is_reported() {
    let Some(mut lab) = Lab::open() else { return };
    for class in CLASSES {
        for bad in [3, -1, i32::MIN, i32::MAX] {
            for grad in [false, true] {
                let mut targets = vec![2; 1000];
                (targets[0], targets[500], targets[700]) = (-100, bad, -7);
                let case = Case::new(grad, -100, 3, &logits(1000, 3), &targets);
                assert_eq!(case.prepared(class, &lab.traits).check, Some(Check::Range { what: "target", size: 3 }));
                assert_eq!(case.run(&mut lab, class).cell, [1, 500, bad as u32]);
            }
        }
    }
}

#[test]
fn no_items_and_no_classes_are_legal() {
    let Some(mut lab) = Lab::open() else { return };
    for class in CLASSES {
        let case = Case::new(false, -100, 5, &[], &[]);
        let outcome = case.run(&mut lab, class);
        assert_eq!((case.output(&outcome, 2), case.prepared(class, &lab.traits).check), (vec![0.0], None));
        let case = Case::new(false, -100, 0, &[], &[-100, -100]);
        let outcome = case.run(&mut lab, class);
        assert_eq!(case.output(&outcome, 0), [0.0, 0.0]);
        assert_eq!(case.output(&outcome, 1), [f32::NEG_INFINITY; 2]);
        assert_eq!((case.output(&outcome, 2), outcome.cell), (vec![0.0], [0; 3]));
        let case = Case::new(true, -100, 0, &[], &[0]);
        assert_eq!(case.run(&mut lab, class).cell, [1, 0, 0]);
    }
}
