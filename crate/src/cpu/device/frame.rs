//! One run of a plan: the slots, the memory and the scalars it is bound to, and which of its values do not exist.
//!
//! Pointers, not slices, until a kernel is called: two input slots may view the same words. [`Bound::bind`] refuses the
//! bindings under which a kernel would write what it also reads; what is left may be shared, never changed.

use std::ptr::NonNull;
use std::sync::Arc;

use super::block::Block;
use super::memory::{Purpose, Storage, Value};
use super::prepare::Planned;
use super::shells::Shells;
use crate::device::Failure;
use crate::device::bound::{Bound, Kept};
use crate::device::slots::{Content, Slots};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::plan::{Base, Operand};

/// What a plan is bound to while it runs. Kept between runs for its buffers.
#[derive(Default)]
pub struct Frame {
    /// Slots, and values that do not exist.
    pub bound: Bound<Storage>,
    allocations: Vec<Arc<Storage>>,
    /// Arena and scratch memory.
    pub kept: Kept<Block>,
    /// Counts for results.
    pub shells: Shells,
    /// The scalars of the run.
    pub scalars: Vec<f64>,
}

impl Frame {
    /// Binds input slots and allocates everything the run needs.
    pub fn bind(
        &mut self,
        planned: &Planned,
        inputs: &[u32],
        slots: &Slots<Storage>,
        allocate: impl FnMut(usize, Purpose) -> Result<Storage>,
        report: &mut dyn FnMut(&Arc<Failure>),
    ) -> Result<()> {
        self.bound.bind(&planned.plan, inputs, slots, report)?;
        let (allocations, shells) = (&mut self.allocations, &mut self.shells);
        let results = &mut |storage| allocations.push(shells.share(storage));
        self.kept.allocate(&planned.plan, planned.scratch, results, allocate)
    }

    /// Lets go of slots and outputs; the arena and the buffers stay.
    pub fn clear(&mut self) {
        self.bound.clear();
        self.allocations.drain(..).for_each(|storage| self.shells.release(storage));
        self.scalars.clear();
    }

    /// The storage that an operand lies in, unless it is the arena, and where it begins there.
    pub fn home(&self, operand: &Operand) -> Option<(&Arc<Storage>, usize)> {
        match operand.location.base {
            Base::Arena | Base::Nowhere => None,
            Base::Input(index) => {
                let value = self.bound.value(index)?;
                Some((&value.storage, value.offset + operand.location.offset))
            }
            Base::Allocation(index) => Some((self.allocations.get(index as usize)?, operand.location.offset)),
        }
    }

    /// The first word of an operand.
    ///
    /// # Errors
    /// [`Error::Internal`] if the operand lies outside its memory: a plan that does not fit its program.
    fn pointer(&self, operand: &Operand) -> Result<*mut u32> {
        if operand.numel == 0 {
            // An arena for nothing but empty values is not even allocated.
            return Ok(NonNull::dangling().as_ptr());
        }
        if operand.location.base == Base::Nowhere {
            return Err(Error::Internal("an operand that is never in memory".into()));
        }
        let (storage, offset) = match self.home(operand) {
            Some((storage, offset)) => (&**storage, offset),
            None => (
                self.kept.arena().ok_or_else(|| Error::Internal("an operand is not bound".into()))?,
                operand.location.offset,
            ),
        };
        match offset.checked_add(operand.numel) {
            // SAFETY: the offset lies inside the block.
            Some(end) if end <= storage.words() => Ok(unsafe { storage.pointer().add(offset) }),
            _ => Err(Error::Internal("an operand lies outside its memory".into())),
        }
    }

    /// The words of an operand, for reading.
    ///
    /// # Safety
    /// Nothing changes the operand while the slice lives: the kernel it is for changes none of its other operands'
    /// words, by the plan's rules on aliasing and [`Bound::bind`]'s check.
    pub unsafe fn read<T: Word>(&self, operand: &Operand) -> Result<&[T]> {
        debug_assert!(T::holds(operand.dtype), "{:?}", operand.dtype);
        let pointer = self.pointer(operand)?;
        // SAFETY: `pointer` has checked the bounds; every bit pattern is a `T`; the caller promises the rest.
        Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), operand.numel) })
    }

    /// The words of an operand, for writing.
    ///
    /// # Safety
    /// Nothing else reaches the operand while the slice lives: as for [`Frame::read`].
    #[expect(clippy::mut_from_ref, reason = "a frame stands for memory that the plan divides, operand by operand")]
    pub unsafe fn write<T: Word>(&self, operand: &Operand) -> Result<&mut [T]> {
        debug_assert!(T::holds(operand.dtype), "{:?}", operand.dtype);
        let pointer = self.pointer(operand)?;
        // SAFETY: as in `read`.
        Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), operand.numel) })
    }

    /// Words that belong to the running step alone, with any content.
    ///
    /// # Safety
    /// No other scratch of this run is alive.
    ///
    /// # Errors
    /// [`Error::Internal`] for more than was prepared for.
    #[expect(clippy::mut_from_ref, reason = "as for `write`")]
    pub unsafe fn scratch(&self, words: usize) -> Result<&mut [u32]> {
        match self.kept.scratch() {
            Some(storage) if words <= storage.words() => {
                // SAFETY: the block has as many words; the caller promises that nobody else has them.
                Ok(unsafe { std::slice::from_raw_parts_mut(storage.pointer(), words) })
            }
            _ if words == 0 => Ok(&mut []),
            _ => Err(Error::Internal("a step needs more scratch than was prepared".into())),
        }
    }

    /// What an output slot shows after the run.
    pub fn output(&self, operand: &Operand) -> Result<Content<Storage>> {
        if let Some(failure) = self.bound.failure(operand) {
            return Ok(Content::Failed(Arc::clone(failure)));
        }
        let (storage, offset) =
            self.home(operand).ok_or_else(|| Error::Internal("an output lies in the arena".into()))?;
        let storage = Arc::clone(storage);
        Ok(Content::Value(Value { storage, offset, numel: operand.numel, dtype: operand.dtype }))
    }
}

/// A Rust type for the words of a device.
pub trait Word: Copy {
    /// Whether elements of this type are these words; `u32` stands for any.
    fn holds(dtype: Dtype) -> bool;
}

impl Word for f32 {
    fn holds(dtype: Dtype) -> bool {
        dtype == Dtype::F32
    }
}

impl Word for i32 {
    fn holds(dtype: Dtype) -> bool {
        dtype == Dtype::I32
    }
}

impl Word for u32 {
    fn holds(_: Dtype) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Location;
    use crate::shape::Dims;

    #[test]
    fn empty_values_need_no_arena() {
        let location = Location { base: Base::Arena, offset: 0 };
        let none = Operand { register: 0, value: 0, location, dtype: Dtype::F32, dims: Dims::default(), numel: 0 };
        let one = Operand { numel: 1, ..none };
        let frame = Frame::default();
        // SAFETY: there is no memory that anybody could change.
        let (none, one) = unsafe { (frame.read::<f32>(&none), frame.read::<f32>(&one)) };
        assert!(none.is_ok_and(<[f32]>::is_empty));
        assert!(one.is_err());
    }
}
