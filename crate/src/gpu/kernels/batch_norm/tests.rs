//! The parts of batch normalisation against the `cpu` kernels; texts through naga, without a GPU.

use super::super::Target;
use super::super::canary::{Arena, bits, floats, kernel, words};
use super::super::shader::Aligned;
use super::super::testing::{Lab, Settings, operand, validate};
use crate::cpu::batch_norm::{self as cpu, Coefficients, Fresh};
use crate::cpu::{Cpu, Isa, Pool};
use crate::dtype::Dtype;
use crate::gpu::{Class, Traits};
use crate::plan::{Kernel, Operand};
use crate::program::Op;
use crate::program::op::{BatchNormOp, Channels, RunningUpdate};

const SHAPES: [[usize; 3]; 15] = [
    [0, 3, 1],
    [6, 0, 1],
    [1, 1, 1],
    [2, 3, 1],
    [63, 4, 1],
    [65, 5, 1],
    [129, 16, 1],
    [4200, 3, 1],
    [3, 2, 1],
    [2, 1, 3],
    [5, 7, 31],
    [3, 6, 32],
    [2, 3, 2049],
    [4, 9, 48],
    [1, 2, 9000],
];

fn processor() -> Cpu {
    Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() }
}

fn channels([outer, channels, inner]: [usize; 3]) -> Channels {
    Channels { outer, channels, inner }
}

fn mask(of: Channels) -> Vec<u32> {
    (0..of.positions()).map(|i| u32::from(i % 3 != 1)).collect()
}

/// What the mask leaves out is NaN.
fn poisoned(of: Channels, mut x: Vec<f32>, mask: Option<&[u32]>) -> Vec<f32> {
    for (i, x) in x.iter_mut().enumerate() {
        let position = i / of.inner / of.channels * of.inner + i % of.inner;
        if mask.is_some_and(|mask| mask[position] == 0) {
            *x = f32::NAN;
        }
    }
    x
}

fn near(got: &[u32], want: &[f32], scale: f32) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, want)) in got.iter().zip(want).enumerate() {
        let got = f32::from_bits(got);
        assert!((got - want).abs() <= 2e-6 * (scale + want.abs()), "element {i}: {got} instead of {want}");
    }
}

/// The tensors of a case, each where it begins `shift` words behind a multiple of 16.
struct Case {
    of: Channels,
    arena: Arena,
    shift: usize,
}

impl Case {
    fn new(of: Channels, shift: usize) -> Self {
        Self { of, arena: Arena::default(), shift }
    }

    fn elements(&mut self, x: &[f32]) -> Operand {
        let dims = [self.of.outer, self.of.channels, self.of.inner].map(|d| d as u32);
        self.arena.read(Dtype::F32, &dims, &bits(x), self.shift)
    }

    fn each(&mut self, x: &[f32]) -> Operand {
        self.arena.read(Dtype::F32, &[self.of.channels as u32], &bits(x), self.shift)
    }

    fn mask(&mut self, mask: Option<&[u32]>) -> Option<Operand> {
        mask.map(|mask| self.arena.read(Dtype::Bool, &[mask.len() as u32], mask, self.shift))
    }

    fn result(&mut self, is_x: bool) -> Operand {
        let Channels { outer, channels, inner } = self.of;
        if is_x {
            self.arena.written(Dtype::F32, &[outer as u32, channels as u32, inner as u32])
        } else {
            self.arena.written(Dtype::F32, &[channels as u32])
        }
    }

    fn run(&self, lab: &mut Lab, op: BatchNormOp, inputs: &[Option<Operand>], outputs: &[Operand]) -> Vec<u32> {
        self.arena.run(lab, &kernel(Op::BatchNorm(op), inputs, outputs), Settings::default())
    }
}

/// Every shape without and with a mask, where vectors can be read and where not.
fn cases(mut body: impl FnMut(Channels, Option<&[u32]>, usize)) {
    for of in SHAPES.map(channels) {
        let some = mask(of);
        for shift in [0, 3] {
            body(of, None, shift);
            body(of, Some(&some), shift);
        }
    }
}

#[test]
fn statistics_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    cases(|of, mask, shift| {
        let x: Vec<f32> = floats(of.numel(), 1).iter().map(|x| x + 3.0).collect();
        let x = poisoned(of, x, mask);
        let (mut mean, mut m2) = (vec![0.0; of.channels], vec![0.0; of.channels]);
        let count = cpu::statistics(&processor(), of, &x, mask, &mut mean, &mut m2);
        let mut case = Case::new(of, shift);
        let inputs = [Some(case.elements(&x)), case.mask(mask)];
        let outputs = [case.arena.written(Dtype::F32, &[]), case.result(false), case.result(false)];
        let got = case.run(&mut lab, BatchNormOp::Statistics(of), &inputs, &outputs);
        near(words(&got, &outputs[0]), &[count as f32], 0.0);
        near(words(&got, &outputs[1]), &mean, 1.0);
        near(words(&got, &outputs[2]), &m2, count as f32);
    });
}

