//! What is done to each element: normalisation, and the gradient of x. An invocation has a run of elements of one
//! channel, or of four neighbours where channels or positions come in fours: four channels side by side, or four positions.

use super::super::shader::{Builder, Call, Memory, Type};
use super::super::{Prepared, Target, input, output};
use super::GROUP;
use crate::error::Result;
use crate::gpu::Class;
use crate::plan::{Kernel, Operand};
use crate::program::op::Channels;

/// Elements (or fours of them) that an invocation has behind each other along the outer axis: they share what is known of
/// the channel, and the divisions that find it, which cost a processor that plays the GPU more than the rest.
fn run_length(target: Target) -> usize {
    if target.traits.class == Class::Software { 32 } else { 8 }
}

/// What an invocation works on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// One element.
    One,
    /// Four channels.
    Channels,
    /// Four positions.
    Positions,
}

impl Unit {
    /// What suits the shape, if every operand that is read or written in fours begins at one.
    fn of(of: Channels, elements: &[&Operand], channels: &[&Operand], mask: Option<&Operand>, target: Target) -> Self {
        let aligned = |operand: &&Operand| Builder::is_aligned(operand, target.aligned);
        let elements = elements.iter().all(aligned);
        if of.inner == 1 && of.channels.is_multiple_of(4) && elements && channels.iter().all(aligned) {
            Self::Channels
        } else if of.inner > 1 && of.inner.is_multiple_of(4) && elements && mask.iter().all(aligned) {
            Self::Positions
        } else {
            Self::One
        }
    }

    fn elements(self) -> Type {
        if self == Self::One { Type::F32 } else { Type::Vec4F32 }
    }

    fn channels(self) -> Type {
        if self == Self::Channels { Type::Vec4F32 } else { Type::F32 }
    }

    fn mask(self) -> Type {
        if self == Self::Positions { Type::Vec4U32 } else { Type::U32 }
    }

    /// Writes the call that sets `y` at `i` to `value`; where the mask says so, to 0. `channel` comes before, once for all
    /// elements that an invocation has, and knows the channel `c`.
    fn finish(
        self,
        mut b: Builder,
        of: Channels,
        is_masked: bool,
        run: usize,
        [channel, value]: [&str; 2],
    ) -> Result<Call> {
        let (channels, inner) = match self {
            Self::Channels => (of.channels / 4, 1),
            Self::Positions => (of.channels, of.inner / 4),
            Self::One => (of.channels, of.inner),
        };
        let (span, runs) = (channels * inner, of.outer.div_ceil(run));
        b.value("inner", inner);
        b.value("span", span);
        b.value("outer", of.outer);
        b.value("count", span * runs);
        let store = if is_masked {
            let on = match self {
                Self::Positions => "mask(q) != vec4<u32>()",
                Self::Channels | Self::One => "mask(q) != 0u",
            };
            let zero = if self == Self::One { "0.0" } else { "vec4<f32>()" };
            format!("let q = o * p.inner + place % p.inner;\ny_set(i, select({zero}, {value}, {on}));")
        } else {
            format!("y_set(i, {value});")
        };
        let main = format!(
            "let unit = group() * {GROUP}u + local;
if (unit >= p.count) {{ return; }}
let place = unit % p.span;
let c = place / p.inner;
let first = unit / p.span * {run}u;
{channel}
for (var o = first; o < min(first + {run}u, p.outer); o++) {{
let i = o * p.span + place;
{store}
}}"
        );
        b.finish(GROUP as u32, [(span * runs).div_ceil(GROUP), 1, 1], &main)
    }
}

