//! The largest elements over the middle of `[outer, count, inner]`, sorted, with where they stand.
//!
//! An element and its index are a *rank*: of two, the lower comes first, and no two are equal. A *line* is one of the
//! `outer · inner` middles. Its tiles are sorted in workgroup memory, by a bitonic network; what could be among the `k` first
//! of each is a *run*. Neighbouring runs are merged, an invocation for each rank, which counts by bisection how many of the
//! other run come before it. Nothing depends on other lines or on the adapter, and any length is legal.

#[cfg(test)]
mod tests;

use std::iter::successors;

use super::shader::{Builder, Call, Memory, Type};
use super::{Prepared, Target, input, output};
use crate::dtype::Dtype;
use crate::error::Result;
use crate::plan::{Kernel, Operand};
use crate::program::op::Middle;

/// Elements of a tile: with their indices half of the workgroup memory that every adapter has.
const TILE: usize = 1024;

/// Elements that a workgroup holds at least, of several lines where these are short.
const LEAST: usize = 256;

/// Most invocations of a workgroup.
const SIZE: usize = 256;

/// `before`: whether a rank comes before another.
const BEFORE: &str = "fn before(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x < b.x || (a.x == b.x && a.y < b.y); }";

/// Runs of all lines in scratch memory, side by side and all as long as the longest.
#[derive(Clone, Copy)]
struct Runs {
    /// First words of ranks.
    late: Memory,
    /// The second ones.
    index: Memory,
    /// How many a line has.
    each: usize,
    /// Elements of x that a run is about.
    span: usize,
    /// Ranks of a run, but for the last of a line, which may be about less.
    width: usize,
}

/// One instruction.
#[derive(Clone, Copy)]
struct Task<'a> {
    axes: Middle,
    k: usize,
    x: &'a Operand,
    to: [&'a Operand; 3],
    target: Target<'a>,
}

/// `[x]` → elements, indices, places.
pub(super) fn prepare(kernel: &Kernel, axes: Middle, k: usize, target: Target) -> Result<Prepared> {
    let x = input(kernel, 0)?;
    let to = [output(kernel, 0)?, output(kernel, 1)?, output(kernel, 2)?];
    if to[0].numel == 0 {
        return Ok(Prepared::default());
    }
    let task = Task { axes, k, x, to, target };
    let tile = axes.count.next_power_of_two().min(TILE);
    let spans = successors(Some(tile), |span| Some(2 * span)).take_while(|&span| span < axes.count);
    let words = spans.map(|span| task.lines() * axes.count.div_ceil(span) * k.min(span)).max().unwrap_or(0);
    let mut scratch = 0;
    let mut take = || {
        let offset = scratch;
        scratch += words.next_multiple_of(64);
        Memory::Scratch { offset, words }
    };
    // Two places in turn: what a merge reads, and what it writes.
    let mut places = [(take(), take()), (take(), take())];
    let mut runs_of = |span: usize| {
        places.swap(0, 1);
        let (late, index) = places[0];
        (span < axes.count).then(|| Runs { late, index, each: axes.count.div_ceil(span), span, width: k.min(span) })
    };
    let mut found = runs_of(tile);
    let mut calls = vec![task.sort(tile, found)?];
    while let Some(from) = found {
        found = runs_of(2 * from.span);
        calls.push(task.merge(from, found)?);
    }
    Ok(Prepared { calls, scratch, check: None })
}

