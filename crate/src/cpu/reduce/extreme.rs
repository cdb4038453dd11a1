//! The largest and the smallest. Any order gives the same, so rows are folded over lanes and columns in place; a NaN wins,
//! and 0 is larger than −0.

use std::ops::Range;

use crate::cpu::elementwise::{Elements, Evaluation, Source};
use crate::cpu::share::{Shared, with_scratch};
use crate::cpu::{Cpu, math};
use crate::program::op::Middle;

/// Independent extremes per row, so that a vector register compares at once and latencies overlap.
const LANES: usize = 64;

/// Columns whose extremes stay in the first-level cache while the rows go by.
const STRIP: usize = 1024;

/// Rows below which an axis is not cut for more tasks.
const SHORTEST_PART: usize = 4096;

/// Elements that a chain computes at a time: 16 KiB.
const BATCH: usize = 4096;

/// Which one is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extreme {
    Largest,
    Smallest,
}

/// How words compare.
pub(super) trait Ordered {
    /// What is below, or above, everything.
    fn least(extreme: Extreme) -> u32;
    /// The winner of two.
    fn pick<const LARGEST: bool>(a: u32, b: u32) -> u32;
}

/// f32 bits; NaN wins.
pub(super) struct Floats;

impl Ordered for Floats {
    fn least(extreme: Extreme) -> u32 {
        match extreme {
            Extreme::Largest => f32::NEG_INFINITY.to_bits(),
            Extreme::Smallest => f32::INFINITY.to_bits(),
        }
    }

    #[inline(always)]
    fn pick<const LARGEST: bool>(a: u32, b: u32) -> u32 {
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        // Equal numbers have equal bits, but for 0 and −0: of those the sign decides, or the order would.
        match (x == y, LARGEST) {
            (true, true) => a & b,
            (true, false) => a | b,
            (false, true) => math::maximum(x, y).to_bits(),
            (false, false) => math::minimum(x, y).to_bits(),
        }
    }
}

/// i32.
pub(super) struct Integers;

impl Ordered for Integers {
    fn least(extreme: Extreme) -> u32 {
        match extreme {
            Extreme::Largest => i32::MIN as u32,
            Extreme::Smallest => i32::MAX as u32,
        }
    }

    #[inline(always)]
    fn pick<const LARGEST: bool>(a: u32, b: u32) -> u32 {
        let (a, b) = (a as i32, b as i32);
        (if LARGEST { a.max(b) } else { a.min(b) }) as u32
    }
}

