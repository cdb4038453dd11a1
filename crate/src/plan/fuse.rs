//! Which elementwise instructions are evaluated together.
//!
//! Neighbours of one result shape form a chain. Everything else that runs ends the open chain, in-place instructions
//! above all: no read is ever moved past a write that might hit the same memory, so fusing needs no knowledge of what
//! shares storage. A value that only its own chain reads never reaches memory.
//!
//! `full`, and `expand` of it, are no work: who reads one elementwise gets the scalar itself. Only where something else
//! needs the elements are they written.

use super::attach::{Attached, attach};
use super::live::{Live, is_whole, root};
use super::{ChainOp, ChainOperand, Limits, MAX_CHAIN_OPS, Options, table};
use crate::dtype::Dtype;
use crate::error::Result;
use crate::program::op::{ElementOp, Op};
use crate::program::{Instruction, Program, RegisterId};
use crate::shape::Dims;

/// A step without places.
pub(super) enum Group {
    Chain(Draft),
    /// Any other instruction.
    Around(Box<Around>),
}

/// An instruction that is not elementwise, and what has been attached to it.
pub(super) struct Around {
    pub(super) instruction: u32,
    pub(super) before: Option<Draft>,
    pub(super) after: Option<Behind>,
}

/// A chain behind an instruction: applied to this result, which is this input of it.
pub(super) struct Behind {
    pub(super) result: u8,
    pub(super) input: u8,
    pub(super) draft: Draft,
}

impl Behind {
    /// The instruction of the chain whose result takes the place of the product: the last that is computed from it.
    pub(super) fn taker(&self) -> Option<u8> {
        let depends = |op: &u8| self.draft.depends_on[usize::from(*op)] >> self.input & 1 == 1;
        self.draft.stored.iter().copied().rfind(depends)
    }
}

/// A chain without places.
pub(super) struct Draft {
    pub(super) dims: Dims,
    pub(super) numel: usize,
    /// Memory operands: no two of the same root, offset and shape.
    pub(super) inputs: Vec<RegisterId>,
    pub(super) ops: Vec<ChainOp>,
    /// The register each instruction defines.
    pub(super) results: Vec<RegisterId>,
    /// By instruction: the inputs it is computed from, as bits.
    pub(super) depends_on: Vec<u32>,
    /// Instructions whose results are written, ascending.
    pub(super) stored: Vec<u8>,
}

/// Groups the instructions that run, in order.
pub(super) fn group(program: &Program, live: &mut Live, options: Options) -> Result<Vec<Group>> {
    let Attached { groups, later } = grouped(program, live, options)?;
    for (root, number) in later {
        let last = &mut live.last_read[root as usize];
        *last = number.max(*last);
    }
    Ok(groups)
}

fn grouped(program: &Program, live: &Live, options: Options) -> Result<Attached> {
    let Options { fuse, limits, .. } = options;
    let registers = program.registers().len();
    let mut fuser = Fuser {
        program,
        live,
        limits,
        scalars: table(registers, None)?,
        member: table(registers, 0)?,
        groups: Vec::new(),
    };
    let mut open: Vec<u32> = Vec::new();
    for (number, instruction) in program.instructions().iter().enumerate() {
        if !live.runs[number] {
            continue;
        }
        let result = program.results(instruction).start;
        let Op::Element(op) = instruction.op else {
            fuser.close(&mut open)?;
            let around = Around { instruction: number as u32, before: None, after: None };
            fuser.push(Group::Around(Box::new(around)))?;
            continue;
        };
        if fuse {
            let scalar = fuser.scalar(instruction, op);
            fuser.scalars[result as usize] = scalar;
            if scalar.is_some() && !fuser.is_stored(result, number as u32) {
                continue;
            }
        }
        if !(fuse && fuser.joins(&open, instruction)) {
            fuser.close(&mut open)?;
        }
        fuser.member[result as usize] = fuser.groups.len() as u32 + 1;
        open.push(number as u32);
    }
    fuser.close(&mut open)?;
    let groups = std::mem::take(&mut fuser.groups);
    if !fuse {
        return Ok(Attached { groups, later: Vec::new() });
    }
    attach(&fuser, options, groups)
}

pub(super) struct Fuser<'a> {
    pub(super) program: &'a Program,
    pub(super) live: &'a Live,
    limits: Limits,
    /// By root: the scalar that every element is.
    scalars: Vec<Option<(u32, Dtype)>>,
    /// By root: number of groups before the chain it belongs to, plus one. Tells whether it is the open chain's.
    member: Vec<u32>,
    groups: Vec<Group>,
}

