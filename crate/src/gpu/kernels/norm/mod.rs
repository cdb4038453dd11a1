//! Normalisation of rows (layerNorm, groupNorm, rmsNorm), forward and backward. A tensor is `[outer, groups, channels, inner]`,
//! a row `channels · inner` neighbours of it; weight and bias go by channel.
//!
//! y and dx are one dispatch each, in which a row stays in registers where it fits: mean, squares around it, result; or two
//! sums at once, result (`rows.rs`). The gradients of weight and bias are sums over the batch, taken in stages whose order
//! is one of positions (`affine.rs`).

mod affine;
mod rows;
#[cfg(test)]
mod tests;

use super::reduce::{Scratch, fill};
use super::shader::{Memory, Word};
use super::{Prepared, Target, input, output};
use crate::error::Result;
use crate::plan::Kernel;
use crate::program::op::{NormRows, Wanted};
use rows::{Phase, Work};

/// `[x, weight?, bias?]` → y, the means where rows are centred, the scales.
pub(super) fn forward(kernel: &Kernel, rows: NormRows, eps: f64, target: Target) -> Result<Prepared> {
    let (x, y) = (input(kernel, 0)?, output(kernel, 0)?);
    let statistics = kernel.outputs.get(1..).unwrap_or_default();
    if x.numel == 0 {
        // What is known of rows without elements is nothing.
        let filled = statistics.iter().filter(|statistic| statistic.numel > 0);
        let calls = filled.map(|to| fill(to.numel, Memory::Operand(*to), f32::NAN.to_bits(), target));
        return Ok(calls.collect::<Result<Vec<_>>>()?.into());
    }
    let squares = Phase {
        terms: &["(a - V(mean)) * (a - V(mean))"],
        is_weighted: false,
        then: "scale = 1.0 / sqrt(s / p.size + p.eps);",
    };
    let mean = Phase { terms: &["a"], is_weighted: false, then: "mean = s / p.size;" };
    let centred = [mean, squares];
    let work = Work {
        name: "norm",
        rows: rows.rows(),
        count: rows.count(),
        a: x,
        b: None,
        out: Some(y),
        layout: Some(rows),
        weight: kernel.inputs.get(1).and_then(Option::as_ref),
        bias: kernel.inputs.get(2).and_then(Option::as_ref),
        before: "",
        phases: if rows.is_centred() { &centred } else { &centred[1..] },
        result: "(a - V(mean)) * scale * w + c",
        last: if rows.is_centred() {
            "means_set(row, mean); scales_set(row, scale);"
        } else {
            "scales_set(row, scale);"
        },
    };
    let call = work.call(target, |b| {
        b.word("eps", "f32", Word::Value((eps as f32).to_bits()));
        let names = if rows.is_centred() { &["means", "scales"][..] } else { &["scales"] };
        for (name, statistic) in names.iter().zip(statistics) {
            b.operand(name, statistic);
        }
    })?;
    Ok(vec![call].into())
}

/// `[dy, x, weight?, means where rows are centred, scales]` → the wanted of dx, dweight, dbias.
pub(super) fn backward(kernel: &Kernel, rows: NormRows, wanted: Wanted, target: Target) -> Result<Prepared> {
    let (dy, x) = (input(kernel, 0)?, input(kernel, 1)?);
    let statistics = kernel.inputs.get(3..).unwrap_or_default().iter().flatten().copied().collect::<Vec<_>>();
    let mut results = kernel.outputs.iter();
    let mut next = |is: bool| if is { results.next() } else { None };
    let (dx, dweight, dbias) = (next(wanted.dx), next(wanted.dweight), next(wanted.dbias));
    let mut prepared = Prepared::default();
    if x.numel == 0 {
        for sums in [dweight, dbias].into_iter().flatten().filter(|sums| sums.numel > 0) {
            prepared.calls.push(fill(sums.numel, Memory::Operand(*sums), 0, target)?);
        }
        return Ok(prepared);
    }
    let mut scratch = Scratch::default();
    if let Some(dx) = dx {
        let phase = Phase {
            terms: &["a * w", "a * w * ((b - V(mean)) * scale)"],
            is_weighted: true,
            then: if rows.is_centred() {
                "centre = s.x / p.size; along = s.y / p.size;"
            } else {
                "centre = 0.0; along = s.y / p.size;"
            },
        };
        let work = Work {
            name: "norm_grad",
            rows: rows.rows(),
            count: rows.count(),
            a: dy,
            b: Some(x),
            out: Some(dx),
            layout: Some(rows),
            weight: kernel.inputs.get(2).and_then(Option::as_ref),
            bias: None,
            before: if rows.is_centred() {
                "mean = means(here); scale = scales(here);"
            } else {
                "mean = 0.0; scale = scales(here);"
            },
            phases: &[phase],
            result: "scale * ((a * w - V(centre)) - (b - V(mean)) * scale * along)",
            last: "",
        };
        prepared.calls.push(work.call(target, |b| affine::declare(b, &statistics))?);
    }
    let affine = affine::Sums { rows, dy, x, statistics: &statistics, dweight, dbias };
    affine.prepare(target, &mut scratch, &mut prepared.calls)?;
    prepared.scratch = scratch.words;
    Ok(prepared)
}
