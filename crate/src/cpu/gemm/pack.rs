//! Rearranging blocks of A and B into the order in which the tile reads them.
//!
//! A: for each tile, k by k, the tile's rows side by side. B: for each panel, k by k, the panel's columns side by side.
//! One of the two memory orders of an operand needs plain copies, the other a transpose of square blocks in registers;
//! a transposed operand is never materialised as a whole. Columns beyond the last one hold whatever was convenient: the
//! tile computes with them and its driver drops the results.

use super::simd::Simd;

/// The widest register of any instruction set, in floats.
const MAX_LANES: usize = 16;

/// A block of an operand in the user's memory. One of the two strides is 1.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// The element at the block's first k and its first row (of A) or column (of B).
    pub data: *const f32,
    /// Floats that may be read from `data` on.
    pub room: usize,
    /// Floats from one k to the next.
    pub k_stride: usize,
    /// Floats from one row of A or one column of B to the next.
    pub stride: usize,
}

impl Source {
    /// The block that begins `across` rows or columns and `k` steps further on.
    pub fn at(self, across: usize, k: usize) -> Self {
        let by = across * self.stride + k * self.k_stride;
        Self { data: self.data.wrapping_add(by), room: self.room.saturating_sub(by), ..self }
    }
}

/// An instance of [`interleave`].
///
/// # Safety
/// See [`interleave`].
pub(super) type InterleaveFn = unsafe fn(Source, usize, usize, *mut f32, usize);

/// Puts `width` rows of A or columns of B over `k` steps side by side: element (i, k) goes to `to + k * to_stride + i`.
///
/// # Safety
/// The CPU has the instruction set `S`; the source holds the block; `to` has room for `k * to_stride` floats and
/// `1 <= width <= to_stride <= 32`.
#[inline(always)]
pub(super) unsafe fn interleave<S: Simd>(from: Source, width: usize, k: usize, to: *mut f32, to_stride: usize) {
    if to_stride == 1 && from.k_stride == 1 {
        // SAFETY: a single contiguous row.
        unsafe { to.copy_from_nonoverlapping(from.data, k) };
    } else if from.stride == 1 {
        // SAFETY: as for this function.
        unsafe { copy_steps::<S>(from, width, k, to, to_stride) };
    } else {
        // SAFETY: as for this function.
        unsafe { transpose_blocks::<S>(from, width, k, to, to_stride) };
    }
}

/// [`interleave`] where the elements of one step are contiguous.
#[inline(always)]
unsafe fn copy_steps<S: Simd>(from: Source, width: usize, k: usize, to: *mut f32, to_stride: usize) {
    let panel = S::PANEL * S::LANES;
    if width == panel && to_stride == panel {
        for step in 0..k {
            for v in 0..S::PANEL {
                // SAFETY: the block has `panel` floats in each step, and so has the place it goes to.
                unsafe {
                    let vector = S::load(from.data.add(step * from.k_stride + v * S::LANES));
                    S::store(to.add(step * panel + v * S::LANES), vector);
                }
            }
        }
        return;
    }
    // Whole vectors as long as both sides have room for the surplus, which the next step overwrites.
    let last = to_stride.div_ceil(S::LANES) * S::LANES;
    let readable = if from.room < last { 0 } else { (from.room - last) / from.k_stride + 1 };
    let writable = if k * to_stride < last { 0 } else { (k * to_stride - last) / to_stride + 1 };
    let fast = k.min(readable).min(writable);
    for step in 0..fast {
        for v in (0..to_stride).step_by(S::LANES) {
            // SAFETY: `fast` ends where the last vector of a step would leave either side.
            unsafe { S::store(to.add(step * to_stride + v), S::load(from.data.add(step * from.k_stride + v))) };
        }
    }
    for step in fast..k {
        for i in 0..to_stride {
            // SAFETY: inside the block and inside the place it goes to.
            unsafe {
                *to.add(step * to_stride + i) = if i < width { *from.data.add(step * from.k_stride + i) } else { 0.0 };
            }
        }
    }
}

/// [`interleave`] where the elements of one row or column are contiguous.
#[inline(always)]
unsafe fn transpose_blocks<S: Simd>(from: Source, width: usize, k: usize, to: *mut f32, to_stride: usize) {
    let mut detour = [0.0_f32; MAX_LANES * 2 * MAX_LANES];
    let detour_stride = to_stride.next_multiple_of(S::LANES);
    for step in (0..k).step_by(S::LANES) {
        let steps = S::LANES.min(k - step);
        let to = to.wrapping_add(step * to_stride);
        if (width - 1) * from.stride + step + S::LANES > from.room {
            // The last steps at the end of the operand.
            for (j, i) in (0..steps).flat_map(|j| (0..to_stride).map(move |i| (j, i))) {
                // SAFETY: inside the block and inside the place it goes to.
                unsafe { *to.add(j * to_stride + i) = *from.data.add(i.min(width - 1) * from.stride + step + j) };
            }
            continue;
        }
        // A tile narrower than a vector: each store's surplus is overwritten by the next one. Where the surplus would
        // leave the block or run over finished columns, the block takes a detour.
        let in_place = steps == S::LANES
            && (to_stride.is_multiple_of(S::LANES)
                || (to_stride < S::LANES && (step + S::LANES - 1) * to_stride + S::LANES <= k * to_stride));
        for group in (0..to_stride).step_by(S::LANES) {
            // Where a panel has no columns left, its last one is repeated.
            let first = group.min(width - 1);
            let rows = (width - first).min(S::LANES);
            // SAFETY: reads `LANES` floats of rows below `width`, which the source has room for; writes inside `to` by
            // the condition above, or inside `detour`, which has `LANES` rows of up to 32 floats.
            unsafe {
                let first = from.data.add(first * from.stride + step);
                if in_place {
                    S::transpose(first, from.stride, rows, to.add(group), to_stride);
                } else {
                    S::transpose(first, from.stride, rows, detour.as_mut_ptr().add(group), detour_stride);
                }
            }
        }
        if !in_place {
            for (j, row) in detour.chunks_exact(detour_stride).take(steps).enumerate() {
                // SAFETY: step `step + j` has `to_stride` floats, and so has at least the row of the detour.
                unsafe { to.add(j * to_stride).copy_from_nonoverlapping(row.as_ptr(), to_stride) };
            }
        }
    }
}
