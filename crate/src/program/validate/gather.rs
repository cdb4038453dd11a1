//! `gather` and `scatterAdd` along one axis: that axis of the large tensor stands where the small one has the dimensions of
//! the indices (NumPy's `take`). Indices are data: kernels check and clamp them, so there must be something to clamp to.
//! `require` gives its operand, if a condition holds that is data, too.

use super::{Case, Check, of_dtype, of_type};
use crate::dtype::Dtype;
use crate::program::{Op, Register};
use crate::shape::Dims;

pub(super) fn check(case: &Case) -> Check {
    let (operand, indices) = (case.operand(0)?, case.operand(1)?);
    if let Op::Require { .. } = case.op {
        of_type("the condition", indices, Dtype::Bool, &[])?;
        return case.gives(0, operand.dtype, &operand.dims);
    }
    of_dtype("indices", indices, Dtype::I32)?;
    let result = case.result(0)?;
    match *case.op {
        Op::Gather { axis, .. } => {
            let taken = taken(operand, indices, axis as usize)?;
            case.gives(0, operand.dtype, &taken)?;
            clampable(operand, result)
        }
        Op::ScatterAdd { axis, .. } => {
            let taken = taken(result, indices, axis as usize)?;
            if *taken != *operand.dims {
                return Err(format!("dy is {}, not {taken}", operand.dims));
            }
            case.gives(0, operand.dtype, &result.dims)?;
            clampable(result, operand)
        }
        _ => Err("is not of the gather family".into()),
    }
}

/// The shape of `large` with one axis replaced by the dimensions of the indices.
fn taken(large: &Register, indices: &Register, axis: usize) -> Check<Dims> {
    let (before, rest) = large.dims.split_at_checked(axis).unwrap_or((&[], &[]));
    let Some((_, after)) = rest.split_first() else { return Err(format!("{} has no axis {axis}", large.dims)) };
    let dims = before.iter().chain(indices.dims.iter()).chain(after).copied().try_fold(Dims::default(), Dims::with);
    dims.ok_or_else(|| format!("{} by indices {} has too high a rank", large.dims, indices.dims))
}

/// An index into an axis of size 0 could not even be clamped.
fn clampable(large: &Register, small: &Register) -> Check {
    if large.numel == 0 && small.numel > 0 {
        return Err(format!("{} has nothing that an index could name", large.dims));
    }
    Ok(())
}
