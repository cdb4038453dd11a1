//! `pad`: an invocation per word or vector of the result, which takes the operand's where there is one. Dimensions without
//! padding are merged with the one around them.

use std::fmt::Write as _;

use super::GROUP;
use crate::error::Result;
use crate::gpu::kernels::shader::{Builder, Memory, Type, Word};
use crate::gpu::kernels::{Prepared, Target, input, output};
use crate::plan::Kernel;

/// A dimension of the result, and which part of it is the operand's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Padded {
    size: usize,
    before: usize,
    inner: usize,
}

/// The operand inside a larger result that is `value` elsewhere.
pub(in super::super) fn pad(kernel: &Kernel, before: &[u32], value: u32, target: Target) -> Result<Prepared> {
    let (x, y) = (input(kernel, 0)?, output(kernel, 0)?);
    if y.numel == 0 {
        return Ok(Prepared::default());
    }
    let mut dimensions = merged(&y.dims, before, &x.dims);
    let vectors = Builder::is_aligned(x, target.aligned)
        && dimensions.last().is_some_and(|d| [d.size, d.before, d.inner].iter().all(|size| size.is_multiple_of(4)));
    let ty = if vectors { Type::Vec4U32 } else { Type::U32 };
    if let Some(last) = dimensions.last_mut().filter(|_| vectors) {
        *last = Padded { size: last.size / 4, before: last.before / 4, inner: last.inner / 4 };
    }
    let count = dimensions.iter().map(|d| d.size).product::<usize>();
    let mut b = Builder::new(target.traits, "pad").masked();
    b.buffer("y", Memory::Operand(*y), ty);
    b.value("count", count);
    b.word("fill", "u32", Word::Scalar(value, y.dtype));
    let mut main = format!(
        "let i = group() * 256u + local;\nif (i >= p.count) {{ return; }}\nvar word = {}(p.fill);\n",
        ty.name()
    );
    if x.numel > 0 {
        b.buffer("x", Memory::Operand(*x), ty);
        main += "var rest = i; var at = 0u; var step = 1u; var inside = true;\n";
        for (d, &Padded { size, before, inner }) in dimensions.iter().enumerate().rev() {
            b.value(&format!("before_{d}"), before);
            b.value(&format!("inner_{d}"), inner);
            let index = if d == 0 {
                "rest".to_owned()
            } else {
                b.value(&format!("size_{d}"), size);
                let _ = writeln!(main, "let rest_{d} = rest / p.size_{d};");
                format!("rest - rest_{d} * p.size_{d}")
            };
            // Below the begin it wraps to a number above every size.
            let _ = writeln!(
                main,
                "let index_{d} = {index} - p.before_{d};\ninside = inside && index_{d} < p.inner_{d};\n\
                 at += index_{d} * step; step *= p.inner_{d};"
            );
            if d > 0 {
                let _ = writeln!(main, "rest = rest_{d};");
            }
        }
        main += "if (inside) { word = x(at); }\n";
    }
    main += "y_set(i, word);";
    Ok(vec![b.finish(GROUP as u32, [count.div_ceil(GROUP), 1, 1], &main)?].into())
}

fn merged(sizes: &[u32], before: &[u32], inner: &[u32]) -> Vec<Padded> {
    let mut dimensions: Vec<Padded> = Vec::new();
    for ((&size, &before), &inner) in sizes.iter().zip(before).zip(inner) {
        let (size, next) =
            (size as usize, Padded { size: size as usize, before: before as usize, inner: inner as usize });
        match dimensions.last_mut() {
            Some(last) if next == (Padded { size, before: 0, inner: size }) => {
                *last = Padded { size: last.size * size, before: last.before * size, inner: last.inner * size };
            }
            _ => dimensions.push(next),
        }
    }
    dimensions
}
