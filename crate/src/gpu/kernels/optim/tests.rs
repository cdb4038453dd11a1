//! Optimiser steps against `cpu`, also two hundred of them; gates, how gradients are bound, slabs above the binding limit; texts.

use super::super::canary::{Arena, bits, floats, kernel, prepare, words};
use super::super::shader::Word;
use super::super::testing::{Lab, Settings, operand, validate};
use crate::cpu::optim::{self as cpu, Gate};
use crate::cpu::{Cpu, Isa, Pool};
use crate::dtype::Dtype;
use crate::gpu::{Class, Traits};
use crate::plan::{Base, Operand};
use crate::program::Op;
use crate::program::op::{Adam, Ema, Rmsprop, Segment, Sgd};

fn processor() -> Cpu {
    Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() }
}

const LENGTHS: [usize; 6] = [1, 0, 17, 256, 5003, 2];

/// Segments of these lengths at multiples of `unit`, the size of the slab, and the last one's end on it.
fn layout(lengths: &[usize], unit: usize) -> (Box<[Segment]>, usize) {
    let mut end = 0usize;
    let segments = lengths.iter().enumerate().map(|(parameter, &length)| {
        let offset = end.next_multiple_of(unit);
        end = offset + length;
        Segment { parameter: parameter as u32, offset: offset as u32 }
    });
    let segments = segments.collect();
    (segments, end)
}

fn numbers(words: &[u32]) -> Vec<f32> {
    words.iter().map(|&word| f32::from_bits(word)).collect()
}

/// What an optimiser has: slabs and counters.
#[derive(Clone, PartialEq, Debug)]
struct Memory {
    slabs: Vec<Vec<f32>>,
    steps: Vec<i32>,
}

/// The slabs of an instruction as its operands, absent ones included.
fn operands(op: &Op, slabs: &[Operand]) -> Vec<Option<Operand>> {
    let mut slabs = slabs.iter().copied();
    let wanted: &[bool] = match op {
        Op::Sgd(rule) => &[true, rule.momentum != 0.0],
        Op::Adam(_) => &[true, true, true, slabs.len() == 4],
        Op::Rmsprop(rule) if rule.momentum == 0.0 => &[true, true, slabs.len() == 3, false],
        Op::Rmsprop(_) => &[true, true, slabs.len() == 4, true],
        _ => &[true],
    };
    wanted.iter().map(|&there| if there { slabs.next() } else { None }).collect()
}

/// One step on the device: slabs begin `shift` words behind a multiple of 16. It does the same whether its gradients are
/// bound together, as those of one memory, or one by one.
fn step(
    lab: &mut Lab,
    op: &Op,
    memory: &Memory,
    gradients: &[Vec<f32>],
    gate: Gate,
    (lr, shift, closed): (f64, usize, bool),
) -> Memory {
    let mut arena = Arena::default();
    let slabs: Vec<Operand> =
        memory.slabs.iter().map(|slab| arena.changed(Dtype::F32, &[slab.len() as u32], &bits(slab), shift)).collect();
    let counters: Vec<u32> = memory.steps.iter().map(|&t| t as u32).collect();
    let steps = arena.changed(Dtype::I32, &[counters.len() as u32], &counters, shift);
    let mut inputs = operands(op, &slabs);
    inputs.push(Some(steps));
    inputs.push(gate.scale.map(|scale| arena.read(Dtype::F32, &[], &[scale.to_bits()], 1)));
    inputs.push(gate.ok.map(|ok| arena.read(Dtype::Bool, &[], &[u32::from(ok)], 1)));
    let mut apart = inputs.clone();
    for (number, gradient) in gradients.iter().enumerate() {
        let mut operand = arena.read(Dtype::F32, &[gradient.len() as u32], &bits(gradient), shift);
        inputs.push(Some(operand));
        operand.location.base = Base::Allocation(number as u32);
        apart.push(Some(operand));
    }
    let [got, other] = [inputs, apart].map(|inputs| {
        let settings = Settings { scalars: &[0.0, lr], closed, ..Settings::default() };
        arena.run(lab, &kernel(op.clone(), &inputs, &[]), settings)
    });
    assert!(got == other, "{op:?}");
    let slabs = slabs.iter().map(|slab| numbers(words(&got, slab))).collect();
    Memory { slabs, steps: words(&got, &steps).iter().map(|&t| t as i32).collect() }
}

