//! From a program to a plan: liveness, groups, lifetimes, places, steps.

use super::arena::{self, Block};
use super::fuse::{self, Around, Draft, Group};
use super::live::{Live, is_whole, root};
use super::{
    After, Base, Chain, ChainOperand, ChainOutput, Fused, Input, Kernel, Location, NO_VALUE, Operand, Options, Plan,
    Step, StepKind, cost, no_memory, table,
};
use crate::error::Result;
use crate::program::{Program, RegisterId};

impl Plan {
    /// Plans a program. It fails only for want of memory.
    pub fn new(program: &Program, options: Options) -> Result<Self> {
        let mut live = Live::of(program)?;
        let groups = fuse::group(program, &mut live, options)?;
        let mut places = Places::new(program, &live)?;
        for (step, group) in groups.iter().enumerate() {
            places.visit(group, step as u32, options.in_place)?;
        }
        let (arena, live_words) = places.lay_out();
        let mut steps = Vec::new();
        steps.try_reserve_exact(groups.len()).map_err(|_| no_memory())?;
        for (number, group) in groups.into_iter().enumerate() {
            steps.push(match group {
                Group::Chain(draft) => {
                    let chain = places.chain(draft, Some(number as u32));
                    let instruction = chain.ops.first().map_or(0, |op| op.instruction);
                    Step { instruction, nanoseconds: cost::chain(&chain), kind: StepKind::Chain(chain) }
                }
                Group::Around(around) => places.around(*around, number as u32)?,
            });
        }
        let mut mutated = table(program.registers().len(), false)?;
        for instruction in program.instructions() {
            let operands = program.operands(instruction);
            for &operand in instruction.row.mutates.iter().filter_map(|&i| operands.get(i)).flatten() {
                mutated[root(program, operand)] = true;
            }
        }
        let inputs = program.inputs().iter().map(|&register| Input {
            operand: places.operand(register),
            mutated: mutated[register as usize],
            used: live.needed[register as usize],
        });
        Ok(Self {
            inputs: inputs.collect(),
            outputs: program.outputs().iter().map(|&register| places.operand(register)).collect(),
            nanoseconds: steps.iter().fold(0, |sum, step| step.nanoseconds.saturating_add(sum)),
            steps,
            values: places.values as usize,
            allocations: places.allocations,
            arena,
            live: live_words,
            interface: program.interface(),
        })
    }
}

/// Where a root register is.
#[derive(Clone, Copy)]
enum Place {
    /// Nowhere: never in memory.
    None,
    Input(u32),
    Allocation(u32),
    /// A block of the arena.
    Block(u32),
}

struct Places<'a> {
    program: &'a Program,
    live: &'a Live,
    /// By root.
    of_root: Vec<Place>,
    /// By root: the number poison is tracked by.
    numbers: Vec<u32>,
    values: u32,
    allocations: Vec<usize>,
    blocks: Vec<Block>,
    /// By block, once they are laid out.
    offsets: Vec<usize>,
    /// Results of chains that take over an input's block: step, instruction of the chain, input of the chain.
    reuses: Vec<(u32, u8, u8)>,
}

impl<'a> Places<'a> {
    fn new(program: &'a Program, live: &'a Live) -> Result<Self> {
        let registers = program.registers().len();
        let mut places = Self {
            program,
            live,
            of_root: table(registers, Place::None)?,
            numbers: table(registers, NO_VALUE)?,
            values: 0,
            allocations: Vec::new(),
            blocks: Vec::new(),
            offsets: Vec::new(),
            reuses: Vec::new(),
        };
        for (index, &register) in program.inputs().iter().enumerate() {
            places.enter(register, Place::Input(index as u32));
        }
        Ok(places)
    }

    fn enter(&mut self, root: RegisterId, place: Place) {
        self.of_root[root as usize] = place;
        self.numbers[root as usize] = self.values;
        self.values += 1;
    }

    /// Notes what a step reads and finds places for what it writes.
    fn visit(&mut self, group: &Group, step: u32, in_place: bool) -> Result<()> {
        match group {
            Group::Around(around) => self.visit_around(around, step),
            Group::Chain(draft) => {
                draft.inputs.iter().for_each(|&operand| self.read(operand, step));
                let mut taken = 0_u32;
                for &op in &draft.stored {
                    let result = draft.results[usize::from(op)];
                    match self.reusable(draft, op, taken).filter(|_| in_place) {
                        Some((input, block)) => {
                            taken |= 1 << input;
                            self.reuses.try_reserve(1).map_err(|_| no_memory())?;
                            self.reuses.push((step, op, input));
                            self.enter(result, Place::Block(block));
                        }
                        None => self.write(result, step)?,
                    }
                }
                Ok(())
            }
        }
    }

    fn visit_around(&mut self, around: &Around, step: u32) -> Result<()> {
        let instruction = &self.program.instructions()[around.instruction as usize];
        for &operand in self.program.operands(instruction).iter().flatten() {
            self.read(operand, step);
        }
        if let Some(before) = &around.before {
            before.inputs.iter().for_each(|&operand| self.read(operand, step));
        }
        let mut replaced = None;
        if let Some(after) = &around.after {
            after.draft.inputs.iter().for_each(|&operand| self.read(operand, step));
            for &op in &after.draft.stored {
                self.write(after.draft.results[usize::from(op)], step)?;
            }
            if let Some(taker) = after.taker() {
                self.reuses.try_reserve(1).map_err(|_| no_memory())?;
                self.reuses.push((step, taker, after.input));
                let product = self.program.results(instruction).start + u32::from(after.result);
                let place = self.of_root[after.draft.results[usize::from(taker)] as usize];
                self.enter(product, place);
                replaced = Some(product);
            }
        }
        let mut results = self.program.results(instruction).filter(|&result| Some(result) != replaced);
        results.try_for_each(|result| self.write(result, step))
    }

