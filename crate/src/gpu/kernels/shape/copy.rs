//! A dense result collected from a strided view of an operand: `transpose` and `slice`.
//!
//! Two forms. The strided one has an invocation per word or vector of the result, which it finds in the operand by
//! division. Where the operand's innermost dimension is not the result's, that would read a cache line for every word; the
//! square form has an invocation per 4×4 words, which it turns in registers, and workgroups of 32×32, whose rows are
//! whole cache lines on both sides. It needs neither workgroup memory nor barriers.

use std::fmt::Write as _;

use super::GROUP;
use crate::error::Result;
use crate::gpu::kernels::shader::{Builder, Call, Memory, Type};
use crate::gpu::kernels::{Prepared, Target};
use crate::plan::Operand;

/// Side of the square that a workgroup turns, in words.
const SIDE: usize = 32;

/// Below this many elements along either side, squares would be mostly empty.
const LEAST_SIDE: usize = 12;

/// One dimension of the result, and how far apart its elements are in the operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Dimension {
    pub(super) size: usize,
    pub(super) stride: usize,
}

/// The dimensions of the result, outermost first, without those of one element; and where the operand is entered.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct View {
    pub(super) dimensions: Vec<Dimension>,
    pub(super) start: usize,
}

impl View {
    /// Appends a dimension inside the others, or merges it with the last one. The result is dense, so only the operand
    /// decides.
    pub(super) fn push(&mut self, size: usize, stride: usize) {
        if size == 1 {
            return;
        }
        match self.dimensions.last_mut() {
            Some(last) if last.stride == stride * size => *last = Dimension { size: last.size * size, stride },
            _ => self.dimensions.push(Dimension { size, stride }),
        }
    }

    /// The same in vectors of four words, if neither side's vectors straddle. A single run may end inside a vector:
    /// results own the padding behind them.
    fn in_vectors(&self) -> Option<Self> {
        let (inner, outer) = self.dimensions.split_last()?;
        let fits = inner.stride == 1
            && self.start.is_multiple_of(4)
            && (outer.is_empty() || inner.size.is_multiple_of(4))
            && outer.iter().all(|d| d.stride.is_multiple_of(4));
        let mut dimensions: Vec<_> = outer.iter().map(|d| Dimension { stride: d.stride / 4, ..*d }).collect();
        dimensions.push(Dimension { size: inner.size.div_ceil(4), stride: 1 });
        fits.then_some(Self { dimensions, start: self.start / 4 })
    }

    /// Distances between elements in the result.
    fn places(&self) -> Vec<usize> {
        let mut places = vec![1; self.dimensions.len()];
        let mut stride = 1;
        for (place, d) in places.iter_mut().zip(&self.dimensions).rev() {
            *place = stride;
            stride *= d.size;
        }
        places
    }
}

/// The call that writes `y`, dense, from a view of `x`.
pub(super) fn collect(name: &'static str, view: &View, x: &Operand, y: &Operand, target: Target) -> Result<Prepared> {
    if y.numel == 0 {
        return Ok(Prepared::default());
    }
    let vectors = Builder::is_aligned(x, target.aligned);
    let call = match Squares::of(view) {
        Some(squares) => squares.call(name, vectors, x, y, target)?,
        None => match view.in_vectors().filter(|_| vectors) {
            Some(view) => strided(name, &view, Type::Vec4U32, x, y, target)?,
            None => strided(name, view, Type::U32, x, y, target)?,
        },
    };
    Ok(vec![call].into())
}

fn strided(name: &'static str, view: &View, ty: Type, x: &Operand, y: &Operand, target: Target) -> Result<Call> {
    let mut b = Builder::new(target.traits, name).masked();
    b.buffer("x", Memory::Operand(*x), ty);
    b.buffer("y", Memory::Operand(*y), ty);
    let count = view.dimensions.iter().map(|d| d.size).product::<usize>();
    b.value("count", count);
    b.value("start", view.start);
    let mut main = "let i = group() * 256u + local;\nif (i >= p.count) { return; }\n\
                    var rest = i;\nvar at = p.start;\n"
        .to_owned();
    walk(&mut b, &mut main, view.dimensions.iter().map(|d| (d.size, d.stride, None)));
    main += "y_set(i, x(at));";
    b.finish(GROUP as u32, [count.div_ceil(GROUP), 1, 1], &main)
}