#[test]
fn what_is_infinite_has_an_infinite_mean() {
    let Some(mut lab) = Lab::open() else { return };
    // Of one state and of many; in the first and in a later one.
    for (of, at) in [([2, 3, 1], 0), ([4200, 3, 1], 0), ([4200, 3, 1], 4000), ([2, 3, 5000], 1)] {
        let of = channels(of);
        let mut x = floats(of.numel(), 1);
        x[(at * of.channels + 1) * of.inner] = f32::INFINITY;
        let mut case = Case::new(of, 0);
        let inputs = [Some(case.elements(&x)), None];
        let outputs = [case.arena.written(Dtype::F32, &[]), case.result(false), case.result(false)];
        let got = case.run(&mut lab, BatchNormOp::Statistics(of), &inputs, &outputs);
        let [mean, m2] = [1, 2].map(|output| words(&got, &outputs[output]).iter().map(|&word| f32::from_bits(word)));
        let (mean, m2): (Vec<_>, Vec<_>) = (mean.collect(), m2.collect());
        assert!(mean[1] == f32::INFINITY && m2[1].is_nan(), "{of:?}: {mean:?} {m2:?}");
        assert!([0, 2].into_iter().all(|channel| mean[channel].is_finite() && m2[channel].is_finite()));
    }
}

#[test]
fn positions_behind_that_the_mask_leaves_out_change_no_bit() {
    let Some(mut lab) = Lab::open() else { return };
    let mut made = |outer: usize, counted: usize| {
        let of = channels([outer, 64, 1]);
        let mask: Vec<u32> = (0..outer).map(|i| u32::from(i < counted)).collect();
        let x: Vec<f32> = floats(counted * 64, 1).iter().map(|x| x + 3.0).collect();
        let x: Vec<f32> = x.into_iter().chain(std::iter::repeat_n(f32::NAN, (outer - counted) * 64)).collect();
        let mut case = Case::new(of, 0);
        let inputs = [Some(case.elements(&x)), case.mask(Some(&mask))];
        let outputs = [case.arena.written(Dtype::F32, &[]), case.result(false), case.result(false)];
        let got = case.run(&mut lab, BatchNormOp::Statistics(of), &inputs, &outputs);
        outputs.map(|output| words(&got, &output).to_vec())
    };
    // More states than one stage brings together, with nothing in the last ones.
    for (counted, longer) in [(50, 300), (4000, 4200), (4000, 9000)] {
        assert_eq!(made(counted, counted), made(longer, counted), "{counted} {longer}");
    }
}

/// Ten thousand deviations: a mean is rounded by as much as a thousandth of one.
#[test]
fn a_mean_far_from_0_leaves_the_spread_its_digits() {
    let Some(mut lab) = Lab::open() else { return };
    for of in [[4200, 5, 1], [3, 5, 5000], [300, 4, 49]].map(channels) {
        // The first states have nothing.
        let some: Vec<u32> = (0..of.positions()).map(|i| u32::from(i >= 130 && i % 3 != 1)).collect();
        for mask in [None, Some(&some[..])] {
            let x: Vec<f32> = floats(of.numel(), 1).iter().map(|x| x + 5773.5).collect();
            let (mut mean, mut m2) = (vec![0.0; of.channels], vec![0.0; of.channels]);
            cpu::statistics(&processor(), of, &x, mask, &mut mean, &mut m2);
            let mut case = Case::new(of, 0);
            let inputs = [Some(case.elements(&x)), case.mask(mask)];
            let outputs = [case.arena.written(Dtype::F32, &[]), case.result(false), case.result(false)];
            let got = case.run(&mut lab, BatchNormOp::Statistics(of), &inputs, &outputs);
            for (&got, want) in words(&got, &outputs[2]).iter().zip(&m2) {
                let got = f32::from_bits(got);
                assert!((got - want).abs() <= 2e-6 * want, "{of:?}: {got} instead of {want}");
            }
        }
    }
}

