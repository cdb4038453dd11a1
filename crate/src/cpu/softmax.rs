//! Softmax and its logarithm over the middle of `[outer, count, inner]`, forward and backward.
//!
//! m = max x, e = exp(x − m), s = Σe: y = e/s, or x − m − ln s. Backward, softmax: dx = y ⊙ (dy − Σ dy⊙y); log-softmax:
//! dx = dy − exp(y)·Σdy. A row is read from memory once and stays in the first-level cache for the rest; where `inner` > 1
//! the same is done for a strip of columns. Sums go by position (32 lanes, then a tree), so −∞ appended to a row
//! changes no bit of it. NaN, and a row of −∞ only, give NaN.

#[cfg(test)]
mod tests;

use super::elementwise::{Elements, Source};
use super::gemm::Then;
use super::lanes::fold;
use super::share::{Shared, floats, with_scratch, words};
use super::{Cpu, math};
use crate::program::op::Middle;

/// Independent sums per row.
const LANES: usize = 32;

/// Elements of a row that are summed before their sums join the totals, so that errors hardly grow with the length.
const BLOCK: usize = 2048;

/// The same for columns.
const BLOCK_ROWS: usize = 64;

/// Columns that are worked on together.
const STRIP: usize = 256;

/// y ← softmax(x), or its logarithm.
pub fn softmax(cpu: &Cpu, log: bool, axes: Middle, x: &[f32], y: &mut [f32]) {
    softmax_between(cpu, log, axes, Source::Words(words(x)), y, None);
}

/// dx from dy and the result y of the forward operation.
pub fn softmax_grad(cpu: &Cpu, log: bool, axes: Middle, dy: &[f32], y: &[f32], dx: &mut [f32]) {
    softmax_grad_between(cpu, log, axes, Source::Words(words(dy)), y, dx, None);
}

/// The same between chains: of what one computes, and with `then` for every finished part. Both go with rows alone,
/// `inner` = 1.
pub(in crate::cpu) fn softmax_between(
    cpu: &Cpu,
    log: bool,
    axes: Middle,
    x: Source,
    y: &mut [f32],
    then: Option<&Then>,
) {
    by_parts(cpu, axes, 700, x, y, then, &|place, x, y| {
        crate::dispatch!(
            cpu.isa,
            forward(log: bool = log, place: Strip = place, x: &[f32] = x, y: &mut [f32] = y)
        );
    });
}

/// The same backward: dy may be computed.
pub(in crate::cpu) fn softmax_grad_between(
    cpu: &Cpu,
    log: bool,
    axes: Middle,
    dy: Source,
    y: &[f32],
    dx: &mut [f32],
    then: Option<&Then>,
) {
    by_parts(cpu, axes, if log { 700 } else { 300 }, dy, dx, then, &|place, dy, dx| {
        let y = &y[place.start..place.start + dx.len()];
        crate::dispatch!(
            cpu.isa,
            backward(log: bool = log, place: Strip = place, dy: &[f32] = dy, y: &[f32] = y, dx: &mut [f32] = dx)
        );
    });
}

/// Elements of rows that are worked on together: what a chain computes of them stays in the first-level cache, and so does
/// what another takes over.
const BATCH: usize = 4096;

/// Works on a part: where it lies, its elements, and its results.
type Body<'a> = dyn Fn(Strip, &[f32], &mut [f32]) + Sync + 'a;

/// Calls `body` with every part of `x` and `out`, on several threads if that is worth it, and `then` behind it.
fn by_parts(cpu: &Cpu, axes: Middle, picoseconds: u64, x: Source, out: &mut [f32], then: Option<&Then>, body: &Body) {
    let Middle { outer, count, inner } = axes;
    match x {
        _ if outer * count * inner == 0 => {}
        Source::Words(x) if inner > 1 => over_strips(cpu, axes, out, picoseconds, &|place, out| {
            body(place, floats(&x[place.start..place.start + out.len()]), out);
        }),
        _ => by_rows(cpu, (outer, count), picoseconds + x.picoseconds(), x, out, then, body),
    }
}

