//! Optimisers over slabs, and the squared norm that clipping needs. The constants of a step are computed once per parameter
//! by a call of its own ([`state`]), which also decides whether anything is applied; the updates then read nothing but
//! that, and count the step as they go.

mod norm;
mod state;
#[cfg(test)]
mod tests;
mod update;

pub(super) use norm::squared_norm;

use std::fmt::Write as _;

use super::shader::Type;
use super::{Prepared, Target, input};
use crate::error::Result;
use crate::plan::{Kernel, Operand};
use crate::program::op::{Adam, Ema, Rmsprop, Sgd};
use state::State;
use update::Slabs;

/// One step of SGD: g ← g + wd·p; with momentum μ, b ← t = 1 ? g : μb + (1 − dampening)g and d = nesterov ? g + μb : b,
/// else d = g; p ← p − lr·d.
pub(super) fn sgd(kernel: &Kernel, rule: &Sgd, target: Target) -> Result<Prepared> {
    let steps = input(kernel, 2)?;
    let velocity = optional(kernel, 1).filter(|_| rule.momentum != 0.0);
    let mut slabs = vec![*input(kernel, 0)?];
    slabs.extend(velocity);
    let constants = [rule.weight_decay, rule.momentum, 1.0 - rule.dampening];
    let [scale, ok] = [3, 4].map(|position| optional(kernel, position));
    let state = State { name: "sgd_state", steps, scale, ok, rate: rule.lr };
    let body = match (velocity, rule.nesterov) {
        (None, _) => SGD,
        (Some(_), false) => SGD_MOMENTUM,
        (Some(_), true) => SGD_NESTEROV,
    }
    .replace("DECAYED", if rule.weight_decay as f32 == 0.0 { "g" } else { "(c1 * x + g)" });
    let update = Slabs { name: "sgd", operands: slabs, names: &["param", "velocity"], steps, constants: 4, body };
    let first = state.call(target, &constants, state::SGD)?;
    update.prepare(first, state.words(), &rule.segments, kernel.inputs.get(5..).unwrap_or_default(), target)
}

/// One step of Adam. Coupled decay: g ← g + wd·p; decoupled: p ← p(1 − lr·wd). m ← β₁m + (1 − β₁)g;
/// v ← β₂v + (1 − β₂)g²; with a slab for it the greatest v so far in its place; p ← p − lr/(1 − β₁ᵗ)·m / (√v/√(1 − β₂ᵗ) + eps).
pub(super) fn adam(kernel: &Kernel, rule: &Adam, target: Target) -> Result<Prepared> {
    let steps = input(kernel, 4)?;
    let mut slabs = vec![*input(kernel, 0)?, *input(kernel, 1)?, *input(kernel, 2)?];
    let greatest = optional(kernel, 3);
    slabs.extend(greatest);
    // Below −1000 the correction is 1, and shaders need not know infinity.
    let log = |beta: f64| beta.ln().max(-1000.0);
    let (decoupled, coupled) = if rule.decoupled { (rule.weight_decay, 0.0) } else { (0.0, rule.weight_decay) };
    let constants = [
        rule.beta1,
        1.0 - rule.beta1,
        rule.beta2,
        1.0 - rule.beta2,
        rule.eps,
        decoupled,
        log(rule.beta1),
        log(rule.beta2),
        coupled,
    ];
    let [scale, ok] = [5, 6].map(|position| optional(kernel, position));
    let state = State { name: "adam_state", steps, scale, ok, rate: rule.lr };
    let mut body =
        if coupled as f32 == 0.0 { ADAM.replace("DECAYED", "g") } else { ADAM.replace("DECAYED", "g + c6 * x") };
    body = body.replace("GREATEST", if greatest.is_some() { ADAM_GREATEST } else { "" });
    let names = &["param", "first", "second", "greatest"];
    let update = Slabs { name: "adam", operands: slabs, names, steps, constants: 7, body };
    let first = state.call(target, &constants, state::ADAM)?;
    update.prepare(first, state.words(), &rule.segments, kernel.inputs.get(7..).unwrap_or_default(), target)
}

/// One step of `RMSprop`: g ← g + wd·p; v ← αv + (1 − α)g²; with a slab of means a ← αa + (1 − α)g and v − a², at least 0,
/// in place of v; d = g / (√v + eps); with a velocity b ← μb + d in place of d; p ← p − lr·d.
pub(super) fn rmsprop(kernel: &Kernel, rule: &Rmsprop, target: Target) -> Result<Prepared> {
    let steps = input(kernel, 4)?;
    let (mean, velocity) = (optional(kernel, 2), optional(kernel, 3));
    let mut slabs = vec![*input(kernel, 0)?, *input(kernel, 1)?];
    let mut names = vec!["param", "squares"];
    if let Some(mean) = mean {
        slabs.push(mean);
        names.push("mean");
    }
    if let Some(velocity) = velocity {
        slabs.push(velocity);
        names.push("velocity");
    }
    let constants = [rule.weight_decay, rule.alpha, 1.0 - rule.alpha, rule.eps, rule.momentum];
    let [scale, ok] = [5, 6].map(|position| optional(kernel, position));
    let state = State { name: "rmsprop_state", steps, scale, ok, rate: rule.lr };
    let body = RMSPROP
        .replace("DECAYED", if rule.weight_decay as f32 == 0.0 { "g" } else { "g + c1 * x" })
        .replace("CENTERED", if mean.is_some() { RMSPROP_CENTERED } else { "" })
        .replace("MOVING", if velocity.is_some() { RMSPROP_MOVING } else { "" });
    let update = Slabs { name: "rmsprop", operands: slabs, names: &names, steps, constants: 6, body };
    let first = state.call(target, &constants, state::RMSPROP)?;
    update.prepare(first, state.words(), &rule.segments, kernel.inputs.get(7..).unwrap_or_default(), target)
}

