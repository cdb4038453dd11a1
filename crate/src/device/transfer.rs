//! Host data on its way into and out of devices. Outside a device a bool is one byte, inside it is a word; the other types
//! cross as they are.

use std::borrow::Cow;
use std::ptr;

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

    /// Number of elements, if a tensor may have as many.
    ///
    /// # Errors
    /// [`Error::Program`] for too many.
    pub fn numel(&self) -> Result<usize> {
        let numel = self.len();
        if numel as u64 > MAX_ELEMENTS {
            return Err(Error::Program(format!("{numel} elements are too many for one tensor")));
        }
        Ok(numel)
    }

    /// The data as the words that a device holds, where it lies; nothing for bool, which has to be widened.
    pub fn as_words(&self) -> Option<&[u32]> {
        let (pointer, len) = match self {
            Self::F32(data) => (data.as_ptr().cast(), data.len()),
            Self::I32(data) => (data.as_ptr().cast(), data.len()),
            Self::Bool(_) => return None,
        };
        // SAFETY: f32 and i32 are as large and aligned as u32, for which any bits will do; the borrow is that of `self`.
        Some(unsafe { std::slice::from_raw_parts(pointer, len) })
    }

    /// Writes the words that a device holds for elements `from..from + to.len()`.
    ///
    /// # Errors
    /// [`Error::Internal`] when there are not as many elements.
    pub fn words_into(&self, from: usize, to: &mut [u32]) -> Result<()> {
        let range = from..from.saturating_add(to.len());
        if let Some(words) = self.as_words() {
            to.copy_from_slice(words.get(range).ok_or_else(beyond)?);
        } else if let Self::Bool(bytes) = self {
            for (word, &byte) in to.iter_mut().zip(bytes.get(range).ok_or_else(beyond)?) {
                *word = u32::from(byte != 0);
            }
        }
        Ok(())
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

fn beyond() -> Error {
    Error::Internal("a transfer beyond the end of its data".into())
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

    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether a value of `numel` elements of `dtype` is what this has room for.
    ///
    /// # Errors
    /// [`Error::Program`] when type or size differ.
    pub fn check(&self, numel: usize, dtype: Dtype) -> Result<()> {
        if dtype == self.dtype && numel == self.len {
            return Ok(());
        }
        Err(Error::Program(format!(
            "a read of {} elements of {} from a slot of {numel} elements of {}",
            self.len,
            self.dtype.name(),
            dtype.name()
        )))
    }

    /// Copies the words of a value, from element `at` on. [`Target::check`] comes first, once.
    ///
    /// # Errors
    /// [`Error::Internal`] when there is no room for as many.
    pub fn fill_from(&mut self, at: usize, words: &[u32]) -> Result<()> {
        if at.checked_add(words.len()).is_none_or(|end| end > self.len) {
            return Err(beyond());
        }
        // SAFETY: `at..at + words.len()` lies inside the target, which is as `new` was promised: nobody else's, so that it
        // does not overlap `words`.
        unsafe {
            match self.dtype {
                Dtype::F32 | Dtype::I32 => {
                    ptr::copy_nonoverlapping(words.as_ptr().cast(), self.pointer.add(at * 4), words.len() * 4);
                }
                Dtype::Bool => {
                    for (i, &word) in words.iter().enumerate() {
                        *self.pointer.add(at + i) = u8::from(word != 0);
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
    fn every_type_survives_the_way_in_and_out_in_parts() {
        let floats = [1.5_f32, -0.0, f32::NAN];
        let source = Source::F32(Cow::Borrowed(&floats));
        let mut words = [0; 2];
        let mut back = [0_u32; 3];
        // SAFETY: `back` outlives the target.
        let mut target = unsafe { Target::new(back.as_mut_ptr().cast(), 3, Dtype::F32) };
        for part in [0..2, 2..3] {
            let words = &mut words[..part.len()];
            source.words_into(part.start, words).unwrap();
            target.fill_from(part.start, words).unwrap();
        }
        assert_eq!(back, floats.map(f32::to_bits));
        assert_eq!(source.as_words().unwrap(), back);

        let source = Source::Bool(Cow::Borrowed(&[0, 1, 255]));
        assert!(source.as_words().is_none());
        let mut words = [9; 3];
        source.words_into(0, &mut words).unwrap();
        assert_eq!(words, [0, 1, 1]);
        let mut back = [9_u8; 3];
        // SAFETY: `back` outlives the target.
        unsafe { Target::new(back.as_mut_ptr(), 3, Dtype::Bool) }.fill_from(0, &[0, 1, 255]).unwrap();
        assert_eq!(back, [0, 1, 1]);
    }

    #[test]
    fn nothing_is_copied_beyond_either_end() {
        let mut back = [7_u32; 3];
        // SAFETY: `back` outlives the target.
        let mut target = unsafe { Target::new(back.as_mut_ptr().cast(), 2, Dtype::I32) };
        for at in [1, 2, usize::MAX] {
            assert_eq!(target.fill_from(at, &[1, 2]).unwrap_err().code(), "ERR_INTERNAL");
        }
        for (numel, dtype) in [(3, Dtype::I32), (1, Dtype::I32), (2, Dtype::F32)] {
            assert_eq!(target.check(numel, dtype).unwrap_err().code(), "ERR_PROGRAM");
        }
        assert_eq!(back, [7; 3]);
        let mut words = [7; 2];
        for source in [Source::I32(Cow::Borrowed(&[1, 2])), Source::Bool(Cow::Borrowed(&[1, 1]))] {
            assert!(source.words_into(1, &mut words).is_err());
            assert!(source.words_into(usize::MAX, &mut words).is_err());
        }
        assert_eq!(words, [7; 2]);
    }
}
