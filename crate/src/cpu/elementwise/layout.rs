//! How the operands of a chain lie in memory relative to its iteration shape: dimensions that all operands walk alike are
//! merged, so that most chains become one long row, and what cannot be read in place is gathered into scratch.

use crate::shape::{MAX_RANK, numel, strides};

/// Strides, in elements, with which an operand of shape `from` is read over the iteration shape `to`: row-major, 0 where
/// it is stretched by the rules of `NumPy`; straight through if it has the same number of elements.
pub(crate) fn strides_over(from: &[u32], to: &[u32]) -> Vec<usize> {
    if numel(from) == numel(to) {
        return strides(to)[..to.len()].to_vec();
    }
    let mut strides = vec![0; to.len()];
    let mut stride = 1;
    for (&size, slot) in from.iter().rev().zip(strides.iter_mut().rev()) {
        if size != 1 {
            *slot = stride;
        }
        stride *= size as usize;
    }
    strides
}

/// The iteration space after merging: at least one dimension.
#[derive(Debug)]
pub(crate) struct Layout {
    pub dims: Vec<usize>,
    /// Per operand, one stride per dimension.
    pub strides: Vec<Vec<usize>>,
}

/// How the elements of one operand reach the steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fetch {
    /// In place, at the linear index of the iteration.
    Contiguous,
    /// In place, at the row's own offset: pieces that stay inside one row only.
    Row,
    /// One element for all: copied into scratch once per task.
    Uniform,
    /// The same for every piece (the innermost row repeats and pieces are whole rows): gathered once per task.
    Periodic,
    /// Gathered into scratch for every piece.
    Gather,
    /// Its memory is that of this output: copied into scratch for every piece before the output is written.
    InPlace(usize),
}

impl Layout {
    /// Drops dimensions of one element and merges neighbours that every operand walks as one.
    pub fn merge(dims: &[u32], operands: &[Vec<usize>]) -> Self {
        let mut merged: Vec<usize> = Vec::with_capacity(dims.len());
        let mut strides: Vec<Vec<usize>> = vec![Vec::with_capacity(dims.len()); operands.len()];
        for (axis, &size) in dims.iter().enumerate() {
            let size = size as usize;
            if size == 1 {
                continue;
            }
            let continues = operands.iter().zip(&strides).all(|(operand, kept)| {
                kept.last().is_some_and(|&outer| Some(outer) == operand[axis].checked_mul(size))
            });
            match merged.last_mut() {
                Some(last) if continues || operands.is_empty() => {
                    *last *= size;
                    for (operand, kept) in operands.iter().zip(&mut strides) {
                        kept.pop();
                        kept.push(operand[axis]);
                    }
                }
                _ => {
                    merged.push(size);
                    for (operand, kept) in operands.iter().zip(&mut strides) {
                        kept.push(operand[axis]);
                    }
                }
            }
        }
        if merged.is_empty() {
            merged.push(1);
            for kept in &mut strides {
                kept.push(1);
            }
        }
        Self { dims: merged, strides }
    }

