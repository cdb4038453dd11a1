//! From an instruction to its kernel: operands as slices, attributes as arguments. The match has no rest, so that a new
//! operation does not compile until it has a kernel.

use super::engine::Engine;
use super::frame::{Frame, Word};
use super::fused::{Beside, finished};
use super::operands::{Lists, Operands};
use super::prepare::Prepared;
use super::products::Products;
use crate::cpu::batch_norm;
use crate::cpu::gather::{Axis, BadIndex, gather, scatter_add};
use crate::cpu::loss::{self, Weights, cross_entropy, cross_entropy_grad};
use crate::cpu::norm::{Affine, NormGradients, Normalized, Saved, norm, norm_grad};
use crate::cpu::optim::{Gate, adam, ema, rmsprop, sgd, squared_norm};
use crate::cpu::random::{Stream, dropout, uniform};
use crate::cpu::reduce::{reduce, reduce_computed};
use crate::cpu::scan::scan;
use crate::cpu::shape::{add_into, assign, concat, pad, slice, transpose};
use crate::cpu::softmax::{softmax_between, softmax_grad_between};
use crate::cpu::top_k::{Largest, top_k};
use crate::cpu::{Cpu, elementwise};
use crate::error::{Error, Result};
use crate::plan::Kernel;
use crate::program::op::{Adam, BatchNormOp, Ema, NormRows, Op, Rmsprop, RunningUpdate, Sgd, Wanted};
use crate::shape::Dims;