#[test]
fn normalised_elements_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    cases(|of, mask, shift| {
        let x = poisoned(of, floats(of.numel(), 2), mask);
        let [mean, istd, weight, bias] = [3, 4, 5, 6].map(|seed| floats(of.channels, seed));
        for affine in [true, false] {
            let (weight, bias) = (affine.then_some(&weight[..]), affine.then_some(&bias[..]));
            let mut y = vec![0.0; of.numel()];
            let with = Coefficients { mean: &mean, istd: &istd, weight };
            cpu::forward(&processor(), of, with, bias, &x, mask, &mut y);
            let mut case = Case::new(of, shift);
            let [x, mean, istd] = [case.elements(&x), case.each(&mean), case.each(&istd)].map(Some);
            let inputs = [x, mean, istd, weight.map(|w| case.each(w)), bias.map(|b| case.each(b)), case.mask(mask)];
            let output = case.result(true);
            let got = case.run(&mut lab, BatchNormOp::Forward(of), &inputs, &[output]);
            near(words(&got, &output), &y, 1.0);
        }
    });
}

#[test]
fn gradients_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    cases(|of, mask, shift| {
        let [dy, x] = [7, 8].map(|seed| poisoned(of, floats(of.numel(), seed), mask));
        let [mean, istd, weight] = [9, 10, 11].map(|seed| floats(of.channels, seed));
        let (mut sums, mut products) = (vec![0.0; of.channels], vec![0.0; of.channels]);
        cpu::grad_sums(&processor(), of, &dy, &x, &mean, &istd, mask, &mut sums, &mut products);
        let mut case = Case::new(of, shift);
        let inputs = [case.elements(&dy), case.elements(&x), case.each(&mean), case.each(&istd)];
        let masked = case.mask(mask);
        let all: Vec<_> = inputs.into_iter().map(Some).chain([masked]).collect();
        let outputs = [case.result(false), case.result(false)];
        let got = case.run(&mut lab, BatchNormOp::GradSums(of), &all, &outputs);
        near(words(&got, &outputs[0]), &sums, of.positions() as f32);
        near(words(&got, &outputs[1]), &products, of.positions() as f32);
        for weight in [Some(&weight[..]), None] {
            let mut dx = vec![0.0; of.numel()];
            let with = Coefficients { mean: &mean, istd: &istd, weight };
            let [small, smaller] = [12, 13].map(|seed| floats(of.channels, seed));
            cpu::grad(&processor(), of, with, [&small, &smaller], 7.0, &dy, &x, mask, &mut dx);
            let mut case = Case::new(of, shift);
            let mut inputs = vec![Some(case.elements(&dy)), Some(case.elements(&x))];
            inputs.extend([&mean, &istd].map(|x| Some(case.each(x))));
            inputs.push(weight.map(|weight| case.each(weight)));
            inputs.extend([&small, &smaller].map(|x| Some(case.each(x))));
            inputs.push(Some(case.arena.read(Dtype::F32, &[], &bits(&[7.0]), 1)));
            inputs.push(case.mask(mask));
            let output = case.result(true);
            let got = case.run(&mut lab, BatchNormOp::Grad(of), &inputs, &[output]);
            near(words(&got, &output), &dx, 1.0);
        }
    });
}

#[test]
fn variances_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    for count in [0, 1, 7, 64, 65] {
        let m2: Vec<f32> = floats(count, 1).iter().map(|x| x.abs() * 9.0).collect();
        for total in [9.0, 1.0, 0.0] {
            let of = Channels { outer: 1, channels: count, inner: 1 };
            let mut case = Case::new(of, 1);
            let inputs = [Some(case.each(&m2)), Some(case.arena.read(Dtype::F32, &[], &bits(&[total]), 0))];
            let outputs = [case.result(false), case.result(false)];
            let got = case.run(&mut lab, BatchNormOp::Variance { eps: 1e-5 }, &inputs, &outputs);
            let (mut variance, mut istd) = (vec![0.0; count], vec![0.0; count]);
            cpu::variance(&m2, total, 1e-5, &mut variance, &mut istd);
            near(words(&got, &outputs[0]), &variance, 0.0);
            near(words(&got, &outputs[1]), &istd, 0.0);
        }
    }
}

