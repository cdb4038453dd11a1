//! One run of a plan: the slots, the memory and the scalars it is bound to, and which of its values do not exist.
//!
//! Pointers, not slices, until a kernel is called: two input slots may view the same words. [`Frame::bind`] refuses the
//! bindings under which a kernel would write what it also reads; what is left may be shared, never changed.

use std::ptr::NonNull;
use std::sync::Arc;

use super::memory::{Purpose, Storage, Value};
use super::prepare::Planned;
use crate::device::Failure;
use crate::device::slots::{Content, Slots};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::plan::{Base, Kernel, Operand, Plan, StepKind};

/// What a plan is bound to while it runs. Kept between runs for its buffers.
#[derive(Default)]
pub struct Frame {
    inputs: Vec<Option<Value>>,
    allocations: Vec<Arc<Storage>>,
    arena: Option<Storage>,
    scratch: Option<Storage>,
    /// The most words of arena and scratch that a run of this epoch has asked for.
    most: [usize; 2],
    failures: Vec<Option<Arc<Failure>>>,
    failed: bool,
    /// The scalars of the run.
    pub scalars: Vec<f64>,
}

impl Frame {
    /// Binds input slots and allocates everything the run needs. A slot without a value is a failure of what depends on
    /// it; one that does not fit the program's declaration, or memory that cannot be had, fails the whole run. Failures
    /// that nobody knows yet go to `report`.
    pub fn bind(
        &mut self,
        planned: &Planned,
        inputs: &[u32],
        slots: &Slots<Storage>,
        mut allocate: impl FnMut(usize, Purpose) -> Result<Storage>,
        report: &mut dyn FnMut(&Arc<Failure>),
    ) -> Result<()> {
        let plan = &planned.plan;
        self.failures.resize(plan.values, None);
        for (input, &slot) in plan.inputs.iter().zip(inputs) {
            let value = if input.used { self.input(&input.operand, slot, slots, report)? } else { None };
            self.inputs.push(value);
        }
        for step in &plan.steps {
            if let StepKind::Kernel(kernel) = &step.kind
                && !kernel.mutates.is_empty()
            {
                self.check_overlap(kernel)?;
            }
        }
        for &words in &plan.allocations {
            let storage = match allocate(words, Purpose::Slot) {
                // Memory that an earlier, larger run has left is worth less than this one.
                Err(Error::OutOfMemory(_)) if self.give_back() => allocate(words, Purpose::Slot),
                result => result,
            }?;
            self.allocations.push(Arc::new(storage));
        }
        let wanted = [plan.arena, planned.scratch];
        self.most = [0, 1].map(|buffer| self.most[buffer].max(wanted[buffer]));
        match self.grow(wanted, &mut allocate) {
            Err(Error::OutOfMemory(_)) if self.give_back() => self.grow(wanted, &mut allocate),
            result => result,
        }
    }

    /// Makes arena and scratch as large as wanted.
    fn grow(&mut self, wanted: [usize; 2], allocate: &mut impl FnMut(usize, Purpose) -> Result<Storage>) -> Result<()> {
        for (kept, words) in [&mut self.arena, &mut self.scratch].into_iter().zip(wanted) {
            if kept.as_ref().map_or(0, Storage::words) < words {
                // The old one first: both together may be more than there is.
                *kept = None;
                *kept = Some(allocate(words, Purpose::Arena)?);
            }
        }
        Ok(())
    }

    /// Ends an epoch of runs: buffers far larger than any of them needed are given back.
    pub fn end_epoch(&mut self) {
        let most = std::mem::take(&mut self.most);
        for (kept, words) in [&mut self.arena, &mut self.scratch].into_iter().zip(most) {
            kept.take_if(|storage| storage.words() / 2 > words);
        }
    }

    fn input(
        &mut self,
        declared: &Operand,
        slot: u32,
        slots: &Slots<Storage>,
        report: &mut dyn FnMut(&Arc<Failure>),
    ) -> Result<Option<Value>> {
        let failure = match slots.get(slot) {
            Ok(Content::Value(value)) => {
                if value.dtype != declared.dtype || value.numel != declared.numel {
                    return Err(Error::Program(format!(
                        "a slot of {} elements of {} is bound to %{}, which has {} of {}",
                        value.numel,
                        value.dtype.name(),
                        declared.register,
                        declared.numel,
                        declared.dtype.name()
                    )));
                }
                return Ok(Some(value.clone()));
            }
            Ok(Content::Failed(failure)) => Arc::clone(failure),
            Err(error) => {
                let failure = Failure::new(error, None);
                report(&failure);
                failure
            }
        };
        self.fail(declared.value, &failure);
        Ok(None)
    }

