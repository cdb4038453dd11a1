//! Sums over all positions of a channel: statistics, and what the gradient needs. Positions are cut into blocks, channels
//! into strips; one task sums one block of one strip into a row of partial results. Where channels lie side by side
//! (`inner` = 1) a block is a few rows, added several at a time into one sum per channel; otherwise it is a run of positions,
//! added up for one channel after the other in 32 lanes and a tree.
//!
//! The mean of a block is rounded, and where it is large beside the deviations that is more than these can bear: a block
//! keeps how far its elements are from the rounded mean on average, its *drift*, and takes that out of its M2.

use std::ops::Range;

use crate::cpu::Cpu;
use crate::cpu::lanes::fold;
use crate::cpu::math::madd;
use crate::cpu::share::{Shared, with_floats};
use crate::program::op::Channels;

/// Positions of a block where channels lie side by side: with a strip, 128 KiB.
const ROWS: usize = 64;

/// Rows of a block that are added at a time, so that sums are read and written an eighth as often.
const TOGETHER: usize = 8;

/// Channels of a strip there.
const STRIP: usize = 512;

/// Positions of a block otherwise.
const RUN: usize = 2048;

/// Channels of a strip otherwise: a task has 64 KiB.
const GROUP: usize = 8;

/// Independent sums of a run.
const LANES: usize = 32;

/// Channels whose blocks are brought together at a time.
const MERGED: usize = 64;

/// A block of a strip.
#[derive(Clone, Copy)]
struct Unit<'a> {
    of: Channels,
    /// First position, and the one behind the last.
    positions: (usize, usize),
    /// First channel, and the one behind the last.
    channels: (usize, usize),
    /// Of all positions; `None` for all of them.
    mask: Option<&'a [u32]>,
}

/// Sums a unit, to so many partial results of each channel.
type Sum<'a, const PARTS: usize> = dyn Fn(Unit, [&mut [f32]; PARTS]) + Sync + 'a;

/// Joins the partial results of some channels.
type Join<'a> = dyn Fn(Range<usize>, &[f32], [&mut [f32]; 2]) + Sync + 'a;

/// How [`Channels`] are cut.
#[derive(Clone, Copy)]
struct Cut {
    of: Channels,
    block: usize,
    blocks: usize,
    strip: usize,
    strips: usize,
}

impl Cut {
    fn new(of: Channels) -> Self {
        let (block, strip) = if of.inner == 1 { (ROWS, STRIP) } else { (RUN, GROUP) };
        Self { of, block, blocks: of.positions().div_ceil(block), strip, strips: of.channels.div_ceil(strip) }
    }

    fn positions(self, block: usize) -> Range<usize> {
        block * self.block..((block + 1) * self.block).min(self.of.positions())
    }

    /// Some partial results for every channel and block: calls `sum` for every unit, and `join` with some channels, all
    /// their partial results (`[block][part][channels]`) and the results for these.
    fn run<const PARTS: usize>(
        self,
        cpu: &Cpu,
        mask: Option<&[u32]>,
        picoseconds: u64,
        results: [&mut [f32]; 2],
        sum: &Sum<PARTS>,
        join: &Join,
    ) {
        let Self { of, blocks, strip, strips, .. } = self;
        let row = PARTS * of.channels;
        with_floats(blocks * row, |partials| {
            let shared = Shared::new(partials);
            let units = blocks * strips;
            cpu.ranges(cpu.tasks(of.numel() as u64 * picoseconds, units), units, &|units| {
                for unit in units {
                    let (block, first) = (unit / strips, unit % strips * strip);
                    let positions = self.positions(block);
                    let channels = first..(first + strip).min(of.channels);
                    let part = |which: usize| {
                        let at = block * row + which * of.channels;
                        // SAFETY: every unit has another block or other channels.
                        unsafe { shared.part(at + channels.start..at + channels.end) }
                    };
                    let results = std::array::from_fn(part);
                    let positions = (positions.start, positions.end);
                    sum(Unit { of, positions, channels: (channels.start, channels.end), mask }, results);
                }
            });
            let partials = &*partials;
            let results = results.map(Shared::new);
            let parts = of.channels.div_ceil(MERGED);
            cpu.ranges(cpu.tasks((blocks * row) as u64 * 500, parts), parts, &|parts| {
                for part in parts {
                    let channels = part * MERGED..((part + 1) * MERGED).min(of.channels);
                    // SAFETY: parts have other channels.
                    let results = results.map(|result| unsafe { result.part(channels.clone()) });
                    join(channels, partials, results);
                }
            });
        });
    }
}

