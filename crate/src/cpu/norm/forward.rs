//! y = (x − mean)/√(variance + eps) · weight + bias for each row. The mean is 0 where rows are not centred.

use super::{BLOCK, by_position, has_few_positions, spread};
use crate::cpu::lanes::{LANES, add_rest, fold_apart};
use crate::cpu::share::{Shared, with_floats};
use crate::cpu::{Cpu, math};
use crate::program::op::NormRows;

/// Picoseconds per element.
const PICOSECONDS: u64 = 250;

/// What goes by channel; absent ones are 1 and 0.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// Multiplies.
    pub weight: Option<&'a [f32]>,
    /// Is added.
    pub bias: Option<&'a [f32]>,
}

/// What comes of it.
pub struct Normalized<'a> {
    /// The result.
    pub y: &'a mut [f32],
    /// The mean of each row, where rows are centred.
    pub means: Option<&'a mut [f32]>,
    /// 1/√(variance + eps) of each row.
    pub scales: &'a mut [f32],
}

/// Normalises every row of `x`.
pub fn norm(cpu: &Cpu, rows: NormRows, eps: f64, x: &[f32], affine: Affine, to: Normalized) {
    if !has_few_positions(rows) {
        return each_row(cpu, rows, eps, x, affine, to);
    }
    let [weights, biases] = [affine.weight, affine.bias].map(|each| each.map_or(0, |each| each.len() * rows.inner));
    with_floats(weights + biases, |scratch| {
        let (weight, bias) = scratch.split_at_mut(weights);
        let affine = Affine {
            weight: affine.weight.map(|from| spread(from, rows.inner, weight)),
            bias: affine.bias.map(|from| spread(from, rows.inner, bias)),
        };
        each_row(cpu, by_position(rows), eps, x, affine, to);
    });
}

fn each_row(cpu: &Cpu, rows: NormRows, eps: f64, x: &[f32], affine: Affine, to: Normalized) {
    let count = rows.count();
    let (y, scales) = (Shared::new(to.y), Shared::new(to.scales));
    let means = to.means.map(Shared::new);
    let tasks = cpu.tasks(x.len() as u64 * PICOSECONDS, rows.rows());
    cpu.ranges(tasks, rows.rows(), &|range| {
        let elements = range.start * count..range.end * count;
        let x = &x[elements.clone()];
        // SAFETY: ranges of rows are disjoint, and so are their elements.
        let (y, scales) = unsafe { (y.part(elements), scales.part(range.clone())) };
        // SAFETY: as above.
        let means = means.map_or(&mut [][..], |means| unsafe { means.part(range.clone()) });
        crate::dispatch!(
            cpu.isa,
            some_rows(
                rows: NormRows = rows,
                first: usize = range.start,
                eps: f32 = eps as f32,
                x: &[f32] = x,
                affine: Affine = affine,
                y: &mut [f32] = y,
                means: &mut [f32] = means,
                scales: &mut [f32] = scales
            )
        );
    });
}

#[inline(always)]
fn some_rows<const FMA: bool>(
    rows: NormRows,
    first: usize,
    eps: f32,
    x: &[f32],
    affine: Affine,
    y: &mut [f32],
    means: &mut [f32],
    scales: &mut [f32],
) {
    let count = rows.count();
    for (i, scale) in scales.iter_mut().enumerate() {
        let range = i * count..(i + 1) * count;
        let (x, y) = (&x[range.clone()], &mut y[range]);
        let mut mean = 0.0;
        if rows.is_centred() {
            mean = sum(x, |x| x) / count as f32;
            means[i] = mean;
        }
        let variance = sum(x, |x| (x - mean) * (x - mean)) / count as f32;
        *scale = 1.0 / (variance + eps).sqrt();
        let channels = (first + i) % rows.groups * rows.channels;
        let channels = channels..channels + rows.channels;
        let (weight, bias) = (affine.weight.map(|w| &w[channels.clone()]), affine.bias.map(|b| &b[channels]));
        if rows.inner == 1 {
            by_element::<FMA>(x, mean, *scale, weight, bias, y);
        } else {
            by_channel::<FMA>(rows.inner, x, mean, *scale, weight, bias, y);
        }
    }
}

/// The sum of `term` over neighbours.
#[inline(always)]
fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut totals = [0.0; LANES];
    for x in x.chunks(BLOCK) {
        let mut sums = [0.0; LANES];
        let (whole, rest) = x.as_chunks::<LANES>();
        for x in whole {
            for i in 0..LANES {
                sums[i] += term(x[i]);
            }
        }
        add_rest(&mut sums, rest.iter().map(|&x| term(x)));
        for (total, sum) in totals.iter_mut().zip(&sums) {
            *total += sum;
        }
    }
    fold_apart(totals)
}

/// A channel has one element.
#[inline(always)]
fn by_element<const FMA: bool>(
    x: &[f32],
    mean: f32,
    scale: f32,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let pairs = y.iter_mut().zip(x);
    match (weight, bias) {
        (Some(weight), Some(bias)) => {
            for (((y, &x), &w), &b) in pairs.zip(weight).zip(bias) {
                *y = math::madd::<FMA>((x - mean) * scale, w, b);
            }
        }
        (Some(weight), None) => {
            for ((y, &x), &w) in pairs.zip(weight) {
                *y = (x - mean) * scale * w;
            }
        }
        (None, Some(bias)) => {
            for ((y, &x), &b) in pairs.zip(bias) {
                *y = math::madd::<FMA>(x - mean, scale, b);
            }
        }
        (None, None) => {
            for (y, &x) in pairs {
                *y = (x - mean) * scale;
            }
        }
    }
}

/// A channel has `inner` neighbours, more than a few, or none.
#[inline(always)]
fn by_channel<const FMA: bool>(
    inner: usize,
    x: &[f32],
    mean: f32,
    scale: f32,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    if inner == 0 {
        return;
    }
    for (channel, (x, y)) in x.chunks_exact(inner).zip(y.chunks_exact_mut(inner)).enumerate() {
        let w = weight.map_or(1.0, |weight| weight[channel]);
        let b = bias.map_or(0.0, |bias| bias[channel]);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = math::madd::<FMA>((x - mean) * scale, w, b);
        }
    }
}
