//! Plans mean what their programs mean. Both are run on hashes instead of numbers: the program instruction by instruction,
//! every register in memory of its own; the plan in an arena full of garbage, chains in small pieces with every store done
//! at once. What outputs and inputs hold in the end has to agree, as has which outputs are poisoned.

use super::{Base, Chain, ChainOperand, Fused, Kernel, Limits, NO_VALUE, Operand, Options, Plan, StepKind};
use crate::program::op::ElementOp;
use crate::program::testing::{Random, random_program};
use crate::program::{Instruction, Op, Program};
use crate::shape::strides;
use std::ops::Range;

/// What makes chains be cut.
const TIGHT: Limits = Limits { inputs: 3, outputs: 2, scalars: 2, bindings: 8, binding: 20, elements: 100 };

const FUSED: Options = Options::ALL;

fn mix(values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(0xcbf2_9ce4_8422_2325, |h, v| (h ^ v).rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn name(op: &impl std::fmt::Debug) -> u64 {
    mix(format!("{op:?}").bytes().map(u64::from))
}

/// Position in an operand of element `i` of the iteration shape.
fn broadcast(dims: &[u32], to: &[u32], i: usize) -> usize {
    let (own, all) = (strides(dims), strides(to));
    let lead = to.len() - dims.len();
    (0..dims.len()).filter(|&d| dims[d] > 1).map(|d| i / all[lead + d] % dims[d] as usize * own[d]).sum()
}

fn element(op: ElementOp, dtype: crate::dtype::Dtype, operands: &[u64]) -> u64 {
    match op {
        ElementOp::Full { scalar } => mix([1, u64::from(scalar), dtype as u64]),
        ElementOp::Expand => operands[0],
        _ => mix([2, name(&op), dtype as u64].into_iter().chain(operands.iter().copied())),
    }
}

/// What the instruction gives for a result and, with `position`, leaves in a changed operand.
fn kernel_value(op: &Op, inputs: &[u64], position: usize, i: usize) -> u64 {
    mix([3, name(op), position as u64, i as u64].into_iter().chain(inputs.iter().copied()))
}

/// The storages of inputs, and where each input begins in one.
#[derive(Clone)]
struct Bound {
    storages: Vec<Vec<u64>>,
    slots: Vec<(usize, usize)>,
}

/// Whether instruction `number` fails by its data.
fn fails(instruction: &Instruction, number: u32, seed: u64) -> bool {
    matches!(instruction.op, Op::Gather { .. } | Op::CrossEntropy { .. } | Op::WeightedCrossEntropy(_))
        && mix([seed, u64::from(number)]).is_multiple_of(4)
}

/// Outputs by element, `None` where poisoned.
type Shown = Vec<Option<Vec<u64>>>;

fn run_program(program: &Program, bound: &mut Bound, seed: u64) -> Shown {
    let mut memory: Vec<Vec<u64>> = program.registers().iter().map(|r| vec![0; r.numel]).collect();
    let mut poisoned = vec![false; memory.len()];
    let index_of = |root: u32| program.inputs().iter().position(|&input| input == root);
    macro_rules! at {
        ($id:expr, $i:expr) => {{
            let register = program.register($id);
            match index_of(register.root) {
                Some(input) => {
                    let (storage, offset) = bound.slots[input];
                    &mut bound.storages[storage][offset + register.offset + $i]
                }
                None => &mut memory[register.root as usize][register.offset + $i],
            }
        }};
    }
    for (number, instruction) in program.instructions().iter().enumerate() {
        let operands: Vec<u32> = program.operands(instruction).iter().flatten().copied().collect();
        let bad = operands.iter().any(|&id| poisoned[program.register(id).root as usize]);
        if matches!(instruction.op, Op::Input { .. } | Op::Output { .. } | Op::View { .. }) {
            continue;
        }
        if bad || fails(instruction, number as u32, seed) {
            program.results(instruction).for_each(|id| poisoned[id as usize] = true);
            continue;
        }
        if let Op::Element(op) = instruction.op {
            let id = program.results(instruction).start;
            let result = program.register(id);
            for i in 0..result.numel {
                let values: Vec<u64> = operands
                    .iter()
                    .map(|&from| *at!(from, broadcast(&program.register(from).dims, &result.dims, i)))
                    .collect();
                memory[id as usize][i] = element(op, result.dtype, &values);
            }
            continue;
        }
        let contents: Vec<u64> = program
            .operands(instruction)
            .iter()
            .map(|from| match from {
                Some(from) => mix((0..program.register(*from).numel).map(|i| *at!(*from, i))),
                None => 9,
            })
            .collect();
        for &position in instruction.row.mutates {
            if let Some(target) = program.operands(instruction)[position] {
                for i in 0..program.register(target).numel {
                    *at!(target, i) = kernel_value(&instruction.op, &contents, position, i);
                }
            }
        }
        for (position, id) in program.results(instruction).enumerate() {
            for (i, value) in memory[id as usize].iter_mut().enumerate() {
                *value = kernel_value(&instruction.op, &contents, 100 + position, i);
            }
        }
    }
    let shown = program.outputs().iter().map(|&id| {
        let register = program.register(id);
        (!poisoned[register.root as usize]).then(|| (0..register.numel).map(|i| *at!(id, i)).collect())
    });
    shown.collect()
}

struct Machine<'a> {
    plan: &'a Plan,
    bound: &'a mut Bound,
    arena: Vec<u64>,
    allocations: Vec<Vec<u64>>,
    poisoned: Vec<bool>,
}

impl Machine<'_> {
    fn at(&mut self, operand: &Operand, i: usize) -> &mut u64 {
        assert!(i < operand.numel);
        let offset = operand.location.offset + i;
        match operand.location.base {
            Base::Arena => &mut self.arena[offset],
            Base::Allocation(index) => &mut self.allocations[index as usize][offset],
            Base::Nowhere => panic!("%{} is nowhere", operand.register),
            Base::Input(index) => {
                let (storage, start) = self.bound.slots[index as usize];
                &mut self.bound.storages[storage][start + offset]
            }
        }
    }

    fn chain(&mut self, chain: &Chain) {
        let wanted = self.wanted(chain);
        for piece in pieces(chain.numel) {
            self.piece(chain, &wanted, piece, &mut Vec::new());
        }
    }

    /// Which outputs have no poison: they are computed even if other results of the chain are poisoned.
    fn wanted(&mut self, chain: &Chain) -> Vec<bool> {
        chain
            .outputs
            .iter()
            .map(|output| {
                let bad = (0..chain.inputs.len())
                    .any(|i| output.depends_on >> i & 1 == 1 && self.poisoned[chain.inputs[i].value as usize]);
                self.poisoned[output.operand.value as usize] = bad;
                !bad
            })
            .collect()
    }

    /// Evaluates elements of a chain. Those that are nowhere in memory are fed to whoever wants them.
    fn piece(&mut self, chain: &Chain, wanted: &[bool], piece: Range<usize>, fed: &mut Vec<u64>) {
        let mut values: Vec<Vec<u64>> = Vec::new();
        for (number, op) in chain.ops.iter().enumerate() {
            let mut row = Vec::new();
            for i in piece.clone() {
                let operands: Vec<u64> = op
                    .operands
                    .iter()
                    .take(op.op.arity())
                    .map(|&from| match from {
                        ChainOperand::Input(input) => {
                            let input = chain.inputs[usize::from(input)];
                            *self.at(&input, broadcast(&input.dims, &chain.dims, i))
                        }
                        ChainOperand::Op(op) => values[usize::from(op)][i - piece.start],
                        ChainOperand::Scalar(index, dtype) => element(ElementOp::Full { scalar: index }, dtype, &[]),
                        ChainOperand::None => panic!("too few operands"),
                    })
                    .collect();
                row.push(element(op.op, op.dtype, &operands));
            }
            for (output, _) in chain.outputs.iter().zip(wanted).filter(|(o, is)| usize::from(o.op) == number && **is) {
                for (i, &value) in piece.clone().zip(&row) {
                    if output.operand.location.base == Base::Nowhere {
                        assert_eq!(output.operand.value, NO_VALUE);
                        fed.push(value);
                    } else {
                        *self.at(&output.operand, i) = value;
                    }
                }
            }
            values.push(row);
        }
    }

    /// An instruction with chains around it, piece by piece: the chain behind it sees each piece of the result as it is
    /// stored.
    fn fused(&mut self, fused: &Fused, fails: bool) {
        let kernel = &fused.kernel;
        let bad = fails || fused.reads().any(|input| self.poisoned[input.value as usize]);
        let mut fed = Vec::new();
        if let Some(before) = fused.before.as_ref().filter(|_| !bad) {
            pieces(before.numel).for_each(|piece| self.piece(before, &[true], piece, &mut fed));
            // The reduction may read it through a view of another shape.
            let place = |operand: Operand| (operand.value, operand.location, operand.dtype, operand.numel);
            assert_eq!(kernel.inputs[0].map(place), Some(place(before.outputs[0].operand)));
        }
        let contents: Vec<u64> = (kernel.inputs.iter().enumerate())
            .map(|(position, input)| match input {
                None => 9,
                Some(_) if bad => 0,
                Some(_) if position == 0 && fused.before.is_some() => mix(fed.iter().copied()),
                Some(input) => mix((0..input.numel).map(|i| *self.at(input, i))),
            })
            .collect();
        kernel.outputs.iter().for_each(|output| self.poisoned[output.value as usize] = bad);
        for (position, output) in kernel.outputs.iter().enumerate() {
            let after = fused.after.as_ref().filter(|after| usize::from(after.result) == position);
            let wanted = after.map_or_else(Vec::new, |after| self.wanted(&after.chain));
            for piece in pieces(output.numel) {
                for i in piece.clone().filter(|_| !bad) {
                    *self.at(output, i) = kernel_value(&kernel.op, &contents, 100 + position, i);
                }
                if let Some(after) = after {
                    self.piece(&after.chain, &wanted, piece, &mut Vec::new());
                }
            }
        }
    }

    fn kernel(&mut self, kernel: &Kernel, fails: bool) {
        let bad = fails || kernel.inputs.iter().flatten().any(|input| self.poisoned[input.value as usize]);
        kernel.outputs.iter().for_each(|output| self.poisoned[output.value as usize] = bad);
        if bad {
            return;
        }
        let contents: Vec<u64> = kernel
            .inputs
            .iter()
            .map(|input| input.map_or(9, |input| mix((0..input.numel).map(|i| *self.at(&input, i)))))
            .collect();
        for &position in kernel.mutates {
            if let Some(target) = kernel.inputs[position] {
                for i in 0..target.numel {
                    *self.at(&target, i) = kernel_value(&kernel.op, &contents, position, i);
                }
            }
        }
        for (position, output) in kernel.outputs.iter().enumerate() {
            for i in 0..output.numel {
                *self.at(output, i) = kernel_value(&kernel.op, &contents, 100 + position, i);
            }
        }
    }
}

