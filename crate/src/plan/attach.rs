//! Which chains become part of the instruction beside them, once chains are formed.
//!
//! A value that nothing but a reduction reads is not written: the instructions that nothing but it needs leave their chain
//! and are evaluated by the reduction. A chain over the shape of a product that nobody else reads is applied where the
//! product is stored. Softmax of rows does both. Either moves reads to another time, so no change in place may lie between.

use super::fuse::{Behind, Draft, Fuser, Group};
use super::live::{is_whole, root};
use super::{ChainOperand, Limits, Options, table};
use crate::dtype::Dtype;
use crate::error::Result;
use crate::program::op::{Op, ReduceOp};
use crate::program::{Instruction, RegisterId};

/// Groups with chains moved into kernels, and which roots are now read by which later instruction.
pub(super) struct Attached {
    pub(super) groups: Vec<Group>,
    pub(super) later: Vec<(RegisterId, u32)>,
}

/// Moves what can be moved.
pub(super) fn attach(fuser: &Fuser, options: Options, groups: Vec<Group>) -> Result<Attached> {
    let registers = fuser.program.registers().len();
    let mut makers = table(registers, 0)?;
    let mut changes = table(groups.len(), 0)?;
    let mut changed = 0;
    for (position, group) in groups.iter().enumerate() {
        changes[position] = changed;
        match group {
            Group::Chain(draft) => draft.results.iter().for_each(|&result| makers[result as usize] = position + 1),
            Group::Around(around) => {
                let instruction = &fuser.program.instructions()[around.instruction as usize];
                changed += usize::from(!instruction.row.mutates.is_empty());
                fuser.program.results(instruction).for_each(|result| makers[result as usize] = position + 1);
            }
        }
    }
    let groups: Vec<Option<Group>> = groups.into_iter().map(Some).collect();
    let mut attacher = Attacher { fuser, rows: options.rows, groups, makers, changes, later: Vec::new() };
    if let Some(limits) = options.before {
        (0..attacher.groups.len()).for_each(|position| attacher.before(position, limits));
    }
    if let Some(limits) = options.after {
        (0..attacher.groups.len()).for_each(|position| attacher.after(position, limits));
    }
    Ok(Attached { groups: attacher.groups.into_iter().flatten().collect(), later: attacher.later })
}

struct Attacher<'a> {
    fuser: &'a Fuser<'a>,
    /// Whether softmax takes chains.
    rows: bool,
    /// By former position; what has moved away is gone.
    groups: Vec<Option<Group>>,
    /// By root: one more than the position of the group that makes it.
    makers: Vec<usize>,
    /// By position: groups before it that change something in place.
    changes: Vec<usize>,
    later: Vec<(RegisterId, u32)>,
}

