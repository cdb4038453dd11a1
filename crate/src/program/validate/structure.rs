//! `input`, `output`, `view`, `assign`, `addInto`.

use super::{Case, Check, of_type};
use crate::program::Op;

pub(super) fn check(case: &Case) -> Check {
    match *case.op {
        // An input is what it is declared to be: the device compares with what is bound.
        Op::Input { .. } => Ok(()),
        Op::Output { .. } => case.operand(0).map(|_| ()),
        Op::View { offset } => {
            let (viewed, view) = (case.operand(0)?, case.result(0)?);
            if view.dtype != viewed.dtype {
                return Err(format!("a view of {} cannot be {}", viewed.dtype.name(), view.dtype.name()));
            }
            // No overflow: 2³² + 2³¹.
            if offset as usize + view.numel > viewed.numel {
                return Err(format!("{} elements from {offset} on leave the {} there are", view.numel, viewed.numel));
            }
            Ok(())
        }
        Op::Assign | Op::AddInto => {
            let target = case.operand(0)?;
            of_type("source", case.operand(1)?, target.dtype, &target.dims)
        }
        _ => Err("is not of the structure family".into()),
    }
}