fn pieces(numel: usize) -> impl Iterator<Item = Range<usize>> {
    (0..numel).step_by(5).map(move |start| start..numel.min(start + 5))
}

fn run_plan(program: &Program, plan: &Plan, bound: &mut Bound, seed: u64) -> Shown {
    let mut machine = Machine {
        plan,
        bound,
        arena: vec![0xdead; plan.arena],
        allocations: plan.allocations.iter().map(|&size| vec![0xbeef; size]).collect(),
        poisoned: vec![false; plan.values],
    };
    for step in &plan.steps {
        match &step.kind {
            StepKind::Chain(chain) => machine.chain(chain),
            StepKind::Fused(fused) => {
                let instruction = &program.instructions()[step.instruction as usize];
                machine.fused(fused, fails(instruction, step.instruction, seed));
            }
            StepKind::Kernel(kernel) => {
                let instruction = &program.instructions()[step.instruction as usize];
                machine.kernel(kernel, fails(instruction, step.instruction, seed));
            }
        }
    }
    let mut shown = Vec::new();
    for output in &machine.plan.outputs {
        let whole = (0..output.numel).map(|i| *machine.at(output, i)).collect();
        shown.push((!machine.poisoned[output.value as usize]).then_some(whole));
    }
    shown
}

/// Binds every input to a storage of its own, or sometimes into that of another input, where no changed operand then
/// meets another operand of its instruction: what a device has to refuse.
fn bind(program: &Program, random: &mut Random) -> Bound {
    let mut bound = Bound { storages: Vec::new(), slots: Vec::new() };
    for &input in program.inputs() {
        let numel = program.register(input).numel;
        let host = random.below(bound.slots.len() as u32 + 1) as usize;
        let room = bound.slots.get(host).map(|&(storage, _)| bound.storages[storage].len());
        if let Some(room) = room.filter(|&room| room >= numel && random.chance(50)) {
            bound.slots.push((bound.slots[host].0, random.below((room - numel) as u32 + 1) as usize));
        } else {
            bound.slots.push((bound.storages.len(), 0));
            bound.storages.push((0..numel).map(|_| random.next()).collect());
        }
    }
    if !is_allowed(program, &bound) {
        bound.storages.clear();
        bound.slots.clear();
        for &input in program.inputs() {
            bound.slots.push((bound.storages.len(), 0));
            bound.storages.push((0..program.register(input).numel).map(|_| random.next()).collect());
        }
    }
    bound
}

