//! Memory for packed operands: aligned to cache lines, which are also the widest vectors, and allocated fallibly.

use crate::error::{Error, Result};

/// Floats per cache line.
const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Floats at a 64-byte boundary.
#[derive(Default)]
pub(super) struct Buffer(Vec<Line>);

impl Buffer {
    /// Zeros.
    pub fn zeroed(floats: usize) -> Result<Self> {
        let mut buffer = Self::default();
        buffer.grow(floats)?;
        Ok(buffer)
    }

    /// Makes room for at least `floats`; what it held may be lost.
    pub fn grow(&mut self, floats: usize) -> Result<()> {
        let lines = floats.div_ceil(LINE);
        if lines > self.0.len() {
            self.0.clear();
            self.0.try_reserve_exact(lines).map_err(|_| {
                Error::OutOfMemory(format!("matmul: no memory for {} bytes of packed matrix", floats.saturating_mul(4)))
            })?;
            self.0.resize(lines, Line([0.0; LINE]));
        }
        Ok(())
    }

    /// The first float; aligned to 64 bytes.
    pub fn as_ptr(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    /// The first float, for writing.
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }

    /// Bytes of memory held.
    pub fn byte_length(&self) -> usize {
        size_of_val(self.0.as_slice())
    }
}

/// Packed slabs of A and B. Their sizes are bounded by the driver, whatever the sizes of the matrices.
#[derive(Default)]
pub(in crate::cpu) struct Scratch {
    pub(super) a: Buffer,
    pub(super) b: Buffer,
}

impl Scratch {
    /// Bytes of memory held.
    pub(in crate::cpu) fn byte_length(&self) -> usize {
        self.a.byte_length() + self.b.byte_length()
    }
}
