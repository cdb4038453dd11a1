//! Indexing along one axis of `[outer, size, inner]`: `gather` reads slices at given indices (embedding), `scatterAdd`
//! adds slices to them (its gradient), in ascending order of position, so that results do not depend on threads.
//! Indices come from users: each is checked before anything is read or written.

use std::fmt;

use super::Cpu;
use super::share::Shared;
use crate::dtype::Dtype;

/// An index outside its axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadIndex {
    /// Where among the indices it stands.
    pub position: usize,
    /// The index.
    pub index: i32,
    /// The size of the axis: indices are in `[0, size)`.
    pub size: usize,
}

impl BadIndex {
    /// Whether `index` is in `[0, size)`.
    #[inline]
    pub(super) fn check(position: usize, index: i32, size: usize) -> Result<(), Self> {
        if usize::try_from(index).is_ok_and(|i| i < size) { Ok(()) } else { Err(Self { position, index, size }) }
    }

    fn check_all(indices: &[i32], size: usize) -> Result<(), Self> {
        indices.iter().enumerate().try_for_each(|(position, &index)| Self::check(position, index, size))
    }
}

impl fmt::Display for BadIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, index, size } = self;
        write!(f, "index {index} at position {position} is outside [0, {size})")
    }
}

/// How the axis lies in the indexed tensor. The other tensor is `[outer, indices, inner]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Axis {
    /// Product of the dimensions before.
    pub outer: usize,
    /// The dimension that indices select from.
    pub size: usize,
    /// Product of the dimensions after.
    pub inner: usize,
}

/// out[o, k] ← x[o, indices\[k\]]. A bad index is an error, and nothing is written.
pub fn gather(cpu: &Cpu, axis: Axis, x: &[u32], indices: &[i32], out: &mut [u32]) -> Result<(), BadIndex> {
    BadIndex::check_all(indices, axis.size)?;
    let Axis { outer, size, inner } = axis;
    let slices = outer * indices.len();
    if slices * inner == 0 {
        return Ok(());
    }
    // A slice costs a cache miss or two besides its bytes.
    let tasks = cpu.tasks(slices as u64 * (20_000 + 200 * inner as u64), slices);
    let shared = Shared::new(out);
    cpu.ranges(tasks, slices, &|range| {
        // SAFETY: ranges of slices are disjoint.
        let out = unsafe { shared.part(range.start * inner..range.end * inner) };
        for (slice, out) in range.zip(out.chunks_exact_mut(inner)) {
            let start = (slice / indices.len() * size + indices[slice % indices.len()] as usize) * inner;
            out.copy_from_slice(&x[start..start + inner]);
        }
    });
    Ok(())
}

/// out ← 0, then out[o, indices\[k\]] += dy[o, k] for k = 0, 1, …; f32 or i32 (wrapping). A bad index is an error, and
/// nothing is written.
pub fn scatter_add(
    cpu: &Cpu,
    axis: Axis,
    dtype: Dtype,
    dy: &[u32],
    indices: &[i32],
    out: &mut [u32],
) -> Result<(), BadIndex> {
    BadIndex::check_all(indices, axis.size)?;
    let Axis { outer, size, inner } = axis;
    let out = &mut out[..outer * size * inner];
    if out.is_empty() {
        return Ok(());
    }
    let work = (outer * indices.len()) as u64 * (20_000 + 300 * inner as u64) + out.len() as u64 * 60;
    let tasks = cpu.tasks(work, outer * size);
    let shared = Shared::new(out);
    // Tasks own ranges of target slices and all read every index: the order of additions to a slice is kept.
    cpu.ranges(tasks, outer * size, &|targets| {
        // SAFETY: ranges of target slices are disjoint.
        let out = unsafe { shared.part(targets.start * inner..targets.end * inner) };
        out.fill(0);
        if targets.is_empty() {
            return;
        }
        for o in targets.start / size..=(targets.end - 1) / size {
            let dy = dy[o * indices.len() * inner..].chunks(inner);
            for (&index, dy) in indices.iter().zip(dy) {
                let target = o * size + index as usize;
                if targets.contains(&target) {
                    let start = (target - targets.start) * inner;
                    add(dtype, &mut out[start..start + inner], dy);
                }
            }
        }
    });
    Ok(())
}

