//! Indexing along one axis of `[outer, size, inner]`: `gather` reads slices at given indices (embedding), `scatterAdd` adds
//! slices to them (its gradient). Sums run in ascending order of position, as on every device; nothing is added
//! atomically. A check before them reports indices outside the axis; the kernels hold them inside it.
//!
//! `scatterAdd` has two forms of one order. The direct one lets every element of the result look through all indices; the
//! sorted one ([`sort`]) first puts the positions in the order of their indices.

mod sort;
#[cfg(test)]
mod tests;

use super::indices::{Rule, checked};
use super::shader::{Builder, Call, Memory, SOFTWARE_ROUNDS, Type, Word};
use super::{Check, Prepared, Target, input, output, shape};
use crate::dtype::Dtype;
use crate::error::Result;
use crate::gpu::Class;
use crate::plan::{Kernel, Operand};
use crate::program::op::{Indexed, Reason};

/// Slices that an invocation adds up in one dispatch at most: so many take a fraction of a second, after which a watchdog
/// might look.
const MOST: usize = 1 << 18;

/// Indices that every element of a result may look through outside software adapters: one invocation is slow.
const DEPTH: usize = 1 << 13;

/// Invocations of a workgroup.
const GROUP: usize = 256;

/// The index at position `i` of `indices`, held inside the axis.
const KEY: &str = "fn key(i: u32) -> u32 { return u32(clamp(indices(i), 0, i32(p.size) - 1)); }";

/// How an axis lies in a tensor.
#[derive(Clone, Copy, Debug)]
struct Axis {
    outer: usize,
    size: usize,
    inner: usize,
}

impl Axis {
    fn of(dims: &[u32], axis: usize) -> Self {
        let product = |dims: &[u32]| dims.iter().map(|&size| size as usize).product();
        let (before, rest) = dims.split_at(axis.min(dims.len()));
        let (size, after) = rest.split_first().map_or((1, rest), |(&size, after)| (size as usize, after));
        Self { outer: product(before), size, inner: product(after) }
    }

    /// Whether slices can be moved as vectors of four.
    fn in_vectors(self, x: &Operand, target: Target) -> bool {
        self.inner.is_multiple_of(4) && Builder::is_aligned(x, target.aligned)
    }
}

/// Lines that take the element `i` of a result `[block, index, column]` apart, and end invocations that have none. `size` is
/// the expression for the number of indices. Divisions are dear: none for the remainders, none where there is one block.
fn take_apart(size: &str, outer: usize) -> String {
    let block = if outer == 1 {
        "let block = 0u; let index = slice;".to_owned()
    } else {
        format!("let block = slice / {size}; let index = slice - block * {size};")
    };
    format!(
        "let i = group() * 256u + local;\nif (i >= p.count) {{ return; }}\n\
         let slice = i / p.inner; let column = i - slice * p.inner;\n{block}\n"
    )
}

/// What indices into an axis must be.
fn index_of(size: usize, of: Indexed) -> Rule<'static> {
    Rule { what: of.text(), size, ignore: None, counted: None }
}

/// `[x, indices]`: out[o, k] ← x[o, indices\[k\]].
pub(super) fn gather(kernel: &Kernel, axis: usize, of: Indexed, target: Target) -> Result<Prepared> {
    let (x, indices, y) = (input(kernel, 0)?, input(kernel, 1)?, output(kernel, 0)?);
    let axis = Axis::of(&x.dims, axis);
    let calls = if y.numel == 0 { Vec::new() } else { vec![take(axis, x, indices, y, target)?] };
    checked(target, indices, index_of(axis.size, of), calls.into())
}

fn take(axis: Axis, x: &Operand, indices: &Operand, y: &Operand, target: Target) -> Result<Call> {
    let vectors = axis.in_vectors(x, target);
    let (ty, unit) = if vectors { (Type::Vec4U32, 4) } else { (Type::U32, 1) };
    let mut b = Builder::new(target.traits, "gather").masked();
    b.buffer("x", Memory::Operand(*x), ty);
    b.operand("indices", indices);
    b.buffer("y", Memory::Operand(*y), ty);
    b.value("count", y.numel / unit);
    b.value("inner", axis.inner / unit);
    b.value("size", axis.size);
    b.value("taken", indices.numel);
    b.item(KEY);
    let main = format!(
        "{}let first = block * p.size + key(index);\ny_set(i, x(first * p.inner + column));",
        take_apart("p.taken", axis.outer)
    );
    b.finish(GROUP as u32, [(y.numel / unit).div_ceil(GROUP), 1, 1], &main)
}