#[test]
fn running_statistics_are_the_cpu_s_or_stay() {
    let Some(mut lab) = Lab::open() else { return };
    for count in [0_usize, 1, 7, 65, 300] {
        let [mean, variance, new_mean, new_variance] = [1, 2, 3, 4].map(|seed| floats(count, seed));
        for (cumulative, unbiased) in [(false, true), (false, false), (true, true)] {
            for (ok, closed, tracked) in
                [(None, false, true), (Some(1), false, false), (Some(0), false, true), (None, true, true)]
            {
                let applied = ok != Some(0) && !closed;
                let mut arena = Arena::default();
                let dims = [count as u32];
                let state = [&mean, &variance].map(|x| arena.changed(Dtype::F32, &dims, &bits(x), 5));
                let updates = tracked.then(|| arena.changed(Dtype::I32, &[], &[4], 7));
                let fresh = [&new_mean, &new_variance].map(|x| Some(arena.read(Dtype::F32, &dims, &bits(x), 3)));
                let total = arena.read(Dtype::F32, &[], &bits(&[6.0]), 1);
                let ok = ok.map(|ok| arena.read(Dtype::Bool, &[], &[ok], 1));
                let inputs = [Some(state[0]), Some(state[1]), updates, fresh[0], fresh[1], Some(total), ok];
                let op = BatchNormOp::Update(RunningUpdate { momentum: 1, cumulative, unbiased });
                let settings = Settings { scalars: &[0.0, 0.25], closed, ..Settings::default() };
                let got = arena.run(&mut lab, &kernel(Op::BatchNorm(op), &inputs, &[]), settings);
                let (mut want_mean, mut want_variance) = (mean.clone(), variance.clone());
                if applied {
                    let factor = if cumulative && tracked { 1.0 / 5.0 } else { 0.25 };
                    let fresh = Fresh { mean: &new_mean, variance: &new_variance, count: 6.0, factor, unbiased };
                    cpu::update(&mut want_mean, &mut want_variance, fresh);
                }
                near(words(&got, &state[0]), &want_mean, 0.1);
                near(words(&got, &state[1]), &want_variance, 0.1);
                if let Some(updates) = updates {
                    assert_eq!(words(&got, &updates), [4 + u32::from(applied)]);
                }
            }
        }
    }
}

/// The instructions over some elements, with everything that may be absent or without.
fn kernels(of: Channels, full: bool) -> Vec<Kernel> {
    let dims = [of.outer, of.channels, of.inner].map(|d| d as u32);
    let x = operand(Dtype::F32, &dims, 0);
    let (each, one) = (operand(Dtype::F32, &dims[1..2], 0), operand(Dtype::F32, &[], 0));
    let mask = full.then(|| operand(Dtype::Bool, &[of.positions() as u32], 0));
    let weight = full.then_some(each);
    let some = Some;
    let all: [(BatchNormOp, Vec<Option<Operand>>, Vec<Operand>); 4] = [
        (BatchNormOp::Statistics(of), vec![some(x), mask], vec![one, each, each]),
        (BatchNormOp::Forward(of), vec![some(x), some(each), some(each), weight, weight, mask], vec![x]),
        (BatchNormOp::GradSums(of), vec![some(x), some(x), some(each), some(each), mask], vec![each, each]),
        (
            BatchNormOp::Grad(of),
            vec![some(x), some(x), some(each), some(each), weight, some(each), some(each), some(one), mask],
            vec![x],
        ),
    ];
    all.into_iter().map(|(op, inputs, outputs)| kernel(Op::BatchNorm(op), &inputs, &outputs)).collect()
}

#[test]
fn texts_are_valid_and_know_no_sizes() {
    for class in [Class::Discrete, Class::Software] {
        let traits = Traits::least(class);
        for full in [true, false] {
            for (a, b) in [
                ([100, 3, 1], [7000, 5, 1]),
                ([100, 4, 1], [7000, 8, 1]),
                ([3, 5, 7], [300, 6, 9]),
                ([3, 5, 8], [90, 6, 400]),
            ] {
                let first = kernels(channels(a), full);
                for (first, second) in first.iter().zip(kernels(channels(b), full)) {
                    let [first, second] = [first, &second].map(|kernel| {
                        let target = Target { traits: &traits, aligned: Aligned::default() };
                        let calls = super::super::prepare_kernel(kernel, target).unwrap().calls;
                        calls.iter().for_each(validate);
                        calls.into_iter().map(|call| call.shader).collect::<Vec<_>>()
                    });
                    // The larger one may need more stages; all of them are texts of the smaller one, or bring states together.
                    assert_eq!(first.first(), second.first());
                    assert_eq!(first.last(), second.last());
                }
            }
        }
    }
}

#[test]
fn channels_in_fours_are_seen_as_vectors() {
    let traits = Traits::least(Class::Discrete);
    let text = |shape: [usize; 3], kernel: usize| {
        let kernels = kernels(channels(shape), false);
        let target = Target { traits: &traits, aligned: Aligned::default() };
        super::super::prepare_kernel(&kernels[kernel], target).unwrap().calls.last().unwrap().shader.text.clone()
    };
    for kernel in [1, 3] {
        for (shape, vectors) in [([5, 4, 1], true), ([5, 3, 1], false), ([5, 3, 8], true), ([5, 3, 7], false)] {
            assert_eq!(text(shape, kernel).contains("array<vec4<f32>>"), vectors, "{shape:?}");
        }
    }
}