/// One update of averages: a ← a + w(x − a), the first value of a parameter with weight 1.
pub(super) fn ema(kernel: &Kernel, rule: &Ema, target: Target) -> Result<Prepared> {
    let steps = input(kernel, 1)?;
    let [scale, ok] = [2, 3].map(|position| optional(kernel, position));
    let state = State { name: "ema_state", steps, scale, ok, rate: rule.weight };
    let slabs = vec![*input(kernel, 0)?];
    let update = Slabs { name: "ema", operands: slabs, names: &["average"], steps, constants: 0, body: EMA.to_owned() };
    let first = state.call(target, &[], state::EMA)?;
    update.prepare(first, state.words(), &rule.segments, kernel.inputs.get(4..).unwrap_or_default(), target)
}

/// An operand that may be absent.
fn optional(kernel: &Kernel, position: usize) -> Option<Operand> {
    kernel.inputs.get(position).copied().flatten()
}

/// What an update does to the elements at `i`, given the constants `c0` and on, the parameter's `own0` and `own1`, and the
/// gradient `g`; `zero` is as wide as these. Every element is read before it is written, through `merge`, which leaves what
/// lies behind a segment as it is. Words in capitals stand for the variants; `DECAYED` is the gradient with its decay, and
/// with a decay of 0 the gradient itself: an infinite parameter must not make it NaN.
const ADAM: &str = "let x = param(i); let m = first(i); let v = second(i);
let d = DECAYED;
let m1 = c1 * m + c2 * d;
let v1 = c3 * v + c4 * d * d;
var most = v1;
GREATEST
first_set(i, merge(m, m1));
second_set(i, merge(v, v1));
param_set(i, merge(x, x * c0 - own0 * (m1 / (sqrt(most) * own1 + c5))));";

/// The greatest v so far.
const ADAM_GREATEST: &str = "let before = greatest(i);
most = select(v1, before, before > v1);
greatest_set(i, merge(before, most));";

/// Plain, centered, moving.
const RMSPROP: &str = "let x = param(i); let v = squares(i);
let d = DECAYED;
let v1 = c2 * v + c3 * d * d;
var spread = v1;
CENTERED
var way = d / (sqrt(spread) + c4);
MOVING
squares_set(i, merge(v, v1));
param_set(i, merge(x, x - c0 * way));";

/// A variance: rounding must not make it negative.
const RMSPROP_CENTERED: &str = "let a = mean(i);
let a1 = c2 * a + c3 * d;
mean_set(i, merge(a, a1));
spread = v1 - a1 * a1;
spread = select(spread, zero, spread < zero);";

/// What is left of earlier steps.
const RMSPROP_MOVING: &str = "let b = velocity(i);
way = c5 * b + way;
velocity_set(i, merge(b, way));";

/// The form that is exact for weights near 0, the one for those near 1, and 1 itself, whatever the average was.
const EMA: &str = "let a = average(i);
let gap = g - a;
var a1 = a + own0 * gap;
if (own0 >= 0.5) { a1 = g - (1.0 - own0) * gap; }
if (own0 == 1.0) { a1 = g; }
average_set(i, merge(a, a1));";

/// Plain descent.
const SGD: &str = "let x = param(i);
param_set(i, merge(x, x - c0 * DECAYED));";

/// Before the first step the memory of the velocity says nothing.
const SGD_MOMENTUM: &str = "let x = param(i); let v = velocity(i);
let d = DECAYED;
var v1 = d;
if (own0 != 0.0) { v1 = c2 * v + c3 * d; }
velocity_set(i, merge(v, v1));
param_set(i, merge(x, x - c0 * v1));";

/// The same with a look ahead.
const SGD_NESTEROV: &str = "let x = param(i); let v = velocity(i);
let d = DECAYED;
var v1 = d;
if (own0 != 0.0) { v1 = c2 * v + c3 * d; }
velocity_set(i, merge(v, v1));
param_set(i, merge(x, x - c0 * (c2 * v1 + d)));";

/// Lines that find the segment a workgroup works on. Segment `j` has `p.count_j` elements and takes a workgroup for every
/// `block` of them, and at least one. Afterwards `segment` is j, `count` its elements, `block` the workgroup's place in it,
/// and `at` where it begins if segments begin at multiples of `layout`.
fn find_segment(segments: usize, block: usize, layout: usize) -> String {
    let mut text = "var block = group(); var at = 0u; var segment = 0u; var count = p.count_0;\n".to_owned();
    for j in 1..segments {
        let _ = writeln!(
            text,
            "let blocks_{j} = max((count + {}u) / {block}u, 1u);\n\
             if (segment == {}u && block >= blocks_{j}) {{ block -= blocks_{j}; \
             at += (count + {}u) / {layout}u * {layout}u; segment = {j}u; count = p.count_{j}; }}",
            block - 1,
            j - 1,
            layout - 1
        );
    }
    text
}

/// The function `name` that reads element `i` of the buffer `{name}{segment}`.
fn choose(name: &str, ty: Type, segments: usize) -> String {
    let mut text = format!("fn {name}(segment: u32, i: u32) -> {} {{ switch (segment) {{", ty.name());
    for j in 1..segments {
        let _ = write!(text, " case {j}u: {{ return {name}{j}(i); }}");
    }
    let _ = write!(text, " default: {{ return {name}0(i); }} }} }}");
    text
}
