//! One run of a plan on the GPU: the slots and the memory it is bound to, which of its values do not exist, and which may
//! turn out not to.

use std::sync::Arc;

use super::block::{Block, Content, Storage, Tensor, Value};
use super::fault::{Taint, clean};
use crate::device::Failure;
use crate::device::bound::{Bound, Kept};
use crate::device::memory::Purpose;
use crate::device::slots::Slots;
use crate::error::{Error, Result};
use crate::plan::{Base, Operand, Plan};

/// What a plan is bound to while it runs. Kept between runs for its buffers.
#[derive(Default)]
pub struct Frame {
    /// Slots, and values that do not exist.
    pub bound: Bound<Tensor>,
    allocations: Vec<Option<Storage>>,
    /// Arena and scratch memory.
    pub kept: Kept<Block>,
    taints: Vec<Option<Taint>>,
    /// The scalars of the run.
    pub scalars: Vec<f64>,
}

impl Frame {
    /// Binds input slots, and takes over what they may suffer from.
    pub fn bind(
        &mut self,
        plan: &Plan,
        inputs: &[u32],
        slots: &Slots<Tensor>,
        report: &mut dyn FnMut(&Arc<Failure>),
    ) -> Result<()> {
        self.bound.bind(plan, inputs, slots, report)?;
        self.taints.resize(plan.values, None);
        for (input, value) in plan.inputs.iter().zip(self.bound.values()) {
            if let (Some(value), Some(taint)) = (value, self.taints.get_mut(input.operand.value as usize))
                && !value.storage.taint.is_empty()
            {
                *taint = Some(Arc::clone(&value.storage.taint));
            }
        }
        Ok(())
    }

    /// Allocates everything that the run needs.
    pub fn allocate(
        &mut self,
        plan: &Plan,
        scratch: usize,
        allocate: impl FnMut(usize, Purpose) -> Result<Storage>,
    ) -> Result<()> {
        let allocations = &mut self.allocations;
        self.kept.allocate(plan, scratch, &mut |storage| allocations.push(Some(storage)), allocate)
    }

    /// Which input slots begin at an element that is no multiple of four, as bits.
    pub fn misaligned(&self) -> u64 {
        let odd = |value: &Option<Value>| value.as_ref().is_some_and(|value| value.offset % 4 != 0);
        let bits = self.bound.values().iter().enumerate().filter(|(_, value)| odd(value));
        bits.fold(0, |bits, (index, _)| bits | 1 << index.min(63))
    }

    /// Lets go of slots and outputs; the arena and the buffers stay.
    pub fn clear(&mut self) {
        self.bound.clear();
        self.allocations.clear();
        self.taints.clear();
        self.scalars.clear();
    }

    /// Where an operand lies: its memory, and its first word there.
    ///
    /// # Errors
    /// [`Error::Internal`] if the operand lies outside its memory: a plan that does not fit its program.
    pub fn place(&self, operand: &Operand) -> Result<(&Storage, usize)> {
        let offset = operand.location.offset;
        let (storage, offset) = match operand.location.base {
            Base::Arena => (self.kept.arena(), offset),
            Base::Input(index) => {
                let value = self.bound.value(index);
                (value.map(|value| &value.storage.storage), offset + value.map_or(0, |value| value.offset))
            }
            Base::Allocation(index) => (self.allocations.get(index as usize).and_then(Option::as_ref), offset),
            Base::Nowhere => (None, offset),
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
        let scratch = self.kept.scratch().filter(|scratch| words <= scratch.words());
        scratch.ok_or_else(|| Error::Internal("a step needs more scratch than was prepared".into()))
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
            if let Some(failure) = self.bound.failure(operand) {
                contents.push(Content::Failed(Arc::clone(failure)));
                continue;
            }
            let (dtype, numel, offset) = (operand.dtype, operand.numel, operand.location.offset);
            let (storage, offset) = match operand.location.base {
                Base::Input(index) => {
                    let value = self.bound.value(index).ok_or_else(unbound)?;
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
                Base::Arena | Base::Nowhere => return Err(Error::Internal("an output lies in the arena".into())),
            };
            contents.push(Content::Value(Value { storage, offset, numel, dtype }));
        }
        Ok(contents)
    }
}

fn unbound() -> Error {
    Error::Internal("an output is not bound".into())
}
