//! Sums of f32 in a tree fixed by position.
//!
//! The reduced axis is cut into *lines* of consecutive positions: enough rows that a line has at least 32 elements, so that
//! short rows fill vector registers too. 32 lines make a *block*, added line by line (rows of one element) or four lines at
//! a time; block sums are combined pairwise, as a binary counter carries, and the rows inside a line last. Whatever is
//! missing at the end counts as zeros that are not added, so appended zeros change no bit. Subtrees of 2ᵏ blocks are
//! whole nodes of the tree: threads share the work by them without touching the order.
//!
//! Elements that a chain computes are computed block by block into scratch and summed from there.

use std::ops::Range;

use crate::cpu::Cpu;
use crate::cpu::elementwise::{Elements, Evaluation, Source};
use crate::cpu::lanes::fold;
use crate::cpu::share::{Shared, with_scratch};
use crate::program::op::Middle;

/// Elements of a line where rows have one element.
const LANES: usize = 32;

/// Lines that are added one after the other.
const BLOCK_LINES: usize = 32;

/// Levels of the tree: 2³¹ elements are fewer blocks than 2²².
const LEVELS: usize = 22;

/// Elements of a subtree that is worth being a task of its own.
const TASK_ELEMENTS: usize = 1 << 17;

/// Columns whose partial sums stay in the first-level cache together: 4 KiB.
const STRIP: usize = 1024;

/// Elements that a chain computes at a time, where blocks are shorter: 16 KiB.
const BATCH: usize = 4096;

/// What is summed.
#[derive(Clone, Copy)]
pub(in crate::cpu) enum Term<'a> {
    /// x.
    Value,
    /// x².
    Square,
    /// (x − c)², with one centre per result.
    SquaredDeviation(&'a [u32]),
}

/// A term as the loops see it; `centre` is meaningful for deviations only.
trait Summand: Copy {
    fn of(x: f32, centre: f32) -> f32;
}

#[derive(Clone, Copy)]
struct Value;
#[derive(Clone, Copy)]
struct Square;
#[derive(Clone, Copy)]
struct SquaredDeviation;

impl Summand for Value {
    #[inline(always)]
    fn of(x: f32, _: f32) -> f32 {
        x
    }
}

impl Summand for Square {
    #[inline(always)]
    fn of(x: f32, _: f32) -> f32 {
        x * x
    }
}

impl Summand for SquaredDeviation {
    #[inline(always)]
    fn of(x: f32, centre: f32) -> f32 {
        (x - centre) * (x - centre)
    }
}

/// Sums `x` over the middle axis into `out`. Of what a chain computes there are no terms but the values.
pub(in crate::cpu) fn sums(cpu: &Cpu, x: Source, axes: Middle, term: Term<'_>, out: &mut [u32]) {
    let Middle { outer, count, inner } = axes;
    if inner == 1 && count <= LANES * BLOCK_LINES {
        return short_rows(cpu, x, count, term, &mut out[..outer]);
    }
    let lines = Lines::new(count, inner);
    let strips = inner.div_ceil(STRIP);
    // Subtrees per result: 1 unless the axis is long.
    let subtree = lines.subtree();
    let subtrees = lines.count.div_ceil(subtree).max(1);
    let units = outer * strips * subtrees;
    let tasks = cpu.tasks(x.len() as u64 * (60 + x.picoseconds()), units);
    if subtrees == 1 {
        let out = Shared::new(out);
        cpu.ranges(tasks, units, &|units| {
            x.open(cpu.isa, lines.batch(), |x| {
                for unit in units {
                    let (o, columns) = (unit / strips, lines.columns(unit % strips));
                    // SAFETY: every unit is another row or strip of the result.
                    let sums = unsafe { out.part(o * inner + columns.start..o * inner + columns.end) };
                    lines.sum(cpu, x, o, columns, term, 0..lines.count, |line| lines.fold(line, sums));
                }
            });
        });
        return;
    }
    let width = lines.width();
    with_scratch(outer * subtrees * width, |partials| {
        let shared = Shared::new(partials);
        cpu.ranges(tasks, units, &|units| {
            x.open(cpu.isa, lines.batch(), |x| {
                for unit in units {
                    let (o, strip, tree) = (unit / subtrees / strips, unit / subtrees % strips, unit % subtrees);
                    let columns = lines.columns(strip);
                    let start = (o * subtrees + tree) * width + columns.start * lines.rows;
                    // SAFETY: every unit has its own part of the partial sums.
                    let partial = unsafe { shared.part(start..start + columns.len() * lines.rows) };
                    let range = tree * subtree..((tree + 1) * subtree).min(lines.count);
                    lines.sum(cpu, x, o, columns, term, range, |line| write(line, partial));
                }
            });
        });
        for (sums, partials) in out.chunks_exact_mut(inner).zip(partials.chunks_exact(subtrees * width)) {
            with_scratch(Tree::words(width), |scratch| {
                let mut tree = Tree::new(scratch, width);
                for partial in partials.chunks_exact(width) {
                    tree.current().copy_from_slice(partial);
                    tree.push();
                }
                lines.fold(tree.finish(), sums);
            });
        }
    });
}