impl Attacher<'_> {
    fn instruction(&self, number: u32) -> &Instruction {
        &self.fuser.program.instructions()[number as usize]
    }

    /// The position of the group that makes a register, if one does.
    fn maker(&self, register: RegisterId) -> Option<usize> {
        self.makers[root(self.fuser.program, register)].checked_sub(1)
    }

    /// Whether nothing but `reads` operands of one reader stands for a root.
    fn is_read_only(&self, root: usize, reads: u32) -> bool {
        !self.fuser.live.shown[root] && self.fuser.live.reads[root] == reads
    }

    /// Takes what computes the operand of the reduction at `position` out of its chain.
    fn before(&mut self, position: usize, limits: Limits) {
        let Some(Some(Group::Around(around))) = self.groups.get(position) else { return };
        let number = around.instruction;
        let instruction = self.instruction(number);
        let program = self.fuser.program;
        let (Some(&Some(operand)), true) =
            (program.operands(instruction).first(), self.takes_elements(&instruction.op))
        else {
            return;
        };
        let register = program.register(operand);
        let source = register.root as usize;
        let fits = register.dtype == Dtype::F32
            && register.numel > 0
            && is_whole(program, register)
            && self.is_read_only(source, 1);
        let Some(maker) = self.maker(operand).filter(|&maker| fits && self.changes[maker] == self.changes[position])
        else {
            return;
        };
        let Some(Some(Group::Chain(draft))) = self.groups.get(maker) else { return };
        let Some((moved, left)) = self.split(draft, register.root) else { return };
        let before = self.fuser.draft(&moved);
        if !self.fits(&before, limits, instruction, Some(register.root)) {
            return;
        }
        let left = (!left.is_empty()).then(|| Group::Chain(self.fuser.draft(&left)));
        self.later.extend(before.inputs.iter().map(|&input| (program.register(input).root, number)));
        self.groups[maker] = left;
        if let Some(Some(Group::Around(around))) = self.groups.get_mut(position) {
            around.before = Some(before);
        }
    }

    /// The instructions of a chain that nothing but the value of `result` needs, and the others. `None` where they share a
    /// value that is not in memory.
    fn split(&self, draft: &Draft, result: RegisterId) -> Option<(Vec<u32>, Vec<u32>)> {
        let last = draft.results.iter().position(|&own| own == result)?;
        let mut reads = vec![0; draft.ops.len()];
        let mut moves = vec![false; draft.ops.len()];
        for (i, op) in draft.ops.iter().enumerate().take(last + 1).rev() {
            moves[i] = i == last || (reads[i] > 0 && self.is_read_only(draft.results[i] as usize, reads[i]));
            for operand in op.operands.iter().filter(|_| moves[i]) {
                if let ChainOperand::Op(other) = *operand {
                    reads[usize::from(other)] += 1;
                }
            }
        }
        let in_memory = |i: usize| moves[i] || reads[i] == 0 || draft.stored.contains(&(i as u8));
        let pick = |moved: bool| {
            let own = draft.ops.iter().zip(&moves).filter(move |&(_, &moves)| moves == moved);
            own.map(|(op, _)| op.instruction).collect()
        };
        (0..draft.ops.len()).all(in_memory).then(|| (pick(true), pick(false)))
    }

    /// Applies the chain at `position` to the product that it reads, as that is stored.
    fn after(&mut self, position: usize, limits: Limits) {
        let Some(Some(Group::Chain(draft))) = self.groups.get(position) else { return };
        let candidates = (0..draft.inputs.len()).filter_map(|input| Some((self.product(draft, input)?, input)));
        let Some(((maker, result), input)) = candidates.max() else { return };
        let Some(Some(Group::Around(around))) = self.groups.get(maker) else { return };
        let product = root(self.fuser.program, draft.inputs[input]);
        let others = draft.inputs.iter().enumerate().filter(|&(other, _)| other != input);
        let fits = self.changes[maker] == self.changes[position]
            && others.map(|(_, &other)| self.maker(other)).all(|other| other.is_none_or(|other| other < maker))
            && self.fits(draft, limits, self.instruction(around.instruction), Some(product as RegisterId));
        if !fits {
            return;
        }
        if let Some(Group::Chain(draft)) = self.groups[position].take()
            && let Some(Some(Group::Around(around))) = self.groups.get_mut(maker)
        {
            around.after = Some(Behind { result: result as u8, input: input as u8, draft });
        }
    }

    /// The kernel, by position, that computes an input of a chain as its product, and which of its results that is; `None`
    /// if it is no product, or one that the chain cannot be applied to.
    fn product(&self, draft: &Draft, input: usize) -> Option<(usize, usize)> {
        let program = self.fuser.program;
        let register = program.register(draft.inputs[input]);
        let maker = self.maker(register.root)?;
        let Some(Some(Group::Around(around))) = self.groups.get(maker) else { return None };
        let instruction = self.instruction(around.instruction);
        let result = (register.root - program.results(instruction).start) as usize;
        let wanted = ChainOperand::Input(input as u8);
        let reads = draft.ops.iter().flat_map(|op| op.operands).filter(|&operand| operand == wanted).count();
        let aliases = draft.inputs.iter().filter(|&&other| program.register(other).root == register.root).count();
        let fits = around.after.is_none()
            && self.is_product(&instruction.op, result)
            && register.numel > 0
            && register.numel == draft.numel
            && is_whole(program, register)
            && aliases == 1
            && self.is_read_only(register.root as usize, reads as u32);
        fits.then_some((maker, result))
    }

    /// Whether an instruction can take the elements of its first operand as they are computed, once each.
    fn takes_elements(&self, op: &Op) -> bool {
        matches!(op, Op::Reduce { kind: ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Max | ReduceOp::Min, .. })
            || self.is_rows(op)
    }

    /// Whether a result of an instruction is finished a part at a time.
    fn is_product(&self, op: &Op, result: usize) -> bool {
        match op {
            Op::Matmul { .. } | Op::Linear { .. } => result == 0,
            Op::LinearGrad { wanted, .. } => result < usize::from(wanted.dx) + usize::from(wanted.dweight),
            _ => self.is_rows(op),
        }
    }

    fn is_rows(&self, op: &Op) -> bool {
        self.rows && matches!(op, Op::Softmax { axes, .. } | Op::SoftmaxGrad { axes, .. } if axes.inner == 1)
    }

    /// Whether a chain and the instruction beside it stay within the limits together; `inner` is what lies between them.
    fn fits(&self, draft: &Draft, limits: Limits, instruction: &Instruction, inner: Option<RegisterId>) -> bool {
        let program = self.fuser.program;
        let own = program.operands(instruction).iter().flatten().copied().chain(program.results(instruction));
        let own: Vec<RegisterId> = own.filter(|&own| Some(program.register(own).root) != inner).collect();
        // One of the chain's bindings is `inner`, which takes none: at most that much is counted too much.
        self.fuser.fits(draft, limits, &own)
    }
}
