//! Matrix products as dispatches: `matmul`, `linear` and the gradients of `linear`. Transposes change where operands are
//! read, never what is in memory. Which text computes a product is decided in [`choose`]; what all texts keep to stands
//! in [`product`].

mod choose;
mod columns;
mod empty;
mod epilogue;
mod product;
mod rows;
mod simt;
mod software;
#[cfg(test)]
mod tests;

use super::shader::{Aligned, Builder, Memory};
use super::{Prepared, Target, input, output};
use crate::cpu::activation::Activation;
use crate::error::{Error, Result};
use crate::plan::{After, Kernel, Operand};
use crate::program::Op;
use crate::program::op::Wanted;
pub use choose::Family;
use columns::{Columns, Sums};
use epilogue::Epilogue;
use product::{BatchDim, Product, Side, axis, collapse};

fn side(operand: &Operand, along_k: bool, aligned: Aligned) -> Side {
    Side { memory: Memory::Operand(*operand), along_k, aligned: Builder::is_aligned(operand, aligned) }
}

fn product_of(dims: &[u32]) -> usize {
    dims.iter().map(|&size| size as usize).product()
}

/// Prepares an instruction that multiplies matrices, with the chain behind one of its results if there is one.
pub(super) fn prepare(kernel: &Kernel, after: Option<&After>, target: Target) -> Result<Prepared> {
    match kernel.op {
        Op::Matmul { transpose_a, transpose_b } => matmul(kernel, transpose_a, transpose_b, after, target),
        Op::Linear { activation, save_z } => linear(kernel, activation, save_z, after, target),
        Op::LinearGrad { activation, wanted } => linear_grad(kernel, activation, wanted, after, target),
        _ => Err(Error::Internal(format!("{:?} multiplies nothing", kernel.op))),
    }
}

/// What happens to the plain product that is the result at `position`.
fn plain<'a>(to: &Operand, position: usize, after: Option<&'a After>, target: Target) -> Epilogue<'a> {
    let after = after.filter(|after| usize::from(after.result) == position);
    Epilogue { after: after.map(|after| (after, target.aligned)), ..Epilogue::plain(Memory::Operand(*to)) }
}

/// `[a, b]` → c.
fn matmul(
    kernel: &Kernel,
    transpose_a: bool,
    transpose_b: bool,
    after: Option<&After>,
    target: Target,
) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    let c = output(kernel, 0)?;
    if c.numel > 0 {
        let product = matrices(kernel, transpose_a, transpose_b, target)?;
        Product { epilogue: plain(c, 0, after, target), ..product }.prepare(target, &mut prepared)?;
    }
    Ok(prepared)
}

/// A `matmul` that is not empty by a family of the caller's choice, one of [`Family::all`]: for measuring.
///
/// # Errors
/// As [`prepare`](super::prepare); [`Error::Internal`] for another operation or an empty one.
pub fn matmul_by(kernel: &Kernel, family: Family, target: Target) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    let Op::Matmul { transpose_a, transpose_b } = kernel.op else {
        return Err(Error::Internal(format!("{:?} is no matmul", kernel.op)));
    };
    let product = matrices(kernel, transpose_a, transpose_b, target)?;
    if [product.m, product.n, product.k, product.items()].contains(&0) {
        return Err(Error::Internal("an empty product has no family".into()));
    }
    product.dispatch(family, target, &mut prepared)?;
    Ok(prepared)
}

/// A `matmul` as a product.
fn matrices(kernel: &Kernel, transpose_a: bool, transpose_b: bool, target: Target) -> Result<Product<'static>> {
    let (a, b, c) = (input(kernel, 0)?, input(kernel, 1)?, output(kernel, 0)?);
    let mut m = axis(&c.dims, 2)?;
    let (n, k) = (axis(&c.dims, 1)?, axis(&a.dims, if transpose_a { 2 } else { 1 })?);
    let mut batch = batches(a, b, c);
    if !transpose_a && batch.len() == 1 && batch[0].b == 0 && batch[0].a != 0 {
        // One b for all of a's batch, whose rows follow each other.
        m *= batch.remove(0).size;
    }
    let (left, right) = (side(a, !transpose_a, target.aligned), side(b, transpose_b, target.aligned));
    let epilogue = Epilogue::plain(Memory::Operand(*c));
    Ok(Product { a: left, b: right, m, n, k, batch, epilogue })
}

