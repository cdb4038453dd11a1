//! Movement of words: `assign`, `addInto`, `transpose`, `concat`, `slice`, `pad`. Elements travel as u32, alone or in
//! vectors of four, so that no GPU touches the payload of a NaN; only `addInto` computes.
//!
//! One side of every movement is dense, the other strided: an invocation takes one word or vector of the dense side and
//! finds the other by division ([`copy`]). Dimensions that both sides walk alike are merged first.

mod copy;
mod flat;
mod join;
mod pad;
#[cfg(test)]
mod tests;

pub(super) use flat::{part, window_words};
pub(super) use join::concat;
pub(super) use pad::pad;

use super::{Prepared, Target, input, output};
use crate::error::Result;
use crate::plan::{Kernel, Operand};
use crate::shape::strides;
use copy::View;

/// Invocations of a workgroup of these kernels; they share nothing.
const GROUP: usize = 256;

/// `[target, source]`: target ← source.
pub(super) fn assign(kernel: &Kernel, target: Target) -> Result<Prepared> {
    flat::in_place("assign", input(kernel, 0)?, input(kernel, 1)?, false, target)
}

/// `[target, source]`: target += source.
pub(super) fn add_into(kernel: &Kernel, target: Target) -> Result<Prepared> {
    flat::in_place("add_into", input(kernel, 0)?, input(kernel, 1)?, true, target)
}

/// y ← x, elements in order.
pub(super) fn copy(x: &Operand, y: &Operand, target: Target) -> Result<Prepared> {
    let mut view = View::default();
    view.push(x.numel, 1);
    copy::collect("copy", &view, x, y, target)
}

/// Dimension `i` of the result is dimension `permutation[i]` of the operand.
pub(super) fn transpose(kernel: &Kernel, permutation: &[u32], target: Target) -> Result<Prepared> {
    let (x, y) = (input(kernel, 0)?, output(kernel, 0)?);
    let strides = strides(&x.dims);
    let mut view = View::default();
    for (&axis, &size) in permutation.iter().zip(y.dims.iter()) {
        view.push(size as usize, strides.get(axis as usize).copied().unwrap_or(0));
    }
    copy::collect("transpose", &view, x, y, target)
}

/// The part of the result's shape that begins at `starts`.
pub(super) fn slice(kernel: &Kernel, starts: &[u32], target: Target) -> Result<Prepared> {
    let (x, y) = (input(kernel, 0)?, output(kernel, 0)?);
    let mut view = View::default();
    for ((&size, stride), &start) in y.dims.iter().zip(strides(&x.dims)).zip(starts) {
        view.push(size as usize, stride);
        view.start += start as usize * stride;
    }
    copy::collect("slice", &view, x, y, target)
}
