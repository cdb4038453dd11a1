//! Movement of words: `transpose`, `concat`, `slice`, `pad`, `assign`, and `addInto`. All of them are one copy between two
//! strided views of equal shape. Dimensions that both sides walk alike are merged; what is left is copied row by row,
//! or, where the innermost dimensions differ, in square tiles that read and write whole cache lines.

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::Cpu;
use super::gather::add;
use super::share::Shared;
use crate::dtype::Dtype;
use crate::shape::{MAX_RANK, strides};

/// Side of a transposed square: four cache lines that are read, and written, together, because the processor fetches
/// neighbouring lines and a single line per row and page would wait for each.
const TILE: usize = 64;

/// Words of a cache line.
const LINE: usize = 16;

/// Picoseconds per word of a copy that waits for memory.
const COPY_PS: u64 = 150;

/// The same across cache lines.
const TRANSPOSE_PS: u64 = 600;

/// Dimension `i` of `out` is dimension `permutation[i]` of `x`, whose shape is `dims`.
pub fn transpose(cpu: &Cpu, dims: &[u32], permutation: &[u32], x: &[u32], out: &mut [u32]) {
    let from = strides(dims);
    let mut sizes = [1; MAX_RANK];
    let sizes = &mut sizes[..permutation.len()];
    for (size, &p) in sizes.iter_mut().zip(permutation) {
        *size = dims[p as usize];
    }
    let mut view = View::default();
    for ((&p, &size), to) in permutation.iter().zip(&*sizes).zip(strides(sizes)) {
        view.push(size as usize, from[p as usize], to);
    }
    view.copy(cpu, x, 0, out, 0);
}

/// The operands, whose shapes are `dims` with the given sizes along `axis`, one after the other along it.
pub fn concat(cpu: &Cpu, dims: &[u32], axis: usize, operands: &[(&[u32], u32)], out: &mut [u32]) {
    let size = |dims: &[u32]| dims.iter().map(|&d| d as usize).product::<usize>();
    let (outer, inner) = (size(&dims[..axis]), size(&dims[axis + 1..]));
    let row = inner * operands.iter().map(|&(_, size)| size as usize).sum::<usize>();
    let mut start = 0;
    for &(x, size) in operands {
        let width = inner * size as usize;
        let mut view = View::default();
        view.push(outer, width, row);
        view.push(width, 1, 1);
        view.copy(cpu, x, 0, out, start);
        start += width;
    }
}

/// The part of `x`, whose shape is `dims`, that begins at `starts` and has the shape `sizes`.
pub fn slice(cpu: &Cpu, dims: &[u32], starts: &[u32], sizes: &[u32], x: &[u32], out: &mut [u32]) {
    let (view, start) = View::window(dims, starts, sizes);
    view.copy(cpu, x, start, out, 0);
}

/// `x`, whose shape is `dims`, inside an `out` of shape `sizes` that is `value` elsewhere; `before` elements precede it along
/// each axis.
pub fn pad(cpu: &Cpu, dims: &[u32], before: &[u32], sizes: &[u32], value: u32, x: &[u32], out: &mut [u32]) {
    out.fill(value);
    let (view, start) = View::window(sizes, before, dims);
    view.reversed().copy(cpu, x, 0, out, start);
}

/// target ← source.
pub fn assign(cpu: &Cpu, target: &mut [u32], source: &[u32]) {
    let tasks = cpu.tasks(source.len() as u64 * COPY_PS, source.len());
    let target = Shared::new(target);
    cpu.ranges(tasks, source.len(), &|range| {
        // SAFETY: the ranges are disjoint.
        unsafe { target.part(range.clone()) }.copy_from_slice(&source[range]);
    });
}

/// target += source; f32 or i32 (wrapping).
pub fn add_into(cpu: &Cpu, dtype: Dtype, target: &mut [u32], source: &[u32]) {
    let tasks = cpu.tasks(source.len() as u64 * COPY_PS, source.len());
    let target = Shared::new(target);
    cpu.ranges(tasks, source.len(), &|range| {
        // SAFETY: the ranges are disjoint.
        add(dtype, unsafe { target.part(range.clone()) }, &source[range]);
    });
}

/// One dimension of a copy.
#[derive(Clone, Copy, Default)]
struct Dimension {
    size: usize,
    from: usize,
    to: usize,
}

/// A shape with the strides of source and target, outermost first, without dimensions of one element.
#[derive(Clone, Copy, Default)]
struct View {
    dimensions: [Dimension; MAX_RANK],
    rank: usize,
    empty: bool,
}

impl View {
    /// Appends a dimension inside the others, or merges it with the last one.
    fn push(&mut self, size: usize, from: usize, to: usize) {
        self.empty |= size == 0;
        if size == 1 {
            return;
        }
        let next = Dimension { size, from, to };
        if let Some(last) = self.dimensions[..self.rank].last_mut()
            && last.from == from * size
            && last.to == to * size
        {
            *last = Dimension { size: last.size * size, from, to };
        } else {
            self.dimensions[self.rank] = next;
            self.rank += 1;
        }
    }

    /// The window of shape `sizes` at `starts` in a tensor of shape `dims`, copied to a tensor of its own; and where it
    /// begins.
    fn window(dims: &[u32], starts: &[u32], sizes: &[u32]) -> (Self, usize) {
        let mut view = Self::default();
        let mut start = 0;
        for (((&size, &first), from), to) in sizes.iter().zip(starts).zip(strides(dims)).zip(strides(sizes)) {
            view.push(size as usize, from, to);
            start += first as usize * from;
        }
        (view, start)
    }