    /// Length of the innermost dimension.
    pub fn inner(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// How to read `operand` when pieces stay inside innermost rows (`by_rows`) or run over them.
    pub fn fetch(&self, operand: usize, by_rows: bool) -> Fetch {
        let strides = &self.strides[operand];
        let (inner, outer) = strides.split_last().map_or((0, &strides[..0]), |(&inner, outer)| (inner, outer));
        if strides.iter().all(|&s| s == 0) {
            return Fetch::Uniform;
        }
        let mut expected = 1;
        let mut contiguous = true;
        for (&size, &stride) in self.dims.iter().zip(strides).rev() {
            contiguous &= stride == expected;
            expected *= size;
        }
        if contiguous {
            Fetch::Contiguous
        } else if by_rows && inner == 1 {
            Fetch::Row
        } else if !by_rows && outer.iter().all(|&s| s == 0) {
            Fetch::Periodic
        } else {
            Fetch::Gather
        }
    }

    /// How many elements of `operand` the iteration reaches: one more than its largest index.
    pub fn extent(&self, operand: usize) -> usize {
        if self.dims.contains(&0) {
            return 0;
        }
        1 + self.dims.iter().zip(&self.strides[operand]).map(|(&size, &stride)| (size - 1) * stride).sum::<usize>()
    }

    /// Where row `row` of `operand` starts.
    pub fn row_offset(&self, operand: usize, row: usize) -> usize {
        let mut rest = row;
        let mut offset = 0;
        let outer = self.dims.len() - 1;
        for (&size, &stride) in self.dims[..outer].iter().zip(&self.strides[operand][..outer]).rev() {
            offset += (rest % size) * stride;
            rest /= size;
        }
        offset
    }

    /// Copies the elements of `operand` from linear index `start` on into `out`.
    pub fn gather(&self, operand: usize, source: &[u32], start: usize, out: &mut [u32]) {
        let inner = self.inner();
        let strides = &self.strides[operand];
        let step = strides[strides.len() - 1];
        let outer = self.dims.len() - 1;
        let mut index = [0; MAX_RANK];
        let mut rest = start / inner;
        for (place, &size) in index[..outer].iter_mut().zip(&self.dims[..outer]).rev() {
            *place = rest % size;
            rest /= size;
        }
        let mut base = self.row_offset(operand, start / inner);
        let mut column = start % inner;
        let mut out = out;
        while !out.is_empty() {
            let (piece, after) = out.split_at_mut((inner - column).min(out.len()));
            let from = base + column * step;
            match step {
                0 => piece.fill(source[from]),
                1 => piece.copy_from_slice(&source[from..from + piece.len()]),
                _ => piece.iter_mut().zip(source[from..].iter().step_by(step)).for_each(|(o, &s)| *o = s),
            }
            out = after;
            column = 0;
            for axis in (0..outer).rev() {
                index[axis] += 1;
                base += strides[axis];
                if index[axis] < self.dims[axis] {
                    break;
                }
                base -= strides[axis] * self.dims[axis];
                index[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dims: &[u32], shapes: &[&[u32]]) -> Layout {
        Layout::merge(dims, &shapes.iter().map(|s| strides_over(s, dims)).collect::<Vec<_>>())
    }

    #[test]
    fn equal_shapes_become_one_row() {
        let l = layout(&[2, 3, 1, 5], &[&[2, 3, 1, 5], &[]]);
        assert_eq!(l.dims, [30]);
        assert_eq!((l.fetch(0, false), l.fetch(1, false)), (Fetch::Contiguous, Fetch::Uniform));
        let scalar = layout(&[], &[&[], &[1]]);
        assert_eq!((scalar.dims.as_slice(), scalar.fetch(0, false)), (&[1][..], Fetch::Contiguous));
    }

    #[test]
    fn broadcast_dimensions_stay_apart() {
        let l = layout(&[4, 5, 6], &[&[4, 5, 6], &[5, 6], &[4, 1, 1]]);
        assert_eq!(l.dims, [4, 30]);
        assert_eq!([0, 1, 2].map(|i| l.fetch(i, true)), [Fetch::Contiguous, Fetch::Row, Fetch::Gather]);
        assert_eq!([0, 1, 2].map(|i| l.fetch(i, false)), [Fetch::Contiguous, Fetch::Periodic, Fetch::Gather]);
        assert_eq!([0, 1, 2].map(|i| l.extent(i)), [120, 30, 4]);
    }

    #[test]
    fn gather_agrees_with_index_arithmetic() {
        let dims = [3u32, 2, 4, 5];
        for shape in [&[3u32, 1, 4, 1][..], &[2, 1, 5], &[1, 2, 1, 5], &[3, 2, 1, 1], &[5], &[4, 1]] {
            let l = layout(&dims, &[&dims, shape]);
            let strides = strides_over(shape, &dims);
            let source: Vec<u32> = (0..120).collect();
            for (start, len) in [(0, 120), (7, 60), (119, 1), (33, 0)] {
                let mut out = vec![u32::MAX; len];
                l.gather(1, &source, start, &mut out);
                for (k, &got) in out.iter().enumerate() {
                    let i = start + k;
                    let index = [i / 40, i / 20 % 2, i / 5 % 4, i % 5];
                    let want: usize = index.iter().zip(&strides).map(|(a, b)| a * b).sum();
                    assert_eq!(got as usize, want, "{shape:?} at {i}");
                }
            }
        }
    }
}