fn is_allowed(program: &Program, bound: &Bound) -> bool {
    let place = |id: u32| {
        let register = program.register(id);
        let input = program.inputs().iter().position(|&input| input == register.root)?;
        let (storage, offset) = bound.slots[input];
        Some((storage, offset + register.offset, register.numel))
    };
    program.instructions().iter().all(|instruction| {
        let operands = program.operands(instruction);
        instruction.row.mutates.iter().all(|&position| {
            let Some((storage, start, length)) = operands[position].and_then(place) else { return true };
            operands
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != position)
                .filter_map(|(_, id)| id.and_then(place))
                .all(|(other, begin, size)| other != storage || start + length <= begin || begin + size <= start)
        })
    })
}

/// Values that are in the arena at the same time share nothing, by the plan alone.
fn check_arena(plan: &Plan) {
    let mut last = vec![0; plan.values];
    for (number, step) in plan.steps.iter().enumerate() {
        let inputs: Vec<Operand> = match &step.kind {
            StepKind::Chain(chain) => chain.inputs.clone(),
            StepKind::Kernel(kernel) => kernel.inputs.iter().flatten().copied().collect(),
            StepKind::Fused(fused) => {
                // The product itself is read where it is written.
                let behind = fused.after.iter().flat_map(|after| {
                    after.chain.inputs.iter().enumerate().map(move |(i, o)| (i != usize::from(after.input), o))
                });
                fused.reads().copied().chain(behind.filter(|(is, _)| *is).map(|(_, operand)| *operand)).collect()
            }
        };
        for input in inputs {
            last[input.value as usize] = number;
        }
    }
    let mut alive: Vec<(usize, usize, u32)> = Vec::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let outputs: Vec<(Operand, Option<u32>)> = match &step.kind {
            StepKind::Chain(chain) => chain
                .outputs
                .iter()
                .map(|o| (o.operand, o.in_place_of.map(|input| chain.inputs[usize::from(input)].value)))
                .collect(),
            StepKind::Kernel(kernel) => kernel.outputs.iter().map(|&output| (output, None)).collect(),
            StepKind::Fused(fused) => fused.results().map(|&output| (output, None)).collect(),
        };
        for (output, over) in outputs.iter().filter(|(output, _)| output.location.base == Base::Arena) {
            let (begin, end) = (output.location.offset, output.location.offset + output.numel);
            assert!(end <= plan.arena && (begin % super::ALIGN == 0));
            for &(from, to, value) in &alive {
                assert!(end <= from || to <= begin || Some(value) == *over, "{plan}");
            }
            alive.push((begin, end, output.value));
        }
        alive.retain(|&(.., value)| last[value as usize] > number);
    }
}

