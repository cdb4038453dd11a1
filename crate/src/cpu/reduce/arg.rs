//! Where the largest and the smallest are. Rows: the extreme first, then its first position, both at vector speed.
//! Columns: the best so far and its position, side by side.

use super::order::{Extreme, Floats, Integers, Ordered};
use crate::cpu::Cpu;
use crate::cpu::share::Shared;
use crate::dtype::Dtype;
use crate::program::op::Middle;

/// Columns that are tracked together.
const STRIP: usize = 512;

/// Words that are compared at once before anyone looks at the answer.
const SCAN: usize = 64;

/// Writes the first position of the extreme over the middle axis of `x` to `out`; 0 where the axis is empty.
pub(super) fn positions(cpu: &Cpu, axes: Middle, extreme: Extreme, dtype: Dtype, x: &[u32], out: &mut [u32]) {
    let Middle { outer, count, inner } = axes;
    if count == 0 {
        out.fill(0);
        return;
    }
    let strips = inner.div_ceil(STRIP);
    let units = outer * strips;
    let shared = Shared::new(out);
    cpu.ranges(cpu.tasks(x.len() as u64 * 150, units), units, &|range| {
        for unit in range {
            let (o, start) = (unit / strips, unit % strips * STRIP);
            let end = (start + STRIP).min(inner);
            // SAFETY: every unit has its own results.
            let results = unsafe { shared.part(o * inner + start..o * inner + end) };
            let x = &x[o * count * inner + start..(o + 1) * count * inner];
            if dtype == Dtype::F32 {
                crate::dispatch!(
                    cpu.isa,
                    search::<Floats>(
                        extreme: Extreme = extreme, stride: usize = inner, x: &[u32] = x, results: &mut [u32] = results
                    )
                );
            } else {
                crate::dispatch!(
                    cpu.isa,
                    search::<Integers>(
                        extreme: Extreme = extreme, stride: usize = inner, x: &[u32] = x, results: &mut [u32] = results
                    )
                );
            }
        }
    });
}

#[inline(always)]
fn search<T: Comparable, const FMA: bool>(extreme: Extreme, stride: usize, x: &[u32], results: &mut [u32]) {
    match (extreme, stride) {
        (Extreme::Largest, 1) => results[0] = first_of_row::<T, true>(x),
        (Extreme::Smallest, 1) => results[0] = first_of_row::<T, false>(x),
        (Extreme::Largest, _) => first_of_columns::<T, true>(stride, x, results),
        (Extreme::Smallest, _) => first_of_columns::<T, false>(stride, x, results),
    }
}

/// What positions need beyond picking: equality and strict order, with NaN equal to NaN and before everything.
trait Comparable: Ordered {
    fn same(a: u32, b: u32) -> bool;
    fn beats<const LARGEST: bool>(a: u32, b: u32) -> bool;
}

impl Comparable for Floats {
    #[inline(always)]
    fn same(a: u32, b: u32) -> bool {
        let (a, b) = (f32::from_bits(a), f32::from_bits(b));
        (a == b) | (a.is_nan() & b.is_nan())
    }

    #[inline(always)]
    fn beats<const LARGEST: bool>(a: u32, b: u32) -> bool {
        let (a, b) = (f32::from_bits(a), f32::from_bits(b));
        (if LARGEST { a > b } else { a < b }) | (a.is_nan() & !b.is_nan())
    }
}

impl Comparable for Integers {
    #[inline(always)]
    fn same(a: u32, b: u32) -> bool {
        a == b
    }

    #[inline(always)]
    fn beats<const LARGEST: bool>(a: u32, b: u32) -> bool {
        let (a, b) = (a as i32, b as i32);
        if LARGEST { a > b } else { a < b }
    }
}

#[inline(always)]
fn first_of_row<T: Comparable, const LARGEST: bool>(row: &[u32]) -> u32 {
    let best = T::of_row::<LARGEST>(row);
    for (chunk, words) in row.chunks(SCAN).enumerate() {
        let mut found = false;
        for &word in words {
            found |= T::same(word, best);
        }
        if found {
            let within = words.iter().position(|&word| T::same(word, best)).unwrap_or(0);
            return (chunk * SCAN + within) as u32;
        }
    }
    0
}

#[inline(always)]
fn first_of_columns<T: Comparable, const LARGEST: bool>(stride: usize, x: &[u32], results: &mut [u32]) {
    let width = results.len();
    let mut best = [0; STRIP];
    let best = &mut best[..width];
    best.copy_from_slice(&x[..width]);
    results.fill(0);
    for (row, words) in x.chunks(stride).enumerate().skip(1) {
        let words = &words[..width];
        for i in 0..width {
            let wins = T::beats::<LARGEST>(words[i], best[i]);
            best[i] = if wins { words[i] } else { best[i] };
            results[i] = if wins { row as u32 } else { results[i] };
        }
    }
}
