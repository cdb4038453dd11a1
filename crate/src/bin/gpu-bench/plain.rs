//! Kernels to compare with, as one writes them first: they are no part of the device.

use super::measure::Failure;
use tilegrad::gpu::Traits;
use tilegrad::gpu::kernels::Prepared;
use tilegrad::gpu::kernels::shader::{Builder, Memory, Type};
use tilegrad::plan::Operand;

/// Invocations of a workgroup.
const GROUP: usize = 256;

/// C = A·B of `m × k` by `k × n`: one invocation for each element, in workgroups of 16 × 16, operands read as they are
/// needed. Sizes are constants of the text and what a loop can keep in a register is kept there: it is as fast as such a
/// kernel gets.
pub fn matmul(traits: &Traits, [a, b, c]: [&Operand; 3], [m, k, n]: [usize; 3]) -> Result<Prepared, Failure> {
    const SIDE: usize = 16;
    let mut builder = Builder::new(traits, "naive").masked();
    for (name, operand) in [("a", a), ("b", b), ("c", c)] {
        builder.operand(name, operand);
    }
    let across = n.div_ceil(SIDE);
    let main = format!(
        "let row = group() / {across}u * {SIDE}u + local / {SIDE}u;
let col = group() % {across}u * {SIDE}u + local % {SIDE}u;
if (row >= {m}u || col >= {n}u) {{ return; }}
let a_at = p.a_at + row * {k}u;
let b_at = p.b_at + col;
var sum = 0.0;
for (var i = 0u; i < {k}u; i++) {{ sum += a_0[a_at + i] * b_0[b_at + i * {n}u]; }}
c_set(row * {n}u + col, sum);"
    );
    Ok(vec![builder.finish((SIDE * SIDE) as u32, [m.div_ceil(SIDE) * across, 1, 1], &main)?].into())
}

/// y = x by vectors of four.
pub fn copy(traits: &Traits, x: &Operand, y: &Operand) -> Result<Prepared, Failure> {
    let mut builder = Builder::new(traits, "copy").masked();
    builder.buffer("x", Memory::Operand(*x), Type::Vec4F32);
    builder.buffer("y", Memory::Operand(*y), Type::Vec4F32);
    let vectors = x.numel / 4;
    builder.value("count", vectors);
    let main = format!("let i = group() * {GROUP}u + local; if (i < p.count) {{ y_set(i, x(i)); }}");
    Ok(vec![builder.finish(GROUP as u32, [vectors.div_ceil(GROUP), 1, 1], &main)?].into())
}