    /// The same copy the other way.
    fn reversed(mut self) -> Self {
        for dimension in &mut self.dimensions {
            std::mem::swap(&mut dimension.from, &mut dimension.to);
        }
        self
    }

    /// Copies from `x` at `from` on to `out` at `to` on.
    fn copy(mut self, cpu: &Cpu, x: &[u32], from: usize, out: &mut [u32], to: usize) {
        if self.empty {
            return;
        }
        if self.rank == 0 {
            out[to] = x[from];
            return;
        }
        let innermost = self.dimensions[self.rank - 1];
        let words: usize = self.dimensions[..self.rank].iter().map(|d| d.size).product();
        let out = Shared::new(out);
        self.rank -= 1;
        let outer = &self.dimensions[..self.rank];
        let across = outer.iter().position(|d| d.from == 1);
        if let (Some(across), true) = (across, innermost.from != 1 && innermost.to == 1) {
            let band = self.dimensions[across];
            self.dimensions.copy_within(across + 1..self.rank, across);
            self.rank -= 1;
            self.copy_bands(cpu, words, [band, innermost], (x, from), (&out, to));
            return;
        }
        let rows = words / innermost.size;
        let tasks = cpu.tasks(words as u64 * COPY_PS, rows);
        cpu.ranges(tasks, rows, &|range| {
            self.walk(range, 1, |source, target| {
                let (source, target) = (from + source, to + target);
                if innermost.from == 1 && innermost.to == 1 {
                    // SAFETY: rows of the target do not overlap, and each belongs to one task.
                    let row = unsafe { out.part(target..target + innermost.size) };
                    row.copy_from_slice(&x[source..source + innermost.size]);
                    return;
                }
                // A row of single elements, such as one column of a table.
                for (i, &word) in x[source..].iter().step_by(innermost.from).enumerate().take(innermost.size) {
                    let place = target + i * innermost.to;
                    // SAFETY: as above.
                    unsafe { out.part(place..place + 1) }.fill(word);
                }
            });
        });
    }

    /// Copies where the source's innermost dimension is `across` and the target's is `along`: in bands of [`TILE`] rows of
    /// the target, the dimensions of `self` around them.
    fn copy_bands(
        &self,
        cpu: &Cpu,
        words: usize,
        [across, along]: [Dimension; 2],
        (x, from): (&[u32], usize),
        (out, to): (&Shared<u32>, usize),
    ) {
        let bands = across.size.div_ceil(TILE);
        let units = words / (across.size * along.size) * bands;
        let tasks = cpu.tasks(words as u64 * TRANSPOSE_PS, units);
        cpu.ranges(tasks, units, &|range| {
            let mut unit = range.start;
            self.walk(range, bands, |source, target| {
                let first = unit % bands * TILE;
                unit += 1;
                let lines = TILE.min(across.size - first);
                let mut rows: [&mut [u32]; TILE] = std::array::from_fn(|_| &mut [][..]);
                for (i, row) in rows.iter_mut().enumerate().take(lines) {
                    let start = to + target + (first + i) * across.to;
                    // SAFETY: rows of the target do not overlap, and each belongs to one task.
                    *row = unsafe { out.part(start..start + along.size) };
                }
                transpose_band(&x[from + source + first..], along.from, along.size, &mut rows[..lines]);
            });
        });
    }

    /// Calls `body` with the offsets of source and target for every index in `range` of the flattened dimensions, the
    /// innermost of which counts `repeats` and moves neither side.
    fn walk(&self, range: Range<usize>, repeats: usize, mut body: impl FnMut(usize, usize)) {
        let dimensions = &self.dimensions[..self.rank];
        let mut index = [0; MAX_RANK];
        let (mut source, mut target) = (0, 0);
        let mut rest = range.start / repeats;
        for (place, d) in index[..dimensions.len()].iter_mut().zip(dimensions).rev() {
            *place = rest % d.size;
            rest /= d.size;
            source += *place * d.from;
            target += *place * d.to;
        }
        let mut repeat = range.start % repeats;
        for _ in range {
            body(source, target);
            repeat += 1;
            if repeat < repeats {
                continue;
            }
            repeat = 0;
            for (place, d) in index[..dimensions.len()].iter_mut().zip(dimensions).rev() {
                *place += 1;
                source += d.from;
                target += d.to;
                if *place < d.size {
                    break;
                }
                source -= d.from * d.size;
                target -= d.to * d.size;
                *place = 0;
            }
        }
    }
}

/// rows[i][j] ← x[j·stride + i]. Whole squares are turned in the first-level cache and written out afterwards: rows of the
/// target are often a power of two apart, and lines of many such rows cannot stay in the cache half written.
fn transpose_band(x: &[u32], stride: usize, columns: usize, rows: &mut [&mut [u32]]) {
    let lines = rows.len();
    let mut first = 0;
    if lines == TILE {
        let (mut strip, mut square) = ([[0; TILE]; LINE], [[0; TILE]; TILE]);
        while first + TILE <= columns {
            for part in (0..TILE).step_by(LINE) {
                for (j, line) in strip.iter_mut().enumerate() {
                    let start = (first + part + j) * stride;
                    line.copy_from_slice(&x[start..start + TILE]);
                }
                for (i, row) in square.iter_mut().enumerate() {
                    if let Some(words) = row[part..].first_chunk_mut::<LINE>() {
                        *words = std::array::from_fn(|j| strip[j][i]);
                    }
                }
            }
            for (row, words) in rows.iter_mut().zip(&square) {
                row[first..first + TILE].copy_from_slice(words);
            }
            first += TILE;
        }
    }
    for j in first..columns {
        for (row, &word) in rows.iter_mut().zip(&x[j * stride..j * stride + lines]) {
            row[j] = word;
        }
    }
}