/// `[dy, indices]`: zeros, then out[o, indices\[k\]] += dy[o, k] for k = 0, 1, …
pub(super) fn scatter_add(kernel: &Kernel, axis: usize, of: Indexed, target: Target) -> Result<Prepared> {
    let (x, indices, y) = (input(kernel, 0)?, input(kernel, 1)?, output(kernel, 0)?);
    let axis = Axis::of(&y.dims, axis);
    let prepared = if y.numel == 0 {
        Prepared::default()
    } else if is_direct(indices.numel, y.numel, target) {
        add_up(axis, x, indices, y, None, target)?.into()
    } else {
        sort::scatter_add(axis, x, indices, y, target)?
    };
    checked(target, indices, index_of(axis.size, of), prepared)
}

/// Whether looking through all indices for every element of the result costs less than the dispatches of a sort.
fn is_direct(indices: usize, elements: usize, target: Target) -> bool {
    let (most, depth) = match target.traits.class {
        Class::Discrete => (1 << 24, DEPTH),
        Class::Integrated => (1 << 22, DEPTH),
        Class::Software => (1 << 17, usize::MAX),
    };
    indices <= 16 || indices <= depth && indices.saturating_mul(elements) <= most
}

/// `[x, ok]`: x; a fault unless ok is true.
pub(super) fn require(kernel: &Kernel, reason: Reason, target: Target) -> Result<Prepared> {
    let (x, ok, y) = (input(kernel, 0)?, input(kernel, 1)?, output(kernel, 0)?);
    let mut b = Builder::new(target.traits, "require").masked();
    b.buffer("ok", Memory::Operand(*ok), Type::U32);
    b.buffer("cells", Memory::Faults, Type::U32);
    b.word("cell", "u32", Word::Cell);
    let main = "if (local == 0u) { cells_set(p.cell, select(0u, 1u, ok(0u) == 0u)); }";
    let mut prepared = shape::copy(x, y, target)?;
    prepared.calls.insert(0, b.finish(1, [1, 1, 1], main)?);
    prepared.check = Some(Check::Condition(reason));
    Ok(prepared)
}

/// Positions in the order of their indices, and where those of each index begin.
#[derive(Clone, Copy)]
struct Sorted {
    order: Memory,
    starts: Memory,
}

/// The calls that sum: one, unless its loop would be too long. The order of the sums is that of one call.
fn add_up(
    axis: Axis,
    x: &Operand,
    indices: &Operand,
    y: &Operand,
    sorted: Option<Sorted>,
    target: Target,
) -> Result<Vec<Call>> {
    let most = if target.traits.class == Class::Software { SOFTWARE_ROUNDS } else { MOST };
    let sum = |from| sum(axis, x, indices, y, sorted, (from, most), target);
    (0..indices.numel.max(1)).step_by(most).map(sum).collect()
}

/// The call that adds up to `most` slices from the one `from` on, of those that meet: an invocation per word or vector of
/// the result.
fn sum(
    axis: Axis,
    x: &Operand,
    indices: &Operand,
    y: &Operand,
    sorted: Option<Sorted>,
    (from, most): (usize, usize),
    target: Target,
) -> Result<Call> {
    let vectors = axis.in_vectors(x, target);
    // i32 wraps as u32 does.
    let ty = match (vectors, y.dtype) {
        (true, Dtype::F32) => Type::Vec4F32,
        (true, _) => Type::Vec4U32,
        (false, Dtype::F32) => Type::F32,
        (false, _) => Type::U32,
    };
    let unit = if vectors { 4 } else { 1 };
    let mut b = Builder::new(target.traits, "scatter_add").masked();
    b.buffer("x", Memory::Operand(*x), ty);
    b.buffer("y", Memory::Operand(*y), ty);
    b.value("count", y.numel / unit);
    b.value("inner", axis.inner / unit);
    b.value("size", axis.size);
    b.value("taken", indices.numel);
    b.value("begin_at", from);
    b.value("most", most);
    b.rounds(most.min(indices.numel));
    let (bounds, lines) = if let Some(Sorted { order, starts }) = sorted {
        b.buffer("order", order, Type::U32);
        b.buffer("starts", starts, Type::U32);
        let bounds = "let begin = starts(index) + p.begin_at;
let end = min(starts(index + 1u), begin + p.most);";
        let lines = "for (var k = begin; k < end; k++) { total += x((first + order(k)) * p.inner + column); }";
        (bounds, lines)
    } else {
        b.operand("indices", indices);
        b.item(KEY);
        let bounds = "let begin = p.begin_at;\nlet end = min(p.taken, begin + p.most);";
        let lines = "for (var k = begin; k < end; k++) {
  if (key(k) == index) { total += x((first + k) * p.inner + column); }
}";
        (bounds, lines)
    };
    // What has nothing more to add keeps what it has.
    let total = if from == 0 {
        format!("var total = {}();", ty.name())
    } else {
        "if (begin >= end) { return; }\nvar total = y(i);".to_owned()
    };
    let main = format!(
        "{}let first = block * p.taken;\n{bounds}\n{total}\n{lines}\ny_set(i, total);",
        take_apart("p.size", axis.outer)
    );
    b.finish(GROUP as u32, [(y.numel / unit).div_ceil(GROUP), 1, 1], &main)
}