/// y ← (x − μ)·istd·γ + β.
pub(super) fn forward(kernel: &Kernel, of: Channels, target: Target) -> Result<Prepared> {
    let (x, y) = (input(kernel, 0)?, output(kernel, 0)?);
    if y.numel == 0 {
        return Ok(Prepared::default());
    }
    let [weight, bias, mask] = [3, 4, 5].map(|position| kernel.inputs.get(position).and_then(Option::as_ref));
    let (mean, istd) = (input(kernel, 1)?, input(kernel, 2)?);
    let channels: Vec<&Operand> = [Some(mean), Some(istd), weight, bias].into_iter().flatten().collect();
    let unit = Unit::of(of, &[x, y], &channels, mask, target);
    let mut b = Builder::new(target.traits, "batch_norm").masked();
    b.buffer("x", Memory::Operand(*x), unit.elements());
    b.buffer("mean", Memory::Operand(*mean), unit.channels());
    b.buffer("istd", Memory::Operand(*istd), unit.channels());
    b.buffer("y", Memory::Operand(*y), unit.elements());
    let mut scale = "istd(c)".to_owned();
    let mut shift = "";
    if let Some(weight) = weight {
        b.buffer("weight", Memory::Operand(*weight), unit.channels());
        scale += " * weight(c)";
    }
    if let Some(bias) = bias {
        b.buffer("bias", Memory::Operand(*bias), unit.channels());
        shift = "\nlet shift = bias(c);";
    }
    if let Some(mask) = mask {
        b.buffer("mask", Memory::Operand(*mask), unit.mask());
    }
    let channel = format!("let m = mean(c);\nlet scale = {scale};{shift}");
    let value = if bias.is_some() { "(x(i) - m) * scale + shift" } else { "(x(i) - m) * scale" };
    Ok(vec![unit.finish(b, of, mask.is_some(), run_length(target), [&channel, value])?].into())
}

/// dx ← γ·istd·(dy − Σdy/m − x̂·Σdy·x̂/m): first four coefficients of each channel, then all elements.
pub(super) fn grad(kernel: &Kernel, of: Channels, target: Target) -> Result<Prepared> {
    let (dy, x, dx) = (input(kernel, 0)?, input(kernel, 1)?, output(kernel, 0)?);
    if dx.numel == 0 {
        return Ok(Prepared::default());
    }
    // Every plane begins at a multiple of four, whatever the number of channels.
    let plane = of.channels.next_multiple_of(64);
    let mask = kernel.inputs.get(8).and_then(Option::as_ref);
    let unit = Unit::of(of, &[dy, x, dx], &[], mask, target);
    let mut b = Builder::new(target.traits, "batch_norm_grad").masked();
    b.buffer("dy", Memory::Operand(*dy), unit.elements());
    b.buffer("x", Memory::Operand(*x), unit.elements());
    b.buffer("y", Memory::Operand(*dx), unit.elements());
    b.buffer("each", Memory::Scratch { offset: 0, words: 4 * plane }, unit.channels());
    b.value("plane", if unit == Unit::Channels { plane / 4 } else { plane });
    if let Some(mask) = mask {
        b.buffer("mask", Memory::Operand(*mask), unit.mask());
    }
    let channel = "let m = each(c);
let scale = each(p.plane + c);
let shift = each(2u * p.plane + c);
let slope = each(3u * p.plane + c);";
    let value = "scale * (dy(i) - shift - (x(i) - m) * slope)";
    let apply = unit.finish(b, of, mask.is_some(), run_length(target), [channel, value])?;
    Ok(Prepared { calls: vec![coefficients(kernel, of, plane, target)?, apply], scratch: 4 * plane, check: None })
}

/// μ, γ·istd, Σdy/m and istd·Σdy·x̂/m of each channel.
fn coefficients(kernel: &Kernel, of: Channels, plane: usize, target: Target) -> Result<Call> {
    let mut b = Builder::new(target.traits, "batch_norm_coefficients").masked();
    b.operand("mean", input(kernel, 2)?);
    b.operand("istd", input(kernel, 3)?);
    b.operand("sums", input(kernel, 5)?);
    b.operand("products", input(kernel, 6)?);
    b.operand("total", input(kernel, 7)?);
    b.buffer("each", Memory::Scratch { offset: 0, words: 4 * plane }, Type::F32);
    b.value("channels", of.channels);
    b.value("plane", plane);
    let mut scale = "istd(i)";
    if let Some(weight) = kernel.inputs.get(4).and_then(Option::as_ref) {
        b.operand("weight", weight);
        scale = "istd(i) * weight(i)";
    }
    let main = format!(
        "let i = group() * {GROUP}u + local;
if (i >= p.channels) {{ return; }}
let m = total(0u);
each_set(i, mean(i));
each_set(p.plane + i, {scale});
each_set(2u * p.plane + i, sums(i) / m);
each_set(3u * p.plane + i, istd(i) * products(i) / m);"
    );
    b.finish(GROUP as u32, [of.channels.div_ceil(GROUP), 1, 1], &main)
}
