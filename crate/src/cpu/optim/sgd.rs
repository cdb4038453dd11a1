//! Stochastic gradient descent: without momentum, with it, and in Nesterov's form.

use super::{Gate, Parts, count};
use crate::cpu::share::Shared;
use crate::cpu::{Cpu, math};
use crate::program::op::Sgd;

/// One step of SGD: g ← g + wd·p; with momentum μ, b ← t = 1 ? g : μb + (1 − dampening)g and d = nesterov ? g + μb : b,
/// else d = g; p ← p − lr·d.
pub fn sgd(
    cpu: &Cpu,
    rule: &Sgd,
    lr: f64,
    gate: Gate,
    params: &mut [f32],
    velocity: Option<&mut [f32]>,
    steps: &mut [i32],
    gradients: &[&[f32]],
) {
    if gate.is_closed() {
        return;
    }
    let parts = Parts { segments: &rule.segments, gradients, slab: params.len() };
    let params = Shared::new(params);
    let velocity = velocity.filter(|_| rule.momentum != 0.0).map(Shared::new);
    let counters = &*steps;
    parts.each(cpu, 250, &|segment, own, gradient| {
        let started = counters[segment.parameter as usize] > 0;
        let step = SgdStep {
            scale: gate.scale.unwrap_or(1.0),
            decay: rule.weight_decay as f32,
            rate: lr as f32,
            momentum: rule.momentum as f32,
            old: if started { rule.momentum as f32 } else { 0.0 },
            new: if started { (1.0 - rule.dampening) as f32 } else { 1.0 },
            nesterov: rule.nesterov,
            started,
        };
        // SAFETY: `Parts` gives each element of the slabs to one call.
        let p = unsafe { params.part(own.clone()) };
        match &velocity {
            Some(velocity) => {
                // SAFETY: as above.
                let b = unsafe { velocity.part(own) };
                crate::dispatch!(
                    cpu.isa,
                    descend_with_momentum(
                        step: &SgdStep = &step, g: &[f32] = gradient, p: &mut [f32] = p, b: &mut [f32] = b
                    )
                );
            }
            None => {
                crate::dispatch!(cpu.isa, descend(step: &SgdStep = &step, g: &[f32] = gradient, p: &mut [f32] = p));
            }
        }
    });
    count(steps, &rule.segments);
}

/// The constants of one SGD step.
struct SgdStep {
    scale: f32,
    decay: f32,
    rate: f32,
    momentum: f32,
    /// Weights of the old velocity and of the gradient in the new one.
    old: f32,
    new: f32,
    nesterov: bool,
    /// Whether there is an old velocity; before, its memory says nothing.
    started: bool,
}

impl SgdStep {
    /// The scaled gradient with its decay. With a decay of 0 an infinite parameter does not make it NaN.
    #[inline(always)]
    fn gradient<const FMA: bool, const DECAYED: bool>(&self, g: f32, p: f32) -> f32 {
        let g = g * self.scale;
        if DECAYED { math::madd::<FMA>(self.decay, p, g) } else { g }
    }
}

#[inline(always)]
fn descend<const FMA: bool>(step: &SgdStep, g: &[f32], p: &mut [f32]) {
    if step.decay == 0.0 {
        descend_of::<FMA, false>(step, g, p);
    } else {
        descend_of::<FMA, true>(step, g, p);
    }
}

#[inline(always)]
fn descend_of<const FMA: bool, const DECAYED: bool>(step: &SgdStep, g: &[f32], p: &mut [f32]) {
    for (&g, p) in g.iter().zip(p) {
        let g = step.gradient::<FMA, DECAYED>(g, *p);
        *p = math::madd::<FMA>(-step.rate, g, *p);
    }
}

#[inline(always)]
fn descend_with_momentum<const FMA: bool>(step: &SgdStep, g: &[f32], p: &mut [f32], b: &mut [f32]) {
    if step.decay == 0.0 {
        descend_with_momentum_of::<FMA, false>(step, g, p, b);
    } else {
        descend_with_momentum_of::<FMA, true>(step, g, p, b);
    }
}

#[inline(always)]
fn descend_with_momentum_of<const FMA: bool, const DECAYED: bool>(
    step: &SgdStep,
    g: &[f32],
    p: &mut [f32],
    b: &mut [f32],
) {
    let &SgdStep { rate, momentum, old, new, nesterov, started, .. } = step;
    for ((&g, p), b) in g.iter().zip(p).zip(b) {
        let g = step.gradient::<FMA, DECAYED>(g, *p);
        let before = if started { *b } else { 0.0 };
        *b = math::madd::<FMA>(old, before, new * g);
        let direction = if nesterov { math::madd::<FMA>(momentum, *b, g) } else { *b };
        *p = math::madd::<FMA>(-rate, direction, *p);
    }
}