fn step_on_cpu(op: &Op, memory: &mut Memory, gradients: &[Vec<f32>], gate: Gate, lr: f64) {
    let gradients: Vec<_> = gradients.iter().map(Vec::as_slice).collect();
    let steps = &mut memory.steps;
    let cpu = processor();
    match (op, &mut memory.slabs[..]) {
        (Op::Adam(rule), [p, m, v]) => cpu::adam(&cpu, rule, lr, gate, [p, m, v], None, steps, &gradients),
        (Op::Adam(rule), [p, m, v, most]) => {
            cpu::adam(&cpu, rule, lr, gate, [p, m, v], Some(most), steps, &gradients);
        }
        (Op::Rmsprop(rule), [p, v, rest @ ..]) => {
            let mut rest = rest.iter_mut().map(Vec::as_mut_slice);
            let mean = if rest.len() > usize::from(rule.momentum != 0.0) { rest.next() } else { None };
            cpu::rmsprop(&cpu, rule, lr, gate, [p, v], [mean, rest.next()], steps, &gradients);
        }
        (Op::Ema(rule), [average]) => cpu::ema(&cpu, rule, lr, gate, average, steps, &gradients),
        (Op::Sgd(rule), [p]) => cpu::sgd(&cpu, rule, lr, gate, p, None, steps, &gradients),
        (Op::Sgd(rule), [p, b]) => cpu::sgd(&cpu, rule, lr, gate, p, Some(b), steps, &gradients),
        _ => panic!("{op:?}"),
    }
}

fn adam(segments: &[Segment], decoupled: bool) -> Op {
    let segments = segments.into();
    Op::Adam(Adam { lr: 1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, decoupled, segments })
}

fn rmsprop(segments: &[Segment], momentum: f64) -> Op {
    Op::Rmsprop(Rmsprop { lr: 1, alpha: 0.9, eps: 1e-3, weight_decay: 0.1, momentum, segments: segments.into() })
}

fn sgd(segments: &[Segment], momentum: f64, nesterov: bool) -> Op {
    let dampening = if nesterov { 0.0 } else { 0.25 };
    Op::Sgd(Sgd { lr: 1, momentum, dampening, weight_decay: 0.1, nesterov, segments: segments.into() })
}

/// The optimisers, and how many slabs they have.
fn rules(segments: &[Segment]) -> [(Op, usize); 12] {
    [
        (adam(segments, true), 3),
        (adam(segments, true), 4),
        (adam(segments, false), 3),
        (adam(segments, false), 4),
        (sgd(segments, 0.0, false), 1),
        (sgd(segments, 0.8, false), 2),
        (sgd(segments, 0.8, true), 2),
        (rmsprop(segments, 0.0), 2),
        (rmsprop(segments, 0.0), 3),
        (rmsprop(segments, 0.7), 3),
        (rmsprop(segments, 0.7), 4),
        (Op::Ema(Ema { weight: 1, segments: segments.into() }), 1),
    ]
}

fn assert_near(got: &Memory, want: &Memory) {
    assert_eq!(got.steps, want.steps);
    for (got, want) in got.slabs.iter().zip(&want.slabs) {
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            assert!((got - want).abs() <= 5e-7 * (1.0 + want.abs()), "element {i}: {got} instead of {want}");
        }
    }
}

