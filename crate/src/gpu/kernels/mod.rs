//! From a step of a plan to dispatches. Each family writes its shaders with [`shader::Builder`] and decides grids and
//! variants from the adapter's [`Traits`] alone, so everything here runs, and is tested, without a GPU.
//!
//! # What kernels may rely on
//! - Operands are as the plan says: shapes fit, indices of slots and scalars exist, results overlap nothing that is read
//!   (except a chain's result that takes an operand's place).
//! - Results begin at multiples of 16 elements and own the padding up to the next one: whole vectors may be written.
//!   Operands that are changed in place, and any operand from a slot, may lie inside a slab: nothing past their end may be
//!   written, and what is read there is anybody's.
//! - Calls of a step run in order, each seeing what the one before wrote.
//!
//! # What they promise
//! Every element of every result is written. Sums run in an order that depends on the shape of what is summed, never on
//! the batch or the adapter's load. No floating-point atomics.

mod batch_norm;
#[cfg(test)]
mod canary;
mod chain;
pub mod gate;
mod gather;
pub mod gemm;
mod indices;
mod loss;
mod math;
mod norm;
mod optim;
mod random;
mod reduce;
mod rows;
mod scan;
pub mod shader;
mod shape;
mod softmax;
#[cfg(test)]
pub mod testing;
mod top_k;

use crate::error::{Error, Result};
use crate::gpu::{Class, Traits};
use crate::plan::{Fused, Kernel, Step, StepKind};
use crate::program::Op;
use crate::program::op::Reason;
pub use chain::{limits, limits_after, limits_before};
use shader::{Aligned, Call};

/// What kernels choose by.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The adapter.
    pub traits: &'a Traits,
    /// Which slots allow vectors.
    pub aligned: Aligned,
}

/// A step as dispatches.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Prepared {
    /// What runs, in order. Nothing for a step without elements.
    pub calls: Vec<Call>,
    /// Words of scratch memory.
    pub scratch: usize,
    /// The check that the first calls write into the step's fault cell.
    pub check: Option<Check>,
}

/// A check of data that only the device can make. It writes `[1 if it fails, position, index]` to the step's fault cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// Indices must lie in a range.
    Range {
        /// What they are called: `index` or `target`, behind the operation that they were given to.
        what: &'static str,
        /// They must lie in `[0, size)`.
        size: usize,
    },
    /// A condition must hold.
    Condition(Reason),
}

impl Prepared {
    /// Without the check, for a step that only runs where another one has found nothing to complain about.
    #[must_use]
    pub fn unchecked(mut self) -> Self {
        if self.check.take().is_some() {
            self.calls.remove(0);
        }
        self
    }
}

impl From<Vec<Call>> for Prepared {
    fn from(calls: Vec<Call>) -> Self {
        Self { calls, ..Self::default() }
    }
}

/// Prepares a step.
///
/// # Errors
/// [`Error::OutOfMemory`] for tensors that the adapter cannot bind.
pub fn prepare(step: &Step, target: Target) -> Result<Prepared> {
    match &step.kind {
        StepKind::Chain(chain) => chain::prepare(chain, target),
        StepKind::Kernel(kernel) => prepare_kernel(kernel, target),
        StepKind::Fused(fused) => prepare_fused(fused, target),
    }
}

/// Prepares an instruction with a chain before or behind it.
fn prepare_fused(fused: &Fused, target: Target) -> Result<Prepared> {
    let Fused { kernel, before, after } = fused;
    match (&kernel.op, before, after) {
        (Op::Reduce { kind, axes }, Some(before), None) => reduce::prepare(kernel, *kind, *axes, Some(before), target),
        (_, None, Some(after)) => {
            let columns = output(kernel, after.result.into())?.dims.last().copied().unwrap_or(1);
            if columns.is_multiple_of(4)
                && let Ok(together) = gemm::prepare(kernel, Some(after), target)
            {
                return Ok(together);
            }
            // No vectors, or too much for one shader: the product, and then the chain in its place.
            let mut apart = gemm::prepare(kernel, None, target)?;
            apart.calls.extend(chain::prepare(&after.chain, target)?.calls);
            Ok(apart)
        }
        _ => Err(Error::Internal(format!("{:?} with chains around it", kernel.op))),
    }
}