impl Engine {
    /// Runs one instruction whose operands all exist, as do those of the chains beside it.
    ///
    /// # Errors
    /// What the data shows to be wrong; nothing has been changed in place then.
    pub(super) fn dispatch(
        &mut self,
        kernel: &Kernel,
        prepared: &Prepared,
        beside: &Beside,
        frame: &Frame,
    ) -> Result<()> {
        // SAFETY: this is the instruction that runs now, and below every position is asked for once.
        let on = unsafe { Operands::new(kernel, frame) };
        let cpu = &*self.cpu;
        let mut products = Products { cpu, weights: &mut self.weights, on, behind: beside.behind.as_ref() };
        match &kernel.op {
            Op::Assign => assign(cpu, on.changed::<u32>(0)?, on.input(1)?),
            Op::AddInto => add_into(cpu, on.operand(0)?.dtype, on.changed(0)?, on.input(1)?),
            Op::Reduce { kind, axes } => match beside.feed() {
                Some(elements) => reduce_computed(cpu, *kind, *axes, elements, on.output(0)?)?,
                None => reduce(cpu, *kind, *axes, on.operand(0)?.dtype, on.input(0)?, on.output(0)?),
            },
            Op::TopK { axes, k } => {
                let to = Largest { values: on.output(0)?, indices: on.output(1)?, places: on.output(2)? };
                top_k(cpu, *axes, *k, on.operand(0)?.dtype, on.input(0)?, to);
            }
            Op::Scan(of) => scan(cpu, *of, on.operand(0)?.dtype, on.input(0)?, on.output(0)?),
            Op::Softmax { log, axes } => {
                let (x, y) = (beside.source(|| on.input(0))?, on.output(0)?);
                finished(cpu, products.behind, 0, |cpu, then| softmax_between(cpu, *log, *axes, x, y, then));
            }
            Op::SoftmaxGrad { log, axes } => {
                let (dy, y, dx) = (beside.source(|| on.input(0))?, on.input(1)?, on.output(0)?);
                finished(cpu, products.behind, 0, |cpu, then| softmax_grad_between(cpu, *log, *axes, dy, y, dx, then));
            }
            Op::Matmul { transpose_a, transpose_b } => products.matmul(prepared, *transpose_a, *transpose_b)?,
            Op::Linear { activation, save_z } => products.linear(*activation, *save_z)?,
            Op::LinearGrad { wanted, .. } => products.linear_grad(prepared, *wanted)?,
            Op::CrossEntropy { ignore_index } => plain_loss(cpu, on, *ignore_index)?,
            Op::CrossEntropyGrad { ignore_index } => {
                let (logits, targets, log_sums) = (on.input(0)?, on.input(1)?, on.input(2)?);
                let upstream = on.input(3)?;
                cross_entropy_grad(cpu, *ignore_index, logits, targets, log_sums, upstream, on.output(0)?)
                    .map_err(|bad| outside("target", bad))?;
            }
            Op::WeightedCrossEntropy(rule) => {
                let (data, weights) = ((on.input(0)?, on.input(1)?), weights(on, 2)?);
                let out = [on.output(0)?, on.output(1)?, on.output(2)?];
                loss::weighted_cross_entropy(cpu, *rule, data, weights, out).map_err(|bad| outside("target", bad))?;
            }
            Op::WeightedCrossEntropyGrad(rule) => {
                let (data, weights) = ((on.input(0)?, on.input(1)?), weights(on, 4)?);
                let upstream = (on.input(2)?, on.input(3)?);
                loss::weighted_cross_entropy_grad(cpu, *rule, data, upstream, weights, on.output(0)?)
                    .map_err(|bad| outside("target", bad))?;
            }
            Op::Transpose { permutation } => {
                transpose(cpu, &on.operand(0)?.dims, permutation, on.input(0)?, on.output(0)?);
            }
            Op::Concat { axis } => joined(cpu, on, &mut self.lists, *axis as usize)?,
            Op::Slice { starts } => {
                slice(cpu, &on.operand(0)?.dims, starts, &on.result(0)?.dims, on.input(0)?, on.output(0)?);
            }
            Op::Pad { before, value } => {
                let (from, to) = (on.operand(0)?, on.result(0)?);
                let value = elementwise::scalar(&frame.scalars, *value, to.dtype);
                pad(cpu, &from.dims, before, &to.dims, value, on.input(0)?, on.output(0)?);
            }
            Op::Gather { axis, of } => {
                let along = along(&on.operand(0)?.dims, *axis as usize);
                gather(cpu, along, on.input(0)?, on.input(1)?, on.output(0)?).map_err(|bad| outside(of.text(), bad))?;
            }
            Op::ScatterAdd { axis, of } => {
                let to = on.result(0)?;
                let along = along(&to.dims, *axis as usize);
                scatter_add(cpu, along, to.dtype, on.input(0)?, on.input(1)?, on.output(0)?)
                    .map_err(|bad| outside(of.text(), bad))?;
            }
            Op::Require { reason } => {
                if on.input::<u32>(1)?.first() == Some(&0) {
                    return Err(Error::Argument(reason.text().into()));
                }
                assign(cpu, on.output(0)?, on.input(0)?);
            }
            Op::SquaredNorm => {
                let norm = self.lists.slices(on.inputs_from(0), |tensors| squared_norm(cpu, tensors))?;
                on.output(0)?.fill(norm);
            }
            Op::Sgd(rule) => sgd_step(cpu, on, &mut self.lists, rule)?,
            Op::Adam(rule) => adam_step(cpu, on, &mut self.lists, rule)?,
            Op::Rmsprop(rule) => rmsprop_step(cpu, on, &mut self.lists, rule)?,
            Op::Ema(rule) => ema_step(cpu, on, &mut self.lists, rule)?,
            Op::BatchNorm(op) => batch_norm(cpu, on, *op)?,
            Op::Uniform(of) => uniform(cpu, of.inner as usize, Stream::of(of, &frame.scalars), on.output(0)?),
            Op::Norm { rows, eps } => normalize(cpu, on, *rows, *eps)?,
            Op::NormGrad { rows, wanted } => normalize_grad(cpu, on, *rows, *wanted)?,
            Op::Dropout(rule) => {
                let stream = Stream::of(&rule.of, &frame.scalars);
                dropout(cpu, rule, stream, on.input(0)?, on.output(0)?);
            }
            Op::Input { .. } | Op::Output { .. } | Op::View { .. } | Op::Element(_) => {
                return Err(Error::Internal(format!("{:?} is no kernel", kernel.op)));
            }
        }
        Ok(())
    }
}

fn plain_loss(cpu: &Cpu, on: Operands, ignore_index: i32) -> Result<()> {
    let (losses, log_sums, count) = (on.output(0)?, on.output(1)?, on.output::<f32>(2)?);
    let counted = cross_entropy(cpu, ignore_index, on.input(0)?, on.input(1)?, losses, log_sums)
        .map_err(|bad| outside("target", bad))?;
    count.fill(counted as f32);
    Ok(())
}