    /// Refuses a step that changes an operand through one slot and reads or changes the same words through another.
    fn check_overlap(&self, kernel: &Kernel) -> Result<()> {
        let operand = |position: usize| kernel.inputs.get(position).and_then(Option::as_ref);
        for &position in kernel.mutates {
            let Some((storage, start, end)) = operand(position).and_then(|o| self.words(o)) else { continue };
            for other in (0..kernel.inputs.len()).filter(|&other| other != position) {
                if let Some((other, from, to)) = operand(other).and_then(|o| self.words(o))
                    && Arc::ptr_eq(storage, other)
                    && start < to
                    && from < end
                {
                    return Err(Error::Program("an in-place instruction reads what it writes, by another slot".into()));
                }
            }
        }
        Ok(())
    }

    /// The words of an operand that lies in an input slot.
    fn words(&self, operand: &Operand) -> Option<(&Arc<Storage>, usize, usize)> {
        let Base::Input(index) = operand.location.base else { return None };
        let value = self.inputs.get(index as usize)?.as_ref()?;
        let start = value.offset + operand.location.offset;
        Some((&value.storage, start, start + operand.numel))
    }

    /// Lets go of slots and outputs; the arena and the buffers stay.
    pub fn clear(&mut self) {
        self.inputs.clear();
        self.allocations.clear();
        self.failures.clear();
        self.scalars.clear();
        self.failed = false;
    }

    /// Gives back the memory that is kept between runs; false when there is none.
    pub fn give_back(&mut self) -> bool {
        self.arena.take().is_some() | self.scratch.take().is_some()
    }

    /// The storage that an operand lies in, unless it is the arena, and where it begins there.
    pub fn home(&self, operand: &Operand) -> Option<(&Arc<Storage>, usize)> {
        match operand.location.base {
            Base::Arena => None,
            Base::Input(index) => {
                let value = self.inputs.get(index as usize)?.as_ref()?;
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
        let (storage, offset) = match self.home(operand) {
            Some((storage, offset)) => (&**storage, offset),
            None => (
                self.arena.as_ref().ok_or_else(|| Error::Internal("an operand is not bound".into()))?,
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
    /// words, by the plan's rules on aliasing and [`Frame::bind`]'s check.
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
        match &self.scratch {
            Some(storage) if words <= storage.words() => {
                // SAFETY: the block has as many words; the caller promises that nobody else has them.
                Ok(unsafe { std::slice::from_raw_parts_mut(storage.pointer(), words) })
            }
            _ if words == 0 => Ok(&mut []),
            _ => Err(Error::Internal("a step needs more scratch than was prepared".into())),
        }
    }

    /// Input slots that were bound and whose value a failed step may have left half changed.
    pub fn broken(&self, plan: &Plan, slots: &[u32]) -> Vec<(u32, Arc<Failure>)> {
        if !self.failed {
            return Vec::new();
        }
        let bound = plan.inputs.iter().zip(slots).zip(&self.inputs);
        bound
            .filter(|((input, _), value)| input.mutated && value.is_some())
            .filter_map(|((input, &slot), _)| Some((slot, Arc::clone(self.failure(&input.operand)?))))
            .collect()
    }

    /// Notes that a value does not exist. The first reason stays.
    pub fn fail(&mut self, value: u32, failure: &Arc<Failure>) {
        if let Some(place) = self.failures.get_mut(value as usize) {
            place.get_or_insert_with(|| Arc::clone(failure));
            self.failed = true;
        }
    }

    /// Why a value does not exist, if it does not.
    pub fn failure(&self, operand: &Operand) -> Option<&Arc<Failure>> {
        if !self.failed {
            return None;
        }
        self.failures.get(operand.value as usize)?.as_ref()
    }

    /// What an output slot shows after the run.
    pub fn output(&self, operand: &Operand) -> Result<Content<Storage>> {
        if let Some(failure) = self.failure(operand) {
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
