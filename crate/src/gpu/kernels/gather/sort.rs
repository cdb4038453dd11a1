//! `scatterAdd` for many indices: their positions are sorted stably by index, digit by digit from the lowest, so that every
//! element of the result finds its contributions next to each other and in ascending order.
//!
//! A digit takes four calls. Tiles of positions count their digits (integer atomics: a count knows no order). The counts,
//! by digit and then by tile, are summed up from the first in two calls. Then each tile puts its positions in place: after
//! all smaller digits, after equal digits of earlier tiles, after equal digits before it in its own tile.

use std::fmt::Write as _;

use super::{Axis, GROUP, KEY, Sorted, add_up};
use crate::error::Result;
use crate::gpu::kernels::shader::{Builder, Call, Memory, Type};
use crate::gpu::kernels::{Prepared, Target};
use crate::plan::Operand;

/// Most bits of a digit: a workgroup has one invocation for each value.
const DIGIT_BITS: u32 = 8;

/// Counts that one workgroup sums up: eight for each invocation.
const CHUNK: usize = GROUP * 8;

/// Which bits of an index one pass sorts by, and the passes' shared sizes.
#[derive(Clone, Copy)]
struct Pass {
    shift: u32,
    digits: usize,
    tiles: usize,
    size: usize,
}

/// Scratch memory being laid out.
#[derive(Default)]
struct Scratch {
    words: usize,
}

impl Scratch {
    fn take(&mut self, words: usize) -> Memory {
        let offset = self.words;
        self.words += words.next_multiple_of(64);
        Memory::Scratch { offset, words }
    }
}

/// Zeros, plus every slice of `x` at its index.
pub(super) fn scatter_add(axis: Axis, x: &Operand, indices: &Operand, y: &Operand, target: Target) -> Result<Prepared> {
    let bits = usize::BITS - axis.size.saturating_sub(1).leading_zeros();
    let passes = bits.div_ceil(DIGIT_BITS).max(1);
    let width = bits.div_ceil(passes);
    let (digits, tiles) = (1 << width, indices.numel.div_ceil(GROUP));
    let mut scratch = Scratch::default();
    let orders = [scratch.take(indices.numel), scratch.take(indices.numel)];
    let counts = scratch.take(digits * tiles);
    let sums = scratch.take((digits * tiles).div_ceil(CHUNK));
    let starts = scratch.take(axis.size + 1);
    let mut calls = Vec::new();
    let mut order = None;
    for pass in 0..passes {
        let sorted = orders[pass as usize % 2];
        let pass = Pass { shift: pass * width, digits, tiles, size: axis.size };
        calls.push(count(pass, indices, order, counts, target)?);
        calls.push(chunk_sums(digits * tiles, counts, sums, target)?);
        calls.push(running_sums(digits * tiles, counts, sums, target)?);
        calls.push(place(pass, indices, order, counts, sorted, target)?);
        order = Some(sorted);
    }
    let order = order.unwrap_or(orders[0]);
    calls.push(find_starts(axis.size, indices, order, starts, target)?);
    calls.extend(add_up(axis, x, indices, y, Some(Sorted { order, starts }), target)?);
    Ok(Prepared { calls, scratch: scratch.words, check: None })
}

/// Declares what a pass reads: `position(i)`, the i-th position as sorted so far, and `digit` of a position.
fn read<'a>(
    name: &'static str,
    pass: Pass,
    indices: &Operand,
    order: Option<Memory>,
    target: Target<'a>,
) -> Builder<'a> {
    let mut b = Builder::new(target.traits, name).masked();
    b.operand("indices", indices);
    b.value("count", indices.numel);
    b.value("size", pass.size);
    b.value("shift", pass.shift as usize);
    b.value("digits", pass.digits);
    b.value("tiles", pass.tiles);
    b.item(KEY);
    b.item("fn digit(i: u32) -> u32 { return (key(i) >> p.shift) & (p.digits - 1u); }");
    if let Some(order) = order {
        b.buffer("position", order, Type::U32);
    } else {
        b.item("fn position(i: u32) -> u32 { return i; }");
    }
    b
}

/// counts[digit, tile]: how many positions of a tile have a digit.
fn count(pass: Pass, indices: &Operand, order: Option<Memory>, counts: Memory, target: Target) -> Result<Call> {
    let mut b = read("sort_count", pass, indices, order, target);
    b.buffer("counts", counts, Type::U32);
    b.item("var<workgroup> bins: array<atomic<u32>, 256>;");
    let main = "atomicStore(&bins[local], 0u);
workgroupBarrier();
let i = group() * 256u + local;
if (i < p.count) { atomicAdd(&bins[digit(position(i))], 1u); }
workgroupBarrier();
if (local < p.digits && group() < p.tiles) { counts_set(local * p.tiles + group(), atomicLoad(&bins[local])); }";
    b.finish(GROUP as u32, [pass.tiles, 1, 1], main)
}