/// Rows of one block each: the tree without its administration.
fn short_rows(cpu: &Cpu, x: Source, count: usize, term: Term<'_>, out: &mut [u32]) {
    let rows = out.len();
    let out = Shared::new(out);
    let add = |x: &[u32], centres: &[u32], sums: &mut [u32]| {
        crate::dispatch!(
            cpu.isa,
            sum_rows(
                x: &[u32] = x,
                count: usize = count,
                centres: &[u32] = centres,
                term: Term<'_> = term,
                sums: &mut [u32] = sums
            )
        );
    };
    cpu.ranges(cpu.tasks(x.len() as u64 * (60 + x.picoseconds()), rows), rows, &|range| {
        // SAFETY: ranges of rows are disjoint.
        let sums = unsafe { out.part(range.clone()) };
        x.open(cpu.isa, BATCH, |x| match x {
            Elements::Words(x) => {
                let centres = match term {
                    Term::SquaredDeviation(centres) => &centres[range.clone()],
                    _ => &[],
                };
                add(&x[range.start * count..range.end * count], centres, sums);
            }
            Elements::Chain(chain) => {
                let batch = (BATCH / count.max(1)).max(1);
                with_scratch(batch.min(sums.len()) * count, |scratch| {
                    for (i, sums) in sums.chunks_mut(batch).enumerate() {
                        let x = &mut scratch[..sums.len() * count];
                        chain.compute((range.start + i * batch) * count, x);
                        add(x, &[], sums);
                    }
                });
            }
        });
    });
}

#[inline(always)]
fn sum_rows<const FMA: bool>(x: &[u32], count: usize, centres: &[u32], term: Term<'_>, sums: &mut [u32]) {
    for (row, sum) in sums.iter_mut().enumerate() {
        let x = &x[row * count..(row + 1) * count];
        let total = match term {
            Term::Value => fold(lanes::<Value>(x, [0.0; LANES])),
            Term::Square => fold(lanes::<Square>(x, [0.0; LANES])),
            Term::SquaredDeviation(_) => fold(lanes::<SquaredDeviation>(x, [f32::from_bits(centres[row]); LANES])),
        };
        *sum = total.to_bits();
    }
}

fn write(line: &[u32], to: &mut [u32]) {
    to.copy_from_slice(line);
}

/// How an axis of `count` rows of `inner` elements is cut into lines.
#[derive(Clone, Copy)]
struct Lines {
    /// Rows per line, a power of two.
    rows: usize,
    inner: usize,
    total_rows: usize,
    /// Number of lines; the last one may be shorter.
    count: usize,
}

impl Lines {
    fn new(total_rows: usize, inner: usize) -> Self {
        let rows = LANES.div_ceil(inner).next_power_of_two();
        Self { rows, inner, total_rows, count: total_rows.div_ceil(rows) }
    }

    /// Elements of a line, all strips together.
    fn width(self) -> usize {
        self.rows * self.inner
    }

    /// The columns of a strip. Lines of several rows are one strip.
    fn columns(self, strip: usize) -> Range<usize> {
        strip * STRIP..((strip + 1) * STRIP).min(self.inner)
    }

    /// Lines of a subtree: a power of two of blocks.
    fn subtree(self) -> usize {
        let columns = self.rows * self.inner.min(STRIP);
        (TASK_ELEMENTS / columns).next_power_of_two().max(BLOCK_LINES)
    }

    /// Elements that a chain is asked for at a time, at most: a block, or several short ones.
    fn batch(self) -> usize {
        self.rows * self.inner.min(STRIP) * BLOCK_LINES * self.blocks_at_once()
    }