/// The same for rows.
fn by_rows(
    cpu: &Cpu,
    (outer, count): (usize, usize),
    picoseconds: u64,
    x: Source,
    out: &mut [f32],
    then: Option<&Then>,
    body: &Body,
) {
    let batch = (BATCH / count).max(1);
    let shared = Shared::new(out);
    cpu.ranges(cpu.tasks((outer * count) as u64 * picoseconds, outer), outer, &|rows| {
        // SAFETY: ranges of rows are disjoint.
        let out = unsafe { shared.part(rows.start * count..rows.end * count) };
        let computed = if let Source::Chain(_) = x { batch.min(rows.len()) * count } else { 0 };
        x.open(cpu.isa, BATCH, |x| {
            with_scratch(computed, |scratch| {
                for (i, out) in out.chunks_mut(batch * count).enumerate() {
                    let start = (rows.start + i * batch) * count;
                    let x = match x {
                        Elements::Words(x) => &x[start..start + out.len()],
                        Elements::Chain(chain) => {
                            let x = &mut scratch[..out.len()];
                            chain.compute(start, x);
                            x
                        }
                    };
                    body(Strip { start, count, inner: 1, width: 1 }, floats(x), out);
                    if let Some(then) = then {
                        then(start, out);
                    }
                }
            });
        });
    });
}

/// A part of a tensor that one call of a kernel works on: whole rows, or one strip of columns.
#[derive(Clone, Copy)]
struct Strip {
    /// Where it begins in the tensor.
    start: usize,
    count: usize,
    inner: usize,
    /// Columns of the strip; `inner` when there is only one strip.
    width: usize,
}

/// Calls `body` with every strip of columns of `out` and where it lies, on several threads if that is worth it.
fn over_strips(cpu: &Cpu, axes: Middle, out: &mut [f32], picoseconds: u64, body: &(dyn Fn(Strip, &mut [f32]) + Sync)) {
    let Middle { outer, count, inner } = axes;
    let size = count * inner;
    let strips = inner.div_ceil(STRIP);
    let work = (outer * size) as u64 * picoseconds;
    let shared = Shared::new(out);
    if strips == 1 {
        cpu.ranges(cpu.tasks(work, outer), outer, &|range| {
            let start = range.start * size;
            // SAFETY: ranges of outer indices are disjoint.
            let out = unsafe { shared.part(start..range.end * size) };
            body(Strip { start, count, inner, width: inner }, out);
        });
        return;
    }
    // A strip's columns lie among those of other strips: only one task may hold the slice around them at a time.
    cpu.ranges(cpu.tasks(work, outer), outer, &|range| {
        for o in range {
            for strip in 0..strips {
                let first = strip * STRIP;
                let width = STRIP.min(inner - first);
                // SAFETY: ranges of outer indices are disjoint, and a task's strips come one after the other.
                let out = unsafe { shared.part(o * size + first..(o + 1) * size - (inner - first - width)) };
                body(Strip { start: o * size + first, count, inner, width }, out);
            }
        }
    });
}

#[inline(always)]
fn forward<const FMA: bool>(log: bool, place: Strip, x: &[f32], y: &mut [f32]) {
    match (place.inner, log) {
        (1, false) => rows::<FMA, false>(place.count, x, y),
        (1, true) => rows::<FMA, true>(place.count, x, y),
        (_, false) => columns::<FMA, false>(place, x, y),
        (_, true) => columns::<FMA, true>(place, x, y),
    }
}

#[inline(always)]
fn rows<const FMA: bool, const LOG: bool>(count: usize, x: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(count).zip(y.chunks_exact_mut(count)) {
        if LOG {
            let (max, log_sum) = max_and_log_sum::<FMA>(x);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - max) - log_sum;
            }
        } else {
            let max = row_max(x);
            let scale = 1.0 / exp_row::<FMA>(x, max, y);
            for y in y {
                *y *= scale;
            }
        }
    }
}