/// Means and M2 of every channel; returns how many values each has. Of nothing, all are 0.
pub fn statistics(cpu: &Cpu, of: Channels, x: &[f32], mask: Option<&[u32]>, mean: &mut [f32], m2: &mut [f32]) -> usize {
    let cut = Cut::new(of);
    let count_of = |positions: Range<usize>| match mask {
        None => positions.len(),
        Some(mask) => mask[positions].iter().map(|&on| usize::from(on != 0)).sum(),
    };
    let count = count_of(0..of.positions());
    if count == 0 {
        mean.fill(0.0);
        m2.fill(0.0);
        return 0;
    }
    with_floats(cut.blocks, |counts| {
        for (block, counted) in counts.iter_mut().enumerate() {
            *counted = count_of(cut.positions(block)) as f32;
        }
        let counts = &*counts;
        let sum = |unit: Unit, [mean, m2, drift]: [&mut [f32]; 3]| {
            crate::dispatch!(
                cpu.isa,
                block_statistics(
                    unit: Unit<'_> = unit,
                    count: f32 = counts[unit.positions.0 / cut.block],
                    x: &[f32] = x,
                    mean: &mut [f32] = mean,
                    m2: &mut [f32] = m2,
                    drift: &mut [f32] = drift
                )
            );
        };
        let join = |channels: Range<usize>, partials: &[f32], [mean, m2]: [&mut [f32]; 2]| {
            crate::dispatch!(
                cpu.isa,
                join_statistics(
                    channels: Range<usize> = channels,
                    total: usize = count,
                    counts: &[f32] = counts,
                    partials: &[f32] = partials,
                    mean: &mut [f32] = mean,
                    m2: &mut [f32] = m2
                )
            );
        };
        cut.run::<3>(cpu, mask, 200, [mean, m2], &sum, &join);
    });
    count
}

/// Σdy and Σdy·x̂ of every channel.
#[expect(clippy::too_many_arguments, reason = "the operands of the instruction")]
pub fn grad_sums(
    cpu: &Cpu,
    of: Channels,
    dy: &[f32],
    x: &[f32],
    mean: &[f32],
    istd: &[f32],
    mask: Option<&[u32]>,
    sums: &mut [f32],
    products: &mut [f32],
) {
    let sum = |unit: Unit, [sums, products]: [&mut [f32]; 2]| {
        crate::dispatch!(
            cpu.isa,
            block_grad_sums(
                unit: Unit<'_> = unit,
                dy: &[f32] = dy,
                x: &[f32] = x,
                mean: &[f32] = mean,
                sums: &mut [f32] = sums,
                products: &mut [f32] = products
            )
        );
    };
    let join = |channels: Range<usize>, partials: &[f32], [sums, products]: [&mut [f32]; 2]| {
        crate::dispatch!(
            cpu.isa,
            join_grad_sums(
                channels: Range<usize> = channels,
                partials: &[f32] = partials,
                istd: &[f32] = istd,
                sums: &mut [f32] = sums,
                products: &mut [f32] = products
            )
        );
    };
    Cut::new(of).run::<2>(cpu, mask, 300, [sums, products], &sum, &join);
}

/// The rows of a block that count.
#[inline(always)]
fn active(unit: &Unit, rows: &mut [usize; ROWS]) -> usize {
    let mut count = 0;
    for row in unit.positions.0..unit.positions.1 {
        if unit.mask.is_none_or(|mask| mask[row] != 0) {
            rows[count] = row;
            count += 1;
        }
    }
    count
}

/// A row's part of a strip.
#[inline(always)]
fn row_of<'x>(unit: &Unit, x: &'x [f32], row: usize) -> &'x [f32] {
    let at = row * unit.of.channels;
    &x[at + unit.channels.0..at + unit.channels.1]
}

/// A rounded mean, the mean of what is left of the elements without it, and M2 around the sum of both.
#[inline(always)]
fn block_statistics<const FMA: bool>(
    unit: Unit,
    count: f32,
    x: &[f32],
    mean: &mut [f32],
    m2: &mut [f32],
    drift: &mut [f32],
) {
    mean.fill(0.0);
    m2.fill(0.0);
    drift.fill(0.0);
    if count == 0.0 {
        return;
    }
    if unit.of.inner > 1 {
        for (i, channel) in (unit.channels.0..unit.channels.1).enumerate() {
            let centre = over_run(&unit, channel, x, x, |x, _| [x])[0] / count;
            mean[i] = centre;
            [m2[i], drift[i]] = over_run(&unit, channel, x, x, |x, _| [(x - centre) * (x - centre), x - centre]);
        }
    } else {
        block_of_rows::<FMA>(unit, count, x, mean, m2, drift);
    }
    for (m2, drift) in m2.iter_mut().zip(drift) {
        // Where elements are infinite the mean is as well, and nothing is left of it.
        *drift = if drift.is_finite() { *drift / count } else { 0.0 };
        let left = *m2 - count * *drift * *drift;
        // Rounding must not make it negative. NaN stays.
        *m2 = if left < 0.0 { 0.0 } else { left };
    }
}

