//! Gradients of x, weight and bias. With g = weight ⊙ dy and x̂ = (x − mean) · scale, dx = scale · (g − mean(g) − x̂ · mean(g ⊙ x̂)),
//! means over the row; without the first of them where rows are not centred. dweight = Σ dy ⊙ x̂ and dbias = Σ dy over the examples
//! are added up block by block: a block of examples leaves one line of partial sums, and those are summed as any columns.

use std::ops::Range;

use super::{by_position, has_few_positions, spread, sums};
use crate::cpu::reduce::reduce;
use crate::cpu::share::{Shared, with_floats, with_scratch};
use crate::cpu::{Cpu, math};
use crate::dtype::Dtype;
use crate::program::op::{Middle, NormRows, ReduceOp};

/// Picoseconds per element.
const PICOSECONDS: u64 = 450;

/// Elements of a block of examples, about: enough that its line of partial sums costs little.
const BLOCK_ELEMENTS: usize = 1 << 16;

/// Most examples of a block, whose sums are taken one after the other.
const BLOCK_EXAMPLES: usize = 64;

/// Elements of an example that make a unit of work, where its groups are smaller.
const UNIT_ELEMENTS: usize = 1 << 10;

/// Elements that a channel has in a block at least, so that partial sums are a small part of the operands.
const BLOCK_INNER: usize = 8;

/// Channels whose sums are added before they join those of the row.
const BLOCK_CHANNELS: usize = 64;

/// What is wanted. The gradients of weight and bias are words, as what sums them has it.
pub struct NormGradients<'a> {
    /// Gradient of x.
    pub dx: Option<&'a mut [f32]>,
    /// Gradient of the weight.
    pub dweight: Option<&'a mut [u32]>,
    /// Gradient of the bias.
    pub dbias: Option<&'a mut [u32]>,
}

/// What is known.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// Gradient of the result.
    pub dy: &'a [f32],
    /// The operand.
    pub x: &'a [f32],
    /// By channel.
    pub weight: Option<&'a [f32]>,
    /// By row, where rows are centred.
    pub means: Option<&'a [f32]>,
    /// By row.
    pub scales: &'a [f32],
}

/// Computes what is wanted.
pub fn norm_grad(cpu: &Cpu, rows: NormRows, saved: Saved, to: NormGradients) {
    if rows.numel() == 0 {
        for sums in [to.dweight, to.dbias].into_iter().flatten() {
            sums.fill(0);
        }
        return;
    }
    if has_few_positions(rows) {
        return over_positions(cpu, rows, saved, to);
    }
    let examples = block_of(rows);
    let blocks = rows.outer.div_ceil(examples);
    if blocks == 1 {
        return over_blocks(cpu, rows, examples, saved, to.dx, [to.dweight, to.dbias]);
    }
    let size = blocks * rows.affine();
    let [weights, biases] = [&to.dweight, &to.dbias].map(|sums| if sums.is_some() { size } else { 0 });
    with_scratch(weights + biases, |scratch| {
        let (dweight, dbias) = scratch.split_at_mut(weights);
        let partials = [(weights > 0).then_some(&mut *dweight), (biases > 0).then_some(&mut *dbias)];
        over_blocks(cpu, rows, examples, saved, to.dx, partials);
        let columns = Middle { outer: 1, count: blocks, inner: rows.affine() };
        for (sums, partials) in [(to.dweight, dweight), (to.dbias, dbias)] {
            if let Some(sums) = sums {
                reduce(cpu, ReduceOp::Sum, columns, Dtype::F32, partials, sums);
            }
        }
    });
}

