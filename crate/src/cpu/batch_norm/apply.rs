//! What is done to each element: normalisation, and the gradient of x. Coefficients of the channels are worked out once,
//! so that an element costs two or three operations; x − μ comes first, because a shift that is worked out from μ would
//! cancel where μ is large. The bits of an element do not depend on the others.

use crate::cpu::Cpu;
use crate::cpu::math::madd;
use crate::cpu::share::{Shared, with_floats};
use crate::program::op::Channels;

/// What a channel is normalised with.
#[derive(Clone, Copy)]
pub struct Coefficients<'a> {
    /// Means.
    pub mean: &'a [f32],
    /// 1/√(variance + eps).
    pub istd: &'a [f32],
    /// γ; 1 where there is none.
    pub weight: Option<&'a [f32]>,
}

impl Coefficients<'_> {
    /// istd·γ.
    fn scale(&self, scale: &mut [f32]) {
        scale.copy_from_slice(self.istd);
        if let Some(weight) = self.weight {
            for (scale, weight) in scale.iter_mut().zip(weight) {
                *scale *= weight;
            }
        }
    }
}

/// y ← (x − μ)·istd·γ + β; 0 where the mask says so.
pub fn forward(
    cpu: &Cpu,
    of: Channels,
    with: Coefficients,
    bias: Option<&[f32]>,
    x: &[f32],
    mask: Option<&[u32]>,
    y: &mut [f32],
) {
    with_floats(2 * of.channels, |scratch| {
        let (scale, shift) = scratch.split_at_mut(of.channels);
        with.scale(scale);
        match bias {
            Some(bias) => shift.copy_from_slice(bias),
            None => shift.fill(0.0),
        }
        let each = [with.mean, &*scale, &*shift];
        pieces(cpu, of, 300, y, &|first, y| {
            crate::dispatch!(
                cpu.isa,
                normalise(
                    of: Channels = of,
                    first: usize = first,
                    each: [&[f32]; 3] = each,
                    x: &[f32] = x,
                    mask: Option<&[u32]> = mask,
                    y: &mut [f32] = y
                )
            );
        });
    });
}

/// dx ← γ·istd·(dy − Σdy/m − x̂·Σdy·x̂/m); 0 where the mask says so. `sums` are Σdy and Σdy·x̂.
#[expect(clippy::too_many_arguments, reason = "the operands of the instruction")]
pub fn grad(
    cpu: &Cpu,
    of: Channels,
    with: Coefficients,
    sums: [&[f32]; 2],
    count: f32,
    dy: &[f32],
    x: &[f32],
    mask: Option<&[u32]>,
    dx: &mut [f32],
) {
    with_floats(3 * of.channels, |scratch| {
        let (scale, rest) = scratch.split_at_mut(of.channels);
        let (shift, slope) = rest.split_at_mut(of.channels);
        with.scale(scale);
        for (shift, sum) in shift.iter_mut().zip(sums[0]) {
            *shift = sum / count;
        }
        for ((slope, product), istd) in slope.iter_mut().zip(sums[1]).zip(with.istd) {
            *slope = product / count * istd;
        }
        let each = [with.mean, &*scale, &*shift, &*slope];
        pieces(cpu, of, 400, dx, &|first, dx| {
            crate::dispatch!(
                cpu.isa,
                descend(
                    of: Channels = of,
                    first: usize = first,
                    each: [&[f32]; 4] = each,
                    dy: &[f32] = dy,
                    x: &[f32] = x,
                    mask: Option<&[u32]> = mask,
                    dx: &mut [f32] = dx
                )
            );
        });
    });
}

