//! Exponential moving averages of parameters.

use super::{Gate, Parts, count};
use crate::cpu::share::Shared;
use crate::cpu::{Cpu, math};
use crate::program::op::Ema;

/// One update: a ← a + w(x − a), by the form that is exact where w is 0 and where it is 1; the first value of a parameter
/// has weight 1.
///
/// `segments` of `rule` say where each value belongs in the slab and which of `steps` counts for it.
pub fn ema(cpu: &Cpu, rule: &Ema, weight: f64, gate: Gate, averages: &mut [f32], steps: &mut [i32], values: &[&[f32]]) {
    if gate.is_closed() {
        return;
    }
    let parts = Parts { segments: &rule.segments, gradients: values, slab: averages.len() };
    let averages = Shared::new(averages);
    let scale = gate.scale.unwrap_or(1.0);
    let counters = &*steps;
    parts.each(cpu, 250, &|segment, own, values| {
        let weight = if counters[segment.parameter as usize] > 0 { weight } else { 1.0 };
        let (new, old) = (weight as f32, (1.0 - weight) as f32);
        // SAFETY: `Parts` gives each element of the slab to one call.
        let averages = unsafe { averages.part(own) };
        crate::dispatch!(
            cpu.isa,
            average(scale: f32 = scale, new: f32 = new, old: f32 = old, x: &[f32] = values, a: &mut [f32] = averages)
        );
    });
    count(steps, &rule.segments);
}

#[inline(always)]
fn average<const FMA: bool>(scale: f32, new: f32, old: f32, x: &[f32], a: &mut [f32]) {
    if old == 0.0 {
        // Whatever was there, NaN included.
        for (&x, a) in x.iter().zip(a) {
            *a = x * scale;
        }
    } else if new < 0.5 {
        for (&x, a) in x.iter().zip(a) {
            *a = math::madd::<FMA>(new, x * scale - *a, *a);
        }
    } else {
        for (&x, a) in x.iter().zip(a) {
            let x = x * scale;
            *a = math::madd::<FMA>(-old, x - *a, x);
        }
    }
}