/// The same where every position has a weight of its own, whose gradients are then those of the channel's positions together.
fn over_positions(cpu: &Cpu, rows: NormRows, saved: Saved, to: NormGradients) {
    let size = rows.affine() * rows.inner;
    let weights = if saved.weight.is_some() { size } else { 0 };
    let [slopes, biases] = [&to.dweight, &to.dbias].map(|sums| if sums.is_some() { size } else { 0 });
    with_floats(weights, |weight| {
        let saved = Saved { weight: saved.weight.map(|from| spread(from, rows.inner, weight)), ..saved };
        with_scratch(slopes + biases, |scratch| {
            let (dweight, dbias) = scratch.split_at_mut(slopes);
            let parts = NormGradients {
                dx: to.dx,
                dweight: to.dweight.is_some().then_some(&mut *dweight),
                dbias: to.dbias.is_some().then_some(&mut *dbias),
            };
            norm_grad(cpu, by_position(rows), saved, parts);
            let positions = Middle { outer: rows.affine(), count: rows.inner, inner: 1 };
            for (sums, parts) in [(to.dweight, dweight), (to.dbias, dbias)] {
                if let Some(sums) = sums {
                    reduce(cpu, ReduceOp::Sum, positions, Dtype::F32, parts, sums);
                }
            }
        });
    });
}

/// Examples of a block. It hangs on what an example is alone, so that further examples change the order of no sum.
fn block_of(rows: NormRows) -> usize {
    let example = rows.groups * rows.count();
    (BLOCK_ELEMENTS / example).clamp(BLOCK_INNER.div_ceil(rows.inner), BLOCK_EXAMPLES)
}

/// dx, and for each block a line of the sums over its examples.
fn over_blocks(
    cpu: &Cpu,
    rows: NormRows,
    examples: usize,
    saved: Saved,
    dx: Option<&mut [f32]>,
    partials: [Option<&mut [u32]>; 2],
) {
    let NormRows { outer, groups, channels, .. } = rows;
    let dx = dx.map(Shared::new);
    let partials = partials.map(|partials| partials.map(Shared::new));
    // Groups share no row and no channel, so they may be work of their own; small ones go together, as they lie in memory.
    let together = (UNIT_ELEMENTS / rows.count()).clamp(1, groups);
    let parts = groups.div_ceil(together);
    let units = outer.div_ceil(examples) * parts;
    let tasks = cpu.tasks(saved.x.len() as u64 * PICOSECONDS, units);
    cpu.ranges(tasks, units, &|units| {
        for unit in units {
            let (block, first) = (unit / parts, unit % parts * together);
            let unit_groups = first..(first + together).min(groups);
            let part = block * rows.affine() + first * channels;
            let part = part..part + unit_groups.len() * channels;
            let [dweight, dbias] = partials.map(|partials| {
                // SAFETY: every unit has channels of its own in the line of its block.
                partials.map(|partials| unsafe { partials.part(part.clone()) })
            });
            let examples = block * examples..((block + 1) * examples).min(outer);
            let unit = Unit { examples, groups: unit_groups, dx, dweight, dbias };
            crate::dispatch!(cpu.isa, unit_rows(rows: NormRows = rows, saved: Saved = saved, unit: Unit = unit));
        }
    });
}

/// Some groups of the examples of a block.
struct Unit<'a> {
    examples: Range<usize>,
    groups: Range<usize>,
    dx: Option<Shared<'a, f32>>,
    dweight: Option<&'a mut [u32]>,
    dbias: Option<&'a mut [u32]>,
}

#[inline(always)]
fn unit_rows<const FMA: bool>(rows: NormRows, saved: Saved, unit: Unit) {
    let Unit { examples, groups, dx, mut dweight, mut dbias } = unit;
    for sums in [&mut dweight, &mut dbias].into_iter().flatten() {
        sums.fill(0);
    }
    for (example, group) in examples.flat_map(|example| groups.clone().map(move |group| (example, group))) {
        let index = example * rows.groups + group;
        let range = index * rows.count()..(index + 1) * rows.count();
        let row = Row {
            dy: &saved.dy[range.clone()],
            x: &saved.x[range.clone()],
            weight: saved.weight.map(|all| &all[group * rows.channels..(group + 1) * rows.channels]),
            mean: saved.means.map_or(0.0, |means| means[index]),
            scale: saved.scales[index],
            is_centred: rows.is_centred(),
        };
        // SAFETY: every row belongs to one unit.
        let dx = dx.map(|dx| unsafe { dx.part(range) });
        let channels = (group - groups.start) * rows.channels..(group - groups.start + 1) * rows.channels;
        let sums = [&mut dweight, &mut dbias].map(|sums| sums.as_deref_mut().map(|sums| &mut sums[channels.clone()]));
        if rows.inner == 1 {
            row.by_element::<FMA>(dx, sums);
        } else {
            row.by_channel::<FMA>(rows.inner, dx, sums);
        }
    }
}