/// The batch of a product of matrices: all dimensions of c but the last two, with the steps of a and b.
fn batches(a: &Operand, b: &Operand, c: &Operand) -> Vec<BatchDim> {
    let outer = |operand: &Operand| operand.dims.len().saturating_sub(2);
    // From the last dimension on, where broadcast shapes meet.
    let steps = |operand: &Operand| {
        let (dims, mut step) = (&operand.dims[..outer(operand)], product_of(&operand.dims[outer(operand)..]));
        let mut steps = Vec::with_capacity(outer(c));
        for &size in dims.iter().rev() {
            steps.push(if size == 1 { 0 } else { step });
            step *= size as usize;
        }
        steps.resize(outer(c), 0);
        steps
    };
    let dims = c.dims[..outer(c)].iter().rev().zip(steps(a).into_iter().zip(steps(b)));
    let dims: Vec<BatchDim> = dims.map(|(&size, (a, b))| BatchDim { size: size as usize, a, b }).collect();
    collapse(dims.into_iter().rev())
}

/// `[x, weight, bias?]` → y, z?.
fn linear(
    kernel: &Kernel,
    activation: Activation,
    save_z: bool,
    after: Option<&After>,
    target: Target,
) -> Result<Prepared> {
    let (x, weight, y) = (input(kernel, 0)?, input(kernel, 1)?, output(kernel, 0)?);
    let bias = kernel.inputs.get(2).copied().flatten();
    let z = if save_z { Some(*output(kernel, 1)?) } else { None };
    let (k, n) = (axis(&weight.dims, 2)?, axis(&weight.dims, 1)?);
    let m = product_of(&x.dims[..x.dims.len().saturating_sub(1)]);
    let (a, b) = (side(x, true, target.aligned), side(weight, false, target.aligned));
    let epilogue = Epilogue { bias, activation, z, ..plain(y, 0, after, target) };
    let mut prepared = Prepared::default();
    Product { a, b, m, n, k, batch: Vec::new(), epilogue }.prepare(target, &mut prepared)?;
    Ok(prepared)
}

/// Scratch memory in parts, each beginning where a binding may.
struct Scratch(usize);

impl Scratch {
    fn take(&mut self, words: usize) -> Memory {
        let offset = self.0;
        self.0 += words.next_multiple_of(64);
        Memory::Scratch { offset, words }
    }
}

/// `[dy, saved?, x?, weight?]` → dx?, dweight?, dbias?: dz = dy ⊙ f′(saved), dx = dz·Wᵀ, dW = xᵀ·dz, db = Σ dz.
fn linear_grad(
    kernel: &Kernel,
    activation: Activation,
    wanted: Wanted,
    after: Option<&After>,
    target: Target,
) -> Result<Prepared> {
    let dy = input(kernel, 0)?;
    let (m, n) = (product_of(&dy.dims[..dy.dims.len().saturating_sub(1)]), axis(&dy.dims, 1)?);
    let saved = if activation == Activation::None { None } else { Some(input(kernel, 1)?) };
    let mut results = 0..;
    let mut next = |wanted: bool| match (wanted, results.start) {
        (true, position) => {
            results.start += 1;
            output(kernel, position).map(Some)
        }
        (false, _) => Ok(None),
    };
    let (dx, dweight, dbias) = (next(wanted.dx)?, next(wanted.dweight)?, next(wanted.dbias)?);

    let (mut prepared, mut scratch) = (Prepared::default(), Scratch(0));
    // Without a product nobody reads dz again.
    let dz = (saved.is_some() && (wanted.dx || wanted.dweight)).then(|| scratch.take(m * n));
    let strips = Columns::strips(m);
    let sums = dbias.map(|to| Sums { to, strips: (strips > 1).then(|| scratch.take(strips * n)) });
    if dz.is_some() || sums.is_some() {
        Columns { dy, saved, activation, dz, sums, rows: m, cols: n }.prepare(target, &mut prepared)?;
    }
    let gradient = |along_k| match dz {
        Some(memory) => Side { memory, along_k, aligned: true },
        None => side(dy, along_k, target.aligned),
    };
    if let Some(dx) = dx {
        let weight = input(kernel, 3)?;
        let (a, b) = (gradient(true), side(weight, true, target.aligned));
        let (n, k) = (axis(&weight.dims, 2)?, n);
        let epilogue = plain(dx, 0, after, target);
        Product { a, b, m, n, k, batch: Vec::new(), epilogue }.prepare(target, &mut prepared)?;
    }
    if let Some(dweight) = dweight {
        let x = input(kernel, 2)?;
        let (a, b) = (side(x, false, target.aligned), gradient(false));
        let (m, k) = (axis(&x.dims, 1)?, m);
        let epilogue = plain(dweight, usize::from(wanted.dx), after, target);
        Product { a, b, m, n, k, batch: Vec::new(), epilogue }.prepare(target, &mut prepared)?;
    }
    prepared.scratch = scratch.0;
    Ok(prepared)
}
