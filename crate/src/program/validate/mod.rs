//! Whether an instruction makes sense: one file per family of the opcode table, each with its shape rules. What passes
//! here is what kernels rely on without looking again, memory safety included: operand and result sizes, attributes that
//! stay inside them, and changed memory that overlaps nothing else in the same instruction.
//!
//! Rules for all families:
//! - every operand is there, except where [`may_be_absent`] says otherwise;
//! - the first operand (without operands: the result) is of the table's dtype class, the others follow from it;
//! - declared results have exactly the dtype and shape that the operation gives. Only reductions, and gradients of what
//!   goes with the channels of a norm, leave the shape open and fix the number of elements: kept and dropped dimensions
//!   are one instruction;
//! - only memory of the program's inputs is changed, and it does not overlap another operand of the instruction. That
//!   speaks of one input slot; two slots may share storage, which only the device can see and has to refuse.

mod batch_norm;
mod element;
mod gather;
mod loss;
mod matmul;
mod norm;
mod optim;
mod random;
mod reduce;
mod shape;
mod structure;

use super::table::{DtypeClass, Family, Opcode};
use super::{Instruction, Op, Register, RegisterId};
use crate::dtype::Dtype;
use crate::shape::Dims;

/// What is wrong, as a text without the instruction's number and name.
type Check<T = ()> = Result<T, String>;

/// One instruction under examination.
pub(super) struct Case<'a> {
    pub(super) row: &'static Opcode,
    pub(super) op: &'a Op,
    pub(super) operands: &'a [Option<RegisterId>],
    /// The registers defined before the instruction.
    pub(super) known: &'a [Register],
    /// The results as declared.
    pub(super) declared: &'a [Register],
    /// The instructions before this one.
    pub(super) instructions: &'a [Instruction],
}

/// Checks everything about an instruction that concerns more than one of its words.
pub(super) fn check(case: &Case) -> Check {
    case.dtype_class()?;
    match case.row.family {
        Family::Structure => structure::check(case)?,
        Family::Element => element::check(case)?,
        Family::Reduce | Family::Softmax => reduce::check(case)?,
        Family::Matmul => matmul::check(case)?,
        Family::Loss => loss::check(case)?,
        Family::Shape => shape::check(case)?,
        Family::Gather => gather::check(case)?,
        Family::Optim => optim::check(case)?,
        Family::Random => random::check(case)?,
        Family::Norm => norm::check(case)?,
        Family::BatchNorm => batch_norm::check(case)?,
    }
    for &position in case.row.mutates {
        case.mutable(position)?;
    }
    Ok(())
}

/// Which operands the table calls `none`: bias of `linear`; what `linearGrad` does not need; weights of classes and their
/// sum; what an optimiser does not remember, its clip factor and gate; affine parameters, mask, counter and gate of batch
/// normalisation; weight and bias of other norms.
fn may_be_absent(op: &Op, position: usize) -> bool {
    match op {
        Op::Linear { .. } | Op::NormGrad { .. } => position == 2,
        Op::LinearGrad { .. } => matches!(position, 1..=3),
        Op::WeightedCrossEntropy(_) => matches!(position, 2 | 3),
        Op::WeightedCrossEntropyGrad(_) => matches!(position, 4 | 5),
        Op::Sgd(_) => matches!(position, 1 | 3 | 4),
        Op::Adam(_) => matches!(position, 3 | 5 | 6),
        Op::Rmsprop(_) => matches!(position, 2 | 3 | 5 | 6),
        Op::Ema(_) => matches!(position, 2 | 3),
        Op::Norm { .. } => matches!(position, 1 | 2),
        Op::BatchNorm(op) => batch_norm::may_be_absent(*op, position),
        _ => false,
    }
}