impl Fuser<'_> {
    /// The scalar that the result of an instruction is everywhere.
    fn scalar(&self, instruction: &Instruction, op: ElementOp) -> Option<(u32, Dtype)> {
        let operand = self.program.operands(instruction).first().copied().flatten();
        match (op, operand) {
            (ElementOp::Full { scalar }, _) => {
                Some((scalar, self.program.register(self.program.results(instruction).start).dtype))
            }
            (ElementOp::Expand, Some(operand)) => self.scalars[root(self.program, operand)],
            _ => None,
        }
    }

    /// Whether a result has to be in memory once the chain that ends with instruction `last` has run.
    fn is_stored(&self, result: RegisterId, last: u32) -> bool {
        let result = result as usize;
        // Elementwise readers of a scalar take the scalar.
        let read = if self.scalars[result].is_some() {
            self.live.read_whole[result]
        } else {
            self.live.last_read[result] > last
        };
        self.live.shown[result] || read
    }

    /// Whether an instruction can be evaluated together with the open chain.
    fn joins(&self, open: &[u32], instruction: &Instruction) -> bool {
        let Some(&first) = open.first() else { return true };
        let result = |of: &Instruction| self.program.register(self.program.results(of).start);
        let first = result(&self.program.instructions()[first as usize]);
        open.len() < MAX_CHAIN_OPS
            && first.dims == result(instruction).dims
            && self.program.operands(instruction).iter().flatten().all(|&operand| {
                // A value of the open chain is there one element at a time: no other part of it can be read.
                let register = self.program.register(operand);
                let root = register.root as usize;
                self.scalars[root].is_some()
                    || self.member[root] != self.groups.len() as u32 + 1
                    || is_whole(self.program, register)
            })
    }

    fn push(&mut self, group: Group) -> Result<()> {
        self.groups.try_reserve(1).map_err(|_| super::no_memory())?;
        self.groups.push(group);
        Ok(())
    }

    fn close(&mut self, open: &mut Vec<u32>) -> Result<()> {
        if !open.is_empty() {
            self.chains(open)?;
            open.clear();
        }
        Ok(())
    }

    /// One chain of these instructions, or two of their halves where it would have too many operands, results or scalars.
    fn chains(&mut self, instructions: &[u32]) -> Result<()> {
        let draft = self.draft(instructions);
        if instructions.len() <= 1 || self.fits(&draft, self.limits, &[]) {
            return self.push(Group::Chain(draft));
        }
        let (one, other) = instructions.split_at(instructions.len() / 2);
        self.chains(one)?;
        self.chains(other)
    }

    /// Whether a chain keeps limits, with `others` bound beside it.
    pub(super) fn fits(&self, draft: &Draft, limits: Limits, others: &[RegisterId]) -> bool {
        let Limits { inputs, outputs, scalars, bindings, binding, elements } = limits;
        let mut taken: Vec<_> = draft.ops.iter().flat_map(ChainOp::scalars).collect();
        taken.sort_unstable_by_key(|&(scalar, dtype)| (scalar, dtype as u32));
        taken.dedup();
        let bindings_of = |numel: usize| numel.div_ceil(binding).max(1);
        let read = draft.inputs.iter().chain(others);
        let read = read.map(|&input| bindings_of(self.program.register(input).numel)).sum::<usize>();
        draft.numel <= elements
            && draft.inputs.len() <= inputs
            && draft.stored.len() <= outputs
            && taken.len() <= scalars
            && read + draft.stored.len() * bindings_of(draft.numel) <= bindings
    }

    /// A chain of these instructions.
    pub(super) fn draft(&self, instructions: &[u32]) -> Draft {
        let last = instructions.last().copied().unwrap_or_default();
        let mut draft = Draft {
            dims: Dims::default(),
            numel: 0,
            inputs: Vec::new(),
            ops: Vec::new(),
            results: Vec::new(),
            depends_on: Vec::new(),
            stored: Vec::new(),
        };
        for &number in instructions {
            let instruction = &self.program.instructions()[number as usize];
            let Op::Element(op) = instruction.op else { continue };
            let result = self.program.results(instruction).start;
            let register = self.program.register(result);
            (draft.dims, draft.numel) = (register.dims, register.numel);
            let mut operands = [ChainOperand::None; 3];
            let mut operand_dtype = register.dtype;
            let mut depends_on = 0;
            for (place, &operand) in operands.iter_mut().zip(self.program.operands(instruction).iter().flatten()) {
                *place = self.operand(&mut draft, operand);
                operand_dtype = self.program.register(operand).dtype;
                depends_on |= match *place {
                    ChainOperand::Input(input) => 1_u32.checked_shl(u32::from(input)).unwrap_or(0),
                    ChainOperand::Op(op) => draft.depends_on[usize::from(op)],
                    ChainOperand::Scalar(..) | ChainOperand::None => 0,
                };
            }
            if self.is_stored(result, last) {
                draft.stored.push(draft.ops.len() as u8);
            }
            draft.ops.push(ChainOp { instruction: number, op, operands, operand_dtype, dtype: register.dtype });
            draft.results.push(result);
            draft.depends_on.push(depends_on);
        }
        draft
    }

    /// Where an instruction of the chain takes an operand from.
    fn operand(&self, draft: &mut Draft, operand: RegisterId) -> ChainOperand {
        let register = self.program.register(operand);
        if let Some((scalar, dtype)) = self.scalars[register.root as usize] {
            return ChainOperand::Scalar(scalar, dtype);
        }
        if let Some(op) = draft.results.iter().position(|&result| result == register.root) {
            return ChainOperand::Op(op as u8);
        }
        let same = |&input: &RegisterId| {
            let input = self.program.register(input);
            input.root == register.root && input.offset == register.offset && input.dims == register.dims
        };
        let position = draft.inputs.iter().position(same).unwrap_or_else(|| {
            draft.inputs.push(operand);
            draft.inputs.len() - 1
        });
        ChainOperand::Input(position as u8)
    }
}
