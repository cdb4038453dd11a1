//! Cross-entropy with class indices, fused with the log-softmax: logits `[items, classes]`, one target per item. A loss is
//! ln Σexp(x) − x[target]; its gradient g·(softmax(x) − one-hot) comes from the saved ln Σexp(x). An ignored item costs
//! nothing and gets a zero gradient, whatever its logits hold. Weights of classes and label smoothing: `weighted.rs`.
//!
//! A call before them counts the items and reports targets that are no class (`indices.rs`). What the others make of such
//! an item is never seen; they only stay inside their operands.

#[cfg(test)]
mod tests;
mod weighted;
#[cfg(test)]
mod weighted_tests;

use super::indices::{self, Rule};
use super::reduce::fill;
use super::shader::{Builder, Memory, Type, Word};
use super::softmax::form::{self, Work};
use super::{Prepared, Target, input, output};
use crate::error::Result;
use crate::gpu::Class;
use crate::plan::Kernel;
use crate::program::op::Middle;
pub(super) use weighted::{weighted_cross_entropy, weighted_cross_entropy_grad};

/// `[logits, targets]` → losses, ln Σexp, number of items that are not ignored.
pub(super) fn cross_entropy(kernel: &Kernel, ignore_index: i32, target: Target) -> Result<Prepared> {
    let (logits, targets) = (input(kernel, 0)?, input(kernel, 1)?);
    let (losses, log_sums, counted) = (output(kernel, 0)?, output(kernel, 1)?, output(kernel, 2)?);
    let mut calls = Vec::new();
    let classes = logits.numel.checked_div(targets.numel).unwrap_or(0);
    if classes == 0 {
        // Of no classes the sum is 0, its logarithm −∞; a loss is that of an ignored item.
        for (to, value) in [(losses, 0.0), (log_sums, f32::NEG_INFINITY)] {
            if to.numel > 0 {
                calls.push(fill(to.numel, Memory::Operand(*to), value.to_bits(), target)?);
            }
        }
    } else if targets.numel > 0 {
        let work = Work {
            name: "cross_entropy",
            a: logits,
            b: None,
            out: None,
            has_top: true,
            term: "decay(a - V(top))",
            also: "",
            of_term: false,
            scale: "scale = log_of(s)",
            result: "",
            // Not ln Σexp − x[target]: the maximum may be large, the difference small.
            last: "log_sums_set(row, top + scale);
let class_index = targets(row);
var loss = 0.0;
if (class_index != p.ignored && bitcast<u32>(class_index) < p.count) {
  loss = (top - logits(base + bitcast<u32>(class_index))) + scale;
}
losses_set(row, loss);",
        };
        let axes = Middle { outer: targets.numel, count: classes, inner: 1 };
        calls.push(form::call(&work, axes, target, |b| {
            b.operand("logits", logits);
            b.operand("targets", targets);
            b.operand("losses", losses);
            b.operand("log_sums", log_sums);
            b.word("ignored", "i32", Word::Value(ignore_index as u32));
        })?);
    }
    let rule = Rule { counted: Some(counted), ..target_of(classes, ignore_index) };
    indices::checked(target, targets, rule, calls.into())
}

/// What targets must be.
fn target_of(classes: usize, ignore_index: i32) -> Rule<'static> {
    Rule { what: "target", size: classes, ignore: Some(ignore_index), counted: None }
}

/// How a gradient is written out: what stands before the loop over the classes of an item, and what an element is of
/// `soft`, its softmax, of `hits`, whether it is the target's, and of its position `i`; `T` is the type of an element.
struct Gradient {
    before: String,
    element: String,
}

/// `[logits, targets, ln Σexp, dlosses]` → dlogits.
pub(super) fn cross_entropy_grad(kernel: &Kernel, ignore_index: i32, target: Target) -> Result<Prepared> {
    gradient(kernel, "cross_entropy_grad", ignore_index, target, |_, _| Gradient {
        before: String::new(),
        element: "select(soft, soft - T(1.0), hits)".to_owned(),
    })
}

/// `text` gets how many classes are an element.
fn gradient(
    kernel: &Kernel,
    name: &'static str,
    ignore_index: i32,
    target: Target,
    text: impl FnOnce(&mut Builder, usize) -> Gradient,
) -> Result<Prepared> {
    let (logits, targets) = (input(kernel, 0)?, input(kernel, 1)?);
    let (log_sums, upstream, out) = (input(kernel, 2)?, input(kernel, 3)?, output(kernel, 0)?);
    let classes = logits.numel.checked_div(targets.numel).unwrap_or(0);
    let prepared = if logits.numel == 0 {
        Prepared::default()
    } else {
        let mut b = Builder::new(target.traits, name).masked();
        // Vectors of four neighbours of the same item. A processor that plays the GPU has no neighbours to share what
        // belongs to the item with, so that an invocation takes more of it at once.
        let vectors = classes.is_multiple_of(4) && Builder::is_aligned(logits, target.aligned);
        let (ty, element, width) = if vectors { ("vec4<f32>", Type::Vec4F32, 4) } else { ("f32", Type::F32, 1) };
        let chunk = if target.traits.class == Class::Software { 32 / width } else { 1 };
        b.buffer("logits", Memory::Operand(*logits), element);
        b.buffer("out", Memory::Operand(*out), element);
        b.operand("targets", targets);
        b.operand("log_sums", log_sums);
        b.operand("upstream", upstream);
        let per_item = classes / width;
        let chunks = per_item.div_ceil(chunk);
        let cells = targets.numel * chunks;
        b.value("cells", cells);
        b.value("per_item", per_item);
        b.value("chunks", chunks);
        b.word("ignored", "i32", Word::Value(ignore_index as u32));
        b.item(&format!("alias T = {ty};"));
        let (soft, hits) = if vectors {
            (
                "T(math_decay(x.x), math_decay(x.y), math_decay(x.z), math_decay(x.w))",
                "vec4<i32>(class_index - i32(i * 4u)) == vec4<i32>(0, 1, 2, 3)",
            )
        } else {
            ("math_decay(x)", "class_index == i32(i)")
        };
        let Gradient { before, element } = text(&mut b, width);
        let main = format!(
            "let cell = group() * 64u + local;
if (cell >= p.cells) {{ return; }}
let item = cell / p.chunks;
let first = cell % p.chunks * {chunk}u;
let class_index = targets(item);
let log_sum = log_sums(item);
let g = upstream(item);
{before}
for (var i = first; i < min(first + {chunk}u, p.per_item); i++) {{
  let at = item * p.per_item + i;
  let x = logits(at) - T(log_sum);
  let soft = {soft};
  let hits = {hits};
  let dx = g * {element};
  // Selected, not multiplied by zero: NaN must not get through.
  out_set(at, select(dx, T(0.0), class_index == p.ignored));
}}"
        );
        vec![b.finish(64, [cells.div_ceil(64), 1, 1], &main)?].into()
    };
    indices::checked(target, targets, target_of(classes, ignore_index), prepared)
}
