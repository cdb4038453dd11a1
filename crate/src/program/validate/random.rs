//! `uniform`: its result is whole rows. `dropout`: so is its operand, which the result is like.

use super::{Case, Check};
use crate::program::Op;

/// Random numbers have 24 bits.
const NUMBERS: u32 = 1 << 24;

pub(super) fn check(case: &Case) -> Check {
    let of = match case.op {
        Op::Uniform(of) => of,
        Op::Dropout(dropout) => {
            let x = case.operand(0)?;
            case.gives(0, x.dtype, &x.dims)?;
            if dropout.threshold > NUMBERS {
                return Err(format!("the threshold is {}, above 2^24", dropout.threshold));
            }
            &dropout.of
        }
        _ => return Err("is not of the random family".into()),
    };
    let result = case.result(0)?;
    let rows_fill = if of.inner == 0 { result.numel == 0 } else { result.numel.is_multiple_of(of.inner as usize) };
    if rows_fill { Ok(()) } else { Err(format!("{} elements are no rows of {}", result.numel, of.inner)) }
}
