//! Adam: with the decay in the gradient or in the parameters (`AdamW`), and with the greatest second moment so far in
//! place of the current one (`AMSGrad`).

use super::{Gate, Parts, count, part};
use crate::cpu::share::Shared;
use crate::cpu::{Cpu, math};
use crate::program::op::Adam;

/// One step of Adam. Coupled decay: g ← g + wd·p; decoupled: p ← p(1 − lr·wd). m ← β₁m + (1 − β₁)g;
/// v ← β₂v + (1 − β₂)g²; with a slab for it the greatest v so far in its place; p ← p − lr/(1 − β₁ᵗ)·m / (√v/√(1 − β₂ᵗ) + eps).
///
/// `segments` of `rule` say where each gradient belongs in the slabs and which of `steps` counts for it.
pub fn adam(
    cpu: &Cpu,
    rule: &Adam,
    lr: f64,
    gate: Gate,
    [params, first, second]: [&mut [f32]; 3],
    greatest: Option<&mut [f32]>,
    steps: &mut [i32],
    gradients: &[&[f32]],
) {
    if gate.is_closed() {
        return;
    }
    let parts = Parts { segments: &rule.segments, gradients, slab: params.len() };
    let (params, first, second) = (Shared::new(params), Shared::new(first), Shared::new(second));
    let amsgrad = greatest.is_some();
    let greatest = greatest.map(Shared::new);
    let counters = &*steps;
    parts.each(cpu, 500, &|segment, own, gradient| {
        let t = f64::from(counters[segment.parameter as usize]) + 1.0;
        // −expm1(t·ln β) = 1 − βᵗ without cancellation for small t.
        let correction = |beta: f64| -(t * beta.ln()).exp_m1();
        let step = Step {
            scale: gate.scale.unwrap_or(1.0),
            coupled: if rule.decoupled { 0.0 } else { rule.weight_decay as f32 },
            keep: if rule.decoupled { (1.0 - lr * rule.weight_decay) as f32 } else { 1.0 },
            beta1: rule.beta1 as f32,
            new1: (1.0 - rule.beta1) as f32,
            beta2: rule.beta2 as f32,
            new2: (1.0 - rule.beta2) as f32,
            rate: (lr / correction(rule.beta1)) as f32,
            root: (1.0 / correction(rule.beta2).sqrt()) as f32,
            eps: rule.eps as f32,
        };
        // SAFETY: `Parts` gives each element of the slabs to one call.
        let (p, m, v) = unsafe { (params.part(own.clone()), first.part(own.clone()), second.part(own.clone())) };
        if amsgrad {
            // SAFETY: as above.
            let most = unsafe { part(greatest, own) };
            crate::dispatch!(
                cpu.isa,
                with_greatest(
                    step: &Step = &step,
                    g: &[f32] = gradient,
                    p: &mut [f32] = p,
                    m: &mut [f32] = m,
                    v: &mut [f32] = v,
                    most: &mut [f32] = most
                )
            );
        } else {
            crate::dispatch!(
                cpu.isa,
                plain(
                    step: &Step = &step,
                    g: &[f32] = gradient,
                    p: &mut [f32] = p,
                    m: &mut [f32] = m,
                    v: &mut [f32] = v
                )
            );
        }
    });
    count(steps, &rule.segments);
}

/// The constants of one step.
struct Step {
    scale: f32,
    /// Weight of the parameter in the gradient.
    coupled: f32,
    /// What decoupled decay leaves of the parameter.
    keep: f32,
    beta1: f32,
    new1: f32,
    beta2: f32,
    new2: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

impl Step {
    /// The scaled gradient with its coupled decay. With a decay of 0 an infinite parameter does not make it NaN.
    #[inline(always)]
    fn gradient<const FMA: bool, const COUPLED: bool>(&self, g: f32, p: f32) -> f32 {
        let g = g * self.scale;
        if COUPLED { math::madd::<FMA>(self.coupled, p, g) } else { g }
    }

    /// Both moments.
    #[inline(always)]
    fn moments<const FMA: bool>(&self, g: f32, m: &mut f32, v: &mut f32) {
        *m = math::madd::<FMA>(self.beta1, *m, self.new1 * g);
        *v = math::madd::<FMA>(self.beta2, *v, self.new2 * g * g);
    }

    /// The parameter.
    #[inline(always)]
    fn apply<const FMA: bool>(&self, p: &mut f32, m: f32, v: f32) {
        let direction = m / math::madd::<FMA>(v.sqrt(), self.root, self.eps);
        *p = math::madd::<FMA>(-self.rate, direction, *p * self.keep);
    }
}

#[inline(always)]
fn plain<const FMA: bool>(step: &Step, g: &[f32], p: &mut [f32], m: &mut [f32], v: &mut [f32]) {
    if step.coupled == 0.0 {
        plain_with::<FMA, false>(step, g, p, m, v);
    } else {
        plain_with::<FMA, true>(step, g, p, m, v);
    }
}

#[inline(always)]
fn plain_with<const FMA: bool, const COUPLED: bool>(
    step: &Step,
    g: &[f32],
    p: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    for (((&g, p), m), v) in g.iter().zip(p).zip(m).zip(v) {
        step.moments::<FMA>(step.gradient::<FMA, COUPLED>(g, *p), m, v);
        step.apply::<FMA>(p, *m, *v);
    }
}

#[inline(always)]
fn with_greatest<const FMA: bool>(
    step: &Step,
    g: &[f32],
    p: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    most: &mut [f32],
) {
    if step.coupled == 0.0 {
        with_greatest_and::<FMA, false>(step, g, p, m, v, most);
    } else {
        with_greatest_and::<FMA, true>(step, g, p, m, v, most);
    }
}

#[inline(always)]
fn with_greatest_and<const FMA: bool, const COUPLED: bool>(
    step: &Step,
    g: &[f32],
    p: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    most: &mut [f32],
) {
    for ((((&g, p), m), v), most) in g.iter().zip(p).zip(m).zip(v).zip(most) {
        step.moments::<FMA>(step.gradient::<FMA, COUPLED>(g, *p), m, v);
        // NaN stays, on either side.
        *most = if *most > *v || most.is_nan() { *most } else { *v };
        step.apply::<FMA>(p, *m, *most);
    }
}