/// One row.
#[derive(Clone, Copy)]
struct Row<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    weight: Option<&'a [f32]>,
    mean: f32,
    scale: f32,
    is_centred: bool,
}

impl Row<'_> {
    /// x̂.
    #[inline(always)]
    fn normal(&self, x: f32) -> f32 {
        (x - self.mean) * self.scale
    }

    /// mean(g), 0 where the row is not centred, and mean(g ⊙ x̂), from their sums.
    #[inline(always)]
    fn means(&self, (sum, along): (f32, f32)) -> (f32, f32) {
        let count = self.x.len() as f32;
        (if self.is_centred { sum / count } else { 0.0 }, along / count)
    }

    #[inline(always)]
    fn slope<const FMA: bool>(&self, g: f32, x: f32, (mean, along): (f32, f32)) -> f32 {
        self.scale * math::madd::<FMA>(-self.normal(x), along, g - mean)
    }

    /// A channel has one element.
    #[inline(always)]
    fn by_element<const FMA: bool>(self, dx: Option<&mut [f32]>, [dweight, dbias]: [Option<&mut [u32]>; 2]) {
        let Row { dy, x, .. } = self;
        if let Some(dx) = dx {
            if let Some(weight) = self.weight {
                let of = self.means(sums([dy, x, weight], |dy, x, w| (dy * w, dy * w * self.normal(x))));
                for (((dx, &dy), &x), &w) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
                    *dx = self.slope::<FMA>(dy * w, x, of);
                }
            } else {
                let of = self.means(sums([dy, x, x], |dy, x, _| (dy, dy * self.normal(x))));
                for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = self.slope::<FMA>(dy, x, of);
                }
            }
        }
        if let Some(sums) = dweight {
            for ((sum, &dy), &x) in sums.iter_mut().zip(dy).zip(x) {
                *sum = math::madd::<FMA>(dy, self.normal(x), f32::from_bits(*sum)).to_bits();
            }
        }
        if let Some(sums) = dbias {
            for (sum, &dy) in sums.iter_mut().zip(dy) {
                *sum = (f32::from_bits(*sum) + dy).to_bits();
            }
        }
    }

    /// A channel has `inner` neighbours, more than a few: their sums are parts of those of the row.
    #[inline(always)]
    fn by_channel<const FMA: bool>(
        self,
        inner: usize,
        dx: Option<&mut [f32]>,
        [mut dweight, mut dbias]: [Option<&mut [u32]>; 2],
    ) {
        let (mut totals, mut part) = ((0.0, 0.0), (0.0, 0.0));
        let weight = |channel: usize| self.weight.map_or(1.0, |weight| weight[channel]);
        for (channel, (dy, x)) in self.dy.chunks_exact(inner).zip(self.x.chunks_exact(inner)).enumerate() {
            let (sum, along) = sums([dy, x, x], |dy, x, _| (dy, dy * self.normal(x)));
            for (sums, value) in [(&mut dweight, along), (&mut dbias, sum)] {
                if let Some(sums) = sums {
                    sums[channel] = (f32::from_bits(sums[channel]) + value).to_bits();
                }
            }
            let w = weight(channel);
            part = (part.0 + w * sum, part.1 + w * along);
            if channel % BLOCK_CHANNELS == BLOCK_CHANNELS - 1 {
                totals = (totals.0 + part.0, totals.1 + part.1);
                part = (0.0, 0.0);
            }
        }
        let Some(dx) = dx else { return };
        let of = self.means((totals.0 + part.0, totals.1 + part.1));
        let channels = dx.chunks_exact_mut(inner).zip(self.dy.chunks_exact(inner)).zip(self.x.chunks_exact(inner));
        for (channel, ((dx, dy), x)) in channels.enumerate() {
            let w = weight(channel);
            for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
                *dx = self.slope::<FMA>(dy * w, x, of);
            }
        }
    }
}
