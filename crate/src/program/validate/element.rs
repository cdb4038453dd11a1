//! Elementwise instructions. Operands broadcast by NumPy's rules, and the result has exactly the broadcast shape; only
//! `expand` (and `full`, from nothing) may be larger. Operands have one dtype: no promotion. `where` takes a bool first.

use super::{Case, Check, of_dtype};
use crate::dtype::Dtype;
use crate::program::op::{ElementOp, Op, UnaryOp};
use crate::shape::{self, Dims};

pub(super) fn check(case: &Case) -> Check {
    let &Op::Element(op) = case.op else { return Err("is not elementwise".into()) };
    let result = case.result(0)?;
    if let ElementOp::Full { .. } = op {
        return Ok(());
    }
    let first = case.operand(0)?;
    match op {
        ElementOp::Full { .. } => Ok(()),
        ElementOp::Expand => {
            if !shape::broadcasts_to(&first.dims, &result.dims) {
                return Err(format!("{} does not expand to {}", first.dims, result.dims));
            }
            case.gives(0, first.dtype, &result.dims)
        }
        ElementOp::Cast => case.gives(0, result.dtype, &first.dims),
        ElementOp::Unary(UnaryOp::IsFinite) => case.gives(0, Dtype::Bool, &first.dims),
        ElementOp::Unary(_) | ElementOp::Activation { .. } | ElementOp::Clip { .. } => {
            case.gives(0, first.dtype, &first.dims)
        }
        ElementOp::ActivationGrad { .. } | ElementOp::Binary(_) => {
            let second = case.operand(1)?;
            of_dtype("input 1", second, first.dtype)?;
            let comparison = matches!(op, ElementOp::Binary(op) if op.is_comparison());
            let dtype = if comparison { Dtype::Bool } else { first.dtype };
            case.gives(0, dtype, &broadcast(&first.dims, &second.dims)?)
        }
        ElementOp::Where => {
            let (a, b) = (case.operand(1)?, case.operand(2)?);
            of_dtype("the condition", first, Dtype::Bool)?;
            of_dtype("input 2", b, a.dtype)?;
            case.gives(0, a.dtype, &broadcast(&first.dims, &broadcast(&a.dims, &b.dims)?)?)
        }
    }
}

/// NumPy's broadcast shape of two.
pub(super) fn broadcast(a: &[u32], b: &[u32]) -> Check<Dims> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let (lead, tail) = long.split_at(long.len() - short.len());
    let fits = tail.iter().zip(short).all(|(&x, &y)| x == y || x == 1 || y == 1);
    let dims = tail.iter().zip(short).map(|(&x, &y)| if x == 1 { y } else { x });
    let all = lead.iter().copied().chain(dims).try_fold(Dims::default(), Dims::with);
    all.filter(|_| fits).ok_or_else(|| format!("{a:?} and {b:?} do not broadcast"))
}
