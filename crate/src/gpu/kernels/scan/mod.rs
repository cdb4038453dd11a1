//! Running sums and products over the middle of `[outer, count, inner]`, from either end, with the element itself or without.
//!
//! A *line* is one of the `outer · inner` middles, cut into blocks by position, from its begin whichever way it is gone, one to
//! each invocation. Blocks are folded to their totals; the running totals are found the same way, until one block is left; then
//! each block runs from the total of what is before it. So errors grow with the length of a block for each level; what follows
//! changes no bit, nor, from the other end, does appended nothing, but for the sign of a zero.

#[cfg(test)]
mod tests;

use super::reduce::Scratch;
use super::shader::{Builder, Call, Memory, Type, Word};
use super::{Prepared, Target, input, output};
use crate::dtype::Dtype;
use crate::error::Result;
use crate::plan::Kernel;
use crate::program::op::{Middle, Scan, ScanOp};

/// Elements of a block.
const BLOCK: usize = 32;

/// Invocations of a workgroup.
const SIZE: usize = 64;

/// Lines of one level.
#[derive(Clone, Copy)]
struct Level<'a> {
    /// What is done; those above the first take everything.
    of: Scan,
    dtype: Dtype,
    x: Memory,
    target: Target<'a>,
}

/// `[x]` → y.
pub(super) fn prepare(kernel: &Kernel, of: Scan, target: Target) -> Result<Prepared> {
    let (x, y) = (input(kernel, 0)?, output(kernel, 0)?);
    let mut scratch = Scratch::default();
    let mut calls = Vec::new();
    if y.numel > 0 {
        let level = Level { of, dtype: x.dtype, x: Memory::Operand(*x), target };
        level.run(Memory::Operand(*y), &mut scratch, &mut calls)?;
    }
    Ok(Prepared { calls, scratch: scratch.words, check: None })
}

impl Level<'_> {
    /// The calls that write the running sums or products to `y`.
    fn run(self, y: Memory, scratch: &mut Scratch, calls: &mut Vec<Call>) -> Result<()> {
        let Middle { outer, count, inner } = self.of.axes;
        let (lines, blocks) = (outer * inner, count.div_ceil(BLOCK));
        let mut before = None;
        if blocks > 1 {
            let [totals, running] = [(), ()].map(|()| scratch.take(lines * blocks));
            calls.push(self.fold(totals)?);
            let axes = Middle { outer: lines, count: blocks, inner: 1 };
            let of = Scan { axes, exclusive: false, ..self.of };
            Level { of, x: totals, ..self }.run(running, scratch, calls)?;
            before = Some(running);
        }
        calls.push(self.walk(y, before)?);
        Ok(())
    }

    /// A shader that knows x, `join`, and where an invocation stands: its block, of which line, from where to where.
    fn begin(&self, name: &'static str) -> (Builder<'_>, usize, String) {
        let Middle { outer, count, inner } = self.of.axes;
        let blocks = count.div_ceil(BLOCK);
        let tasks = outer * inner * blocks;
        let mut b = Builder::new(self.target.traits, name).masked();
        let (ty, neutral) = match (self.dtype, self.of.kind) {
            (Dtype::F32, ScanOp::Sum) => (Type::F32, 0),
            (Dtype::F32, ScanOp::Product) => (Type::F32, 1.0f32.to_bits()),
            (_, ScanOp::Sum) => (Type::U32, 0),
            (_, ScanOp::Product) => (Type::U32, 1),
        };
        b.buffer("x", self.x, ty);
        b.value("count", count);
        b.value("inner", inner);
        b.value("blocks", blocks);
        b.value("tasks", tasks);
        b.word("neutral", ty.name(), Word::Value(neutral));
        let (ty, sign) = (ty.name(), if self.of.kind == ScanOp::Sum { "+" } else { "*" });
        b.item(&format!("fn join(a: {ty}, b: {ty}) -> {ty} {{ return a {sign} b; }}"));
        // Neighbouring invocations have neighbouring columns, or blocks where there is one column.
        b.item(
            "fn place(line: u32, i: u32) -> u32 { return (line / p.inner * p.count + i) * p.inner + line % p.inner; }",
        );
        let begin = format!(
            "let task = group() * {SIZE}u + local;
if (task >= p.tasks) {{ return; }}
let block = task / p.inner % p.blocks;
let line = task / p.inner / p.blocks * p.inner + task % p.inner;
let begin = block * {BLOCK}u;
let end = min(begin + {BLOCK}u, p.count);
let size = end - begin;
var inside = x({});",
            self.place("0u")
        );
        (b, tasks, begin)
    }

    /// Where number `k` of a block is, in the order of the scan.
    fn place(&self, k: &str) -> String {
        if self.of.reverse { format!("place(line, end - 1u - {k})") } else { format!("place(line, begin + {k})") }
    }

    /// totals[line, block]: all of a block.
    fn fold(&self, totals: Memory) -> Result<Call> {
        let (mut b, tasks, begin) = self.begin("scan_fold");
        b.buffer("totals", totals, self.ty());
        let main = format!(
            "{begin}
for (var k = 1u; k < size; k++) {{ inside = join(inside, x({})); }}
totals_set(line * p.blocks + block, inside);",
            self.place("k")
        );
        b.finish(SIZE as u32, [tasks.div_ceil(SIZE), 1, 1], &main)
    }

    /// Every block of y, from the running totals of all blocks if there are several.
    fn walk(&self, y: Memory, before: Option<Memory>) -> Result<Call> {
        let (mut b, tasks, begin) = self.begin("scan_walk");
        b.buffer("y", y, self.ty());
        let (mut offset, mut so) = ("", "inside");
        if let Some(before) = before {
            b.buffer("before", before, self.ty());
            // Of the first block nothing is before: what is not there is not joined, or −0 would lose its sign.
            offset = if self.of.reverse {
                "let has = block + 1u < p.blocks;\nif (has) { offset = before(line * p.blocks + block + 1u); }"
            } else {
                "let has = block > 0u;\nif (has) { offset = before(line * p.blocks + block - 1u); }"
            };
            so = "select(inside, join(offset, inside), has)";
        }
        let (first, last) = if self.of.exclusive { ("last", "last = next;") } else { ("next", "") };
        let main = format!(
            "{begin}
var offset = p.neutral;
{offset}
var last = offset;
var next = {so};
y_set({}, {first});
{last}
for (var k = 1u; k < size; k++) {{
  let at = {};
  inside = join(inside, x(at));
  next = {so};
  y_set(at, {first});
  {last}
}}",
            self.place("0u"),
            self.place("k")
        );
        b.finish(SIZE as u32, [tasks.div_ceil(SIZE), 1, 1], &main)
    }

    fn ty(&self) -> Type {
        if self.dtype == Dtype::F32 { Type::F32 } else { Type::U32 }
    }
}
