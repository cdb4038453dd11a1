//! One run of a plan on the GPU: the slots and the memory it is bound to, which of its values do not exist, and which may
//! turn out not to. The `cpu` device has its own, because its kernels take slices; the rules are the same.

use std::sync::Arc;

use super::block::{Content, Storage, Tensor, Value};
use super::fault::{Taint, clean};
use crate::device::Failure;
use crate::device::memory::Purpose;
use crate::device::slots::Slots;
use crate::error::{Error, Result};
use crate::plan::{Base, Kernel, Operand, Plan, StepKind};

/// What a plan is bound to while it runs. Kept between runs for its buffers.
#[derive(Default)]
pub struct Frame {
    inputs: Vec<Option<Value>>,
    allocations: Vec<Option<Storage>>,
    arena: Option<Storage>,
    scratch: Option<Storage>,
    /// The most words of arena and scratch that a run of this epoch has asked for.
    most: [usize; 2],
    failures: Vec<Option<Arc<Failure>>>,
    failed: bool,
    taints: Vec<Option<Taint>>,
    /// The scalars of the run.
    pub scalars: Vec<f64>,
}

impl Frame {
    /// Binds input slots. A slot without a value is a failure of what depends on it; one that does not fit the program's
    /// declaration fails the whole run. Failures that nobody knows yet go to `report`.
    pub fn bind(
        &mut self,
        plan: &Plan,
        inputs: &[u32],
        slots: &Slots<Tensor>,
        report: &mut dyn FnMut(&Arc<Failure>),
    ) -> Result<()> {
        self.failures.resize(plan.values, None);
        self.taints.resize(plan.values, None);
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
        Ok(())
    }

    /// Allocates everything that the run needs.
    pub fn allocate(
        &mut self,
        plan: &Plan,
        scratch: usize,
        mut allocate: impl FnMut(usize, Purpose) -> Result<Storage>,
    ) -> Result<()> {
        for &words in &plan.allocations {
            let storage = match allocate(words, Purpose::Slot) {
                // Memory that an earlier, larger run has left is worth less than this one.
                Err(Error::OutOfMemory(_)) if self.give_back() => allocate(words, Purpose::Slot),
                result => result,
            }?;
            self.allocations.push(Some(storage));
        }
        let wanted = [plan.arena, scratch];
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
        slots: &Slots<Tensor>,
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
                let taint = &value.storage.taint;
                if !taint.is_empty() {
                    self.taint(declared.value, taint);
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

    /// Which input slots begin at an element that is no multiple of four, as bits.
    pub fn misaligned(&self) -> u64 {
        let odd = |value: &Option<Value>| value.as_ref().is_some_and(|value| value.offset % 4 != 0);
        let bits = self.inputs.iter().enumerate().filter(|(_, value)| odd(value));
        bits.fold(0, |bits, (index, _)| bits | 1 << index.min(63))
    }

    /// Refuses a step that changes an operand through one slot and reads or changes the same words through another.
    fn check_overlap(&self, kernel: &Kernel) -> Result<()> {
        let operand = |position: usize| kernel.inputs.get(position).and_then(Option::as_ref);
        for &position in kernel.mutates {
            let Some((tensor, start, end)) = operand(position).and_then(|o| self.words(o)) else { continue };
            for other in (0..kernel.inputs.len()).filter(|&other| other != position) {
                if let Some((other, from, to)) = operand(other).and_then(|o| self.words(o))
                    && Arc::ptr_eq(tensor, other)
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
    fn words(&self, operand: &Operand) -> Option<(&Arc<Tensor>, usize, usize)> {
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
        self.taints.clear();
        self.scalars.clear();
        self.failed = false;
    }

    /// Gives back the memory that is kept between runs; false when there is none.
    pub fn give_back(&mut self) -> bool {
        self.arena.take().is_some() | self.scratch.take().is_some()
    }

    /// Where an operand lies: its memory, and its first word there.
    ///
    /// # Errors
    /// [`Error::Internal`] if the operand lies outside its memory: a plan that does not fit its program.
    pub fn place(&self, operand: &Operand) -> Result<(&Storage, usize)> {
        let offset = operand.location.offset;
        let (storage, offset) = match operand.location.base {
            Base::Arena => (self.arena.as_ref(), offset),
            Base::Input(index) => {
                let value = self.inputs.get(index as usize).and_then(Option::as_ref);
                (value.map(|value| &value.storage.storage), offset + value.map_or(0, |value| value.offset))
            }
            Base::Allocation(index) => (self.allocations.get(index as usize).and_then(Option::as_ref), offset),
        };
        let storage = storage.ok_or_else(|| Error::Internal("an operand is not bound".into()))?;
        match offset.checked_add(operand.numel) {
            Some(end) if end <= storage.words() => Ok((storage, offset)),
            _ => Err(Error::Internal("an operand lies outside its memory".into())),
        }
    }

    /// The scratch memory of the running step.
    ///
    /// # Errors
    /// [`Error::Internal`] for more than was prepared for.
    pub fn scratch(&self, words: usize) -> Result<&Storage> {
        let scratch = self.scratch.as_ref().filter(|scratch| words <= scratch.words());
        scratch.ok_or_else(|| Error::Internal("a step needs more scratch than was prepared".into()))
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

    /// Notes which checks a value depends on.
    pub fn taint(&mut self, value: u32, taint: &Taint) {
        if let Some(place) = self.taints.get_mut(value as usize) {
            *place = Some(Arc::clone(taint));
        }
    }

    /// Which checks a value depends on, if on any.
    pub fn tainted(&self, operand: &Operand) -> Option<&Taint> {
        self.taints.get(operand.value as usize)?.as_ref()
    }

    /// What the output slots show after the run, in order.
    pub fn outputs(&mut self, plan: &Plan) -> Result<Vec<Content>> {
        // Several slots may show one allocation.
        let mut tensors: Vec<Option<Arc<Tensor>>> = vec![None; self.allocations.len()];
        let mut contents = Vec::with_capacity(plan.outputs.len());
        for operand in &plan.outputs {
            if let Some(failure) = self.failure(operand) {
                contents.push(Content::Failed(Arc::clone(failure)));
                continue;
            }
            let (dtype, numel, offset) = (operand.dtype, operand.numel, operand.location.offset);
            let (storage, offset) = match operand.location.base {
                Base::Input(index) => {
                    let value = self.inputs.get(index as usize).and_then(Option::as_ref).ok_or_else(unbound)?;
                    (Arc::clone(&value.storage), value.offset + offset)
                }
                Base::Allocation(index) => {
                    let index = index as usize;
                    let made = tensors.get_mut(index).ok_or_else(unbound)?;
                    if made.is_none() {
                        let storage = self.allocations.get_mut(index).and_then(Option::take).ok_or_else(unbound)?;
                        let taint = self.taints.get(operand.value as usize).and_then(Option::clone);
                        *made = Some(Arc::new(Tensor { storage, taint: taint.unwrap_or_else(clean) }));
                    }
                    (made.as_ref().map(Arc::clone).ok_or_else(unbound)?, offset)
                }
                Base::Arena => return Err(Error::Internal("an output lies in the arena".into())),
            };
            contents.push(Content::Value(Value { storage, offset, numel, dtype }));
        }
        Ok(contents)
    }
}

fn unbound() -> Error {
    Error::Internal("an output is not bound".into())
}
