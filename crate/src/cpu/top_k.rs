//! The largest elements over the middle of `[outer, count, inner]`, sorted, with where they stand.
//!
//! An element and its index are one number, its [rank](Order::rank): the lower comes first, and no two are equal. So whatever
//! finds the lowest ranks finds the same. A few are kept in order while a line goes by, most of which is passed over at
//! vector speed; more are selected and then sorted. Columns are turned into lines first, as many at a time as share cache lines.

use super::Cpu;
use super::share::{Shared, with_longs, with_scratch};
use crate::dtype::Dtype;
use crate::program::op::Middle;

/// Most elements that are kept in order one by one.
const FEW: usize = 64;

/// Most of them in a line of any length. More pay only if the line is so many times as long that most of it is passed over.
const LEAST: usize = 8;
const RARE: usize = 40;

/// Whether the largest are kept in order while a line goes by.
fn is_few(k: usize, count: usize) -> bool {
    k <= LEAST || (k <= FEW && k * RARE <= count)
}

/// Words that are compared at once before anyone looks at the answer.
const SCAN: usize = 64;

/// Columns that are turned together: those of a cache line.
const STRIP: usize = 16;

/// What is written: elements, their indices along the middle, their places in all of x. Each is `outer·k·inner` words.
pub struct Largest<'a> {
    /// The elements.
    pub values: &'a mut [u32],
    /// Their indices.
    pub indices: &'a mut [i32],
    /// Their places.
    pub places: &'a mut [i32],
}

/// Writes the `k` largest of each line of `x`, f32 or i32, which has at least as many; NaN before everything, of equals the
/// first.
pub fn top_k(cpu: &Cpu, axes: Middle, k: usize, dtype: Dtype, x: &[u32], to: Largest) {
    let Middle { outer, count, inner } = axes;
    if outer * k * inner == 0 {
        return;
    }
    let strips = inner.div_ceil(STRIP);
    let Largest { values, indices, places } = to;
    let results = [Shared::new(values), Shared::new(words(indices)), Shared::new(words(places))];
    let few = is_few(k, count);
    let each = if few { 400 } else { 6_000 } + if inner > 1 { 1_000 } else { 0 };
    cpu.ranges(cpu.tasks(x.len() as u64 * each, outer * strips), outer * strips, &|range| {
        with_longs(if few { k } else { count }, |ranks| {
            for unit in range {
                let (o, column) = (unit / strips, unit % strips * STRIP);
                let width = STRIP.min(inner - column);
                let slab = &x[o * count * inner..(o + 1) * count * inner];
                let mut line = |i: usize, line: &[u32]| {
                    find(cpu, dtype, k, line, ranks);
                    for (j, &rank) in ranks[..k].iter().enumerate() {
                        let (index, at) = (rank as u32, (o * k + j) * inner + i);
                        let place = index as usize * inner + i;
                        let found = [slab[place], index, (o * count * inner + place) as u32];
                        for (shared, word) in results.iter().zip(found) {
                            // SAFETY: every line has its own results.
                            unsafe { shared.part(at..at + 1) }.fill(word);
                        }
                    }
                };
                if inner == 1 {
                    line(0, slab);
                } else {
                    with_scratch(width * count, |lines| {
                        turn(slab, inner, column, width, lines);
                        for (i, words) in lines.chunks_exact(count).enumerate() {
                            line(column + i, words);
                        }
                    });
                }
            }
        });
    });
}

/// The same memory.
fn words(integers: &mut [i32]) -> &mut [u32] {
    // SAFETY: every integer is a word, of the same size and alignment.
    unsafe { std::slice::from_raw_parts_mut(integers.as_mut_ptr().cast(), integers.len()) }
}

/// `width` columns of a slab, from `column` on, one behind the other.
fn turn(slab: &[u32], inner: usize, column: usize, width: usize, lines: &mut [u32]) {
    let count = lines.len() / width;
    for (row, words) in slab.chunks_exact(inner).enumerate() {
        for (i, &word) in words[column..column + width].iter().enumerate() {
            lines[i * count + row] = word;
        }
    }
}

