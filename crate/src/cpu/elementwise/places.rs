//! Where every value of a chain lives while a piece is evaluated: an operand read in place, a slot of scratch, an output.

use super::eval::Typed;
use super::layout::Fetch;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::plan::{self, ChainOperand};
use crate::program::op::ElementOp;

/// Where a value lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Input(usize),
    Slot(usize),
    Output(usize),
}

/// A step with its places.
#[derive(Debug)]
pub(super) struct Placed {
    pub op: Typed,
    pub operands: [Place; 3],
    pub arity: usize,
    pub target: Place,
}

/// A slot that is filled before the steps run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fill {
    pub source: Source,
    pub slot: usize,
}

/// What a slot is filled from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// A run-time scalar.
    Scalar(u32, Dtype),
    /// An operand that is not read in place.
    Input(usize),
}

/// The places of all values. A slot is given back after the last step that reads it, and a step's target is chosen
/// before its operands' slots are given back: no step writes what it reads.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub steps: Vec<Placed>,
    /// Slots that hold the same for every piece of a task.
    pub per_task: Vec<Fill>,
    /// Slots that are filled for every piece.
    pub per_piece: Vec<Fill>,
    /// How many slots there are.
    pub slots: usize,
    inputs: Vec<Place>,
    values: Vec<Place>,
    /// Slots of values that nobody reads any more.
    free: Vec<usize>,
}

impl Places {
    /// Places the values of a chain whose inputs are fetched as `fetches` says.
    pub fn new(chain: &plan::Chain, fetches: &[Fetch]) -> Result<Self> {
        let mut places = Self::default();
        for (input, fetch) in fetches.iter().enumerate() {
            let place = match fetch {
                Fetch::Contiguous | Fetch::Row => Place::Input(input),
                Fetch::Uniform | Fetch::Periodic => places.filled(Source::Input(input), true),
                Fetch::Gather | Fetch::InPlace(_) => places.filled(Source::Input(input), false),
            };
            places.inputs.push(place);
        }
        let last_uses: Vec<_> = (0..chain.ops.len()).map(|value| last_use(chain, value)).collect();
        for (index, op) in chain.ops.iter().enumerate() {
            let mut outputs = chain.outputs.iter().enumerate().filter(|(_, output)| usize::from(output.op) == index);
            let output = outputs.next().map(|(position, _)| position);
            if outputs.next().is_some() {
                return Err(internal("a value is stored twice"));
            }
            places.place(op, output)?;
            places.release(&last_uses, index);
        }
        Ok(places)
    }

    fn new_slot(&mut self) -> usize {
        self.slots += 1;
        self.slots - 1
    }

    /// A slot of its own for something that is not computed.
    fn filled(&mut self, source: Source, once_per_task: bool) -> Place {
        let slot = self.new_slot();
        let fills = if once_per_task { &mut self.per_task } else { &mut self.per_piece };
        fills.push(Fill { source, slot });
        Place::Slot(slot)
    }

    fn scalar(&mut self, source: Source) -> Place {
        match self.per_task.iter().find(|fill| fill.source == source) {
            Some(fill) => Place::Slot(fill.slot),
            None => self.filled(source, true),
        }
    }

    /// Places the next step, which is stored in `output`, if at all.
    fn place(&mut self, op: &plan::ChainOp, output: Option<usize>) -> Result<()> {
        if let (ElementOp::Full { scalar }, None) = (op.op, output) {
            // Nobody stores it: no step is needed.
            let place = self.scalar(Source::Scalar(scalar, op.dtype));
            self.values.push(place);
            return Ok(());
        }
        let target = match (output, self.free.pop()) {
            (Some(output), unused) => {
                self.free.extend(unused);
                Place::Output(output)
            }
            (None, Some(slot)) => Place::Slot(slot),
            (None, None) => Place::Slot(self.new_slot()),
        };
        let arity = op.op.arity();
        let mut operands = [target; 3];
        for (place, operand) in operands.iter_mut().zip(&op.operands[..arity]) {
            *place = match *operand {
                ChainOperand::Input(i) => self.inputs.get(usize::from(i)).copied(),
                ChainOperand::Op(i) => self.values.get(usize::from(i)).copied(),
                ChainOperand::Scalar(scalar, dtype) => Some(self.scalar(Source::Scalar(scalar, dtype))),
                ChainOperand::None => None,
            }
            .ok_or_else(|| internal("an operand does not exist"))?;
        }
        let op = Typed { op: op.op, from: op.operand_dtype, to: op.dtype };
        self.steps.push(Placed { op, operands, arity, target });
        self.values.push(target);
        Ok(())
    }

    /// Gives back the slots of values that step `index` has read for the last time.
    fn release(&mut self, last_uses: &[Option<usize>], index: usize) {
        for (&place, &last_use) in self.values.iter().zip(last_uses) {
            if let Place::Slot(slot) = place
                && last_use == Some(index)
                && !self.per_task.iter().any(|fill| fill.slot == slot)
            {
                self.free.push(slot);
            }
        }
    }
}

/// The last step that reads the result of step `value`.
fn last_use(chain: &plan::Chain, value: usize) -> Option<usize> {
    chain.ops.iter().rposition(|op| {
        op.operands[..op.op.arity()].iter().any(|o| matches!(o, ChainOperand::Op(i) if usize::from(*i) == value))
    })
}

pub(super) fn internal(what: &str) -> Error {
    Error::Internal(format!("elementwise chain: {what}"))
}
