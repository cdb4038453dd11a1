//! Estimates of time on one thread. They decide one thing: whether a run is short enough to be done at once, without a
//! thread (tens of microseconds); nothing about results hangs on them, so round figures of a modest machine do.

use super::{Chain, ChainOp, Fused, Kernel, Operand};
use crate::cpu::activation::Activation;
use crate::program::op::{BinaryOp, ElementOp, Op, UnaryOp};

/// Finding operands and entering a kernel.
const STEP: u64 = 200;

/// Picoseconds per multiply-add of a product.
const MULTIPLY_ADD: u64 = 20;

/// Picoseconds per element read or written once: 4 bytes at 10 GB/s.
const MEMORY: u64 = 400;

/// Picoseconds per random number.
const UNIFORM: u64 = 800;

/// Nanoseconds of a chain.
pub(super) fn chain(chain: &Chain) -> u64 {
    let inputs: u64 = chain.inputs.iter().map(elements).sum();
    let outputs = chain.outputs.len() as u64 * chain.numel as u64;
    let work: u64 = chain.ops.iter().map(element).sum();
    nanoseconds(work * chain.numel as u64 + MEMORY * (inputs + outputs))
}

/// Nanoseconds of any other instruction.
pub(super) fn kernel(kernel: &Kernel) -> u64 {
    let inputs: u64 = kernel.inputs.iter().flatten().map(elements).sum();
    let outputs: u64 = kernel.outputs.iter().map(elements).sum();
    let traffic = MEMORY * (inputs + outputs);
    let extra = match &kernel.op {
        Op::Matmul { transpose_a, .. } => {
            let a = kernel.inputs.first().copied().flatten();
            let inner = a.and_then(|a| a.dims.iter().rev().nth(usize::from(*transpose_a)).copied());
            MULTIPLY_ADD.saturating_mul(outputs).saturating_mul(u64::from(inner.unwrap_or(1)))
        }
        Op::Linear { activation, .. } => {
            let [y, x] = [kernel.outputs.first(), kernel.inputs.first().and_then(Option::as_ref)];
            let k = x.and_then(|x| x.dims.last().copied()).unwrap_or(1);
            let y = y.map_or(0, elements);
            MULTIPLY_ADD.saturating_mul(y).saturating_mul(u64::from(k)).saturating_add(activate(*activation) * y)
        }
        Op::LinearGrad { activation, wanted } => {
            let dy = kernel.inputs.first().and_then(Option::as_ref).map_or(0, elements);
            // K is the last dimension of dx, or the first of dweight, which come in this order.
            let k =
                kernel.outputs.first().and_then(|first| if wanted.dx { first.dims.last() } else { first.dims.first() });
            let products = u64::from(wanted.dx) + u64::from(wanted.dweight);
            let k = u64::from(k.copied().unwrap_or(1));
            MULTIPLY_ADD.saturating_mul(products * dy).saturating_mul(k).saturating_add(activate(*activation) * dy)
        }
        // An exponential per element, in two or three passes.
        Op::Softmax { .. }
        | Op::SoftmaxGrad { .. }
        | Op::CrossEntropy { .. }
        | Op::CrossEntropyGrad { .. }
        | Op::WeightedCrossEntropy(_)
        | Op::WeightedCrossEntropyGrad(_) => 600 * inputs,
        // Few are found in passing, many by sorting.
        Op::TopK { k, .. } => inputs * if *k <= 8 { 500 } else { 5_000 },
        Op::Uniform(_) | Op::Dropout(_) => UNIFORM * outputs,
        // Three passes over what lies in the cache.
        Op::Norm { .. } | Op::NormGrad { .. } => 100 * inputs,
        // Reading along the wrong axis costs a cache line per element.
        Op::Transpose { .. } => 2 * traffic,
        _ => 0,
    };
    nanoseconds(traffic.saturating_add(extra))
}

/// Nanoseconds of an instruction with its chains: what lies between them is not written and read again.
pub(super) fn fused(fused: &Fused) -> u64 {
    let chains = fused.before.iter().chain(fused.after.iter().map(|after| &after.chain));
    chains.fold(kernel(&fused.kernel), |sum, part| {
        let saved = STEP + 2 * MEMORY * part.numel as u64 / 1000;
        sum.saturating_add(chain(part)).saturating_sub(saved)
    })
}

fn elements(operand: &Operand) -> u64 {
    operand.numel as u64
}

fn nanoseconds(picoseconds: u64) -> u64 {
    STEP + picoseconds / 1000
}

fn element(op: &ChainOp) -> u64 {
    match op.op {
        ElementOp::Unary(UnaryOp::Exp | UnaryOp::Expm1 | UnaryOp::Log | UnaryOp::Log1p | UnaryOp::Erf) => 400,
        ElementOp::Activation { activation, .. } | ElementOp::ActivationGrad { activation, .. } => activate(activation),
        ElementOp::Binary(BinaryOp::Pow) => 2000,
        _ => 100,
    }
}

fn activate(activation: Activation) -> u64 {
    match activation {
        Activation::None => 0,
        Activation::Relu | Activation::LeakyRelu | Activation::Heaviside => 100,
        _ => 500,
    }
}