fn normalize(cpu: &Cpu, on: Operands, rows: NormRows, eps: f64) -> Result<()> {
    let centred = usize::from(rows.is_centred());
    let affine = Affine { weight: on.optional(1)?, bias: on.optional(2)? };
    let means = if centred == 1 { Some(on.output(1)?) } else { None };
    let to = Normalized { y: on.output(0)?, means, scales: on.output(1 + centred)? };
    norm(cpu, rows, eps, on.input(0)?, affine, to);
    Ok(())
}

fn normalize_grad(cpu: &Cpu, on: Operands, rows: NormRows, wanted: Wanted) -> Result<()> {
    let centred = usize::from(rows.is_centred());
    let means = if centred == 1 { Some(on.input(3)?) } else { None };
    let (dy, x, weight, scales) = (on.input(0)?, on.input(1)?, on.optional(2)?, on.input(3 + centred)?);
    let mut results = 0..;
    let mut next = || results.next().unwrap_or(usize::MAX);
    let dx = if wanted.dx { Some(on.output(next())?) } else { None };
    let dweight = if wanted.dweight { Some(on.output(next())?) } else { None };
    let dbias = if wanted.dbias { Some(on.output(next())?) } else { None };
    norm_grad(cpu, rows, Saved { dy, x, weight, means, scales }, NormGradients { dx, dweight, dbias });
    Ok(())
}

fn batch_norm(cpu: &Cpu, on: Operands, op: BatchNormOp) -> Result<()> {
    let with = |first: usize, weight: usize| -> Result<batch_norm::Coefficients<'_>> {
        let (mean, istd) = (on.input(first)?, on.input(first + 1)?);
        Ok(batch_norm::Coefficients { mean, istd, weight: on.optional(weight)? })
    };
    match op {
        BatchNormOp::Statistics(of) => {
            let (mean, m2, count) = (on.output(1)?, on.output(2)?, on.output::<f32>(0)?);
            count.fill(batch_norm::statistics(cpu, of, on.input(0)?, on.optional(1)?, mean, m2) as f32);
        }
        BatchNormOp::Variance { eps } => {
            batch_norm::variance(on.input(0)?, single(on, 1)?, eps, on.output(0)?, on.output(1)?);
        }
        BatchNormOp::Forward(of) => {
            batch_norm::forward(cpu, of, with(1, 3)?, on.optional(4)?, on.input(0)?, on.optional(5)?, on.output(0)?);
        }
        BatchNormOp::GradSums(of) => {
            let (dy, x, mean, istd) = (on.input(0)?, on.input(1)?, on.input(2)?, on.input(3)?);
            batch_norm::grad_sums(cpu, of, dy, x, mean, istd, on.optional(4)?, on.output(0)?, on.output(1)?);
        }
        BatchNormOp::Grad(of) => {
            let (dy, x, sums) = (on.input(0)?, on.input(1)?, [on.input(5)?, on.input(6)?]);
            batch_norm::grad(cpu, of, with(2, 4)?, sums, single(on, 7)?, dy, x, on.optional(8)?, on.output(0)?);
        }
        BatchNormOp::Update(update) => running_update(on, update)?,
    }
    Ok(())
}

fn running_update(on: Operands, update: RunningUpdate) -> Result<()> {
    let ok = on.optional::<u32>(6)?;
    if ok.is_some_and(|ok| ok.first() == Some(&0)) {
        return Ok(());
    }
    let mut factor = on.scalar(update.momentum)?;
    if on.optional::<i32>(2)?.is_some()
        && let Some(updates) = on.changed::<i32>(2)?.first_mut()
    {
        *updates = updates.saturating_add(1);
        if update.cumulative {
            factor = 1.0 / f64::from(*updates);
        }
    }
    let (mean, variance, count) = (on.input(3)?, on.input(4)?, single(on, 5)?);
    let fresh = batch_norm::Fresh { mean, variance, count, factor, unbiased: update.unbiased };
    batch_norm::update(on.changed(0)?, on.changed(1)?, fresh);
    Ok(())
}

/// The one element of an operand.
fn single(on: Operands, position: usize) -> Result<f32> {
    Ok(on.input::<f32>(position)?.first().copied().unwrap_or_default())
}

