//! Batch normalisation of `[outer, channels, inner]`, which has to multiply to the elements of x. Per channel: f32
//! `[channels]`; counts f32 of rank 0; masks bool of outer · inner elements in any shape. Momentum is a scalar of the run,
//! and may be anything.

use super::{Case, Check, of_dtype, of_type};
use crate::dtype::Dtype::{Bool, F32, I32};
use crate::program::Op;
use crate::program::op::{BatchNormOp, Channels};

/// Positions that may be absent.
pub(super) fn may_be_absent(op: BatchNormOp, position: usize) -> bool {
    match op {
        BatchNormOp::Statistics(_) => position == 1,
        BatchNormOp::Variance { .. } => false,
        BatchNormOp::Forward(_) => matches!(position, 3..=5),
        BatchNormOp::GradSums(_) => position == 4,
        BatchNormOp::Grad(_) => matches!(position, 4 | 8),
        BatchNormOp::Update(_) => matches!(position, 2 | 6),
    }
}

pub(super) fn check(case: &Case) -> Check {
    let Op::BatchNorm(op) = *case.op else { return Err("is no batch normalisation".into()) };
    let first = case.operand(0)?;
    match op {
        BatchNormOp::Statistics(of) => {
            covers(case, of)?;
            mask(case, 1, of)?;
            case.gives(0, F32, &[])?;
            case.gives(1, F32, &per_channel(of))?;
            case.gives(2, F32, &per_channel(of))
        }
        BatchNormOp::Variance { .. } => {
            of_type("the count", case.operand(1)?, F32, &[])?;
            case.gives(0, F32, &first.dims)?;
            case.gives(1, F32, &first.dims)
        }
        BatchNormOp::Forward(of) => {
            covers(case, of)?;
            channels(case, &[1, 2, 3, 4], of)?;
            mask(case, 5, of)?;
            case.gives(0, F32, &first.dims)
        }
        BatchNormOp::GradSums(of) => {
            covers(case, of)?;
            of_type("x", case.operand(1)?, F32, &first.dims)?;
            channels(case, &[2, 3], of)?;
            mask(case, 4, of)?;
            case.gives(0, F32, &per_channel(of))?;
            case.gives(1, F32, &per_channel(of))
        }
        BatchNormOp::Grad(of) => {
            covers(case, of)?;
            of_type("x", case.operand(1)?, F32, &first.dims)?;
            channels(case, &[2, 3, 4, 5, 6], of)?;
            of_type("the count", case.operand(7)?, F32, &[])?;
            mask(case, 8, of)?;
            case.gives(0, F32, &first.dims)
        }
        BatchNormOp::Update(_) => {
            for position in [1, 3, 4] {
                of_type("a statistic", case.operand(position)?, F32, &first.dims)?;
            }
            if let Some(updates) = case.optional(2)? {
                of_type("updates", updates, I32, &[])?;
            }
            of_type("the count", case.operand(5)?, F32, &[])?;
            if let Some(ok) = case.optional(6)? {
                of_type("ok", ok, Bool, &[])?;
            }
            case.result_count(0)
        }
    }
}

/// The product cannot overflow: the attributes were checked as a shape.
fn covers(case: &Case, of: Channels) -> Check {
    let numel = case.operand(0)?.numel;
    if of.numel() == numel {
        Ok(())
    } else {
        let Channels { outer, channels, inner } = of;
        Err(format!("[{outer},{channels},{inner}] is not the {numel} elements of input 0"))
    }
}

fn per_channel(of: Channels) -> [u32; 1] {
    [of.channels as u32]
}

fn channels(case: &Case, positions: &[usize], of: Channels) -> Check {
    for &position in positions {
        if let Some(operand) = case.optional(position)? {
            of_type("an operand of channels", operand, F32, &per_channel(of))?;
        }
    }
    Ok(())
}

fn mask(case: &Case, position: usize, of: Channels) -> Check {
    let Some(mask) = case.optional(position)? else { return Ok(()) };
    of_dtype("the mask", mask, Bool)?;
    if mask.numel == of.positions() {
        Ok(())
    } else {
        Err(format!("the mask has {} elements for {}", mask.numel, of.positions()))
    }
}