/// Means, and sums of the deviations and of their squares, where channels lie side by side.
#[inline(always)]
fn block_of_rows<const FMA: bool>(
    unit: Unit,
    count: f32,
    x: &[f32],
    mean: &mut [f32],
    m2: &mut [f32],
    drift: &mut [f32],
) {
    let mut rows = [0; ROWS];
    let counted = active(&unit, &mut rows);
    let (groups, rest) = rows[..counted].as_chunks::<TOGETHER>();
    for group in groups {
        let x = group.map(|row| &row_of(&unit, x, row)[..mean.len()]);
        for (i, mean) in mean.iter_mut().enumerate() {
            *mean += pairwise(x.map(|x| x[i]));
        }
    }
    for &row in rest {
        for (mean, x) in mean.iter_mut().zip(row_of(&unit, x, row)) {
            *mean += x;
        }
    }
    for mean in &mut *mean {
        *mean /= count;
    }
    let (m2, drift) = (&mut m2[..mean.len()], &mut drift[..mean.len()]);
    for group in groups {
        let x = group.map(|row| &row_of(&unit, x, row)[..mean.len()]);
        for (i, &mean) in mean.iter().enumerate() {
            let apart = x.map(|x| x[i] - mean);
            let [a, b, c, d, e, f, g, h] = apart;
            let low = madd::<FMA>(a, a, madd::<FMA>(b, b, madd::<FMA>(c, c, d * d)));
            m2[i] += madd::<FMA>(e, e, madd::<FMA>(f, f, madd::<FMA>(g, g, madd::<FMA>(h, h, low))));
            drift[i] += pairwise(apart);
        }
    }
    for &row in rest {
        let places = m2.iter_mut().zip(&mut *drift).zip(&*mean);
        for (((m2, drift), mean), x) in places.zip(row_of(&unit, x, row)) {
            *m2 = madd::<FMA>(x - mean, x - mean, *m2);
            *drift += x - mean;
        }
    }
}

