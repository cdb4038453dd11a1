//! Cross-entropy with class indices: logits `[…, C]` f32, targets `[…]` i32. Without a class (C = 0) there may be no item
//! either. The count is f32, so that it divides the sum without a cast. Weights of classes are `[C]`; their sum is there if
//! they are and something is smoothed.

use super::{Case, Check, of_type};
use crate::dtype::Dtype::{F32, I32};
use crate::program::Op;
use crate::program::op::Smoothed;

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
        Op::WeightedCrossEntropy(rule) => {
            weighted(case, *rule, 2, classes)?;
            (0..3).try_for_each(|position| case.gives(position, F32, items))
        }
        Op::WeightedCrossEntropyGrad(rule) => {
            of_type("logSumExp", case.operand(2)?, F32, items)?;
            of_type("dlosses", case.operand(3)?, F32, items)?;
            weighted(case, *rule, 4, classes)?;
            case.gives(0, F32, &logits.dims)
        }
        _ => Err("is no loss".into()),
    }
}

/// The weights of classes at a position, and behind them their sum.
fn weighted(case: &Case, rule: Smoothed, position: usize, classes: u32) -> Check {
    let (weight, sum) = (case.optional(position)?, case.optional(position + 1)?);
    if let Some(weight) = weight {
        of_type("weight", weight, F32, &[classes])?;
    }
    match (sum, weight.is_some() && rule.smoothing > 0.0) {
        (Some(sum), true) => of_type("the sum of weights", sum, F32, &[]),
        (None, false) => Ok(()),
        (Some(_), false) => Err("the sum of weights is there and not needed".into()),
        (None, true) => Err("the sum of weights is absent".into()),
    }
}
