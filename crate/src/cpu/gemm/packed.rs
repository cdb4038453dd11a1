//! A right operand kept in panels: for weights that many products use before they change.

use super::Matrix;
use super::buffer::Buffer;
use super::driver::KC;
use super::kernels::Kernels;
use crate::cpu::Cpu;
use crate::error::Result;

/// op(B) in panels of the instruction set's width, each contiguous over all of K, 64-byte aligned.
pub struct PackedB {
    panels: Buffer,
    rows: usize,
    cols: usize,
    panel: usize,
}

/// A pointer that jobs write disjoint parts through.
struct Target(*mut f32);

// SAFETY: every job writes panels of its own.
unsafe impl Sync for Target {}

impl Target {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

impl PackedB {
    /// Packs op(B).
    ///
    /// # Errors
    /// No memory.
    ///
    /// # Panics
    /// If the slice is shorter than the matrix.
    pub fn new(cpu: &Cpu, b: Matrix) -> Result<Self> {
        assert!(b.fits(0), "PackedB: B is shorter than {} × {}", b.rows, b.cols);
        let kernels = Kernels::of(cpu.isa);
        // Without rows there is nothing to pack, however many columns are claimed.
        let count = if b.rows == 0 { 0 } else { b.cols.div_ceil(kernels.panel) };
        let mut panels = Buffer::zeroed(count * kernels.panel * b.rows)?;
        let to = Target(panels.as_mut_ptr());
        cpu.pool.run(count, &|panel| {
            let column = panel * kernels.panel;
            for k0 in (0..b.rows).step_by(KC) {
                let source = b.right(0).at(column, k0);
                let columns = kernels.panel.min(b.cols - column);
                // SAFETY: the slice holds the matrix; each panel has `rows × panel` floats and is written by one job.
                unsafe {
                    let to = to.at((panel * b.rows + k0) * kernels.panel);
                    (kernels.interleave)(source, columns, KC.min(b.rows - k0), to, kernels.panel);
                }
            }
        });
        Ok(Self { panels, rows: b.rows, cols: b.cols, panel: kernels.panel })
    }

    /// Rows of op(B), which is K.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of op(B), which is N.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory held.
    pub fn byte_length(&self) -> usize {
        self.panels.byte_length()
    }

    pub(super) fn panel(&self) -> usize {
        self.panel
    }

    pub(super) fn as_ptr(&self) -> *const f32 {
        self.panels.as_ptr()
    }
}
