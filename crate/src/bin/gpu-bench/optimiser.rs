//! One step of `AdamW` over one slab: 28 bytes of traffic for each parameter.

use super::measure::{Bench, Case, Expected, Failure, Slack, Work};
use super::memory::{Arena, bits, numbers, step};
use super::report::Report;
use tilegrad::cpu::optim::{Gate, adam};
use tilegrad::program::Op;
use tilegrad::program::op::{Adam, Segment};

/// Measures it.
pub fn run(bench: &mut Bench, report: &mut Report) -> Result<(), Failure> {
    let count = if bench.is_quick() { 2 << 20 } else { 16 << 20 };
    let name = format!("adamw of {} Mi", count >> 20);
    if !bench.wants(&name) {
        return Ok(());
    }
    let lr = 1e-3;
    let segments = [Segment { parameter: 0, offset: 0 }].into();
    let rule = Adam { lr: 0, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, decoupled: true, segments };
    let (mut params, mut first) = (numbers(count, 1), numbers(count, 2));
    let mut second: Vec<f32> = numbers(count, 3).iter().map(|x| x + 0.5).collect();
    let (gradient, mut steps) = (numbers(count, 4), [5]);
    let mut arena = Arena::default();
    let dims = [count as u32];
    let slabs = [&params, &first, &second].map(|values| arena.floats(&dims, values));
    let counters = arena.integers(&[1], &steps);
    let gradients = arena.floats(&dims, &gradient);
    adam(
        &bench.cpu,
        &rule,
        lr,
        Gate { scale: None, ok: None },
        [&mut params, &mut first, &mut second],
        None,
        &mut steps,
        &[&gradient],
    );
    // All numbers are below 1 and the update below ten times the rate: a few roundings of each.
    let slack = |most: f32| -> Slack { Box::new(move |_, _| 8.0 * f32::EPSILON * most) };
    let wanted = [(&params, 1.0), (&first, 1.0), (&second, 2.0)];
    let mut expected: Vec<Expected> = slabs
        .iter()
        .zip(wanted)
        .map(|(&operand, (values, most))| Expected { operand, words: bits(values), slack: Some(slack(most)) })
        .collect();
    expected.push(Expected { operand: counters, words: vec![steps[0].cast_unsigned()], slack: None });
    let case = Case { name, work: Work::Bytes(28.0 * count as f64), arena, scalars: vec![lr], expected };
    let [params, first, second] = slabs.map(Some);
    let inputs = [params, first, second, None, Some(counters), None, None, Some(gradients)];
    let prepared = bench.prepare(&step(Op::Adam(rule), &inputs, &[], &[0, 1, 2, 4]))?;
    let outcome = bench.measure(&case, &prepared)?;
    report.add(&case.name, "", case.work, outcome, None);
    Ok(())
}
