//! What the runs of plans have in common on every device: the slots a plan is bound to, which of its values do not exist,
//! and the memory that is kept from run to run. Where kernels find their operands is each device's own.

use std::sync::Arc;

use super::Failure;
use super::memory::{Block, Purpose, Storage};
use super::slots::{Content, Slots, Value};
use crate::error::{Error, Result};
use crate::plan::{Base, Kernel, Operand, Plan, StepKind};

/// Input slots of a run, and the values of its plan that do not exist.
pub struct Bound<S> {
    inputs: Vec<Option<Value<S>>>,
    failures: Vec<Option<Arc<Failure>>>,
    failed: bool,
}

impl<S> Default for Bound<S> {
    fn default() -> Self {
        Self { inputs: Vec::new(), failures: Vec::new(), failed: false }
    }
}

impl<S> Bound<S> {
    /// Binds input slots. A slot without a value is a failure of what depends on it; one that does not fit the program's
    /// declaration fails the whole run. Failures that nobody knows yet go to `report`.
    ///
    /// # Errors
    /// [`Error::Program`] for slots that do not fit, or that share what a step changes.
    pub fn bind(
        &mut self,
        plan: &Plan,
        inputs: &[u32],
        slots: &Slots<S>,
        report: &mut dyn FnMut(&Arc<Failure>),
    ) -> Result<()> {
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
        Ok(())
    }

    fn input(
        &mut self,
        declared: &Operand,
        slot: u32,
        slots: &Slots<S>,
        report: &mut dyn FnMut(&Arc<Failure>),
    ) -> Result<Option<Value<S>>> {
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

    /// The values of the inputs, by position; nothing where there is none or nobody needs it.
    pub fn values(&self) -> &[Option<Value<S>>] {
        &self.inputs
    }

    /// The value of an input.
    pub fn value(&self, index: u32) -> Option<&Value<S>> {
        self.inputs.get(index as usize)?.as_ref()
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
    fn words(&self, operand: &Operand) -> Option<(&Arc<S>, usize, usize)> {
        let Base::Input(index) = operand.location.base else { return None };
        let value = self.inputs.get(index as usize)?.as_ref()?;
        let start = value.offset + operand.location.offset;
        Some((&value.storage, start, start + operand.numel))
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

    /// Whether all values exist so far.
    pub fn is_whole(&self) -> bool {
        !self.failed
    }

    /// Why a value does not exist, if it does not.
    pub fn failure(&self, operand: &Operand) -> Option<&Arc<Failure>> {
        if !self.failed {
            return None;
        }
        self.failures.get(operand.value as usize)?.as_ref()
    }

    /// Lets go of the slots.
    pub fn clear(&mut self) {
        self.inputs.clear();
        self.failures.clear();
        self.failed = false;
    }
}

/// Arena and scratch memory, kept between runs.
pub struct Kept<B: Block> {
    arena: Option<Storage<B>>,
    scratch: Option<Storage<B>>,
    /// The most words of each that a run of this epoch has asked for.
    most: [usize; 2],
}

impl<B: Block> Default for Kept<B> {
    fn default() -> Self {
        Self { arena: None, scratch: None, most: [0; 2] }
    }
}

impl<B: Block> Kept<B> {
    /// The arena.
    pub fn arena(&self) -> Option<&Storage<B>> {
        self.arena.as_ref()
    }

    /// The scratch memory.
    pub fn scratch(&self) -> Option<&Storage<B>> {
        self.scratch.as_ref()
    }

    /// Allocates the results of a plan, in its order, and makes arena and scratch as large as it wants them.
    ///
    /// # Errors
    /// What `allocate` returns.
    pub fn allocate(
        &mut self,
        plan: &Plan,
        scratch: usize,
        results: &mut dyn FnMut(Storage<B>),
        mut allocate: impl FnMut(usize, Purpose) -> Result<Storage<B>>,
    ) -> Result<()> {
        for &words in &plan.allocations {
            results(match allocate(words, Purpose::Slot) {
                // Memory that an earlier, larger run has left is worth less than this one.
                Err(Error::OutOfMemory(_)) if self.give_back() => allocate(words, Purpose::Slot),
                result => result,
            }?);
        }
        let wanted = [plan.arena, scratch];
        self.most = [0, 1].map(|buffer| self.most[buffer].max(wanted[buffer]));
        match self.grow(wanted, &mut allocate) {
            Err(Error::OutOfMemory(_)) if self.give_back() => self.grow(wanted, &mut allocate),
            result => result,
        }
    }

    /// Makes arena and scratch as large as wanted.
    fn grow(
        &mut self,
        wanted: [usize; 2],
        allocate: &mut impl FnMut(usize, Purpose) -> Result<Storage<B>>,
    ) -> Result<()> {
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

    /// Gives back the memory that is kept between runs; false when there is none.
    pub fn give_back(&mut self) -> bool {
        self.arena.take().is_some() | self.scratch.take().is_some()
    }
}
