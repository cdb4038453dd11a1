//! The operands of one running instruction as slices: what kernels take.

use super::frame::{Frame, Word};
use crate::error::{Error, Result};
use crate::plan::{Kernel, Operand};

/// The operands and results of an instruction in a bound plan.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    kernel: &'a Kernel,
    frame: &'a Frame,
}

impl<'a> Operands<'a> {
    /// The operands of the instruction that runs now.
    ///
    /// # Safety
    /// While slices from here live, no others of this frame do, and each result, and each operand that is changed in
    /// place, is asked for once. Then no two slices overlap of which one is written: the plan keeps what a step writes
    /// apart from all else, and [`Frame::bind`] has refused in-place operands that overlap others.
    pub unsafe fn new(kernel: &'a Kernel, frame: &'a Frame) -> Self {
        Self { kernel, frame }
    }

    /// What is known of an operand.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is absent, which a valid program rules out.
    pub fn operand(&self, position: usize) -> Result<&'a Operand> {
        self.kernel
            .inputs
            .get(position)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::Internal(format!("operand {position} is missing")))
    }

    /// What is known of a result.
    ///
    /// # Errors
    /// [`Error::Internal`] if there are not as many.
    pub fn result(&self, position: usize) -> Result<&'a Operand> {
        self.kernel.outputs.get(position).ok_or_else(|| Error::Internal(format!("result {position} is missing")))
    }

    /// An operand.
    pub fn input<T: Word>(&self, position: usize) -> Result<&'a [T]> {
        // SAFETY: the promise of `new`.
        unsafe { self.frame.read(self.operand(position)?) }
    }

    /// An operand that may be absent.
    pub fn optional<T: Word>(&self, position: usize) -> Result<Option<&'a [T]>> {
        match self.kernel.inputs.get(position) {
            Some(Some(_)) => self.input(position).map(Some),
            _ => Ok(None),
        }
    }

    /// All operands from a position on.
    pub fn inputs_from<T: Word>(&self, position: usize) -> Result<Vec<&'a [T]>> {
        (position..self.kernel.inputs.len()).map(|position| self.input(position)).collect()
    }

    /// An operand that is changed in place.
    pub fn changed<T: Word>(&self, position: usize) -> Result<&'a mut [T]> {
        // SAFETY: the promise of `new`.
        unsafe { self.frame.write(self.operand(position)?) }
    }

    /// A result.
    pub fn output<T: Word>(&self, position: usize) -> Result<&'a mut [T]> {
        // SAFETY: the promise of `new`.
        unsafe { self.frame.write(self.result(position)?) }
    }

    /// The scalar of the run with this number.
    ///
    /// # Errors
    /// [`Error::Internal`] if there are not as many, which binding rules out.
    pub fn scalar(&self, index: u32) -> Result<f64> {
        let scalar = self.frame.scalars.get(index as usize).copied();
        scalar.ok_or_else(|| Error::Internal(format!("scalar {index} is missing")))
    }

    /// Words of scratch memory that belong to this instruction.
    pub fn scratch(&self, words: usize) -> Result<&'a mut [u32]> {
        // SAFETY: the promise of `new`; a step asks for its scratch once.
        unsafe { self.frame.scratch(words) }
    }

    /// Where the words of an operand live, if they outlive the run.
    pub fn frame(&self) -> &'a Frame {
        self.frame
    }
}
