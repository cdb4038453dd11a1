//! Running sums and products over the middle of `[outer, count, inner]`, from either end, with the element itself or without.
//!
//! A line is cut into blocks by position, from its begin whichever way it is gone. What has been met inside a block is joined
//! to what has been met before it, so an error grows with the length of a block and the number of blocks, not with the length of
//! the line; nothing that follows changes a bit, nor, from the other end, does appended nothing, but for the sign of a zero.
//! Lines go side by side, neighbouring columns as vectors, rows to hide that each step waits for the last.

use super::Cpu;
use super::share::Shared;
use crate::dtype::Dtype;
use crate::program::op::{Middle, Scan, ScanOp};

/// Elements of a block.
const BLOCK: usize = 32;

/// Columns that are worked on together.
const STRIP: usize = 256;

/// Rows that are worked on together.
const ROWS: usize = 8;

/// y ← running sums or products of `x`, f32 or i32 (wrapping).
pub fn scan(cpu: &Cpu, of: Scan, dtype: Dtype, x: &[u32], y: &mut [u32]) {
    let Middle { outer, count, inner } = of.axes;
    if outer * count * inner == 0 {
        return;
    }
    // Neighbouring rows, or neighbouring columns of a slab.
    let (width, each) = if inner == 1 { (outer, ROWS) } else { (inner, STRIP) };
    let parts = width.div_ceil(each);
    let units = if inner == 1 { parts } else { outer * parts };
    let shared = Shared::new(y);
    cpu.ranges(cpu.tasks(x.len() as u64 * 600, units), units, &|range| {
        for unit in range {
            let (slab, first) = (unit / parts, unit % parts * each);
            let part = Part { slab, first, width: each.min(width - first) };
            crate::dispatch!(
                cpu.isa,
                run(of: Scan = of, dtype: Dtype = dtype, part: Part = part, x: &[u32] = x, y: Shared<'_, u32> = shared)
            );
        }
    });
}

/// Neighbouring lines: rows, or columns of a slab.
#[derive(Clone, Copy)]
struct Part {
    slab: usize,
    first: usize,
    width: usize,
}

#[inline(always)]
fn run<const FMA: bool>(of: Scan, dtype: Dtype, part: Part, x: &[u32], y: Shared<'_, u32>) {
    match (of.kind, dtype) {
        (ScanOp::Sum, Dtype::F32) => lines::<FloatSum>(of, part, x, y),
        (ScanOp::Sum, _) => lines::<WordSum>(of, part, x, y),
        (ScanOp::Product, Dtype::F32) => lines::<FloatProduct>(of, part, x, y),
        (ScanOp::Product, _) => lines::<WordProduct>(of, part, x, y),
    }
}

#[inline(always)]
fn lines<T: Combine>(of: Scan, part: Part, x: &[u32], y: Shared<'_, u32>) {
    if of.axes.inner > 1 {
        columns::<T>(of, part, x, y);
        return;
    }
    let count = of.axes.count;
    let words = part.first * count..(part.first + part.width) * count;
    // SAFETY: every part has its own rows.
    let (x, y) = (&x[words.clone()], unsafe { y.part(words) });
    if part.width == ROWS {
        rows::<T, ROWS>(of, x, y);
    } else {
        for (x, y) in x.chunks_exact(count).zip(y.chunks_exact_mut(count)) {
            rows::<T, 1>(of, x, y);
        }
    }
}

/// How two elements become one.
trait Combine {
    /// What changes nothing.
    const NEUTRAL: u32;

    fn join(a: u32, b: u32) -> u32;
}

struct FloatSum;

impl Combine for FloatSum {
    const NEUTRAL: u32 = 0;

    #[inline(always)]
    fn join(a: u32, b: u32) -> u32 {
        (f32::from_bits(a) + f32::from_bits(b)).to_bits()
    }
}

struct FloatProduct;

impl Combine for FloatProduct {
    const NEUTRAL: u32 = 1.0f32.to_bits();

    #[inline(always)]
    fn join(a: u32, b: u32) -> u32 {
        (f32::from_bits(a) * f32::from_bits(b)).to_bits()
    }
}

struct WordSum;

impl Combine for WordSum {
    const NEUTRAL: u32 = 0;

    #[inline(always)]
    fn join(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
}

struct WordProduct;

impl Combine for WordProduct {
    const NEUTRAL: u32 = 1;

    #[inline(always)]
    fn join(a: u32, b: u32) -> u32 {
        a.wrapping_mul(b)
    }
}

/// The blocks, and the positions of each, in the order of the scan.
#[inline(always)]
fn blocks(of: Scan) -> impl Iterator<Item = impl Iterator<Item = usize>> {
    let count = of.axes.count;
    let last = count.div_ceil(BLOCK) - 1;
    (0..=last).map(move |number| {
        let begin = if of.reverse { last - number } else { number } * BLOCK;
        let end = (begin + BLOCK).min(count);
        (begin..end).map(move |i| if of.reverse { begin + end - 1 - i } else { i })
    })
}

#[inline(always)]
fn rows<T: Combine, const WIDTH: usize>(of: Scan, x: &[u32], y: &mut [u32]) {
    let count = of.axes.count;
    let mut before = [T::NEUTRAL; WIDTH];
    for (number, block) in blocks(of).enumerate() {
        let offsets = before;
        let mut inside = [T::NEUTRAL; WIDTH];
        for (k, i) in block.enumerate() {
            for r in 0..WIDTH {
                let at = r * count + i;
                // What is first is taken as it is: 0 + −0 would lose its sign.
                inside[r] = if k == 0 { x[at] } else { T::join(inside[r], x[at]) };
                let so = if number == 0 { inside[r] } else { T::join(offsets[r], inside[r]) };
                y[at] = if of.exclusive { before[r] } else { so };
                before[r] = so;
            }
        }
    }
}

#[inline(always)]
fn columns<T: Combine>(of: Scan, part: Part, x: &[u32], y: Shared<'_, u32>) {
    let Part { slab, first, width } = part;
    let Middle { count, inner, .. } = of.axes;
    let mut before = [T::NEUTRAL; STRIP];
    for (number, block) in blocks(of).enumerate() {
        let offsets = before;
        let mut inside = [T::NEUTRAL; STRIP];
        for (k, i) in block.enumerate() {
            let at = (slab * count + i) * inner + first;
            let words = at..at + width;
            // SAFETY: every part has its own columns, of which this is the only row in use.
            let (x, y) = (&x[words.clone()], unsafe { y.part(words) });
            let (before, inside, offsets) = (&mut before[..width], &mut inside[..width], &offsets[..width]);
            if k == 0 {
                inside.copy_from_slice(x);
            } else {
                for (inside, &x) in inside.iter_mut().zip(x) {
                    *inside = T::join(*inside, x);
                }
            }
            if of.exclusive {
                y.copy_from_slice(before);
            }
            if number == 0 {
                before.copy_from_slice(inside);
            } else {
                for ((before, &offset), &inside) in before.iter_mut().zip(offsets).zip(&*inside) {
                    *before = T::join(offset, inside);
                }
            }
            if !of.exclusive {
                y.copy_from_slice(before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, Pool};

    const WAYS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

    fn every_cpu() -> impl Iterator<Item = Cpu> {
        Isa::available().into_iter().flat_map(|isa| [1, 3].map(|n| Cpu { isa, pool: Pool::new(n).unwrap() }))
    }

    fn run(cpu: &Cpu, of: Scan, dtype: Dtype, x: &[u32]) -> Vec<u32> {
        let mut y = vec![0x7fc0_0bad; x.len()];
        scan(cpu, of, dtype, x, &mut y);
        y
    }

    fn shapes() -> [Middle; 10] {
        [
            (1, 1, 1),
            (3, 31, 1),
            (9, 32, 1),
            (17, 33, 1),
            (20, 1009, 1),
            (2, 5, 3),
            (3, 65, 255),
            (2, 100, 257),
            (1, 1000, 600),
            (2, 64, 1),
        ]
        .map(|(outer, count, inner)| Middle { outer, count, inner })
    }

    /// f of the words along every line, in the order of the scan.
    fn along(of: Scan, x: &[u32], mut f: impl FnMut(&[u32]) -> Vec<u32>) -> Vec<u32> {
        let Middle { outer, count, inner } = of.axes;
        let mut y = vec![0; x.len()];
        for line in 0..outer * inner {
            let at =
                |i: usize| (line / inner * count + if of.reverse { count - 1 - i } else { i }) * inner + line % inner;
            let words: Vec<u32> = (0..count).map(|i| x[at(i)]).collect();
            f(&words).into_iter().enumerate().for_each(|(i, word)| y[at(i)] = word);
        }
        y
    }

    #[test]
    fn words_wrap_around() {
        for cpu in every_cpu() {
            for axes in shapes() {
                let x: Vec<u32> = (0..(axes.outer * axes.count * axes.inner) as u32)
                    .map(|i| i.wrapping_mul(0x9e37_79b9) | 1)
                    .collect();
                for kind in [ScanOp::Sum, ScanOp::Product] {
                    for (reverse, exclusive) in WAYS {
                        let of = Scan { kind, axes, reverse, exclusive };
                        let want = along(of, &x, |line| {
                            let mut so = u32::from(kind == ScanOp::Product);
                            line.iter()
                                .map(|&word| {
                                    let before = so;
                                    so =
                                        if kind == ScanOp::Sum { so.wrapping_add(word) } else { so.wrapping_mul(word) };
                                    if exclusive { before } else { so }
                                })
                                .collect()
                        });
                        assert!(run(&cpu, of, Dtype::I32, &x) == want, "{of:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn floats_are_near_those_of_f64_and_the_same_for_all_widths_and_threads() {
        for axes in shapes() {
            let size = axes.outer * axes.count * axes.inner;
            for kind in [ScanOp::Sum, ScanOp::Product] {
                let element = |i: u32| {
                    let unit = (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 8_388_608.0 - 1.0;
                    if kind == ScanOp::Sum { unit } else { 1.0 + 0.005 * unit }.to_bits()
                };
                let x: Vec<u32> = (0..size as u32).map(element).collect();
                for (reverse, exclusive) in WAYS {
                    let of = Scan { kind, axes, reverse, exclusive };
                    let mut all: Vec<_> = every_cpu().map(|cpu| run(&cpu, of, Dtype::F32, &x)).collect();
                    all.dedup();
                    assert_eq!(all.len(), 1);
                    let want = along(of, &x, |line| {
                        let mut so = if kind == ScanOp::Sum { 0.0 } else { 1.0 };
                        let next = |&word: &u32| {
                            let (before, v) = (so, f64::from(f32::from_bits(word)));
                            so = if kind == ScanOp::Sum { so + v } else { so * v };
                            ((if exclusive { before } else { so }) as f32).to_bits()
                        };
                        line.iter().map(next).collect()
                    });
                    let off = |(&got, &want): (&u32, &u32)| (f32::from_bits(got) - f32::from_bits(want)).abs();
                    // The elements of a block, and the blocks; no sum of sizes is above the count, no product above 2.
                    let bound = (BLOCK + axes.count / BLOCK + 2) as f32 * 2f32.powi(-24);
                    let scale = if kind == ScanOp::Sum { axes.count as f32 } else { 2.0 };
                    let worst = all[0].iter().zip(&want).map(off).fold(0.0, f32::max);
                    assert!(worst <= bound * scale, "{of:?}: {worst}");
                }
            }
        }
    }

    #[test]
    fn rows_alone_and_what_follows_change_no_bit() {
        for cpu in every_cpu() {
            for kind in [ScanOp::Sum, ScanOp::Product] {
                let (outer, count) = (19, 300);
                let x: Vec<u32> = (0..outer * count).map(|i| (1.0 + (i * 37 % 101) as f32 / 1e4).to_bits()).collect();
                let of = |outer, count| Scan {
                    kind,
                    axes: Middle { outer, count, inner: 1 },
                    reverse: false,
                    exclusive: false,
                };
                let all = run(&cpu, of(outer, count), Dtype::F32, &x);
                let last = &x[(outer - 1) * count..];
                assert_eq!(all[(outer - 1) * count..], run(&cpu, of(1, count), Dtype::F32, last));
                let backwards = |count| Scan { reverse: true, ..of(1, count) };
                for short in [1, 31, 32, 33, 250] {
                    let start = run(&cpu, of(1, short), Dtype::F32, &last[..short]);
                    assert_eq!(all[(outer - 1) * count..][..short], start);
                    // From the other end, what is appended comes first: zeros of a sum, ones of a product.
                    let end = run(&cpu, backwards(short), Dtype::F32, &last[..short]);
                    let nothing = if kind == ScanOp::Sum { 0.0f32 } else { 1.0 }.to_bits();
                    let longer: Vec<u32> = last[..short].iter().copied().chain([nothing; 41]).collect();
                    assert_eq!(run(&cpu, backwards(longer.len()), Dtype::F32, &longer)[..short], end);
                }
                // Columns have the bits of rows.
                let columns: Vec<u32> = (0..outer * count).map(|at| x[at % outer * count + at / outer]).collect();
                let of = Scan { axes: Middle { outer: 1, count, inner: outer }, ..of(outer, count) };
                let turned = run(&cpu, of, Dtype::F32, &columns);
                assert!(turned.iter().enumerate().all(|(at, &word)| word == all[at % outer * count + at / outer]));
            }
        }
    }

    #[test]
    fn the_sign_of_zero_stays_and_nothing_is_legal() {
        let of = |axes| Scan { kind: ScanOp::Sum, axes, reverse: false, exclusive: false };
        for cpu in every_cpu() {
            let x = [-0.0f32, -0.0, 1.0].map(f32::to_bits);
            let axes = Middle { outer: 1, count: 3, inner: 1 };
            assert_eq!(run(&cpu, of(axes), Dtype::F32, &x), x);
            for (outer, count, inner) in [(0, 3, 1), (2, 0, 3), (2, 3, 0)] {
                assert!(run(&cpu, of(Middle { outer, count, inner }), Dtype::F32, &[]).is_empty());
            }
        }
    }
}