impl<'a> Case<'a> {
    /// The operand at a position, which must be there.
    fn operand(&self, position: usize) -> Check<&'a Register> {
        self.optional(position)?.ok_or_else(|| format!("input {position} is absent"))
    }

    /// The operand at a position where it may be absent.
    fn optional(&self, position: usize) -> Check<Option<&'a Register>> {
        let id = *self.operands.get(position).ok_or_else(|| format!("there is no input {position}"))?;
        match id {
            None if may_be_absent(self.op, position) => Ok(None),
            None => Err(format!("input {position} is absent")),
            Some(id) => {
                let known = self.known.get(id as usize);
                known.map(Some).ok_or_else(|| format!("input {position} is %{id}, which is not defined before it"))
            }
        }
    }

    /// All operands from a position on; each must be there.
    fn operands_from(&self, first: usize) -> impl Iterator<Item = Check<&'a Register>> + '_ {
        (first..self.operands.len()).map(|position| self.operand(position))
    }

    /// The declared result at a position.
    fn result(&self, position: usize) -> Check<&'a Register> {
        self.declared.get(position).ok_or_else(|| format!("output {position} is not declared"))
    }

    /// Fails unless exactly this many results are declared.
    fn result_count(&self, count: usize) -> Check {
        if self.declared.len() == count {
            Ok(())
        } else {
            Err(format!("declares {} outputs and gives {count}", self.declared.len()))
        }
    }

    /// Fails unless the declared result is what the operation gives.
    fn gives(&self, position: usize, dtype: Dtype, dims: &[u32]) -> Check {
        let result = self.result(position)?;
        if result.dtype == dtype && *result.dims == *dims {
            return Ok(());
        }
        let [declared, given] = [(result.dtype, &*result.dims), (dtype, dims)].map(typed);
        Err(format!("output {position} is declared {declared} and is {given}"))
    }

    fn dtype_class(&self) -> Check {
        let class = self.row.dtypes;
        let (what, register) =
            if self.operands.is_empty() { ("output", self.result(0)?) } else { ("input", self.operand(0)?) };
        let fits = match class {
            DtypeClass::Float => register.dtype == Dtype::F32,
            DtypeClass::Number => register.dtype != Dtype::Bool,
            DtypeClass::Any => true,
            DtypeClass::Bool => register.dtype == Dtype::Bool,
        };
        if fits { Ok(()) } else { Err(format!("{what} 0 is {}, not {}", register.dtype.name(), class.name())) }
    }

    /// Fails if the operand at a position, when there, may not be changed.
    fn mutable(&self, position: usize) -> Check {
        let Some(target) = self.optional(position)? else { return Ok(()) };
        let root = self.known.get(target.root as usize);
        let origin = root.and_then(|root| self.instructions.get(root.instruction as usize));
        if !origin.is_some_and(|instruction| matches!(instruction.op, Op::Input { .. })) {
            return Err(format!("changes input {position}, whose memory is no input of the program"));
        }
        for other in (0..self.operands.len()).filter(|&other| other != position) {
            if self.optional(other)?.is_some_and(|other| overlap(target, other)) {
                return Err(format!("changes input {position}, which overlaps input {other}"));
            }
        }
        Ok(())
    }
}

/// Whether two registers share an element. Empty ones share none.
fn overlap(a: &Register, b: &Register) -> bool {
    a.root == b.root && a.numel > 0 && b.numel > 0 && a.offset < b.offset + b.numel && b.offset < a.offset + a.numel
}

/// Fails unless a register is of this dtype.
fn of_dtype(what: &str, register: &Register, dtype: Dtype) -> Check {
    if register.dtype == dtype {
        Ok(())
    } else {
        Err(format!("{what} is {}, not {}", register.dtype.name(), dtype.name()))
    }
}

/// Fails unless a register has this dtype and shape.
fn of_type(what: &str, register: &Register, dtype: Dtype, dims: &[u32]) -> Check {
    if register.dtype == dtype && *register.dims == *dims {
        return Ok(());
    }
    let [given, wanted] = [(register.dtype, &*register.dims), (dtype, dims)].map(typed);
    Err(format!("{what} is {given}, not {wanted}"))
}

/// `f32[2,3]`.
fn typed((dtype, dims): (Dtype, &[u32])) -> String {
    let dims = Dims::new(dims).map_or_else(|| format!("{dims:?}"), |dims| dims.to_string());
    format!("{}{dims}", dtype.name())
}
