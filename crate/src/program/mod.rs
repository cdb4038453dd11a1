//! A program: instructions over numbered registers, decoded from the words that TypeScript writes and checked so
//! thoroughly that whoever walks a [`Program`] needs no check of his own. docs/program.md describes the words.
//!
//! Decoding never panics, whatever the words are, and allocates no more than a multiple of their number.

mod attributes;
mod decode;
#[cfg(test)]
mod hostile_tests;
pub mod op;
mod print;
#[cfg(test)]
mod rule_tests;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
mod validate;

use crate::dtype::Dtype;
use crate::shape::Dims;
use std::ops::Range;
use table::Opcode;

pub use decode::{MAGIC, NONE, Stream};
pub use op::Op;

/// The most registers, and the most instructions, of one program.
pub const MAX_REGISTERS: usize = 1 << 20;

/// The most code words of one program.
pub const MAX_CODE_WORDS: usize = 1 << 24;

/// The number of a register: the order of its definition.
pub type RegisterId = u32;

/// A value of the program: defined once, by one instruction.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Register {
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub dims: Dims,
    /// Number of elements.
    pub numel: usize,
    /// The register that owns the memory: this one, unless it is a view.
    pub root: RegisterId,
    /// First element inside the root.
    pub offset: usize,
    /// The instruction that defines it.
    pub instruction: u32,
}

/// One instruction: what, from which registers, into which.
#[derive(Clone, PartialEq, Debug)]
pub struct Instruction {
    /// The row of the opcode table.
    pub row: &'static Opcode,
    /// The operation and its attributes.
    pub op: Op,
    operands: Range<u32>,
    results: Range<u32>,
}

/// A valid program.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    instructions: Vec<Instruction>,
    operands: Vec<Option<RegisterId>>,
    registers: Vec<Register>,
    inputs: Vec<RegisterId>,
    outputs: Vec<RegisterId>,
    interface: Interface,
}

/// What a program needs to be bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// Number of input slots.
    pub inputs: usize,
    /// Number of output slots.
    pub outputs: usize,
    /// Number of scalars it reads at most; more may be given.
    pub scalars: usize,
}

impl Program {
    /// The instructions in order.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The registers in order of definition.
    pub fn registers(&self) -> &[Register] {
        &self.registers
    }

    /// What is known of a register of this program.
    pub fn register(&self, id: RegisterId) -> &Register {
        &self.registers[id as usize]
    }

    /// The operands of an instruction of this program; `None` is an absent one.
    pub fn operands(&self, instruction: &Instruction) -> &[Option<RegisterId>] {
        &self.operands[instruction.operands.start as usize..instruction.operands.end as usize]
    }

    /// The registers that an instruction of this program defines.
    pub fn results(&self, instruction: &Instruction) -> Range<RegisterId> {
        instruction.results.clone()
    }

    /// The register bound to each input slot.
    pub fn inputs(&self) -> &[RegisterId] {
        &self.inputs
    }

    /// The register materialised into each output slot.
    pub fn outputs(&self) -> &[RegisterId] {
        &self.outputs
    }

    /// What the program needs to be bound to.
    pub fn interface(&self) -> Interface {
        self.interface
    }
}