/// The ranks of the first `k` of a line, in order, at the begin of `ranks`.
fn find(cpu: &Cpu, dtype: Dtype, k: usize, line: &[u32], ranks: &mut [u64]) {
    match (dtype, is_few(k, line.len())) {
        (Dtype::F32, true) => {
            crate::dispatch!(cpu.isa, keep::<Floats>(line: &[u32] = line, ranks: &mut [u64] = ranks));
        }
        (_, true) => crate::dispatch!(cpu.isa, keep::<Integers>(line: &[u32] = line, ranks: &mut [u64] = ranks)),
        (Dtype::F32, false) => sort::<Floats>(k, line, ranks),
        (_, false) => sort::<Integers>(k, line, ranks),
    }
}

/// How elements of a dtype are ordered.
trait Order {
    /// A number that is lower for larger elements, and equal for equal ones.
    fn late(word: u32) -> u32;

    /// That of an element, and its index behind it.
    #[inline(always)]
    fn rank(index: usize, word: u32) -> u64 {
        u64::from(Self::late(word)) << 32 | index as u64
    }
}

struct Floats;

impl Order for Floats {
    #[inline(always)]
    fn late(word: u32) -> u32 {
        const SIGN: u32 = 1 << 31;
        let word = if word == SIGN { 0 } else { word };
        let late = if word & SIGN == 0 { word ^ !SIGN } else { word };
        if word & !SIGN > f32::INFINITY.to_bits() { 0 } else { late }
    }
}

struct Integers;

impl Order for Integers {
    #[inline(always)]
    fn late(word: u32) -> u32 {
        word ^ (u32::MAX >> 1)
    }
}

/// As many ranks as there is room for, kept in order while the line goes by.
#[inline(always)]
fn keep<T: Order, const FMA: bool>(line: &[u32], ranks: &mut [u64]) {
    let k = ranks.len();
    let (first, rest) = line.split_at(k);
    for (i, &word) in first.iter().enumerate() {
        insert(&mut ranks[..=i], T::rank(i, word));
    }
    // Of what comes later only what is larger goes in, whatever its index.
    let mut last = (ranks[k - 1] >> 32) as u32;
    for (chunk, words) in rest.chunks(SCAN).enumerate() {
        let mut found = false;
        for &word in words {
            found |= T::late(word) < last;
        }
        if !found {
            continue;
        }
        for (i, &word) in words.iter().enumerate() {
            if T::late(word) < last {
                insert(ranks, T::rank(k + chunk * SCAN + i, word));
                last = (ranks[k - 1] >> 32) as u32;
            }
        }
    }
}

/// Puts a rank in its place among all but the last, which is lost.
fn insert(ranks: &mut [u64], rank: u64) {
    let Some((_, before)) = ranks.split_last() else { return };
    let place = before.partition_point(|&other| other < rank);
    let end = before.len();
    ranks.copy_within(place..end, place + 1);
    ranks[place] = rank;
}