#[test]
fn plans_mean_what_their_programs_mean() {
    let mut random = Random::new(1);
    let (mut chains, mut longest, mut reused, mut shared, mut before, mut after) = (0, 0, 0, 0, 0, 0);
    for round in 0..1000 {
        let length = 1 + random.below(60);
        let writer = random_program(&mut random, length);
        let program = Program::decode(&writer.code).unwrap_or_else(|e| panic!("{e}"));
        let bound = bind(&program, &mut random);
        shared += usize::from(bound.storages.len() < bound.slots.len());
        let mut reference = bound.clone();
        let expected = run_program(&program, &mut reference, round);
        let apart = Options { in_place: false, ..FUSED };
        let tight = Options { limits: TIGHT, before: Some(TIGHT), after: Some(TIGHT), ..FUSED };
        let lone = Options { before: None, after: None, ..FUSED };
        let apart = Options { rows: false, ..apart };
        for options in [FUSED, apart, tight, lone, Options { fuse: false, ..FUSED }] {
            let plan = Plan::new(&program, options).unwrap();
            check_arena(&plan);
            let mut ours = bound.clone();
            let shown = run_plan(&program, &plan, &mut ours, round);
            assert!(shown == expected && ours.storages == reference.storages, "{round}\n{program}\n{plan}");
            for step in &plan.steps {
                if let StepKind::Fused(fused) = &step.kind {
                    assert!(options.fuse && (fused.before.is_some() || fused.after.is_some()));
                    before += usize::from(fused.before.is_some());
                    if let Some(chain) = &fused.after {
                        let product = fused.kernel.outputs[usize::from(chain.result)];
                        assert_eq!(chain.chain.inputs[usize::from(chain.input)].value, product.value);
                        assert_eq!(fused.successor().map(|taker| taker.location), Some(product.location));
                        after += 1;
                    }
                }
                let StepKind::Chain(chain) = &step.kind else { continue };
                assert!(options.fuse || chain.ops.len() == 1);
                assert!(chain.ops.len() <= super::MAX_CHAIN_OPS && chain.inputs.len() <= super::MAX_CHAIN_INPUTS);
                assert!(!chain.outputs.is_empty() && chain.outputs.len() <= super::MAX_CHAIN_OUTPUTS);
                let computed =
                    |o: &super::ChainOutput| o.in_place_of.is_none_or(|input| o.depends_on >> input & 1 == 1);
                assert!(chain.outputs.iter().all(computed));
                chains += 1;
                longest = longest.max(chain.ops.len());
                reused += chain.outputs.iter().filter(|output| output.in_place_of.is_some()).count();
            }
        }
    }
    // The test has something to test.
    assert!(chains > 5_000 && longest >= 6 && reused > 500 && shared > 100, "{chains} {longest} {reused} {shared}");
    assert!(before > 100 && after > 300, "{before} {after}");
}
