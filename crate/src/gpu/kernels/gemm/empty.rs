//! Products without terms: K is 0, every sum is 0, and what is left is the epilogue. A and B have no memory to bind.

use super::super::Target;
use super::super::shader::{Builder, Call};
use super::product::Product;
use crate::error::Result;

const SIZE: usize = 64;

/// The dispatch.
pub(super) fn call(product: &Product, target: Target) -> Result<Call> {
    let mut b = Builder::new(target.traits, "gemm of nothing").masked();
    b.value("n", product.n);
    let rows = product.m * product.items();
    let quads = product.n.div_ceil(4);
    b.value("rows", rows);
    product.epilogue.declare(&mut b, product.flags().c)?;
    let finish = if product.epilogue.in_two_passes() { "finish(at, col);" } else { "" };
    let main = format!(
        "let index = group() * {SIZE}u + local;\nlet quads = (p.n + 3u) / 4u;\nlet row = index / quads;\n\
         let col = index % quads * 4u;\n\
         if (row < p.rows) {{\nlet at = row * p.n + col;\nstore(at, col, vec4<f32>(), bias4(col));\n{finish}\n}}"
    );
    b.finish(SIZE as u32, [(rows * quads).div_ceil(SIZE), 1, 1], &main)
}
