//! `transpose`, `concat`, `slice`, `pad`: every list has one number per dimension, and what is copied lies inside both
//! sides.

use super::{Case, Check};
use crate::program::{Op, Register};
use crate::shape::Dims;

pub(super) fn check(case: &Case) -> Check {
    let operand = case.operand(0)?;
    match case.op {
        Op::Transpose { permutation } => transpose(case, operand, permutation),
        &Op::Concat { axis } => concat(case, operand, axis as usize),
        Op::Slice { starts } => {
            let result = case.result(0)?;
            window("slice", starts, &result.dims, &operand.dims)?;
            case.gives(0, operand.dtype, &result.dims)
        }
        Op::Pad { before, .. } => {
            let result = case.result(0)?;
            window("pad", before, &operand.dims, &result.dims)?;
            case.gives(0, operand.dtype, &result.dims)
        }
        _ => Err("is not of the shape family".into()),
    }
}

fn transpose(case: &Case, operand: &Register, permutation: &Dims) -> Check {
    let mut seen = 0_u32;
    let mut dims = Dims::default();
    for &from in permutation.iter() {
        let dim = operand.dims.get(from as usize).ok_or_else(|| format!("{} has no axis {from}", operand.dims))?;
        // The axis exists, so it is below 8.
        seen |= 1 << from;
        dims = dims.with(*dim).ok_or("the rank is too high")?;
    }
    if permutation.len() != operand.dims.len() || seen.count_ones() as usize != permutation.len() {
        return Err(format!("{permutation} is no permutation of the axes of {}", operand.dims));
    }
    case.gives(0, operand.dtype, &dims)
}

fn concat(case: &Case, first: &Register, axis: usize) -> Check {
    let (before, rest) = first.dims.split_at_checked(axis).unwrap_or((&[], &[]));
    let Some((_, after)) = rest.split_first() else { return Err(format!("{} has no axis {axis}", first.dims)) };
    let mut total: u64 = 0;
    for operand in case.operands_from(0) {
        let operand = operand?;
        let fits = operand.dtype == first.dtype
            && operand.dims.len() == first.dims.len()
            && operand.dims.starts_with(before)
            && operand.dims.ends_with(after);
        let (true, Some(&size)) = (fits, operand.dims.get(axis)) else {
            return Err(format!("{} and {} do not fit along axis {axis}", first.dims, operand.dims));
        };
        total += u64::from(size);
    }
    let total = u32::try_from(total).map_err(|_| format!("axis {axis} grows to {total}"))?;
    let dims = before.iter().chain([&total]).chain(after).copied().try_fold(Dims::default(), Dims::with);
    case.gives(0, first.dtype, &dims.ok_or("the rank is too high")?)
}

/// Whether a small tensor, `starts` away from the origin, lies inside a large one.
fn window(what: &str, starts: &[u32], small: &[u32], large: &[u32]) -> Check {
    let same_rank = starts.len() == small.len() && small.len() == large.len();
    let inside = starts
        .iter()
        .zip(small)
        .zip(large)
        .all(|((&start, &size), &whole)| u64::from(start) + u64::from(size) <= u64::from(whole));
    if same_rank && inside { Ok(()) } else { Err(format!("{what} at {starts:?}: {small:?} is not inside {large:?}")) }
}
