//! Operands without a plan: one arena, filled from the front.

use tilegrad::dtype::Dtype;
use tilegrad::plan::{ALIGN, Base, Kernel, Location, Operand, Step, StepKind};
use tilegrad::program::Op;
use tilegrad::shape::Dims;

/// The memory of a case.
#[derive(Default)]
pub struct Arena {
    /// Its words.
    pub words: Vec<u32>,
}

impl Arena {
    /// An operand that holds these floats.
    pub fn floats(&mut self, dims: &[u32], values: &[f32]) -> Operand {
        let operand = self.place(Dtype::F32, dims);
        self.words.extend(values.iter().map(|value| value.to_bits()));
        operand
    }

    /// An operand that holds these integers.
    pub fn integers(&mut self, dims: &[u32], values: &[i32]) -> Operand {
        let operand = self.place(Dtype::I32, dims);
        self.words.extend(values.iter().map(|value| value.cast_unsigned()));
        operand
    }

    /// Memory for a result. It begins as NaN, so that what a kernel leaves out shows.
    pub fn result(&mut self, dims: &[u32]) -> Operand {
        let operand = self.place(Dtype::F32, dims);
        let end = (operand.location.offset + operand.numel).next_multiple_of(ALIGN);
        self.words.resize(end, f32::NAN.to_bits());
        operand
    }

    fn place(&mut self, dtype: Dtype, dims: &[u32]) -> Operand {
        // Where bindings may begin on every adapter.
        let offset = self.words.len().next_multiple_of(64);
        self.words.resize(offset, 0);
        let numel = dims.iter().map(|&size| size as usize).product();
        let (dims, location) = (Dims::new(dims).unwrap_or_default(), Location { base: Base::Arena, offset });
        Operand { register: 0, value: 0, location, dtype, dims, numel }
    }
}

/// One instruction as a step.
pub fn step(op: Op, inputs: &[Option<Operand>], outputs: &[Operand], mutates: &'static [usize]) -> Step {
    let kernel = Kernel { op, inputs: inputs.to_vec(), outputs: outputs.to_vec(), mutates };
    Step { instruction: 0, nanoseconds: 0, kind: StepKind::Kernel(kernel) }
}

/// Numbers in [−0.5, 0.5), the same at every run.
pub fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let number =
        |i: u32| (i.wrapping_add(seed).wrapping_mul(0x9e37_79b9) ^ seed.rotate_left(16)).wrapping_mul(0x85eb_ca6b);
    (0..count as u32).map(|i| (number(i) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
}

/// Their bits.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