/// The sum of every chunk of counts.
fn chunk_sums(length: usize, counts: Memory, sums: Memory, target: Target) -> Result<Call> {
    let mut b = Builder::new(target.traits, "sort_chunk_sums").masked();
    b.buffer("counts", counts, Type::U32);
    b.buffer("sums", sums, Type::U32);
    b.value("count", length);
    b.item("var<workgroup> total: atomic<u32>;");
    let main = format!(
        "if (local == 0u) {{ atomicStore(&total, 0u); }}
workgroupBarrier();
var own = 0u;
for (var n = 0u; n < 8u; n++) {{
  let i = group() * {CHUNK}u + n * 256u + local;
  if (i < p.count) {{ own += counts(i); }}
}}
atomicAdd(&total, own);
workgroupBarrier();
if (local == 0u && group() * {CHUNK}u < p.count) {{ sums_set(group(), atomicLoad(&total)); }}"
    );
    b.finish(GROUP as u32, [length.div_ceil(CHUNK), 1, 1], &main)
}

/// Every count becomes the sum of those before it.
fn running_sums(length: usize, counts: Memory, sums: Memory, target: Target) -> Result<Call> {
    let mut b = Builder::new(target.traits, "sort_running_sums").masked();
    b.buffer("counts", counts, Type::U32);
    b.buffer("sums", sums, Type::U32);
    b.value("count", length);
    b.item("var<workgroup> before: atomic<u32>;\nvar<workgroup> lanes: array<u32, 256>;");
    let mut main = format!(
        "if (local == 0u) {{ atomicStore(&before, 0u); }}
workgroupBarrier();
var earlier = 0u;
for (var i = local; i < group() && i * {CHUNK}u < p.count; i += 256u) {{ earlier += sums(i); }}
atomicAdd(&before, earlier);
let begin = group() * {CHUNK}u + local * 8u;
let end = min(begin + 8u, p.count);
var own = 0u;
for (var i = begin; i < end; i++) {{ own += counts(i); }}
lanes[local] = own;
workgroupBarrier();
var left = 0u;
"
    );
    for distance in [1, 2, 4, 8, 16, 32, 64, 128] {
        let _ = write!(
            main,
            "left = 0u;
if (local >= {distance}u) {{ left = lanes[local - {distance}u]; }}
workgroupBarrier();
lanes[local] += left;
workgroupBarrier();
"
        );
    }
    main += "var running = atomicLoad(&before) + lanes[local] - own;
for (var i = begin; i < end; i++) { let next = counts(i); counts_set(i, running); running += next; }";
    b.finish(GROUP as u32, [length.div_ceil(CHUNK), 1, 1], &main)
}

/// Puts the positions of every tile in their places.
fn place(
    pass: Pass,
    indices: &Operand,
    order: Option<Memory>,
    counts: Memory,
    sorted: Memory,
    target: Target,
) -> Result<Call> {
    let mut b = read("sort_place", pass, indices, order, target);
    b.buffer("counts", counts, Type::U32);
    b.buffer("sorted", sorted, Type::U32);
    b.item("var<workgroup> tile: array<u32, 256>;");
    let main = "let i = group() * 256u + local;
var own = p.digits;
var from_position = 0u;
if (i < p.count) { from_position = position(i); own = digit(from_position); }
tile[local] = own;
workgroupBarrier();
if (i < p.count) {
  var rank = counts(own * p.tiles + group());
  for (var k = 0u; k < local; k++) { rank += u32(tile[k] == own); }
  sorted_set(rank, from_position);
}";
    b.finish(GROUP as u32, [pass.tiles, 1, 1], main)
}

/// starts[d]: how many positions have an index below d.
fn find_starts(size: usize, indices: &Operand, order: Memory, starts: Memory, target: Target) -> Result<Call> {
    let mut b = Builder::new(target.traits, "sort_starts").masked();
    b.operand("indices", indices);
    b.buffer("order", order, Type::U32);
    b.buffer("starts", starts, Type::U32);
    b.value("count", indices.numel);
    b.value("size", size);
    b.item(KEY);
    let main = "let i = group() * 256u + local;
if (i > p.size) { return; }
var low = 0u;
var high = p.count;
while (low < high) {
  let middle = (low + high) / 2u;
  if (key(order(middle)) < i) { low = middle + 1u; } else { high = middle; }
}
starts_set(i, low);";
    b.finish(GROUP as u32, [(size + 1).div_ceil(GROUP), 1, 1], main)
}