/// What a task folds: results `columns` of outer index `outer` over the rows of `rows`.
pub(super) struct Unit {
    outer: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

/// Writes the extreme over the middle axis of `x` to `out`.
pub(super) fn reduce<T: Kernels>(cpu: &Cpu, axes: Middle, extreme: Extreme, x: Source, out: &mut [u32]) {
    let Middle { outer, count, inner } = axes;
    let strips = inner.div_ceil(STRIP);
    let picoseconds = x.len() as u64 * (100 + x.picoseconds());
    let most = count.div_ceil(SHORTEST_PART).max(1);
    // Few results over a long axis: cut the axis, then fold the parts.
    let parts = cpu.tasks(picoseconds, most * outer * strips).div_ceil(outer * strips).min(most);
    let units = outer * parts * strips;
    let unit = |index: usize| {
        let (part, strip) = (index / strips % parts, index % strips);
        Unit {
            outer: index / strips / parts,
            rows: count * part / parts..count * (part + 1) / parts,
            columns: strip * STRIP..((strip + 1) * STRIP).min(inner),
        }
    };
    let run = |out: &mut [u32]| {
        let shared = Shared::new(out);
        cpu.ranges(cpu.tasks(picoseconds, units), units, &|range| {
            x.open(cpu.isa, BATCH, |x| {
                for index in range {
                    let unit = unit(index);
                    let start = index / strips * inner;
                    // SAFETY: every unit has its own results.
                    let results = unsafe { shared.part(start + unit.columns.start..start + unit.columns.end) };
                    results.fill(T::least(extreme));
                    match x {
                        Elements::Words(x) => T::fold(cpu, extreme, axes, &unit, x, results),
                        Elements::Chain(chain) => fold_computed::<T>(cpu, extreme, axes, &unit, chain, results),
                    }
                }
            });
        });
    };
    if parts == 1 {
        return run(out);
    }
    with_scratch(outer * parts * inner, |partials| {
        run(partials);
        for (o, results) in out.chunks_exact_mut(inner).enumerate() {
            let axes = Middle { outer, count: parts, inner };
            let all = Unit { outer: o, rows: 0..parts, columns: 0..inner };
            results.fill(T::least(extreme));
            T::fold(cpu, extreme, axes, &all, partials, results);
        }
    });
}

/// Folds what a chain computes of the unit's part into `results`, some rows at a time.
fn fold_computed<T: Kernels>(
    cpu: &Cpu,
    extreme: Extreme,
    axes: Middle,
    unit: &Unit,
    chain: &Evaluation,
    results: &mut [u32],
) {
    let width = unit.columns.len();
    let at_once = (BATCH / width).clamp(1, unit.rows.len().max(1));
    with_scratch(at_once * width, |scratch| {
        for first in unit.rows.clone().step_by(at_once) {
            let rows = at_once.min(unit.rows.end - first);
            let block = &mut scratch[..rows * width];
            let start = (unit.outer * axes.count + first) * axes.inner + unit.columns.start;
            if width == axes.inner {
                chain.compute(start, block);
            } else {
                for (row, words) in block.chunks_exact_mut(width).enumerate() {
                    chain.compute(start + row * axes.inner, words);
                }
            }
            let axes = Middle { outer: 1, count: rows, inner: width };
            T::fold(cpu, extreme, axes, &Unit { outer: 0, rows: 0..rows, columns: 0..width }, block, results);
        }
    });
}

/// The loops of one type, instantiated per instruction set: [`dispatch!`](crate::dispatch) needs concrete types.
pub(super) trait Kernels: Ordered {
    /// Folds the unit's part of `x` into `results`.
    fn fold(cpu: &Cpu, extreme: Extreme, axes: Middle, unit: &Unit, x: &[u32], results: &mut [u32]);
}

macro_rules! kernels {
    ($type:ident) => {
        impl Kernels for $type {
            fn fold(cpu: &Cpu, extreme: Extreme, axes: Middle, unit: &Unit, x: &[u32], results: &mut [u32]) {
                crate::dispatch!(
                    cpu.isa,
                    fold::<$type>(
                        extreme: Extreme = extreme,
                        axes: Middle = axes,
                        unit: &Unit = unit,
                        x: &[u32] = x,
                        results: &mut [u32] = results
                    )
                );
            }
        }
    };
}

kernels!(Floats);
kernels!(Integers);

#[inline(always)]
fn fold<T: Ordered, const FMA: bool>(extreme: Extreme, axes: Middle, unit: &Unit, x: &[u32], results: &mut [u32]) {
    match extreme {
        Extreme::Largest => fold_rows::<T, true>(axes, unit, x, results),
        Extreme::Smallest => fold_rows::<T, false>(axes, unit, x, results),
    }
}

#[inline(always)]
fn fold_rows<T: Ordered, const LARGEST: bool>(axes: Middle, unit: &Unit, x: &[u32], results: &mut [u32]) {
    let base = unit.outer * axes.count;
    if axes.inner == 1 {
        let row = &x[base + unit.rows.start..base + unit.rows.end];
        results[0] = fold_row::<T, LARGEST>(row, results[0]);
        return;
    }
    if axes.inner <= LANES / 2 {
        let rows = &x[(base + unit.rows.start) * axes.inner..(base + unit.rows.end) * axes.inner];
        fold_narrow::<T, LARGEST>(rows, axes.inner, results);
        return;
    }
    for row in unit.rows.clone() {
        let start = (base + row) * axes.inner;
        let row = &x[start + unit.columns.start..start + unit.columns.end];
        for (result, &word) in results.iter_mut().zip(row) {
            *result = T::pick::<LARGEST>(*result, word);
        }
    }
}

/// Folds narrow rows, several of them side by side so that they fill vector registers.
#[inline(always)]
fn fold_narrow<T: Ordered, const LARGEST: bool>(rows: &[u32], inner: usize, results: &mut [u32]) {
    let width = LANES / inner * inner;
    let mut lanes = [0; LANES];
    let lanes = &mut lanes[..width];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = results[i % inner];
    }
    for words in rows.chunks(width) {
        for (lane, &word) in lanes.iter_mut().zip(words) {
            *lane = T::pick::<LARGEST>(*lane, word);
        }
    }
    for (i, &lane) in lanes.iter().enumerate() {
        results[i % inner] = T::pick::<LARGEST>(results[i % inner], lane);
    }
}

/// The extreme of `first` and a row.
#[inline(always)]
pub(super) fn fold_row<T: Ordered, const LARGEST: bool>(row: &[u32], first: u32) -> u32 {
    let mut lanes = [first; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for words in whole {
        for (lane, &word) in lanes.iter_mut().zip(words) {
            *lane = T::pick::<LARGEST>(*lane, word);
        }
    }
    for (lane, &word) in lanes.iter_mut().zip(rest) {
        *lane = T::pick::<LARGEST>(*lane, word);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = T::pick::<LARGEST>(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}
