//! Cross-entropy with class indices: logits `[…, C]` f32, targets `[…]` i32. Without a class (C = 0) there may be no item
//! either. The count is f32, so that it divides the sum without a cast.

use super::{Case, Check, of_type};
use crate::dtype::Dtype::{F32, I32};
use crate::program::Op;

pub(super) fn check(case: &Case) -> Check {
    let logits = case.operand(0)?;
    let Some((&classes, items)) = logits.dims.split_last() else { return Err("logits of rank 0".into()) };
    of_type("targets", case.operand(1)?, I32, items)?;
    if classes == 0 && !items.contains(&0) {
        return Err(format!("logits {} have no class", logits.dims));
    }
    match case.op {
        Op::CrossEntropy { .. } => {
            case.gives(0, F32, items)?;
            case.gives(1, F32, items)?;
            case.gives(2, F32, &[])
        }
        Op::CrossEntropyGrad { .. } => {
            of_type("logSumExp", case.operand(2)?, F32, items)?;
            of_type("dlosses", case.operand(3)?, F32, items)?;
            case.gives(0, F32, &logits.dims)
        }
        _ => Err("is no loss".into()),
    }
}
