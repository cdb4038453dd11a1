//! The same for class weights and label smoothing, which have shaders of their own.

use super::super::Check;
use super::super::canary::{Arena, bits, floats, kernel, prepare, words};
use super::super::testing::{Lab, Settings, operand, validate};
use crate::cpu::loss::{Weights, weighted_cross_entropy, weighted_cross_entropy_grad};
use crate::cpu::{Cpu, Isa, Pool};
use crate::dtype::Dtype::{F32, I32};
use crate::gpu::{Class, Traits};
use crate::plan::{Kernel, Operand};
use crate::program::Op;
use crate::program::op::Smoothed;

const IGNORED: i32 = -100;

fn rule(smoothing: f64) -> Smoothed {
    Smoothed { ignore_index: IGNORED, smoothing }
}

/// Numbers of an item, targets and weights of classes.
struct Batch {
    classes: usize,
    logits: Vec<f32>,
    targets: Vec<i32>,
    weight: Option<Vec<f32>>,
    smoothing: f64,
}

impl Batch {
    fn new(items: usize, classes: usize, weighted: bool, smoothing: f64) -> Self {
        let logits = floats(items * classes, 1).iter().map(|x| 5.0 * x).collect();
        let target = |i: usize| if i % 5 == 3 { IGNORED } else { (i * 31 % classes.max(1)) as i32 };
        let weight = weighted.then(|| floats(classes, 2).iter().map(|x| 1.5 + x).collect());
        Self { classes, logits, targets: (0..items).map(target).collect(), weight, smoothing }
    }

    fn sum(&self) -> Option<f32> {
        self.weight.as_ref().filter(|_| self.smoothing > 0.0).map(|weight| weight.iter().sum())
    }

    fn weights(&self) -> Weights<'_> {
        Weights { each: self.weight.as_deref(), sum: self.sum() }
    }

    /// Logits and targets, `others`, then weights and their sum; all of them `shift` words behind a multiple of 16.
    fn inputs(&self, arena: &mut Arena, shift: usize, others: &[&[f32]]) -> Vec<Option<Operand>> {
        let items = self.targets.len() as u32;
        let targets: Vec<u32> = self.targets.iter().map(|&t| t as u32).collect();
        let mut inputs = vec![
            Some(arena.read(F32, &[items, self.classes as u32], &bits(&self.logits), shift)),
            Some(arena.read(I32, &[items], &targets, shift)),
        ];
        for other in others {
            inputs.push(Some(arena.read(F32, &[items], &bits(other), shift)));
        }
        let weight = self.weight.as_ref();
        inputs.push(weight.map(|weight| arena.read(F32, &[self.classes as u32], &bits(weight), shift)));
        inputs.push(self.sum().map(|sum| arena.read(F32, &[], &[sum.to_bits()], shift)));
        inputs
    }

    fn forward(&self, lab: &mut Lab, shift: usize) -> [Vec<f32>; 3] {
        let mut arena = Arena::default();
        let inputs = self.inputs(&mut arena, shift, &[]);
        let items = [self.targets.len() as u32];
        let outputs = [arena.written(F32, &items), arena.written(F32, &items), arena.written(F32, &items)];
        let kernel = kernel(Op::WeightedCrossEntropy(rule(self.smoothing)), &inputs, &outputs);
        let got = arena.run(lab, &kernel, Settings::default());
        outputs.map(|output| numbers(words(&got, &output)))
    }

    fn backward(&self, lab: &mut Lab, shift: usize, log_sums: &[f32], upstream: &[f32]) -> Vec<f32> {
        let mut arena = Arena::default();
        let inputs = self.inputs(&mut arena, shift, &[log_sums, upstream]);
        let dx = arena.written(F32, &[self.targets.len() as u32, self.classes as u32]);
        let kernel = kernel(Op::WeightedCrossEntropyGrad(rule(self.smoothing)), &inputs, &[dx]);
        numbers(words(&arena.run(lab, &kernel, Settings::default()), &dx))
    }
}

fn numbers(words: &[u32]) -> Vec<f32> {
    words.iter().map(|&word| f32::from_bits(word)).collect()
}

fn near(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= 2e-6 * want.abs() + 2e-6, "{i}: {got} {want}");
    }
}

/// Operands of these shapes, anywhere.
fn kernels(items: usize, classes: usize, weighted: bool, smoothing: f64) -> [Kernel; 2] {
    let (row, matrix) = ([items as u32], [items as u32, classes as u32]);
    let at = |dtype, dims: &[u32], i: usize| operand(dtype, dims, i << 24);
    let weight = weighted.then(|| at(F32, &[classes as u32], 2));
    let sum = (weighted && smoothing > 0.0).then(|| at(F32, &[], 3));
    let data = [Some(at(F32, &matrix, 0)), Some(at(I32, &row, 1))];
    let forward: Vec<_> = data.into_iter().chain([weight, sum]).collect();
    let rows = [at(F32, &row, 4), at(F32, &row, 5), at(F32, &row, 6)];
    let backward: Vec<_> = data.into_iter().chain([Some(rows[1]), Some(rows[2]), weight, sum]).collect();
    [
        kernel(Op::WeightedCrossEntropy(rule(smoothing)), &forward, &rows),
        kernel(Op::WeightedCrossEntropyGrad(rule(smoothing)), &backward, &[at(F32, &matrix, 7)]),
    ]
}