/// to += from. The compiler's baseline vectors are enough: the loop waits for memory.
pub(super) fn add(dtype: Dtype, to: &mut [u32], from: &[u32]) {
    if dtype == Dtype::F32 {
        for (a, &b) in to.iter_mut().zip(from) {
            *a = (f32::from_bits(*a) + f32::from_bits(b)).to_bits();
        }
    } else {
        for (a, &b) in to.iter_mut().zip(from) {
            *a = a.wrapping_add(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, Pool};

    fn every_cpu() -> impl Iterator<Item = Cpu> {
        Isa::available().into_iter().flat_map(|isa| [1, 3].map(|n| Cpu { isa, pool: Pool::new(n).unwrap() }))
    }

    #[test]
    fn gather_and_scatter_follow_index_arithmetic() {
        for cpu in every_cpu() {
            for (outer, size, inner, count) in
                [(1, 5, 1, 9), (2, 3, 7, 0), (3, 7, 4, 11), (1, 0, 4, 0), (2, 1009, 17, 3001), (1, 3, 0, 2)]
            {
                let axis = Axis { outer, size, inner };
                let indices: Vec<i32> = (0..count).map(|k| (k * 7919 % size.max(1)) as i32).collect();
                let x: Vec<u32> = (0..(outer * size * inner) as u32).collect();
                let mut y = vec![u32::MAX; outer * count * inner];
                gather(&cpu, axis, &x, &indices, &mut y).unwrap();
                let at = |o: usize, k: usize, i: usize| (o * size + indices[k] as usize) * inner + i;
                for (flat, &got) in y.iter().enumerate() {
                    let (o, k, i) = (flat / inner / count, flat / inner % count, flat % inner);
                    assert_eq!(got as usize, at(o, k, i));
                }
                // Values whose sum depends on the order.
                let dy: Vec<u32> =
                    (0..y.len()).map(|i| ((i % 97) as f32 * 1.1f32.powi((i % 300) as i32 - 150)).to_bits()).collect();
                let mut want = vec![0f32; x.len()];
                let mut want_int = vec![0u32; x.len()];
                for (flat, &dy) in dy.iter().enumerate() {
                    let target = at(flat / inner / count, flat / inner % count, flat % inner);
                    want[target] += f32::from_bits(dy);
                    want_int[target] = want_int[target].wrapping_add(dy);
                }
                let mut got = vec![u32::MAX; x.len()];
                scatter_add(&cpu, axis, Dtype::F32, &dy, &indices, &mut got).unwrap();
                assert!(got.iter().zip(&want).all(|(g, w)| *g == w.to_bits()));
                scatter_add(&cpu, axis, Dtype::I32, &dy, &indices, &mut got).unwrap();
                assert_eq!(got, want_int);
            }
        }
    }

    #[test]
    fn the_first_bad_index_is_reported_and_nothing_written() {
        for cpu in every_cpu() {
            let axis = Axis { outer: 1, size: 3, inner: 2 };
            for bad in [3, -1, i32::MAX, i32::MIN] {
                let want = Err(BadIndex { position: 1, index: bad, size: 3 });
                let mut out = [7; 6];
                assert_eq!(gather(&cpu, axis, &[0; 6], &[0, bad, -9], &mut out), want);
                assert_eq!(scatter_add(&cpu, axis, Dtype::F32, &[0; 6], &[0, bad, -9], &mut out), want);
                assert_eq!(out, [7; 6]);
            }
            let text = BadIndex { position: 1, index: -1, size: 3 }.to_string();
            assert_eq!(text, "index -1 at position 1 is outside [0, 3)");
        }
    }
}