    fn read(&mut self, register: RegisterId, step: u32) {
        if let Place::Block(block) = self.of_root[root(self.program, register)]
            && let Some(block) = self.blocks.get_mut(block as usize)
        {
            block.last = step;
        }
    }

    fn write(&mut self, root: RegisterId, step: u32) -> Result<()> {
        let size = self.program.register(root).numel;
        let place = if self.live.shown[root as usize] {
            self.allocations.try_reserve(1).map_err(|_| no_memory())?;
            self.allocations.push(size);
            Place::Allocation(self.allocations.len() as u32 - 1)
        } else {
            self.blocks.try_reserve(1).map_err(|_| no_memory())?;
            self.blocks.push(Block { size, first: step, last: step });
            Place::Block(self.blocks.len() as u32 - 1)
        };
        self.enter(root, place);
        Ok(())
    }

    /// An input of the chain whose block the result of instruction `op` can take over: nobody reads it after the chain,
    /// no instruction of the chain reads it after `op`, all of it is read straight through, and under no second shape. The
    /// result is computed from it, so that whoever leaves out other results still finds it among the inputs.
    fn reusable(&self, draft: &Draft, op: u8, taken: u32) -> Option<(u8, u32)> {
        let result = draft.results[usize::from(op)];
        let last = draft.ops.last()?.instruction;
        if self.live.shown[result as usize] {
            return None;
        }
        draft.inputs.iter().enumerate().find_map(|(position, &input)| {
            let register = self.program.register(input);
            let Place::Block(block) = self.of_root[register.root as usize] else { return None };
            let aliases = draft.inputs.iter().filter(|&&other| root(self.program, other) == register.root as usize);
            let read_later = draft
                .ops
                .iter()
                .skip(usize::from(op) + 1)
                .any(|later| later.operands.contains(&ChainOperand::Input(position as u8)));
            let fits = register.numel == draft.numel
                && is_whole(self.program, register)
                && self.live.last_read[register.root as usize] <= last
                && aliases.count() == 1
                && !read_later
                && draft.depends_on[usize::from(op)] >> position & 1 == 1
                && taken & (1 << position) == 0;
            fits.then_some((position as u8, block))
        })
    }

    /// Lays out the arena; its size, and the least that any layout needs.
    fn lay_out(&mut self) -> (usize, usize) {
        let bound = arena::bound(&self.blocks);
        let layout = arena::lay_out(&self.blocks, bound);
        self.offsets = layout.offsets;
        (layout.size, bound)
    }

    fn operand(&self, register: RegisterId) -> Operand {
        let info = self.program.register(register);
        let (base, offset) = match self.of_root[info.root as usize] {
            Place::Input(index) => (Base::Input(index), 0),
            Place::Allocation(index) => (Base::Allocation(index), 0),
            Place::Block(block) => (Base::Arena, self.offsets[block as usize]),
            Place::None => (Base::Nowhere, 0),
        };
        Operand {
            register,
            value: self.numbers[info.root as usize],
            location: Location { base, offset: offset + info.offset },
            dtype: info.dtype,
            dims: info.dims,
            numel: info.numel,
        }
    }

    fn around(&self, around: Around, step: u32) -> Result<Step> {
        let Around { instruction, before, after } = around;
        let kernel = self.kernel(instruction)?;
        if before.is_none() && after.is_none() {
            return Ok(Step { instruction, nanoseconds: cost::kernel(&kernel), kind: StepKind::Kernel(kernel) });
        }
        let fused = Fused {
            kernel,
            // What a step reuses it reuses behind the instruction.
            before: before.map(|draft| self.chain(draft, None)),
            after: after.map(|after| {
                let chain = self.chain(after.draft, Some(step));
                After { result: after.result, input: after.input, chain }
            }),
        };
        Ok(Step { instruction, nanoseconds: cost::fused(&fused), kind: StepKind::Fused(Box::new(fused)) })
    }

    fn kernel(&self, number: u32) -> Result<Kernel> {
        let instruction = &self.program.instructions()[number as usize];
        let operands = self.program.operands(instruction);
        let mut inputs = Vec::new();
        inputs.try_reserve_exact(operands.len()).map_err(|_| no_memory())?;
        inputs.extend(operands.iter().map(|operand| operand.map(|register| self.operand(register))));
        Ok(Kernel {
            op: instruction.op.clone(),
            inputs,
            outputs: self.program.results(instruction).map(|register| self.operand(register)).collect(),
            mutates: instruction.row.mutates,
        })
    }

    /// A chain, with what `step` reuses.
    fn chain(&self, draft: Draft, step: Option<u32>) -> Chain {
        let first = self.reuses.partition_point(|&(other, ..)| step.is_none_or(|step| other < step));
        let reuses = || self.reuses.iter().skip(first).take_while(|&&(other, ..)| Some(other) == step);
        let output = |op: u8| ChainOutput {
            op,
            operand: self.operand(draft.results[usize::from(op)]),
            depends_on: draft.depends_on[usize::from(op)],
            in_place_of: reuses().find(|&&(_, by, _)| by == op).map(|&(_, _, input)| input),
        };
        Chain {
            dims: draft.dims,
            numel: draft.numel,
            inputs: draft.inputs.iter().map(|&register| self.operand(register)).collect(),
            outputs: draft.stored.iter().map(|&op| output(op)).collect(),
            ops: draft.ops,
        }
    }
}