/// The largest of a row, and ln Σ exp(x − largest): also what the cross-entropy needs.
#[inline(always)]
pub(super) fn max_and_log_sum<const FMA: bool>(x: &[f32]) -> (f32, f32) {
    let max = row_max(x);
    let mut totals = [0.0; LANES];
    for x in x.chunks(BLOCK) {
        let mut sums = [0.0; LANES];
        let (whole, rest) = x.as_chunks::<LANES>();
        for x in whole {
            for i in 0..LANES {
                sums[i] += math::decay::<FMA>(x[i] - max);
            }
        }
        for (sum, &x) in sums.iter_mut().zip(rest) {
            *sum += math::decay::<FMA>(x - max);
        }
        add(&mut totals, &sums);
    }
    (max, math::log::<FMA>(fold(totals)))
}

/// The sum over a row, in the same order, of what `term` gives for an element and its position.
#[inline(always)]
pub(super) fn sum_by_position(x: &[f32], term: impl Fn(usize, f32) -> f32) -> f32 {
    let mut totals = [0.0; LANES];
    for (block, x) in x.chunks(BLOCK).enumerate() {
        let mut sums = [0.0; LANES];
        let (whole, rest) = x.as_chunks::<LANES>();
        let first = block * BLOCK;
        for (line, x) in whole.iter().enumerate() {
            for i in 0..LANES {
                sums[i] += term(first + line * LANES + i, x[i]);
            }
        }
        for (i, (sum, &x)) in sums.iter_mut().zip(rest).enumerate() {
            *sum += term(first + whole.len() * LANES + i, x);
        }
        add(&mut totals, &sums);
    }
    fold(totals)
}

/// The largest of a row. A NaN may be lost: it is met again by the exponential.
#[inline(always)]
fn row_max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for i in 0..LANES {
            lanes[i] = if x[i] > lanes[i] { x[i] } else { lanes[i] };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = if x > *lane { x } else { *lane };
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = if lanes[i + width] > lanes[i] { lanes[i + width] } else { lanes[i] };
        }
        width /= 2;
    }
    lanes[0]
}

/// y ← exp(x − max); returns Σy.
#[inline(always)]
fn exp_row<const FMA: bool>(x: &[f32], max: f32, y: &mut [f32]) -> f32 {
    let mut totals = [0.0; LANES];
    for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
        let mut sums = [0.0; LANES];
        let (whole, rest) = x.as_chunks::<LANES>();
        let (y_whole, y_rest) = y.as_chunks_mut::<LANES>();
        for (x, y) in whole.iter().zip(y_whole) {
            for i in 0..LANES {
                y[i] = math::decay::<FMA>(x[i] - max);
                sums[i] += y[i];
            }
        }
        for ((sum, &x), y) in sums.iter_mut().zip(rest).zip(y_rest) {
            *y = math::decay::<FMA>(x - max);
            *sum += *y;
        }
        add(&mut totals, &sums);
    }
    fold(totals)
}

#[inline(always)]
fn add(totals: &mut [f32], sums: &[f32]) {
    for (total, &sum) in totals.iter_mut().zip(sums) {
        *total += sum;
    }
}

#[inline(always)]
fn columns<const FMA: bool, const LOG: bool>(place: Strip, x: &[f32], y: &mut [f32]) {
    let Strip { count, inner, width, .. } = place;
    for (x, y) in x.chunks(count * inner).zip(y.chunks_mut(count * inner)) {
        let mut max = [f32::NEG_INFINITY; STRIP];
        let max = &mut max[..width];
        for x in x.chunks(inner) {
            for (max, &x) in max.iter_mut().zip(x) {
                *max = if x > *max { x } else { *max };
            }
        }
        let (mut totals, mut sums) = ([0.0; STRIP], [0.0; STRIP]);
        let (totals, sums) = (&mut totals[..width], &mut sums[..width]);
        for (x, y) in x.chunks(BLOCK_ROWS * inner).zip(y.chunks_mut(BLOCK_ROWS * inner)) {
            sums.fill(0.0);
            for (x, y) in x.chunks(inner).zip(y.chunks_mut(inner)) {
                for (((y, &x), &max), sum) in y.iter_mut().zip(x).zip(&*max).zip(&mut *sums) {
                    *y = math::decay::<FMA>(x - max);
                    *sum += *y;
                }
            }
            add(totals, sums);
        }
        for total in &mut *totals {
            *total = if LOG { math::log::<FMA>(*total) } else { 1.0 / *total };
        }
        for (x, y) in x.chunks(inner).zip(y.chunks_mut(inner)) {
            for (((y, &x), &max), &total) in y.iter_mut().zip(x).zip(&*max).zip(&*totals) {
                *y = if LOG { (x - max) - total } else { *y * total };
            }
        }
    }
}

