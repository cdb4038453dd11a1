//! The largest and the smallest (`order.rs`). Any order gives the same, so rows are folded over lanes and columns in place.
//!
//! What is short is folded many results at a time, and what a chain computes for it in batches of as many; a long axis,
//! or one of wide rows, goes by strips and parts.

use std::ops::Range;

use super::order::{Extreme, Floats, Integers, Ordered};
use crate::cpu::Cpu;
use crate::cpu::elementwise::{Elements, Evaluation, Source};
use crate::cpu::share::{Shared, with_scratch};
use crate::program::op::Middle;

/// Elements of narrow rows that are folded side by side.
const LANES: usize = 64;

/// Elements of a row, or vectors of rows, that are not worth the setting up of lanes.
const FEW: usize = 8;

/// Columns whose extremes stay in the first-level cache while the rows go by.
const STRIP: usize = 1024;

/// Rows below which an axis is not cut for more tasks.
const SHORTEST_PART: usize = 4096;

/// Elements that a chain computes at a time: 16 KiB.
const BATCH: usize = 4096;

/// What a task folds: results `columns` of outer index `outer` over the rows of `rows`.
pub(super) struct Unit {
    outer: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

/// Writes the extreme over the middle axis of `x` to `out`.
pub(super) fn reduce<T: Kernels>(cpu: &Cpu, axes: Middle, extreme: Extreme, x: Source, out: &mut [u32]) {
    let Middle { outer, count, inner } = axes;
    if (1..=BATCH).contains(&(count * inner)) {
        return short::<T>(cpu, axes, extreme, x, out);
    }
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

/// Several results' elements fit a batch: whole ones at a time.
fn short<T: Kernels>(cpu: &Cpu, axes: Middle, extreme: Extreme, x: Source, out: &mut [u32]) {
    let Middle { outer, count, inner } = axes;
    let size = count * inner;
    let shared = Shared::new(out);
    let tasks = cpu.tasks(x.len() as u64 * (100 + x.picoseconds()), outer);
    cpu.ranges(tasks, outer, &|range| {
        // SAFETY: ranges of outer indices are disjoint, so are their results.
        let results = unsafe { shared.part(range.start * inner..range.end * inner) };
        x.open(cpu.isa, BATCH, |x| match x {
            Elements::Words(x) => T::fold_each(cpu, extreme, axes, &x[range.start * size..range.end * size], results),
            Elements::Chain(chain) => {
                let batch = BATCH / size;
                with_scratch(batch.min(range.len()) * size, |scratch| {
                    for (i, results) in results.chunks_mut(batch * inner).enumerate() {
                        let x = &mut scratch[..results.len() * count];
                        chain.compute((range.start + i * batch) * size, x);
                        T::fold_each(cpu, extreme, axes, x, results);
                    }
                });
            }
        });
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
    /// Writes the extreme of as many outer indices as `x` holds.
    fn fold_each(cpu: &Cpu, extreme: Extreme, axes: Middle, x: &[u32], results: &mut [u32]);
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

            fn fold_each(cpu: &Cpu, extreme: Extreme, axes: Middle, x: &[u32], results: &mut [u32]) {
                crate::dispatch!(
                    cpu.isa,
                    fold_each::<$type>(
                        extreme: Extreme = extreme,
                        axes: Middle = axes,
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
fn fold_each<T: Ordered, const FMA: bool>(extreme: Extreme, axes: Middle, x: &[u32], results: &mut [u32]) {
    match extreme {
        Extreme::Largest => fold_each_of::<T, true>(axes, x, results),
        Extreme::Smallest => fold_each_of::<T, false>(axes, x, results),
    }
}

#[inline(always)]
fn fold_each_of<T: Ordered, const LARGEST: bool>(axes: Middle, x: &[u32], results: &mut [u32]) {
    let Middle { count, inner, .. } = axes;
    let size = count * inner;
    if inner == 1 {
        for (row, result) in x.chunks_exact(size).zip(results) {
            *result = match row {
                [first, rest @ ..] if count <= FEW => rest.iter().fold(*first, |a, &b| T::pick::<LARGEST>(a, b)),
                _ => T::of_row::<LARGEST>(row),
            };
        }
        return;
    }
    for (x, results) in x.chunks_exact(size).zip(results.chunks_exact_mut(inner)) {
        let (first, rest) = x.split_at(inner);
        results.copy_from_slice(first);
        if inner <= LANES / 2 && size > FEW * LANES {
            fold_narrow::<T, LARGEST>(rest, inner, results);
        } else {
            rest.chunks_exact(inner).for_each(|row| fold_columns::<T, LARGEST>(row, results));
        }
    }
}

#[inline(always)]
fn fold_rows<T: Ordered, const LARGEST: bool>(axes: Middle, unit: &Unit, x: &[u32], results: &mut [u32]) {
    let base = unit.outer * axes.count;
    if axes.inner == 1 {
        let row = &x[base + unit.rows.start..base + unit.rows.end];
        results[0] = T::pick::<LARGEST>(results[0], T::of_row::<LARGEST>(row));
        return;
    }
    if axes.inner <= LANES / 2 {
        let rows = &x[(base + unit.rows.start) * axes.inner..(base + unit.rows.end) * axes.inner];
        fold_narrow::<T, LARGEST>(rows, axes.inner, results);
        return;
    }
    let mut rows = unit.rows.clone();
    let row = |row: usize| {
        let start = (base + row) * axes.inner;
        &x[start + unit.columns.start..start + unit.columns.end]
    };
    while rows.len() >= 4 {
        // Four at a time: results are read and written a quarter as often.
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| row(rows.start + i));
        for ((((result, &a), &b), &c), &d) in results.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let best = T::pick::<LARGEST>(T::pick::<LARGEST>(a, b), T::pick::<LARGEST>(c, d));
            *result = T::pick::<LARGEST>(*result, best);
        }
        rows.start += 4;
    }
    for last in rows {
        fold_columns::<T, LARGEST>(row(last), results);
    }
}

#[inline(always)]
fn fold_columns<T: Ordered, const LARGEST: bool>(row: &[u32], results: &mut [u32]) {
    for (result, &word) in results.iter_mut().zip(row) {
        *result = T::pick::<LARGEST>(*result, word);
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