fn prepare_kernel(kernel: &Kernel, target: Target) -> Result<Prepared> {
    match &kernel.op {
        Op::Assign => shape::assign(kernel, target),
        Op::AddInto => shape::add_into(kernel, target),
        Op::Reduce { kind, axes } => reduce::prepare(kernel, *kind, *axes, None, target),
        Op::TopK { axes, k } => top_k::prepare(kernel, *axes, *k, target),
        Op::Scan(of) => scan::prepare(kernel, *of, target),
        Op::Softmax { log, axes } => softmax::forward(kernel, *log, *axes, target),
        Op::SoftmaxGrad { log, axes } => softmax::backward(kernel, *log, *axes, target),
        Op::Matmul { .. } | Op::Linear { .. } | Op::LinearGrad { .. } => gemm::prepare(kernel, None, target),
        Op::CrossEntropy { ignore_index } => loss::cross_entropy(kernel, *ignore_index, target),
        Op::CrossEntropyGrad { ignore_index } => loss::cross_entropy_grad(kernel, *ignore_index, target),
        Op::WeightedCrossEntropy(rule) => loss::weighted_cross_entropy(kernel, *rule, target),
        Op::WeightedCrossEntropyGrad(rule) => loss::weighted_cross_entropy_grad(kernel, *rule, target),
        Op::Transpose { permutation } => shape::transpose(kernel, permutation, target),
        Op::Concat { axis } => shape::concat(kernel, *axis as usize, target),
        Op::Slice { starts } => shape::slice(kernel, starts, target),
        Op::Pad { before, value } => shape::pad(kernel, before, *value, target),
        Op::Gather { axis, of } => gather::gather(kernel, *axis as usize, *of, target),
        Op::ScatterAdd { axis, of } => gather::scatter_add(kernel, *axis as usize, *of, target),
        Op::Require { reason } => gather::require(kernel, *reason, target),
        Op::SquaredNorm => optim::squared_norm(kernel, target),
        Op::Sgd(rule) => optim::sgd(kernel, rule, target),
        Op::Adam(rule) => optim::adam(kernel, rule, target),
        Op::Rmsprop(rule) => optim::rmsprop(kernel, rule, target),
        Op::Ema(rule) => optim::ema(kernel, rule, target),
        Op::BatchNorm(op) => batch_norm::prepare(kernel, *op, target),
        Op::Uniform(of) => random::uniform(kernel, of, target),
        Op::Dropout(rule) => random::dropout(kernel, rule, target),
        Op::Norm { rows, eps } => norm::forward(kernel, *rows, *eps, target),
        Op::NormGrad { rows, wanted } => norm::backward(kernel, *rows, *wanted, target),
        Op::Input { .. } | Op::Output { .. } | Op::View { .. } | Op::Element(_) => {
            Err(Error::Internal(format!("{:?} is no kernel", kernel.op)))
        }
    }
}

/// An operand of a kernel that the table says is there.
///
/// # Errors
/// [`Error::Internal`] for a plan that does not fit the table.
pub(crate) fn input(kernel: &Kernel, position: usize) -> Result<&crate::plan::Operand> {
    let operand = kernel.inputs.get(position).and_then(Option::as_ref);
    operand.ok_or_else(|| Error::Internal(format!("operand {position} of {:?} is absent", kernel.op)))
}

/// A result of a kernel.
///
/// # Errors
/// [`Error::Internal`] for a plan that does not fit the table.
pub(crate) fn output(kernel: &Kernel, position: usize) -> Result<&crate::plan::Operand> {
    let operand = kernel.outputs.get(position);
    operand.ok_or_else(|| Error::Internal(format!("result {position} of {:?} is absent", kernel.op)))
}

/// Elements above which a processor that plays the GPU had better see one operand per call: it runs the lines for every
/// operand that a call might work on.
const ALONE: usize = 1 << 14;

/// Whether operands of so many elements, each of which is the concern of some of the workgroups, are bound in one call.
fn share(a: usize, b: usize, target: Target) -> bool {
    target.traits.class != Class::Software || a.max(b) <= ALONE
}
