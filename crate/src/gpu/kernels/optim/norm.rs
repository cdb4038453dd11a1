//! Σ x² over any number of tensors, in two stages. Every block of [`BLOCK`] elements of a tensor is summed by one workgroup,
//! then one workgroup sums the blocks, tensor by tensor. Both walk by position, so the order depends on the sizes alone:
//! not on how many tensors a call could bind, nor on whether they allow vectors.

use super::{choose, find_segment};
use crate::error::Result;
use crate::gpu::kernels::shader::{Builder, Call, IMMEDIATE_WORDS, Memory, Type, windows_of};
use crate::gpu::kernels::{Prepared, Target, output, share};
use crate::plan::{Kernel, Operand};

/// Invocations of a workgroup.
const GROUP: usize = 256;

/// Elements of a block: eight vectors for every invocation.
const BLOCK: usize = GROUP * 32;

/// Words of a call besides two for each tensor.
const FIXED_WORDS: usize = 4;

/// Adds up `sum` of all invocations in `lanes[0]`: pairs at distance 128, 64, …
const TREE: &str = "lanes[local] = sum;
workgroupBarrier();
for (var gap = 128u; gap > 0u; gap /= 2u) {
  if (local < gap) { lanes[local] += lanes[local + gap]; }
  workgroupBarrier();
}";

/// Σ over all operands of x².
pub(in super::super) fn squared_norm(kernel: &Kernel, target: Target) -> Result<Prepared> {
    let y = output(kernel, 0)?;
    let tensors: Vec<&Operand> = kernel.inputs.iter().flatten().filter(|x| x.numel > 0).collect();
    let blocks: usize = tensors.iter().map(|x| x.numel.div_ceil(BLOCK)).sum();
    let scratch = blocks.next_multiple_of(64).max(64);
    let sums = Memory::Scratch { offset: 0, words: scratch };
    let bindings = (target.traits.bindings as usize).saturating_sub(windows_of(target.traits, scratch));
    let (mut calls, mut group, mut bound, mut first) = (Vec::new(), Vec::new(), 0, 0);
    for x in tensors {
        let windows = windows_of(target.traits, x.numel);
        let is_full = bound + windows > bindings || FIXED_WORDS + 2 * group.len() + 2 > IMMEDIATE_WORDS;
        if group.last().is_some_and(|last: &&Operand| is_full || !share(last.numel, x.numel, target)) {
            calls.push(blocks_of(&group, sums, first, target)?);
            first += group.iter().map(|x: &&Operand| x.numel.div_ceil(BLOCK)).sum::<usize>();
            group.clear();
            bound = 0;
        }
        group.push(x);
        bound += windows;
    }
    if !group.is_empty() {
        calls.push(blocks_of(&group, sums, first, target)?);
    }
    calls.push(total(sums, blocks, y, target)?);
    Ok(Prepared { calls, scratch, check: None })
}

/// The call that sums the blocks of some tensors into `sums` from `first` on.
fn blocks_of(tensors: &[&Operand], sums: Memory, first: usize, target: Target) -> Result<Call> {
    let vectors = tensors.iter().all(|x| Builder::is_aligned(x, target.aligned));
    let ty = if vectors { Type::Vec4F32 } else { Type::F32 };
    let mut b = Builder::new(target.traits, "squared_norm").masked();
    b.buffer("sums", sums, Type::F32);
    let groups = tensors.iter().map(|x| x.numel.div_ceil(BLOCK)).sum::<usize>();
    b.value("groups", groups);
    b.value("first", first);
    for (j, x) in tensors.iter().enumerate() {
        b.buffer(&format!("x{j}"), Memory::Operand(**x), ty);
        b.value(&format!("count_{j}"), x.numel);
    }
    b.item("var<workgroup> lanes: array<f32, 256>;");
    b.item(&choose("x", ty, tensors.len()));
    let read = if vectors {
        "x(segment, k)".to_owned()
    } else {
        let at = |i: usize| format!("x(segment, min(k * 4u + {i}u, count - 1u))");
        format!("vec4<f32>({}, {}, {}, {})", at(0), at(1), at(2), at(3))
    };
    let main = find_segment(tensors.len(), BLOCK, 1)
        + &format!(
            "var squares = vec4<f32>();
for (var n = 0u; n < 8u; n++) {{
  let k = block * 2048u + n * 256u + local;
  if (k * 4u < count) {{
    let v = {read};
    squares += select(vec4<f32>(), v * v, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count - k * 4u));
  }}
}}
let sum = (squares.x + squares.y) + (squares.z + squares.w);
{TREE}
if (local == 0u && group() < p.groups) {{ sums_set(p.first + group(), lanes[0]); }}"
        );
    b.finish(GROUP as u32, [groups, 1, 1], &main)
}

/// The call that sums the blocks.
fn total(sums: Memory, blocks: usize, y: &Operand, target: Target) -> Result<Call> {
    let mut b = Builder::new(target.traits, "squared_norm_total").masked();
    b.buffer("sums", sums, Type::F32);
    b.operand("y", y);
    b.value("blocks", blocks);
    b.item("var<workgroup> lanes: array<f32, 256>;");
    let main = format!(
        "var sum = 0.0;\nfor (var i = local; i < p.blocks; i += 256u) {{ sum += sums(i); }}\n{TREE}\n\
         if (local == 0u) {{ y_set(0u, lanes[0]); }}"
    );
    b.finish(GROUP as u32, [1, 1, 1], &main)
}