#[inline(always)]
fn backward<const FMA: bool>(log: bool, place: Strip, dy: &[f32], y: &[f32], dx: &mut [f32]) {
    match (place.inner, log) {
        (1, false) => grad_rows::<FMA, false>(place.count, dy, y, dx),
        (1, true) => grad_rows::<FMA, true>(place.count, dy, y, dx),
        (_, false) => grad_columns::<FMA, false>(place, dy, y, dx),
        (_, true) => grad_columns::<FMA, true>(place, dy, y, dx),
    }
}

/// What is summed: dy⊙y, or dy.
#[inline(always)]
fn term<const LOG: bool>(dy: f32, y: f32) -> f32 {
    if LOG { dy } else { dy * y }
}

#[inline(always)]
fn slope<const FMA: bool, const LOG: bool>(dy: f32, y: f32, sum: f32) -> f32 {
    if LOG { math::madd::<FMA>(-math::decay::<FMA>(y), sum, dy) } else { y * (dy - sum) }
}

#[inline(always)]
fn grad_rows<const FMA: bool, const LOG: bool>(count: usize, dy: &[f32], y: &[f32], dx: &mut [f32]) {
    for ((dy, y), dx) in dy.chunks_exact(count).zip(y.chunks_exact(count)).zip(dx.chunks_exact_mut(count)) {
        let mut totals = [0.0; LANES];
        for (dy, y) in dy.chunks(BLOCK).zip(y.chunks(BLOCK)) {
            let mut sums = [0.0; LANES];
            let (dy_whole, dy_rest) = dy.as_chunks::<LANES>();
            let (y_whole, y_rest) = y.as_chunks::<LANES>();
            for (dy, y) in dy_whole.iter().zip(y_whole) {
                for i in 0..LANES {
                    sums[i] += term::<LOG>(dy[i], y[i]);
                }
            }
            for ((sum, &dy), &y) in sums.iter_mut().zip(dy_rest).zip(y_rest) {
                *sum += term::<LOG>(dy, y);
            }
            add(&mut totals, &sums);
        }
        let sum = fold(totals);
        for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
            *dx = slope::<FMA, LOG>(dy, y, sum);
        }
    }
}

#[inline(always)]
fn grad_columns<const FMA: bool, const LOG: bool>(place: Strip, dy: &[f32], y: &[f32], dx: &mut [f32]) {
    let Strip { count, inner, width, .. } = place;
    let size = count * inner;
    for ((dy, y), dx) in dy.chunks(size).zip(y.chunks(size)).zip(dx.chunks_mut(size)) {
        let (mut totals, mut sums) = ([0.0; STRIP], [0.0; STRIP]);
        let (totals, sums) = (&mut totals[..width], &mut sums[..width]);
        for (dy, y) in dy.chunks(BLOCK_ROWS * inner).zip(y.chunks(BLOCK_ROWS * inner)) {
            sums.fill(0.0);
            for (dy, y) in dy.chunks(inner).zip(y.chunks(inner)) {
                for ((sum, &dy), &y) in sums.iter_mut().zip(dy).zip(y) {
                    *sum += term::<LOG>(dy, y);
                }
            }
            add(totals, sums);
        }
        for ((dy, y), dx) in dy.chunks(inner).zip(y.chunks(inner)).zip(dx.chunks_mut(inner)) {
            for (((dx, &dy), &y), &total) in dx.iter_mut().zip(dy).zip(y).zip(&*totals) {
                *dx = slope::<FMA, LOG>(dy, y, total);
            }
        }
    }
}
