//! `assign` and `addInto`: two stretches of memory of one length, the first changed in place. It may lie inside a slab, so
//! vectors stop before its end and single words finish it.

use std::fmt::Write as _;

use super::GROUP;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::gpu::Traits;
use crate::gpu::kernels::shader::{Builder, Call, Memory, Type, Word};
use crate::gpu::kernels::{Prepared, Target};
use crate::plan::Operand;
use crate::shape::Dims;

/// Some elements of an operand, as a vector.
pub(in super::super) fn part(operand: &Operand, start: usize, length: usize) -> Operand {
    let mut part = *operand;
    part.location.offset += start;
    part.dims = Dims::new(&[length as u32]).unwrap_or_default();
    part.numel = length;
    part
}

/// The most words that one binding always reaches, wherever they begin. A multiple of 16.
pub(in super::super) fn window_words(traits: &Traits) -> usize {
    (traits.binding_bytes.saturating_sub(u64::from(traits.alignment)) / 4) as usize & !15
}

/// to ← from, or to += from, in calls that bind one window each.
pub(super) fn in_place(
    name: &'static str,
    to: &Operand,
    from: &Operand,
    add: bool,
    target: Target,
) -> Result<Prepared> {
    let step = window_words(target.traits);
    let starts = (0..to.numel).step_by(step.max(1));
    let calls = starts.map(|start| {
        let length = step.min(to.numel - start);
        piece(name, &part(to, start, length), &part(from, start, length), add, target)
    });
    Ok(calls.collect::<Result<Vec<_>>>()?.into())
}

fn piece(name: &'static str, to: &Operand, from: &Operand, add: bool, target: Target) -> Result<Call> {
    let vectors = [to, from].iter().all(|operand| Builder::is_aligned(operand, target.aligned));
    let float = add && to.dtype == Dtype::F32;
    // i32 wraps as u32 does.
    let (word, vector) = if float { (Type::F32, Type::Vec4F32) } else { (Type::U32, Type::Vec4U32) };
    let mut b = Builder::new(target.traits, name).masked();
    b.buffer("faults", Memory::Faults, Type::U32);
    b.word("gate", "u32", Word::Gate);
    let (bulk, rest) = if vectors { (to.numel / 4, to.numel % 4) } else { (to.numel, 0) };
    let mut main = "if (faults(p.gate) != 0u) { return; }\nlet i = group() * 256u + local;\n".to_owned();
    let set = |to: &str, from: &str, i: &str| {
        let sum = if add { format!("{to}({i}) + ") } else { String::new() };
        format!("{to}_set({i}, {sum}{from}({i}));")
    };
    if bulk > 0 {
        let ty = if vectors { vector } else { word };
        b.buffer("to", Memory::Operand(part(to, 0, to.numel - rest)), ty);
        b.buffer("source", Memory::Operand(part(from, 0, to.numel - rest)), ty);
        let _ = writeln!(main, "if (i < p.bulk) {{ {} }}", set("to", "source", "i"));
    }
    b.value("bulk", bulk);
    if rest > 0 {
        b.buffer("to_end", Memory::Operand(part(to, to.numel - rest, rest)), word);
        b.buffer("source_end", Memory::Operand(part(from, to.numel - rest, rest)), word);
        b.value("rest", rest);
        let _ = write!(
            main,
            "if (i >= p.bulk && i - p.bulk < p.rest) {{ let j = i - p.bulk; {} }}",
            set("to_end", "source_end", "j")
        );
    }
    b.finish(GROUP as u32, [(bulk + rest).div_ceil(GROUP), 1, 1], &main)
}
