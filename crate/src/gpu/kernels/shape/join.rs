//! `concat`: the result seen as rows, of which every operand supplies a stretch. A call takes as many operands as can be
//! bound; an invocation finds its own by comparing.

use std::fmt::Write as _;

use super::GROUP;
use crate::error::Result;
use crate::gpu::kernels::shader::{Builder, Call, IMMEDIATE_WORDS, Memory, Type, windows_of};
use crate::gpu::kernels::{Prepared, Target, output, share};
use crate::plan::{Kernel, Operand};

/// Words of a call besides two for each operand.
const FIXED_WORDS: usize = 6;

/// An operand and how much of each row it supplies.
type Stretch<'a> = (&'a Operand, usize);

/// The operands one after the other along an axis.
pub(in super::super) fn concat(kernel: &Kernel, axis: usize, target: Target) -> Result<Prepared> {
    let y = output(kernel, 0)?;
    let outer: usize = y.dims.iter().take(axis).map(|&size| size as usize).product();
    if y.numel == 0 {
        return Ok(Prepared::default());
    }
    let parts = kernel.inputs.iter().flatten().filter(|x| x.numel > 0).map(|x| (x, x.numel / outer));
    let bindings = (target.traits.bindings as usize).saturating_sub(windows_of(target.traits, y.numel));
    let (mut calls, mut group, mut bound, mut first) = (Vec::new(), Vec::new(), 0, 0);
    let row = y.numel / outer;
    for part in parts {
        let windows = windows_of(target.traits, part.0.numel);
        let is_full = bound + windows > bindings || FIXED_WORDS + 2 * group.len() + 2 > IMMEDIATE_WORDS;
        if group.last().is_some_and(|last: &Stretch| is_full || !share(last.0.numel, part.0.numel, target)) {
            calls.push(stretches(&group, y, row, first, target)?);
            first += group.iter().map(|&(_, width)| width).sum::<usize>();
            group.clear();
            bound = 0;
        }
        group.push(part);
        bound += windows;
    }
    calls.push(stretches(&group, y, row, first, target)?);
    Ok(calls.into())
}

/// The call that copies some operands, which lie next to each other from `first` on in each row of the result.
fn stretches(parts: &[Stretch], y: &Operand, row: usize, first: usize, target: Target) -> Result<Call> {
    let vectors = row.is_multiple_of(4)
        && first.is_multiple_of(4)
        && parts.iter().all(|(x, width)| width.is_multiple_of(4) && Builder::is_aligned(x, target.aligned));
    let (ty, unit) = if vectors { (Type::Vec4U32, 4) } else { (Type::U32, 1) };
    let mut b = Builder::new(target.traits, "concat").masked();
    b.buffer("y", Memory::Operand(*y), ty);
    let span = parts.iter().map(|&(_, width)| width).sum::<usize>() / unit;
    let count = y.numel / row * span;
    b.value("count", count);
    b.value("span", span);
    b.value("row", row / unit);
    b.value("first", first / unit);
    let mut main = "let i = group() * 256u + local;\nif (i >= p.count) { return; }\n\
                    let line = i / p.span;\nvar column = i - line * p.span;\nlet to = line * p.row + p.first + column;\n"
        .to_owned();
    for (i, &(x, width)) in parts.iter().enumerate() {
        b.buffer(&format!("x{i}"), Memory::Operand(*x), ty);
        b.value(&format!("width_{i}"), width / unit);
        let _ = writeln!(
            main,
            "if (column < p.width_{i}) {{ y_set(to, x{i}(line * p.width_{i} + column)); return; }}\n\
             column -= p.width_{i};"
        );
    }
    b.finish(GROUP as u32, [count.div_ceil(GROUP), 1, 1], &main)
}