    fn blocks_at_once(self) -> usize {
        (BATCH / (self.rows * self.inner.min(STRIP) * BLOCK_LINES)).max(1)
    }

    /// Sums the lines of `range`, which starts at a block, of result row `o`, and hands the sum to `take`.
    fn sum(
        self,
        cpu: &Cpu,
        x: Elements,
        o: usize,
        columns: Range<usize>,
        term: Term<'_>,
        range: Range<usize>,
        take: impl FnOnce(&mut [u32]),
    ) {
        let size = self.total_rows * self.inner;
        let first = range.start * self.width() + columns.start;
        let end = (range.end * self.width()).min(size);
        let width = columns.len() * self.rows;
        // One spare line for the centres, repeated for every row of a line.
        with_scratch(Tree::words(width) + width, |scratch| {
            let (centres, scratch) = scratch.split_at_mut(width);
            if let Term::SquaredDeviation(all) = term {
                let own = &all[o * self.inner..][columns.clone()];
                centres.chunks_exact_mut(own.len()).for_each(|row| row.copy_from_slice(own));
            }
            let centres = &*centres;
            let mut tree = Tree::new(scratch, width);
            let mut add = |x: &[u32], stride: usize| {
                let tree = &mut tree;
                crate::dispatch!(
                    cpu.isa,
                    add_lines(
                        x: &[u32] = x,
                        stride: usize = stride,
                        centres: &[u32] = centres,
                        term: Term<'_> = term,
                        tree: &mut Tree = tree
                    )
                );
            };
            match x {
                Elements::Words(x) => add(x[o * size..(o + 1) * size].get(first..end).unwrap_or(&[]), self.width()),
                Elements::Chain(chain) => with_scratch(self.batch(), |block| {
                    let at_once = BLOCK_LINES * self.blocks_at_once();
                    for start in range.clone().step_by(at_once) {
                        let lines = start..(start + at_once).min(range.end);
                        add(self.compute(chain, o, &columns, lines, block), width);
                    }
                }),
            }
            take(tree.finish());
        });
    }

    /// The columns of lines of result row `o`, one line after the other.
    fn compute<'b>(
        self,
        chain: &Evaluation,
        o: usize,
        columns: &Range<usize>,
        lines: Range<usize>,
        block: &'b mut [u32],
    ) -> &'b [u32] {
        let size = self.total_rows * self.inner;
        let start = lines.start * self.width();
        if columns.len() == self.inner {
            let block = &mut block[..(lines.end * self.width()).min(size) - start];
            chain.compute(o * size + start, block);
            return block;
        }
        // Several strips: lines are rows, of which each is cut.
        let block = &mut block[..lines.len() * columns.len()];
        for (line, words) in block.chunks_exact_mut(columns.len()).enumerate() {
            chain.compute(o * size + start + line * self.width() + columns.start, words);
        }
        block
    }

    /// Adds the rows inside a line, pairwise.
    fn fold(self, line: &mut [u32], out: &mut [u32]) {
        let inner = out.len();
        let mut rows = self.rows;
        while rows > 1 {
            rows /= 2;
            let (low, high) = line.split_at_mut(rows * inner);
            for (a, &b) in low.iter_mut().zip(&*high) {
                *a = (f32::from_bits(*a) + f32::from_bits(b)).to_bits();
            }
        }
        out.copy_from_slice(&line[..inner]);
    }
}

/// Sums of whole blocks, combined as a binary counter carries: `levels[k]` is the sum of 2ᵏ blocks.
struct Tree<'a> {
    current: &'a mut [u32],
    levels: &'a mut [u32],
    blocks: usize,
}

impl<'a> Tree<'a> {
    /// Scratch for lines of `width` elements.
    fn words(width: usize) -> usize {
        width * (LEVELS + 1)
    }

    fn new(scratch: &'a mut [u32], width: usize) -> Self {
        let (current, levels) = scratch.split_at_mut(width);
        current.fill(0);
        Self { current, levels, blocks: 0 }
    }

    /// Where the next block is summed.
    fn current(&mut self) -> &mut [u32] {
        self.current
    }

    /// Takes the block in `current` in.
    fn push(&mut self) {
        let mut carry = self.blocks;
        for level in self.levels.chunks_exact_mut(self.current.len()) {
            if carry & 1 == 0 {
                level.copy_from_slice(self.current);
                break;
            }
            add(self.current, level);
            carry >>= 1;
        }
        self.blocks += 1;
    }