#[test]
fn steps_are_those_of_the_cpu() {
    let Some(mut lab) = Lab::open() else { return };
    let scaled = Gate { scale: Some(0.5), ok: Some(true) };
    for (unit, shift) in [(64, 0), (64, 2), (1, 0)] {
        let (segments, size) = layout(&LENGTHS, unit);
        for (op, slabs) in rules(&segments) {
            let mut start: Vec<Vec<f32>> =
                (0..slabs).map(|slab| floats(size, slab as u32).iter().map(|x| x.abs()).collect()).collect();
            if let (Op::Rmsprop(_), [_, squares, mean, ..]) = (&op, &mut start[..]) {
                // As far from 0 as a variance is: the square of the mean is below the mean of the squares.
                mean.iter_mut().zip(squares).for_each(|(mean, square)| *mean = 0.5 * *square);
            }
            let steps = (0..LENGTHS.len() as i32).map(|i| i % 3 * 7).collect();
            let mut memory = Memory { slabs: start, steps };
            let mut want = memory.clone();
            for t in 0..2 {
                let gate = if t == 0 { Gate { scale: None, ok: None } } else { scaled };
                let gradients: Vec<_> = LENGTHS.iter().map(|&n| floats(n, 10 + t)).collect();
                memory = step(&mut lab, &op, &memory, &gradients, gate, (0.05, shift, false));
                step_on_cpu(&op, &mut want, &gradients, gate, 0.05);
            }
            assert_near(&memory, &want);
        }
    }
}

#[test]
fn a_closed_gate_changes_nothing() {
    let Some(mut lab) = Lab::open() else { return };
    let (segments, size) = layout(&[5, 70], 64);
    let gradients = [vec![f32::NAN; 5], vec![f32::INFINITY; 70]];
    for (op, slabs) in rules(&segments) {
        let memory = Memory { slabs: (0..slabs).map(|slab| floats(size, slab as u32)).collect(), steps: vec![3, 4] };
        let refused = Gate { scale: Some(f32::NAN), ok: Some(false) };
        assert_eq!(step(&mut lab, &op, &memory, &gradients, refused, (0.1, 0, false)), memory);
        let open = Gate { scale: None, ok: None };
        assert_eq!(step(&mut lab, &op, &memory, &gradients, open, (0.1, 0, true)), memory);
    }
}

#[test]
fn two_hundred_steps_stay_with_the_cpu() {
    let Some(mut lab) = Lab::open() else { return };
    let (segments, size) = layout(&[7, 33], 64);
    let gate = Gate { scale: None, ok: None };
    let mut memory = Memory { slabs: vec![floats(size, 1), vec![0.0; size], vec![0.0; size]], steps: vec![0, 0] };
    let mut want = memory.clone();
    let op = adam(&segments, true);
    for t in 0..200 {
        let gradients = [floats(7, t), floats(33, 1000 + t)];
        memory = step(&mut lab, &op, &memory, &gradients, gate, (0.01, 0, false));
        step_on_cpu(&op, &mut want, &gradients, gate, 0.01);
    }
    assert_eq!(memory.steps, want.steps);
    for (got, want) in memory.slabs.iter().zip(&want.slabs) {
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() <= 2e-6 * (1.0 + want.abs())));
    }
}

#[test]
fn corrections_are_right_at_every_step_number() {
    let Some(mut lab) = Lab::open() else { return };
    // The moments of the first step tell what the corrections were: m = g/10, v = g²/1000.
    for t in [0, 1, 4, 10, 100, 1000, 5000, 31_999, i32::MAX] {
        let (segments, _) = layout(&[1], 64);
        let mut memory = Memory { slabs: vec![vec![0.0], vec![0.0], vec![0.0]], steps: vec![t] };
        let mut want = memory.clone();
        let op = adam(&segments, true);
        let gate = Gate { scale: None, ok: None };
        memory = step(&mut lab, &op, &memory, &[vec![0.7]], gate, (1.0, 0, false));
        step_on_cpu(&op, &mut want, &[vec![0.7]], gate, 1.0);
        let (got, want) = (memory.slabs[0][0], want.slabs[0][0]);
        assert!((got - want).abs() <= 6e-7 * want.abs(), "{t}: {got} instead of {want}");
    }
}