impl Task<'_> {
    fn lines(&self) -> usize {
        self.axes.outer * self.axes.inner
    }

    /// A shader that knows x and `put(line, run, place, rank)`, which writes to runs, or if there are none to the results.
    fn begin(&self, name: &'static str, to: Option<Runs>) -> Builder<'_> {
        let mut b = Builder::new(self.target.traits, name).masked();
        b.value("count", self.axes.count);
        b.value("inner", self.axes.inner);
        b.item(BEFORE);
        if let Some(Runs { late, index, each, width, .. }) = to {
            b.buffer("late_to", late, Type::U32);
            b.buffer("index_to", index, Type::U32);
            b.value("keep", width);
            b.value("runs_to", each);
            b.item(
                "fn put(line: u32, run: u32, place: u32, rank: vec2<u32>) {
  let at = (line * p.runs_to + run) * p.keep + place;
  late_to_set(at, rank.x);
  index_to_set(at, rank.y);
}",
            );
        } else {
            for (name, operand) in ["values", "indices", "places"].into_iter().zip(self.to) {
                b.buffer(name, Memory::Operand(*operand), Type::U32);
            }
            b.value("keep", self.k);
            b.item(
                "fn put(line: u32, run: u32, place: u32, rank: vec2<u32>) {
  let block = line / p.inner;
  let column = line % p.inner;
  let at = (block * p.keep + place) * p.inner + column;
  let origin = (block * p.count + rank.y) * p.inner + column;
  values_set(at, x(origin));
  indices_set(at, rank.y);
  places_set(at, origin);
}",
            );
        }
        b
    }

    /// Sorts the tiles of all lines.
    fn sort(&self, tile: usize, to: Option<Runs>) -> Result<Call> {
        let held = tile.max(LEAST);
        let size = (held / 2).min(SIZE);
        let tiles = self.axes.count.div_ceil(tile);
        let units = self.lines() * tiles;
        let mut b = self.begin("top_k_sort", to);
        b.buffer("x", Memory::Operand(*self.x), Type::U32);
        b.value("units", units);
        b.value("tiles", tiles);
        b.item(late(self.x.dtype));
        b.item(&format!(
            "var<workgroup> ranks: array<vec2<u32>, {held}>;
fn arrange(a: u32, b: u32) {{
  let first = ranks[a];
  let second = ranks[b];
  if (before(second, first)) {{
    ranks[a] = second;
    ranks[b] = first;
  }}
}}"
        ));
        // Blocks of twice the size from sorted halves: the second half is seen from its end, then halves of halves.
        let main = format!(
            "for (var i = local; i < {held}u; i += {size}u) {{
  let unit = group() * {each}u + i / {tile}u;
  let index = unit % p.tiles * {tile}u + i % {tile}u;
  // What is not there comes behind all that is.
  var rank = vec2<u32>(0xffffffffu, index);
  if (unit < p.units && index < p.count) {{
    let line = unit / p.tiles;
    rank.x = late(x((line / p.inner * p.count + index) * p.inner + line % p.inner));
  }}
  ranks[i] = rank;
}}
workgroupBarrier();
for (var block = 2u; block <= {tile}u; block *= 2u) {{
  let half = block / 2u;
  for (var i = local; i < {pairs}u; i += {size}u) {{
    let begin = i / half * block;
    arrange(begin + i % half, begin + block - 1u - i % half);
  }}
  workgroupBarrier();
  for (var distance = half / 2u; distance > 0u; distance /= 2u) {{
    for (var i = local; i < {pairs}u; i += {size}u) {{
      let first = i / distance * distance * 2u + i % distance;
      arrange(first, first + distance);
    }}
    workgroupBarrier();
  }}
}}
for (var i = local; i < {held}u; i += {size}u) {{
  let unit = group() * {each}u + i / {tile}u;
  let place = i % {tile}u;
  let run = unit % p.tiles;
  if (unit < p.units && place < p.keep && run * {tile}u + place < p.count) {{ put(unit / p.tiles, run, place, ranks[i]); }}
}}",
            each = held / tile,
            pairs = held / 2,
        );
        b.finish(size as u32, [units.div_ceil(held / tile), 1, 1], &main)
    }

    /// Merges each two neighbouring runs.
    fn merge(&self, from: Runs, to: Option<Runs>) -> Result<Call> {
        let ranks = self.lines() * from.each * from.width;
        let mut b = self.begin("top_k_merge", to);
        if to.is_none() {
            b.buffer("x", Memory::Operand(*self.x), Type::U32);
        }
        b.buffer("late", from.late, Type::U32);
        b.buffer("index", from.index, Type::U32);
        b.value("ranks", ranks);
        b.value("runs", from.each);
        b.value("span", from.span);
        b.value("width", from.width);
        b.item(
            "fn rank(i: u32) -> vec2<u32> { return vec2<u32>(late(i), index(i)); }
fn extent(run: u32) -> u32 { return min(p.width, p.count - run * p.span); }",
        );
        let main = format!(
            "let i = group() * {SIZE}u + local;
if (i >= p.ranks) {{ return; }}
let line = i / p.width / p.runs;
let run = i / p.width % p.runs;
var place = i % p.width;
if (place >= extent(run)) {{ return; }}
let mine = rank(i);
let other = run ^ 1u;
if (other < p.runs) {{
  let begin = (line * p.runs + other) * p.width;
  var low = 0u;
  var high = extent(other);
  while (low < high) {{
    let middle = (low + high) / 2u;
    if (before(rank(begin + middle), mine)) {{ low = middle + 1u; }} else {{ high = middle; }}
  }}
  place += low;
}}
if (place < p.keep) {{ put(line, run / 2u, place, mine); }}"
        );
        b.finish(SIZE as u32, [ranks.div_ceil(SIZE), 1, 1], &main)
    }
}

/// `late`: a number that is lower for larger elements, and equal for equal ones; NaN before everything.
fn late(dtype: Dtype) -> &'static str {
    if dtype == Dtype::F32 {
        "fn late(bits: u32) -> u32 {
  let b = select(bits, 0u, bits == 0x80000000u);
  let k = select(b ^ 0x7fffffffu, b, b >= 0x80000000u);
  return select(k, 0u, (b & 0x7fffffffu) > 0x7f800000u);
}"
    } else {
        "fn late(bits: u32) -> u32 { return bits ^ 0x7fffffffu; }"
    }
}