const WAYS: [(bool, f64); 4] = [(false, 0.0), (false, 0.1), (true, 0.0), (true, 0.3)];

#[test]
fn every_text_is_valid_and_none_depends_on_the_batch_or_a_number() {
    for class in [Class::Discrete, Class::Software] {
        let traits = Traits::least(class);
        for (weighted, smoothing) in WAYS {
            for classes in [1, 3, 10, 32, 40, 300, 1000, 9000] {
                let texts = |items, smoothing| {
                    let calls =
                        kernels(items, classes, weighted, smoothing).map(|kernel| prepare(&kernel, &traits).calls);
                    calls.iter().flatten().for_each(validate);
                    calls.iter().flatten().map(|call| call.shader.text.clone()).collect::<Vec<_>>()
                };
                assert_eq!(texts(1, smoothing), texts(100, smoothing / 2.0));
            }
        }
    }
}

#[test]
fn losses_and_gradients_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() };
    for (items, classes) in [(1, 1), (3, 10), (97, 33), (40, 100), (5, 32), (301, 1000), (3, 9001), (600, 5)] {
        for (weighted, smoothing) in WAYS {
            for shift in [0, 3] {
                let batch = Batch::new(items, classes, weighted, smoothing);
                let data = (&*batch.logits, &*batch.targets);
                let mut want = [vec![0.0; items], vec![0.0; items], vec![0.0; items]];
                let [losses, log_sums, weighed] = &mut want;
                let out: [&mut [f32]; 3] = [losses, log_sums, weighed];
                weighted_cross_entropy(&cpu, rule(smoothing), data, batch.weights(), out).unwrap();
                let got = batch.forward(&mut lab, shift);
                for (got, want) in got.iter().zip(&want) {
                    near(got, want);
                }
                let upstream: Vec<f32> = (0..items).map(|i| i as f32 / items as f32 - 0.3).collect();
                let mut dx = vec![0.0; items * classes];
                let rows = (&*want[1], &*upstream);
                weighted_cross_entropy_grad(&cpu, rule(smoothing), data, rows, batch.weights(), &mut dx).unwrap();
                near(&batch.backward(&mut lab, shift, &want[1], &upstream), &dx);
            }
        }
    }
}

#[test]
fn what_is_ignored_contributes_nothing() {
    let Some(mut lab) = Lab::open() else { return };
    for classes in [2, 40] {
        let mut batch = Batch::new(2, classes, true, 0.25);
        (batch.logits[0], batch.logits[1]) = (f32::NAN, f32::INFINITY);
        batch.targets = vec![IGNORED, 0];
        let [losses, log_sums, weights] = batch.forward(&mut lab, 0);
        assert!(losses[0] == 0.0 && weights[0] == 0.0 && losses[1].is_finite() && log_sums[0].is_nan());
        let dx = batch.backward(&mut lab, 0, &log_sums, &[f32::NAN, 1.0]);
        assert!(dx[..classes].iter().all(|&dx| dx == 0.0) && dx[classes..].iter().all(|dx| dx.is_finite()));
    }
}

#[test]
fn no_items_and_no_classes_are_legal_and_the_first_bad_target_is_reported() {
    let Some(mut lab) = Lab::open() else { return };
    let batch = Batch::new(0, 5, true, 0.1);
    assert_eq!(batch.forward(&mut lab, 0), [vec![], vec![], vec![]]);
    let traits = lab.traits.clone();
    let mut arena = Arena::default();
    let none = Batch { targets: vec![IGNORED; 2], ..Batch::new(0, 0, false, 0.1) };
    let inputs = none.inputs(&mut arena, 0, &[]);
    let outputs = [arena.written(F32, &[2]), arena.written(F32, &[2]), arena.written(F32, &[2])];
    let kernel = kernel(Op::WeightedCrossEntropy(rule(0.1)), &inputs, &outputs);
    let got = arena.run(&mut lab, &kernel, Settings::default());
    let rows = outputs.map(|output| numbers(words(&got, &output)));
    assert_eq!(rows, [vec![0.0; 2], vec![f32::NEG_INFINITY; 2], vec![0.0; 2]]);
    for kernel in kernels(4, 3, true, 0.1) {
        assert_eq!(prepare(&kernel, &traits).check, Some(Check::Range { what: "target", size: 3 }));
    }
}
