//! `uniform`: its result is whole rows.

use super::{Case, Check};
use crate::program::Op;

pub(super) fn check(case: &Case) -> Check {
    let Op::Uniform(of) = case.op else { return Err("is not of the random family".into()) };
    let result = case.result(0)?;
    let rows_fill = if of.inner == 0 { result.numel == 0 } else { result.numel.is_multiple_of(of.inner as usize) };
    if rows_fill { Ok(()) } else { Err(format!("{} elements are no rows of {}", result.numel, of.inner)) }
}