/// Declares dimensions (size, stride in the operand, stride in the result), outermost first, and writes the lines that
/// take the index `rest` apart and advance `at`, and `to`.
fn walk(
    b: &mut Builder,
    main: &mut String,
    dimensions: impl DoubleEndedIterator<Item = (usize, usize, Option<usize>)> + ExactSizeIterator,
) {
    for (d, (size, stride, place)) in dimensions.enumerate().rev() {
        b.value(&format!("stride_{d}"), stride);
        let index = if d == 0 {
            "rest".to_owned()
        } else {
            // One division: shaders do not see that a remainder comes with the quotient.
            b.value(&format!("size_{d}"), size);
            let _ = writeln!(main, "let rest_{d} = rest / p.size_{d};");
            format!("rest - rest_{d} * p.size_{d}")
        };
        let _ = writeln!(main, "let index_{d} = {index};\nat += index_{d} * p.stride_{d};");
        if let Some(place) = place {
            b.value(&format!("place_{d}"), place);
            let _ = writeln!(main, "to += index_{d} * p.place_{d};");
        }
        if d > 0 {
            let _ = writeln!(main, "rest = rest_{d};");
        }
    }
}

/// A view whose innermost dimension is not the operand's.
struct Squares {
    /// The operand's innermost dimension, of stride 1, and its stride in the result.
    across: usize,
    across_place: usize,
    /// The result's innermost dimension.
    along: Dimension,
    /// The others: size, stride in the operand, stride in the result.
    around: Vec<(usize, usize, Option<usize>)>,
    start: usize,
}

impl Squares {
    /// `None` where squares would not pay.
    fn of(view: &View) -> Option<Self> {
        let (&along, outer) = view.dimensions.split_last()?;
        let across = outer.iter().position(|d| d.stride == 1)?;
        let places = view.places();
        let mut around: Vec<_> = outer.iter().zip(&places).map(|(d, &place)| (d.size, d.stride, Some(place))).collect();
        let (size, _, place) = around.remove(across);
        let pays = along.stride != 1 && size >= LEAST_SIDE && along.size >= LEAST_SIDE;
        pays.then_some(Self { across: size, across_place: place?, along, around, start: view.start })
    }

    fn call(&self, name: &'static str, aligned: bool, x: &Operand, y: &Operand, target: Target) -> Result<Call> {
        let Self { across, across_place, along, ref around, start } = *self;
        let steps = [across, across_place, along.size, along.stride, start];
        let distances = || around.iter().flat_map(|&(_, stride, place)| [stride, place.unwrap_or(0)]);
        let vectors = aligned && steps.into_iter().chain(distances()).all(|distance| distance.is_multiple_of(4));
        let mut b = Builder::new(target.traits, name).masked();
        let ty = if vectors { Type::Vec4U32 } else { Type::U32 };
        b.buffer("x", Memory::Operand(*x), ty);
        b.buffer("y", Memory::Operand(*y), ty);
        let tiles = [across.div_ceil(SIDE), along.size.div_ceil(SIDE)];
        let count = around.iter().map(|&(size, ..)| size).product::<usize>();
        let names =
            ["start", "across", "across_place", "along", "along_stride", "tiles_across", "tiles_along", "count"];
        let values = [start, across, across_place, along.size, along.stride, tiles[0], tiles[1], count];
        for (name, value) in names.into_iter().zip(values) {
            b.value(name, value);
        }
        let mut main = "let tile = group();\nvar rest = tile / p.tiles_across / p.tiles_along;\n\
             let a = tile % p.tiles_across * 32u + local % 8u * 4u;\n\
             let l = tile / p.tiles_across % p.tiles_along * 32u + local / 8u * 4u;\n\
             if (rest >= p.count || a >= p.across || l >= p.along) { return; }\n\
             var at = p.start + l * p.along_stride + a;\nvar to = a * p.across_place + l;\n"
            .to_owned();
        walk(&mut b, &mut main, around.iter().copied());
        main += if vectors { TURN } else { WORDS };
        b.finish(64, [tiles[0] * tiles[1] * count, 1, 1], &main)
    }
}

/// Four vectors in, four out.
const TURN: &str = "at /= 4u; to /= 4u;
let step = p.along_stride / 4u; let place = p.across_place / 4u;
let r = x(at); let s = x(at + step); let t = x(at + 2u * step); let u = x(at + 3u * step);
y_set(to, vec4<u32>(r.x, s.x, t.x, u.x));
y_set(to + place, vec4<u32>(r.y, s.y, t.y, u.y));
y_set(to + 2u * place, vec4<u32>(r.z, s.z, t.z, u.z));
y_set(to + 3u * place, vec4<u32>(r.w, s.w, t.w, u.w));";

/// The same in words, as many as there are.
const WORDS: &str = "let rows = min(4u, p.along - l); let columns = min(4u, p.across - a);
for (var column = 0u; column < columns; column++) {
  for (var row = 0u; row < rows; row++) {
    y_set(to + column * p.across_place + row, x(at + row * p.along_stride + column));
  }
}";
