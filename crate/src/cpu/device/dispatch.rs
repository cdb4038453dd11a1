//! From an instruction to its kernel: the operands as slices, the attributes as arguments. One arm per operation, so that
//! a new one does not compile until it has a kernel.

use super::engine::Engine;
use super::frame::Frame;
use super::prepare::Prepared;
use super::products::{Products, operand};
use crate::error::{Error, Result};
use crate::plan::Kernel;
use crate::program::op::Op;

impl Engine {
    /// Runs one instruction whose operands all exist.
    ///
    /// # Errors
    /// What the data shows to be wrong; nothing has been changed in place then.
    pub(super) fn dispatch(&mut self, kernel: &Kernel, prepared: &Prepared, frame: &Frame) -> Result<()> {
        let cpu = &*self.cpu;
        let mut products = Products { cpu, weights: &mut self.weights, frame };
        match &kernel.op {
            Op::Matmul { transpose_a, transpose_b } => products.matmul(kernel, prepared, *transpose_a, *transpose_b),
            Op::Linear { activation, save_z } => products.linear(kernel, *activation, *save_z),
            Op::LinearGrad { wanted, .. } => products.linear_grad(kernel, prepared, *wanted, |_, _, _, _| {}),
            Op::Assign => {
                let (target, source) = (operand(kernel, 0)?, operand(kernel, 1)?);
                // SAFETY: `Frame::bind` has refused a target that overlaps its source.
                let (target, source) = unsafe { (frame.write::<u32>(target)?, frame.read::<u32>(source)?) };
                target.copy_from_slice(source);
                Ok(())
            }
            other => Err(Error::Internal(format!("no kernel for {other:?}"))),
        }
    }
}