#[test]
fn the_norm_is_that_of_the_cpu_whatever_is_bound_how() {
    let Some(mut lab) = Lab::open() else { return };
    let fifty: Vec<usize> = (0..50).collect();
    let cases: [&[usize]; 7] = [&[5], &[1], &[0], &[7, 0, 99], &fifty, &[20_011], &LENGTHS];
    for lengths in cases {
        let tensors: Vec<_> = lengths.iter().enumerate().map(|(i, &n)| bits(&floats(n, i as u32))).collect();
        let slices: Vec<_> = tensors.iter().map(Vec::as_slice).collect();
        let want = cpu::squared_norm(&processor(), &slices);
        let results = [0, 3].map(|shift| {
            let mut arena = Arena::default();
            let inputs: Vec<_> =
                tensors.iter().map(|x| Some(arena.read(Dtype::F32, &[x.len() as u32], x, shift))).collect();
            let y = arena.written(Dtype::F32, &[]);
            let got = arena.run(&mut lab, &kernel(Op::SquaredNorm, &inputs, &[y]), Settings::default());
            f32::from_bits(words(&got, &y)[0])
        });
        assert_eq!(results[0].to_bits(), results[1].to_bits());
        assert!((results[0] - want).abs() <= 1e-6 * want, "{} instead of {want}", results[0]);
    }
}

#[test]
fn texts_are_valid_and_steps_take_few_calls() {
    let traits = Traits::least(Class::Discrete);
    let (segments, size) = layout(&[100; 33], 64);
    let slab = operand(Dtype::F32, &[size as u32], 0);
    let steps = Some(operand(Dtype::I32, &[33], 0));
    let gradient = |number: u32, apart: bool| {
        let mut gradient = operand(Dtype::F32, &[100], 128 * number as usize);
        gradient.location.base = if apart { Base::Allocation(number) } else { Base::Arena };
        Some(gradient)
    };
    for apart in [false, true] {
        for (op, slabs) in rules(&segments) {
            let mut inputs = operands(&op, &vec![slab; slabs]);
            inputs.extend([steps, None, None]);
            inputs.extend((0..33).map(|number| gradient(number, apart)));
            let prepared = prepare(&kernel(op, &inputs, &[]), &traits);
            prepared.calls.iter().for_each(validate);
            // Eight bindings, of which slabs, counters and state take some.
            let calls = if apart { 1 + 33_usize.div_ceil(6 - slabs) } else { 4 };
            assert!(prepared.calls.len() <= calls, "{} calls", prepared.calls.len());
            assert_eq!(prepared.calls[1].shader, prepared.calls[2].shader);
        }
    }
}

#[test]
fn gradients_in_one_memory_are_one_operand_however_large() {
    let traits = Traits::least(Class::Software);
    let lengths = [100_000, 10, 200_000, 8];
    let (segments, size) = layout(&lengths, 64);
    let slab = Some(operand(Dtype::F32, &[size as u32], 0));
    let gradients = |base: fn(u32) -> Base| {
        let mut inputs = vec![slab, slab, slab, None, Some(operand(Dtype::I32, &[4], 0)), None, None];
        for (number, n) in (0..).zip(lengths) {
            let mut gradient = operand(Dtype::F32, &[n as u32], 400_000 * number as usize);
            gradient.location.base = base(number);
            inputs.push(Some(gradient));
        }
        prepare(&kernel(adam(&segments, true), &inputs, &[]), &traits).calls
    };
    let (together, apart) = (gradients(|_| Base::Arena), gradients(Base::Allocation));
    together.iter().chain(&apart).for_each(validate);
    assert_eq!((together.len(), together[1].windows.len()), (2, 6));
    // Each large one is alone there.
    assert_eq!(apart.len(), 5);
}

#[test]
fn slabs_above_the_binding_limit_are_updated_in_parts() {
    let traits = Traits::least(Class::Discrete);
    let lengths = [100 << 20, 7, 200 << 20];
    let (segments, size) = layout(&lengths, 64);
    let slab = Some(operand(Dtype::F32, &[size as u32], 0));
    let mut inputs = vec![slab, slab, slab, None, Some(operand(Dtype::I32, &[3], 0)), None, None];
    inputs.extend(lengths.map(|n| Some(operand(Dtype::F32, &[n as u32], 0))));
    let prepared = prepare(&kernel(adam(&segments, true), &inputs, &[]), &traits);
    prepared.calls.iter().for_each(validate);
    assert!(prepared.calls.iter().all(|call| call.windows.len() <= 8));
    // Every parameter is counted once: eight words, of which the last says so, and two for each gradient.
    let counting = prepared.calls[1..].iter().filter(|call| call.words[7] == Word::Value(1));
    assert_eq!(counting.map(|call| (call.words.len() - 8) / 2).sum::<usize>(), 3);
}
