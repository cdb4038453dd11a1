//! Who needs what: which instructions are worth running, and who reads each value last.

use super::table;
use crate::error::Result;
use crate::program::{Instruction, Op, Program, Register, RegisterId};

/// Facts about a program, by instruction or by root register.
pub(super) struct Live {
    /// By instruction: whether it does anything that is seen. `input`, `output` and `view` do nothing by themselves.
    pub(super) runs: Vec<bool>,
    /// By root: the last instruction that runs and reads it.
    pub(super) last_read: Vec<u32>,
    /// By root: how many operands of instructions that run it is.
    pub(super) reads: Vec<u32>,
    /// By root: whether an output slot shows it.
    pub(super) shown: Vec<bool>,
    /// By root: whether an instruction that runs and is not elementwise reads it.
    pub(super) read_whole: Vec<bool>,
    /// By root: whether anything needs it.
    pub(super) needed: Vec<bool>,
}

impl Live {
    pub(super) fn of(program: &Program) -> Result<Self> {
        let registers = program.registers().len();
        let mut live = Self {
            runs: table(program.instructions().len(), false)?,
            last_read: table(registers, 0)?,
            reads: table(registers, 0)?,
            shown: table(registers, false)?,
            read_whole: table(registers, false)?,
            needed: table(registers, false)?,
        };
        for &output in program.outputs() {
            let root = root(program, output);
            live.shown[root] = true;
            live.needed[root] = true;
        }
        // Backwards: when an instruction is met, all who might read its results have been seen.
        for (number, instruction) in program.instructions().iter().enumerate().rev() {
            live.runs[number] = live.worth_running(program, instruction);
            if live.runs[number] {
                live.note(program, number, instruction);
            }
        }
        Ok(live)
    }

    fn worth_running(&self, program: &Program, instruction: &Instruction) -> bool {
        match instruction.op {
            Op::Input { .. } | Op::Output { .. } | Op::View { .. } => false,
            _ if !instruction.row.mutates.is_empty() => true,
            _ => program.results(instruction).any(|result| self.needed[result as usize]),
        }
    }

    fn note(&mut self, program: &Program, number: usize, instruction: &Instruction) {
        for &operand in program.operands(instruction).iter().flatten() {
            let root = root(program, operand);
            self.needed[root] = true;
            self.reads[root] += 1;
            self.last_read[root] = self.last_read[root].max(number as u32);
            self.read_whole[root] |= !matches!(instruction.op, Op::Element(_));
        }
    }
}

/// The register that owns the memory of another.
pub(super) fn root(program: &Program, register: RegisterId) -> usize {
    program.register(register).root as usize
}

/// Whether a register is all of its root, in order, whatever its shape.
pub(super) fn is_whole(program: &Program, register: &Register) -> bool {
    register.offset == 0 && register.numel == program.register(register.root).numel
}
