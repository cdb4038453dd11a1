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
use crate::plan::Kernel;
use crate::program::op::{AdamW, Sgd};
use state::State;
use update::Slabs;

/// One step of SGD: g ← g + wd·p; with momentum μ, b ← t = 1 ? g : μb + (1 − dampening)g and d = nesterov ? g + μb : b,
/// else d = g; p ← p − lr·d.
pub(super) fn sgd(kernel: &Kernel, rule: &Sgd, target: Target) -> Result<Prepared> {
    let steps = input(kernel, 2)?;
    let velocity = kernel.inputs.get(1).copied().flatten().filter(|_| rule.momentum != 0.0);
    let mut slabs = vec![*input(kernel, 0)?];
    slabs.extend(velocity);
    let constants = [rule.weight_decay, rule.momentum, 1.0 - rule.dampening];
    let [scale, ok] = [3, 4].map(|position| kernel.inputs.get(position).copied().flatten());
    let state = State { name: "sgd_state", steps, scale, ok, lr: rule.lr };
    let body = match (velocity, rule.nesterov) {
        (None, _) => SGD,
        (Some(_), false) => SGD_MOMENTUM,
        (Some(_), true) => SGD_NESTEROV,
    };
    let update = Slabs { name: "sgd", operands: slabs, names: &["param", "velocity"], steps, constants: 4, body };
    let first = state.call(target, &constants, state::SGD)?;
    update.prepare(first, state.words(), &rule.segments, kernel.inputs.get(5..).unwrap_or_default(), target)
}

/// One step of `AdamW`: p ← p(1 − lr·wd); m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²;
/// p ← p − lr/(1 − β₁ᵗ)·m / (√v/√(1 − β₂ᵗ) + eps).
pub(super) fn adamw(kernel: &Kernel, rule: &AdamW, target: Target) -> Result<Prepared> {
    let steps = input(kernel, 3)?;
    let slabs = vec![*input(kernel, 0)?, *input(kernel, 1)?, *input(kernel, 2)?];
    // Below −1000 the correction is 1, and shaders need not know infinity.
    let log = |beta: f64| beta.ln().max(-1000.0);
    let constants = [
        rule.beta1,
        1.0 - rule.beta1,
        rule.beta2,
        1.0 - rule.beta2,
        rule.eps,
        rule.weight_decay,
        log(rule.beta1),
        log(rule.beta2),
    ];
    let [scale, ok] = [4, 5].map(|position| kernel.inputs.get(position).copied().flatten());
    let state = State { name: "adamw_state", steps, scale, ok, lr: rule.lr };
    let update = Slabs {
        name: "adamw",
        operands: slabs,
        names: &["param", "first", "second"],
        steps,
        constants: 6,
        body: ADAMW,
    };
    let first = state.call(target, &constants, state::ADAMW)?;
    update.prepare(first, state.words(), &rule.segments, kernel.inputs.get(6..).unwrap_or_default(), target)
}

/// What an update does to the elements at `i`, given the constants `c0` and on, the parameter's `own0` and `own1`, and the
/// gradient `g`. Every element is read before it is written, through `merge`, which leaves what lies behind a
/// segment as it is.
const ADAMW: &str = "let x = param(i); let m = first(i); let v = second(i);
let m1 = c1 * m + c2 * g;
let v1 = c3 * v + c4 * g * g;
first_set(i, merge(m, m1));
second_set(i, merge(v, v1));
param_set(i, merge(x, x * c0 - own0 * (m1 / (sqrt(v1) * own1 + c5))));";

/// Plain descent.
const SGD: &str = "let x = param(i);
param_set(i, merge(x, x - c0 * (c1 * x + g)));";

/// Before the first step the memory of the velocity says nothing.
const SGD_MOMENTUM: &str = "let x = param(i); let v = velocity(i);
let d = c1 * x + g;
var v1 = d;
if (own0 != 0.0) { v1 = c2 * v + c3 * d; }
velocity_set(i, merge(v, v1));
param_set(i, merge(x, x - c0 * v1));";

/// The same with a look ahead.
const SGD_NESTEROV: &str = "let x = param(i); let v = velocity(i);
let d = c1 * x + g;
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
