//! Batch normalisation of x seen as `[outer, channels, inner]`: column sums (`sums.rs`), what is done to each element
//! (`apply.rs`), and here what is done to each channel. Formulas and meaning of masks as in `cpu/batch_norm`; what a mask
//! leaves out is selected away, never multiplied by 0.

mod apply;
mod sums;
#[cfg(test)]
mod tests;

use super::shader::{Builder, Memory, Type, Word};
use super::{Prepared, Target, input, output};
use crate::dtype::Dtype;
use crate::error::Result;
use crate::plan::Kernel;
use crate::program::op::{BatchNormOp, RunningUpdate};

/// Prepares an instruction.
pub(super) fn prepare(kernel: &Kernel, op: BatchNormOp, target: Target) -> Result<Prepared> {
    match op {
        BatchNormOp::Statistics(of) => sums::statistics(kernel, of, target),
        BatchNormOp::Variance { eps } => variance(kernel, eps, target),
        BatchNormOp::Forward(of) => apply::forward(kernel, of, target),
        BatchNormOp::GradSums(of) => sums::grad_sums(kernel, of, target),
        BatchNormOp::Grad(of) => apply::grad(kernel, of, target),
        BatchNormOp::Update(update) => running_update(kernel, update, target),
    }
}

/// Invocations of a workgroup where there is one for each channel.
const GROUP: usize = 64;

/// Variance and 1/√(variance + eps).
fn variance(kernel: &Kernel, eps: f64, target: Target) -> Result<Prepared> {
    let m2 = input(kernel, 0)?;
    if m2.numel == 0 {
        return Ok(Prepared::default());
    }
    let mut b = Builder::new(target.traits, "batch_norm_variance").masked();
    b.operand("m2", m2);
    b.operand("total", input(kernel, 1)?);
    b.operand("variance", output(kernel, 0)?);
    b.operand("istd", output(kernel, 1)?);
    b.value("channels", m2.numel);
    b.word("eps", "f32", Word::Value((eps as f32).to_bits()));
    let main = format!(
        "let i = group() * {GROUP}u + local;
if (i >= p.channels) {{ return; }}
let v = m2(i) / max(total(0u), 1.0);
variance_set(i, v);
istd_set(i, 1.0 / sqrt(v + p.eps));"
    );
    Ok(vec![b.finish(GROUP as u32, [m2.numel.div_ceil(GROUP), 1, 1], &main)?].into())
}

/// r ← r + f·(new − r), in two calls: the first counts the update and works out f, which all channels of the second read.
fn running_update(kernel: &Kernel, update: RunningUpdate, target: Target) -> Result<Prepared> {
    let mean = input(kernel, 0)?;
    let [updates, ok] = [2, 6].map(|position| kernel.inputs.get(position).copied().flatten());
    let state = Memory::Scratch { offset: 0, words: 64 };
    let mut b = Builder::new(target.traits, "batch_norm_factor").masked();
    b.buffer("faults", Memory::Faults, Type::U32);
    b.word("gate", "u32", Word::Gate);
    b.buffer("state", state, Type::F32);
    b.operand("total", input(kernel, 5)?);
    b.word("momentum", "f32", Word::Scalar(update.momentum, Dtype::F32));
    let mut apply = "faults(p.gate) == 0u".to_owned();
    if let Some(ok) = &ok {
        b.operand("ok", ok);
        apply += " && ok(0u) != 0u";
    }
    let mut count = String::new();
    if let Some(updates) = &updates {
        b.operand("updates", updates);
        count.push_str("let done = min(updates(0u), 2147483646) + 1;\nupdates_set(0u, done);\n");
        if update.cumulative {
            count.push_str("factor = 1.0 / f32(done);\n");
        }
    }
    let correction = if update.unbiased { "total(0u) / (total(0u) - 1.0)" } else { "1.0" };
    let first = b.finish(
        1,
        [1, 1, 1],
        &format!(
            "state_set(0u, 0.0);
if (!({apply})) {{ return; }}
var factor = p.momentum;
{count}state_set(0u, 1.0);
state_set(1u, factor);
state_set(2u, {correction});"
        ),
    )?;
    let mut b = Builder::new(target.traits, "batch_norm_update").masked();
    b.buffer("state", state, Type::F32);
    b.operand("running_mean", mean);
    b.operand("running_variance", input(kernel, 1)?);
    b.operand("mean", input(kernel, 3)?);
    b.operand("variance", input(kernel, 4)?);
    b.value("channels", mean.numel);
    let main = format!(
        "let i = group() * {GROUP}u + local;
if (i >= p.channels || state(0u) == 0.0) {{ return; }}
let m = running_mean(i);
let v = running_variance(i);
running_mean_set(i, m + state(1u) * (mean(i) - m));
running_variance_set(i, v + state(1u) * (variance(i) * state(2u) - v));"
    );
    let mut calls = vec![first];
    if mean.numel > 0 {
        calls.push(b.finish(GROUP as u32, [mean.numel.div_ceil(GROUP), 1, 1], &main)?);
    }
    Ok(Prepared { calls, scratch: 64, check: None })
}
