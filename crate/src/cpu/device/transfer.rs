//! Host data on its way into and out of device memory. Outside a device a bool is one byte, inside it is a word; the
//! other types cross as they are.

use std::borrow::Cow;
use std::ptr;
use std::sync::Arc;

use super::memory::{Memory, Purpose};
use super::slots::Value;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::shape::MAX_ELEMENTS;

/// Host data.
pub enum Source<'a> {
    /// Single-precision numbers.
    F32(Cow<'a, [f32]>),
    /// Integers.
    I32(Cow<'a, [i32]>),
    /// One byte per element; what is not 0 is true.
    Bool(Cow<'a, [u8]>),
}

impl Source<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::I32(data) => data.len(),
            Self::Bool(data) => data.len(),
        }
    }

    /// Whether there is nothing to copy.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::I32(_) => Dtype::I32,
            Self::Bool(_) => Dtype::Bool,
        }
    }

    /// Copies the data into fresh device memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Program`] for more elements than a tensor may have.
    pub fn place(&self, memory: &Arc<Memory>) -> Result<Value> {
        let numel = self.len();
        if numel as u64 > MAX_ELEMENTS {
            return Err(Error::Program(format!("{numel} elements are too many for one tensor")));
        }
        let storage = memory.allocate(numel, Purpose::Slot)?;
        let to = storage.pointer();
        // SAFETY: the storage has room for `numel` words, is not shared yet, and is no part of any Rust slice.
        unsafe {
            match self {
                Self::F32(data) => ptr::copy_nonoverlapping(data.as_ptr().cast(), to, numel),
                Self::I32(data) => ptr::copy_nonoverlapping(data.as_ptr().cast(), to, numel),
                Self::Bool(data) => {
                    for (i, &byte) in data.iter().enumerate() {
                        *to.add(i) = u32::from(byte != 0);
                    }
                }
            }
        }
        Ok(Value { storage: Arc::new(storage), offset: 0, numel, dtype: self.dtype() })
    }

    /// A copy on the host.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the host has no room.
    pub fn to_owned(&self) -> Result<Source<'static>> {
        fn copy<T: Copy>(data: &[T]) -> Result<Cow<'static, [T]>> {
            let mut owned = Vec::new();
            owned
                .try_reserve_exact(data.len())
                .map_err(|_| Error::OutOfMemory(format!("no room on the host for {} elements", data.len())))?;
            owned.extend_from_slice(data);
            Ok(Cow::Owned(owned))
        }
        Ok(match self {
            Self::F32(data) => Source::F32(copy(data)?),
            Self::I32(data) => Source::I32(copy(data)?),
            Self::Bool(data) => Source::Bool(copy(data)?),
        })
    }
}

/// Memory of the host that a read fills.
pub struct Target {
    pointer: *mut u8,
    len: usize,
    dtype: Dtype,
}

// SAFETY: whoever makes a target promises that its memory may be written from another thread.
unsafe impl Send for Target {}

impl Target {
    /// Room for `len` elements of `dtype`, one byte each for bool, four for the others.
    ///
    /// # Safety
    /// The memory stays valid and unused by others until the read's `done` has been called or dropped, or the device has
    /// been abandoned.
    pub unsafe fn new(pointer: *mut u8, len: usize, dtype: Dtype) -> Self {
        Self { pointer, len, dtype }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to copy.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies a value to the host.
    ///
    /// # Errors
    /// [`Error::Program`] when type or size differ.
    pub fn fill(&mut self, value: &Value) -> Result<()> {
        if value.dtype != self.dtype || value.numel != self.len {
            return Err(Error::Program(format!(
                "a read of {} elements of {} from a slot of {} elements of {}",
                self.len,
                self.dtype.name(),
                value.numel,
                value.dtype.name()
            )));
        }
        let from = value.pointer();
        // SAFETY: the value lies inside its storage, the target is as `new` was promised, and host and device memory
        // never overlap.
        unsafe {
            match self.dtype {
                Dtype::F32 | Dtype::I32 => ptr::copy_nonoverlapping(from.cast(), self.pointer, self.len * 4),
                Dtype::Bool => {
                    for i in 0..self.len {
                        *self.pointer.add(i) = u8::from(*from.add(i) != 0);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_way_in_and_out() {
        let memory = Memory::new(None);
        let floats = [1.5_f32, -0.0, f32::NAN];
        let value = Source::F32(Cow::Borrowed(&floats)).place(&memory).unwrap();
        let mut back = [0_u32; 3];
        // SAFETY: `back` outlives the target.
        unsafe { Target::new(back.as_mut_ptr().cast(), 3, Dtype::F32) }.fill(&value).unwrap();
        assert_eq!(back, floats.map(f32::to_bits));

        let value = Source::Bool(Cow::Borrowed(&[0, 1, 255])).place(&memory).unwrap();
        let mut back = [9_u8; 3];
        // SAFETY: `back` outlives the target.
        unsafe { Target::new(back.as_mut_ptr(), 3, Dtype::Bool) }.fill(&value).unwrap();
        assert_eq!(back, [0, 1, 1]);
    }

    #[test]
    fn a_read_of_the_wrong_size_or_type_copies_nothing() {
        let memory = Memory::new(None);
        let value = Source::I32(Cow::Borrowed(&[1, 2])).place(&memory).unwrap();
        let mut back = [7_u32; 3];
        for (len, dtype) in [(3, Dtype::I32), (1, Dtype::I32), (2, Dtype::F32)] {
            // SAFETY: `back` outlives the target.
            let error = unsafe { Target::new(back.as_mut_ptr().cast(), len, dtype) }.fill(&value).unwrap_err();
            assert_eq!(error.code(), "ERR_PROGRAM");
        }
        assert_eq!(back, [7; 3]);
    }
}