#[inline(always)]
fn pairwise([a, b, c, d, e, f, g, h]: [f32; TOGETHER]) -> f32 {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

#[inline(always)]
fn block_grad_sums<const FMA: bool>(
    unit: Unit,
    dy: &[f32],
    x: &[f32],
    mean: &[f32],
    sums: &mut [f32],
    products: &mut [f32],
) {
    let mean = &mean[unit.channels.0..unit.channels.1];
    if unit.of.inner > 1 {
        for (i, channel) in (unit.channels.0..unit.channels.1).enumerate() {
            let centre = mean[i];
            [sums[i], products[i]] = over_run(&unit, channel, dy, x, |dy, x| [dy, dy * (x - centre)]);
        }
        return;
    }
    sums.fill(0.0);
    products.fill(0.0);
    let mut rows = [0; ROWS];
    let counted = active(&unit, &mut rows);
    let (pairs, rest) = rows[..counted].as_chunks::<2>();
    for pair in pairs {
        let [dy0, dy1] = pair.map(|row| row_of(&unit, dy, row));
        let [x0, x1] = pair.map(|row| row_of(&unit, x, row));
        let places = sums.iter_mut().zip(&mut *products).zip(mean);
        for (((((sum, product), mean), dy0), dy1), (x0, x1)) in places.zip(dy0).zip(dy1).zip(x0.iter().zip(x1)) {
            *sum += dy0 + dy1;
            *product += madd::<FMA>(*dy0, x0 - mean, dy1 * (x1 - mean));
        }
    }
    for &row in rest {
        let places = sums.iter_mut().zip(&mut *products).zip(mean);
        for (((sum, product), mean), (dy, x)) in places.zip(row_of(&unit, dy, row).iter().zip(row_of(&unit, x, row))) {
            *sum += dy;
            *product = madd::<FMA>(*dy, x - mean, *product);
        }
    }
}

/// Sums of some terms of every pair of elements of one channel in a run of positions.
#[inline(always)]
fn over_run<const TERMS: usize>(
    unit: &Unit,
    channel: usize,
    a: &[f32],
    b: &[f32],
    terms: impl Fn(f32, f32) -> [f32; TERMS],
) -> [f32; TERMS] {
    let Channels { channels, inner, .. } = unit.of;
    let mut sums = [[0.0; LANES]; TERMS];
    let (mut position, end) = unit.positions;
    while position < end {
        let (o, i) = (position / inner, position % inner);
        let length = (inner - i).min(end - position);
        let at = (o * channels + channel) * inner + i;
        let (a, b) = (&a[at..at + length], &b[at..at + length]);
        let (a_whole, a_rest) = a.as_chunks::<LANES>();
        let (b_whole, b_rest) = b.as_chunks::<LANES>();
        if let Some(mask) = unit.mask {
            // Selected, not multiplied: NaN must not get through.
            let (mask, mask_rest) = mask[position..position + length].as_chunks::<LANES>();
            for ((a, b), mask) in a_whole.iter().zip(b_whole).zip(mask) {
                for lane in 0..LANES {
                    for (sums, term) in sums.iter_mut().zip(terms(a[lane], b[lane])) {
                        sums[lane] += if mask[lane] == 0 { 0.0 } else { term };
                    }
                }
            }
            for (lane, ((&a, &b), &on)) in a_rest.iter().zip(b_rest).zip(mask_rest).enumerate() {
                for (sums, term) in sums.iter_mut().zip(terms(a, b)) {
                    sums[lane] += if on == 0 { 0.0 } else { term };
                }
            }
        } else {
            for (a, b) in a_whole.iter().zip(b_whole) {
                for lane in 0..LANES {
                    for (sums, term) in sums.iter_mut().zip(terms(a[lane], b[lane])) {
                        sums[lane] += term;
                    }
                }
            }
            for (lane, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
                for (sums, term) in sums.iter_mut().zip(terms(a, b)) {
                    sums[lane] += term;
                }
            }
        }
        position += length;
    }
    sums.map(fold)
}

/// μ = Σnᵢμᵢ/n and M2 = Σ(M2ᵢ + nᵢ(μᵢ − μ)²): Chan's merge of all blocks at once. A mean has two parts.
#[inline(always)]
fn join_statistics<const FMA: bool>(
    channels: Range<usize>,
    total: usize,
    counts: &[f32],
    partials: &[f32],
    mean: &mut [f32],
    m2: &mut [f32],
) {
    let width = partials.len() / (3 * counts.len());
    let parts = |block: usize| {
        let start = 3 * width * block;
        let part = |which: usize| &partials[start + which * width..][channels.clone()];
        (part(0).iter().zip(part(2)), part(1))
    };
    let (mut centre, mut spread) = ([0.0_f64; MERGED], [0.0_f64; MERGED]);
    for (block, &count) in counts.iter().enumerate() {
        for (centre, (&mean, &drift)) in centre.iter_mut().zip(parts(block).0) {
            *centre += f64::from(count) * (f64::from(mean) + f64::from(drift));
        }
    }
    for centre in &mut centre {
        *centre /= total as f64;
    }
    for (block, &count) in counts.iter().enumerate() {
        let (means, squares) = parts(block);
        for (((spread, centre), (&mean, &drift)), &m2) in spread.iter_mut().zip(&centre).zip(means).zip(squares) {
            let apart = f64::from(mean) - centre + f64::from(drift);
            *spread += f64::from(m2) + f64::from(count) * (apart * apart);
        }
    }
    for (((mean, m2), centre), spread) in mean.iter_mut().zip(m2).zip(centre).zip(spread) {
        *mean = centre as f32;
        *m2 = spread as f32;
    }
}

#[inline(always)]
fn join_grad_sums<const FMA: bool>(
    channels: Range<usize>,
    partials: &[f32],
    istd: &[f32],
    sums: &mut [f32],
    products: &mut [f32],
) {
    let width = istd.len();
    let (mut first, mut second) = ([0.0_f64; MERGED], [0.0_f64; MERGED]);
    for block in partials.chunks_exact(2 * width) {
        let (a, b) = block.split_at(width);
        for (sum, &a) in first.iter_mut().zip(&a[channels.clone()]) {
            *sum += f64::from(a);
        }
        for (sum, &b) in second.iter_mut().zip(&b[channels.clone()]) {
            *sum += f64::from(b);
        }
    }
    let istd = &istd[channels];
    for ((((sum, product), first), second), &istd) in sums.iter_mut().zip(products).zip(first).zip(second).zip(istd) {
        *sum = first as f32;
        *product = (second * f64::from(istd)) as f32;
    }
}