/// The first `k` of all ranks, in order.
fn sort<T: Order>(k: usize, line: &[u32], ranks: &mut [u64]) {
    for (i, (rank, &word)) in ranks.iter_mut().zip(line).enumerate() {
        *rank = T::rank(i, word);
    }
    if k < ranks.len() {
        ranks.select_nth_unstable(k);
    }
    ranks[..k].sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, Pool};

    fn every_cpu() -> impl Iterator<Item = Cpu> {
        Isa::available().into_iter().flat_map(|isa| [1, 3].map(|n| Cpu { isa, pool: Pool::new(n).unwrap() }))
    }

    fn run(cpu: &Cpu, axes: Middle, k: usize, dtype: Dtype, x: &[u32]) -> (Vec<u32>, Vec<i32>, Vec<i32>) {
        let size = axes.outer * k * axes.inner;
        let mut found = (vec![u32::MAX; size], vec![-1; size], vec![-1; size]);
        let to = Largest { values: &mut found.0, indices: &mut found.1, places: &mut found.2 };
        top_k(cpu, axes, k, dtype, x, to);
        found
    }

    /// A stable sort of every line.
    fn naive(axes: Middle, k: usize, dtype: Dtype, x: &[u32]) -> (Vec<u32>, Vec<i32>, Vec<i32>) {
        let Middle { outer, count, inner } = axes;
        let size = outer * k * inner;
        let mut found = (vec![0; size], vec![0; size], vec![0; size]);
        for o in 0..outer {
            for i in 0..inner {
                let place = |index: usize| (o * count + index) * inner + i;
                let mut order: Vec<usize> = (0..count).collect();
                order.sort_by(|&a, &b| {
                    let (a, b) = (x[place(a)], x[place(b)]);
                    if dtype == Dtype::I32 {
                        return (b as i32).cmp(&(a as i32));
                    }
                    let (a, b) = (f32::from_bits(a), f32::from_bits(b));
                    b.partial_cmp(&a).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
                });
                for (j, &index) in order[..k].iter().enumerate() {
                    let at = (o * k + j) * inner + i;
                    found.0[at] = x[place(index)];
                    found.1[at] = index as i32;
                    found.2[at] = place(index) as i32;
                }
            }
        }
        found
    }

    /// Numbers with ties, among them the special ones.
    fn mixed(count: usize, dtype: Dtype) -> Vec<u32> {
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-45, -1e-45, -f32::NAN];
        (0..count as u32)
            .map(|i| {
                let word = i.wrapping_mul(0x9e37_79b9) >> 7;
                match (dtype, word % 11) {
                    (Dtype::F32, 0) => special[word as usize / 11 % special.len()].to_bits(),
                    (Dtype::F32, 1..=5) => ((word % 7) as f32 - 3.0).to_bits(),
                    (Dtype::F32, _) => (word as f32 - 16_777_216.0).to_bits(),
                    (_, 0) => i32::MIN as u32,
                    (_, 1) => i32::MAX as u32,
                    (_, 2..=5) => (word % 7).wrapping_sub(3),
                    _ => word.wrapping_sub(1 << 24),
                }
            })
            .collect()
    }

    #[test]
    fn the_largest_are_those_of_a_stable_sort() {
        for cpu in every_cpu() {
            for (outer, count, inner) in
                [(3, 1, 1), (5, 64, 1), (4, 65, 1), (3, 1009, 1), (2, 17, 3), (2, 200, 16), (3, 130, 35), (1, 9000, 2)]
            {
                let axes = Middle { outer, count, inner };
                for dtype in [Dtype::F32, Dtype::I32] {
                    let x = mixed(outer * count * inner, dtype);
                    for k in [1, 2, 7, 9, count / RARE, FEW, FEW + 1, count / 2, count - 1, count] {
                        if (1..=count).contains(&k) {
                            assert!(
                                run(&cpu, axes, k, dtype, &x) == naive(axes, k, dtype, &x),
                                "{axes:?} {k} {dtype:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn sorted_lines_of_either_direction_are_found() {
        for cpu in every_cpu() {
            let up: Vec<u32> = (0..5000).map(|i| (i as f32).to_bits()).collect();
            let down: Vec<u32> = up.iter().rev().copied().collect();
            for x in [up, down] {
                for k in [5, FEW, 700] {
                    let axes = Middle { outer: 1, count: 5000, inner: 1 };
                    assert!(run(&cpu, axes, k, Dtype::F32, &x) == naive(axes, k, Dtype::F32, &x));
                }
            }
        }
    }

    #[test]
    fn nothing_is_legal_everywhere() {
        for cpu in every_cpu() {
            for (outer, count, inner, k) in [(0, 5, 1, 2), (3, 0, 2, 0), (3, 4, 0, 2), (2, 7, 3, 0)] {
                let axes = Middle { outer, count, inner };
                let x = mixed(outer * count * inner, Dtype::F32);
                assert_eq!(run(&cpu, axes, k, Dtype::F32, &x), (vec![], vec![], vec![]));
            }
        }
    }
}
