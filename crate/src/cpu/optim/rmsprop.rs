//! `RMSprop`: plain, centered, with momentum, and both.

use super::{Gate, Parts, count, part};
use crate::cpu::share::Shared;
use crate::cpu::{Cpu, math};
use crate::program::op::Rmsprop;

/// One step of `RMSprop`: g ← g + wd·p; v ← αv + (1 − α)g²; with a slab of means a ← αa + (1 − α)g and v − a², at least 0,
/// in place of v; d = g / (√v + eps); with a velocity b ← μb + d in place of d; p ← p − lr·d.
///
/// `segments` of `rule` say where each gradient belongs in the slabs and which of `steps` counts for it.
pub fn rmsprop(
    cpu: &Cpu,
    rule: &Rmsprop,
    lr: f64,
    gate: Gate,
    [params, squares]: [&mut [f32]; 2],
    [mean, velocity]: [Option<&mut [f32]>; 2],
    steps: &mut [i32],
    gradients: &[&[f32]],
) {
    if gate.is_closed() {
        return;
    }
    let parts = Parts { segments: &rule.segments, gradients, slab: params.len() };
    let step = Step {
        scale: gate.scale.unwrap_or(1.0),
        decay: rule.weight_decay as f32,
        rate: lr as f32,
        alpha: rule.alpha as f32,
        new: (1.0 - rule.alpha) as f32,
        eps: rule.eps as f32,
        momentum: rule.momentum as f32,
        centered: mean.is_some(),
        moving: velocity.is_some(),
    };
    let (params, squares) = (Shared::new(params), Shared::new(squares));
    let (mean, velocity) = (mean.map(Shared::new), velocity.map(Shared::new));
    parts.each(cpu, 500, &|_, own, gradient| {
        // SAFETY: `Parts` gives each element of the slabs to one call.
        let (p, v) = unsafe { (params.part(own.clone()), squares.part(own.clone())) };
        // SAFETY: as above.
        let (a, b) = unsafe { (part(mean, own.clone()), part(velocity, own)) };
        crate::dispatch!(
            cpu.isa,
            descend(
                step: &Step = &step,
                g: &[f32] = gradient,
                p: &mut [f32] = p,
                v: &mut [f32] = v,
                a: &mut [f32] = a,
                b: &mut [f32] = b
            )
        );
    });
    count(steps, &rule.segments);
}

/// The constants of one step.
struct Step {
    scale: f32,
    decay: f32,
    rate: f32,
    alpha: f32,
    new: f32,
    eps: f32,
    momentum: f32,
    /// Whether there are means.
    centered: bool,
    /// Whether there are velocities.
    moving: bool,
}

impl Step {
    /// The gradient with its decay; its square goes into the average. With a decay of 0 an infinite parameter does not make it NaN.
    #[inline(always)]
    fn gradient<const FMA: bool, const DECAYED: bool>(&self, g: f32, p: f32, v: &mut f32) -> f32 {
        let scaled = g * self.scale;
        let g = if DECAYED { math::madd::<FMA>(self.decay, p, scaled) } else { scaled };
        *v = math::madd::<FMA>(self.alpha, *v, self.new * g * g);
        g
    }

    /// v − a², with g in the mean. A variance: rounding must not make it negative. NaN stays.
    #[inline(always)]
    fn spread<const FMA: bool>(&self, g: f32, v: f32, a: &mut f32) -> f32 {
        *a = math::madd::<FMA>(self.alpha, *a, self.new * g);
        let spread = math::madd::<FMA>(-*a, *a, v);
        if spread < 0.0 { 0.0 } else { spread }
    }

    #[inline(always)]
    fn direction(&self, g: f32, v: f32) -> f32 {
        g / (v.sqrt() + self.eps)
    }

    /// The direction with what is left of earlier ones.
    #[inline(always)]
    fn moved<const FMA: bool>(&self, direction: f32, b: &mut f32) -> f32 {
        *b = math::madd::<FMA>(self.momentum, *b, direction);
        *b
    }

    #[inline(always)]
    fn apply<const FMA: bool>(&self, p: &mut f32, direction: f32) {
        *p = math::madd::<FMA>(-self.rate, direction, *p);
    }
}

#[inline(always)]
fn descend<const FMA: bool>(step: &Step, g: &[f32], p: &mut [f32], v: &mut [f32], a: &mut [f32], b: &mut [f32]) {
    if step.decay == 0.0 {
        descend_of::<FMA, false>(step, g, p, v, a, b);
    } else {
        descend_of::<FMA, true>(step, g, p, v, a, b);
    }
}

#[inline(always)]
fn descend_of<const FMA: bool, const DECAYED: bool>(
    step: &Step,
    g: &[f32],
    p: &mut [f32],
    v: &mut [f32],
    a: &mut [f32],
    b: &mut [f32],
) {
    let elements = g.iter().zip(p).zip(v);
    match (step.centered, step.moving) {
        (false, false) => {
            for ((&g, p), v) in elements {
                let g = step.gradient::<FMA, DECAYED>(g, *p, v);
                step.apply::<FMA>(p, step.direction(g, *v));
            }
        }
        (true, false) => {
            for (((&g, p), v), a) in elements.zip(a) {
                let g = step.gradient::<FMA, DECAYED>(g, *p, v);
                let spread = step.spread::<FMA>(g, *v, a);
                step.apply::<FMA>(p, step.direction(g, spread));
            }
        }
        (false, true) => {
            for (((&g, p), v), b) in elements.zip(b) {
                let g = step.gradient::<FMA, DECAYED>(g, *p, v);
                let direction = step.moved::<FMA>(step.direction(g, *v), b);
                step.apply::<FMA>(p, direction);
            }
        }
        (true, true) => {
            for ((((&g, p), v), a), b) in elements.zip(a).zip(b) {
                let g = step.gradient::<FMA, DECAYED>(g, *p, v);
                let spread = step.spread::<FMA>(g, *v, a);
                let direction = step.moved::<FMA>(step.direction(g, spread), b);
                step.apply::<FMA>(p, direction);
            }
        }
    }
}