/// Calls `body` with parts of a result, each some rows of channels (`inner` = 1) or runs of one channel, and the number of
/// the first row or run.
fn pieces(cpu: &Cpu, of: Channels, picoseconds: u64, out: &mut [f32], body: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let (count, length) = if of.inner == 1 { (of.outer, of.channels) } else { (of.outer * of.channels, of.inner) };
    if count * length == 0 {
        return;
    }
    let tasks = cpu.tasks(out.len() as u64 * picoseconds, count);
    let out = Shared::new(out);
    cpu.ranges(tasks, count, &|range| {
        // SAFETY: ranges are disjoint.
        let out = unsafe { out.part(range.start * length..range.end * length) };
        body(range.start, out);
    });
}

#[inline(always)]
fn normalise<const FMA: bool>(
    of: Channels,
    first: usize,
    [mean, scale, shift]: [&[f32]; 3],
    x: &[f32],
    mask: Option<&[u32]>,
    y: &mut [f32],
) {
    if of.inner == 1 {
        for (row, y) in y.chunks_exact_mut(of.channels).enumerate().map(|(i, y)| (first + i, y)) {
            if mask.is_some_and(|mask| mask[row] == 0) {
                y.fill(0.0);
                continue;
            }
            let x = &x[row * of.channels..(row + 1) * of.channels];
            for ((((y, x), mean), scale), shift) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(shift) {
                *y = madd::<FMA>(x - mean, *scale, *shift);
            }
        }
        return;
    }
    for (run, y) in y.chunks_exact_mut(of.inner).enumerate().map(|(i, y)| (first + i, y)) {
        let (o, channel) = (run / of.channels, run % of.channels);
        let (mean, scale, shift) = (mean[channel], scale[channel], shift[channel]);
        let x = &x[run * of.inner..(run + 1) * of.inner];
        match mask {
            None => {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = madd::<FMA>(x - mean, scale, shift);
                }
            }
            Some(mask) => {
                for ((y, x), &on) in y.iter_mut().zip(x).zip(&mask[o * of.inner..(o + 1) * of.inner]) {
                    let value = madd::<FMA>(x - mean, scale, shift);
                    *y = if on == 0 { 0.0 } else { value };
                }
            }
        }
    }
}

#[inline(always)]
fn descend<const FMA: bool>(
    of: Channels,
    first: usize,
    [mean, scale, shift, slope]: [&[f32]; 4],
    dy: &[f32],
    x: &[f32],
    mask: Option<&[u32]>,
    dx: &mut [f32],
) {
    if of.inner == 1 {
        for (row, dx) in dx.chunks_exact_mut(of.channels).enumerate().map(|(i, dx)| (first + i, dx)) {
            if mask.is_some_and(|mask| mask[row] == 0) {
                dx.fill(0.0);
                continue;
            }
            let range = row * of.channels..(row + 1) * of.channels;
            let each = mean.iter().zip(scale).zip(shift).zip(slope);
            for (((dx, dy), x), (((mean, scale), shift), slope)) in
                dx.iter_mut().zip(&dy[range.clone()]).zip(&x[range]).zip(each)
            {
                *dx = scale * madd::<FMA>(mean - x, *slope, dy - shift);
            }
        }
        return;
    }
    for (run, dx) in dx.chunks_exact_mut(of.inner).enumerate().map(|(i, dx)| (first + i, dx)) {
        let (o, channel) = (run / of.channels, run % of.channels);
        let (mean, scale, shift, slope) = (mean[channel], scale[channel], shift[channel], slope[channel]);
        let range = run * of.inner..(run + 1) * of.inner;
        let (dy, x) = (&dy[range.clone()], &x[range]);
        match mask {
            None => {
                for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = scale * madd::<FMA>(mean - x, slope, dy - shift);
                }
            }
            Some(mask) => {
                for (((dx, dy), x), &on) in dx.iter_mut().zip(dy).zip(x).zip(&mask[o * of.inner..(o + 1) * of.inner]) {
                    let value = scale * madd::<FMA>(mean - x, slope, dy - shift);
                    *dx = if on == 0 { 0.0 } else { value };
                }
            }
        }
    }
}