    /// The sum of all blocks.
    fn finish(self) -> &'a mut [u32] {
        let mut first = true;
        for (k, level) in self.levels.chunks_exact(self.current.len()).enumerate() {
            if self.blocks >> k & 1 == 1 {
                if first {
                    self.current.copy_from_slice(level);
                } else {
                    add(self.current, level);
                }
                first = false;
            }
        }
        self.current
    }
}

fn add(to: &mut [u32], from: &[u32]) {
    for (a, &b) in to.iter_mut().zip(from) {
        *a = (f32::from_bits(b) + f32::from_bits(*a)).to_bits();
    }
}

#[inline(always)]
fn add_lines<const FMA: bool>(x: &[u32], stride: usize, centres: &[u32], term: Term<'_>, tree: &mut Tree) {
    match term {
        Term::Value => add_terms::<Value>(x, stride, centres, tree),
        Term::Square => add_terms::<Square>(x, stride, centres, tree),
        Term::SquaredDeviation(_) => add_terms::<SquaredDeviation>(x, stride, centres, tree),
    }
}

#[inline(always)]
fn add_terms<T: Summand>(x: &[u32], stride: usize, centres: &[u32], tree: &mut Tree) {
    let width = tree.current().len();
    for block in x.chunks(stride * BLOCK_LINES) {
        if let (LANES, LANES) = (width, stride) {
            lanes_block::<T>(block, centres, tree.current());
        } else {
            lines_block::<T>(block, stride, centres, tree.current());
        }
        tree.push();
    }
}

/// A block whose lines follow each other and fit registers: one sum per lane.
#[inline(always)]
fn lanes_block<T: Summand>(block: &[u32], centres: &[u32], sums: &mut [u32]) {
    let mut own = [0.0; LANES];
    for (own, &centre) in own.iter_mut().zip(centres) {
        *own = f32::from_bits(centre);
    }
    for (sum, lane) in sums.iter_mut().zip(lanes::<T>(block, own)) {
        *sum = lane.to_bits();
    }
}

#[inline(always)]
fn lanes<T: Summand>(x: &[u32], centres: [f32; LANES]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for line in whole {
        for i in 0..LANES {
            sums[i] += T::of(f32::from_bits(line[i]), centres[i]);
        }
    }
    for ((sum, &word), &centre) in sums.iter_mut().zip(rest).zip(&centres) {
        *sum += T::of(f32::from_bits(word), centre);
    }
    sums
}

/// A block of lines that begin `stride` apart; the last one may be shorter.
#[inline(always)]
fn lines_block<T: Summand>(block: &[u32], stride: usize, centres: &[u32], sums: &mut [u32]) {
    let width = sums.len();
    sums.fill(0);
    for group in block.chunks(4 * stride) {
        let mut lines = [&group[..0]; 4];
        for (line, words) in lines.iter_mut().zip(group.chunks(stride)) {
            *line = &words[..width.min(words.len())];
        }
        let [a, b, c, d] = lines;
        let full = [a, b, c, d].iter().filter(|line| line.len() == width).count();
        // A shorter line, if any, is the first one that is not full; what it lacks counts as zeros that are not added.
        let short = lines.get(full).map_or(0, |line| line.len());
        let (head, tail) = sums.split_at_mut(short);
        add_group::<T>(full + usize::from(short > 0), lines, 0, centres, head);
        add_group::<T>(full, lines, short, centres, tail);
    }
}

/// Adds columns `from..` of the first `lines` of four lines to `sums`.
#[inline(always)]
fn add_group<T: Summand>(lines: usize, group: [&[u32]; 4], from: usize, centres: &[u32], sums: &mut [u32]) {
    let n = sums.len();
    let centres = &centres[from..from + n];
    macro_rules! add {
        ($($line:ident),+ => $sum:expr) => {{
            let [$($line),+, ..] = group;
            $(let $line = &$line[from..from + n];)+
            for i in 0..n {
                let centre = f32::from_bits(centres[i]);
                $(let $line = T::of(f32::from_bits($line[i]), centre);)+
                sums[i] = (f32::from_bits(sums[i]) + $sum).to_bits();
            }
        }};
    }
    match lines {
        0 => {}
        1 => add!(a => a),
        2 => add!(a, b => a + b),
        3 => add!(a, b, c => (a + b) + c),
        _ => add!(a, b, c, d => (a + b) + (c + d)),
    }
}
