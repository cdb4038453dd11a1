//! Reductions and softmax over the middle of `[outer, count, inner]`. The three numbers only have to multiply to the
//! operand's elements: which axes they stand for is TypeScript's business. A reduction gives `outer · inner` elements, topK
//! `outer · k · inner`, in whatever shape is declared; softmax and running sums keep the shape. `max min argmax argmin` of nothing have no
//! value, so count 0 is refused there unless nothing is asked for.

use super::{Case, Check, of_type};
use crate::dtype::Dtype;
use crate::program::op::{Middle, Op, ReduceOp, Scan};

pub(super) fn check(case: &Case) -> Check {
    let operand = case.operand(0)?;
    match *case.op {
        Op::Reduce { kind, axes } => {
            covers(axes, operand.numel)?;
            let result = case.result(0)?;
            let elements = axes.outer * axes.inner;
            if result.numel != elements {
                return Err(format!("output 0 has {} elements and gets {elements}", result.numel));
            }
            let index = matches!(kind, ReduceOp::Argmax | ReduceOp::Argmin);
            if axes.count == 0 && elements > 0 && (index || matches!(kind, ReduceOp::Max | ReduceOp::Min)) {
                return Err("there is no largest or smallest of nothing".into());
            }
            case.gives(0, if index { Dtype::I32 } else { operand.dtype }, &result.dims)
        }
        Op::TopK { axes, k } => {
            covers(axes, operand.numel)?;
            if k > axes.count {
                return Err(format!("takes {k} of {} elements", axes.count));
            }
            let elements = axes.outer * k * axes.inner;
            for (position, dtype) in [operand.dtype, Dtype::I32, Dtype::I32].into_iter().enumerate() {
                let result = case.result(position)?;
                if result.numel != elements {
                    return Err(format!("output {position} has {} elements and gets {elements}", result.numel));
                }
                case.gives(position, dtype, &result.dims)?;
            }
            Ok(())
        }
        Op::Scan(Scan { axes, .. }) | Op::Softmax { axes, .. } => {
            covers(axes, operand.numel)?;
            case.gives(0, operand.dtype, &operand.dims)
        }
        Op::SoftmaxGrad { axes, .. } => {
            covers(axes, operand.numel)?;
            of_type("y", case.operand(1)?, operand.dtype, &operand.dims)?;
            case.gives(0, operand.dtype, &operand.dims)
        }
        _ => Err("is no reduction".into()),
    }
}

/// The product cannot overflow: the attributes were checked as a shape.
fn covers(axes: Middle, numel: usize) -> Check {
    let Middle { outer, count, inner } = axes;
    if outer * count * inner == numel {
        Ok(())
    } else {
        Err(format!("[{outer},{count},{inner}] is not the {numel} elements of input 0"))
    }
}