fn joined(cpu: &Cpu, on: Operands, lists: &mut Lists, axis: usize) -> Result<()> {
    let size = |position| Ok(on.operand(position)?.dims.get(axis).copied().unwrap_or(1));
    let parts = on.inputs_from(0).enumerate().map(|(position, slice)| Ok((slice?, size(position)?)));
    let (to, out) = (on.result(0)?, on.output(0)?);
    lists.sized(parts, |parts| concat(cpu, &to.dims, axis, parts, out))
}

fn sgd_step(cpu: &Cpu, on: Operands, lists: &mut Lists, rule: &Sgd) -> Result<()> {
    let velocity = changed_if_there(on, 1)?;
    let (lr, gate) = (on.scalar(rule.lr)?, gate(on, 3)?);
    let (params, steps) = (on.changed(0)?, on.changed(2)?);
    lists.slices(on.inputs_from(5), |gradients| sgd(cpu, rule, lr, gate, params, velocity, steps, gradients))
}

fn adam_step(cpu: &Cpu, on: Operands, lists: &mut Lists, rule: &Adam) -> Result<()> {
    let slabs = [on.changed(0)?, on.changed(1)?, on.changed(2)?];
    let greatest = changed_if_there(on, 3)?;
    let (lr, gate, steps) = (on.scalar(rule.lr)?, gate(on, 5)?, on.changed(4)?);
    lists.slices(on.inputs_from(7), |gradients| adam(cpu, rule, lr, gate, slabs, greatest, steps, gradients))
}

fn rmsprop_step(cpu: &Cpu, on: Operands, lists: &mut Lists, rule: &Rmsprop) -> Result<()> {
    let slabs = [on.changed(0)?, on.changed(1)?];
    let optional = [changed_if_there(on, 2)?, changed_if_there(on, 3)?];
    let (lr, gate, steps) = (on.scalar(rule.lr)?, gate(on, 5)?, on.changed(4)?);
    lists.slices(on.inputs_from(7), |gradients| rmsprop(cpu, rule, lr, gate, slabs, optional, steps, gradients))
}

fn ema_step(cpu: &Cpu, on: Operands, lists: &mut Lists, rule: &Ema) -> Result<()> {
    let (averages, steps) = (on.changed(0)?, on.changed(1)?);
    let (weight, gate) = (on.scalar(rule.weight)?, gate(on, 2)?);
    lists.slices(on.inputs_from(4), |values| ema(cpu, rule, weight, gate, averages, steps, values))
}

/// A slab that an optimiser may do without.
fn changed_if_there(on: Operands<'_>, position: usize) -> Result<Option<&mut [f32]>> {
    match on.optional::<f32>(position)? {
        Some(_) => on.changed(position).map(Some),
        None => Ok(None),
    }
}

/// Weights of classes: an operand at `position`, and behind it their sum.
fn weights(on: Operands, position: usize) -> Result<Weights> {
    let sum: Option<&[f32]> = on.optional(position + 1)?;
    Ok(Weights { each: on.optional(position)?, sum: sum.and_then(|sum| sum.first().copied()) })
}

/// What scales and gates an update: two rank-0 operands, the first at `position`.
fn gate(on: Operands, position: usize) -> Result<Gate> {
    fn first<T: Word>(operand: Option<&[T]>) -> Option<T> {
        operand?.first().copied()
    }
    let scale = first(on.optional::<f32>(position)?);
    let ok = first(on.optional::<u32>(position + 1)?).map(|word| word != 0);
    Ok(Gate { scale, ok })
}

/// An axis of a shape, with what lies before and after it.
fn along(dims: &Dims, axis: usize) -> Axis {
    let product = |dims: &[u32]| dims.iter().map(|&size| size as usize).product();
    let (before, rest) = dims.split_at(axis.min(dims.len()));
    let (size, after) = rest.split_first().map_or((1, rest), |(&size, after)| (size as usize, after));
    Axis { outer: product(before), size, inner: product(after) }
}

fn outside(what: &str, bad: BadIndex) -> Error {
    let BadIndex { position, index, size } = bad;
    Error::Argument(format!("{what} {index} at position {position} is outside [0, {size})"))
}
