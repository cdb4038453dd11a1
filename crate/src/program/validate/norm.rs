//! Normalisation of rows and its gradients. x is `[outer, groups, channels, inner]`, of which the numbers only have to
//! multiply to its elements; what goes with a row has `outer · groups` elements, what goes with a channel `groups · channels`,
//! in any shape. All are f32. Without groups there would be rows of nothing to speak of, so there is one at least.

use super::{Case, Check, of_dtype, of_type};
use crate::dtype::Dtype;
use crate::program::Register;
use crate::program::op::{NormRows, Op, Wanted};

pub(super) fn check(case: &Case) -> Check {
    match *case.op {
        Op::Norm { rows, .. } => norm(case, rows),
        Op::NormGrad { rows, wanted } => norm_grad(case, rows, wanted),
        _ => Err("is no norm".into()),
    }
}

/// `[x, weight | none, bias | none]` → y, means, scales; without bias and means where rows are not centred.
fn norm(case: &Case, rows: NormRows) -> Check {
    let x = case.operand(0)?;
    covers(rows, x)?;
    for (position, name) in [(1, "the weight"), (2, "the bias")] {
        if position < case.operands.len()
            && let Some(affine) = case.optional(position)?
        {
            by_channel(name, affine, rows)?;
        }
    }
    case.gives(0, Dtype::F32, &x.dims)?;
    let statistics = 1 + usize::from(rows.is_centred());
    case.result_count(1 + statistics)?;
    (1..=statistics).try_for_each(|position| case.gives(position, Dtype::F32, &[rows.rows() as u32]))
}

/// `[dy, x, weight | none, means, scales]` → the wanted gradients; without means where rows are not centred, and then
/// without a bias. There is no gradient of a weight that is absent.
fn norm_grad(case: &Case, rows: NormRows, wanted: Wanted) -> Check {
    let (dy, x) = (case.operand(0)?, case.operand(1)?);
    covers(rows, dy)?;
    of_type("x", x, Dtype::F32, &dy.dims)?;
    let weight = case.optional(2)?;
    if let Some(weight) = weight {
        by_channel("the weight", weight, rows)?;
    }
    for position in 3..=3 + usize::from(rows.is_centred()) {
        of_type(&format!("input {position}"), case.operand(position)?, Dtype::F32, &[rows.rows() as u32])?;
    }
    if wanted.dweight && weight.is_none() {
        return Err("the gradient of a weight is wanted that is absent".into());
    }
    if wanted.dbias && !rows.is_centred() {
        return Err("the gradient of a bias is wanted where there is none".into());
    }
    case.result_count([wanted.dx, wanted.dweight, wanted.dbias].into_iter().filter(|&is| is).count())?;
    let mut position = 0;
    if wanted.dx {
        case.gives(position, Dtype::F32, &dy.dims)?;
        position += 1;
    }
    if wanted.dweight {
        let weight = weight.map_or(&[][..], |weight| &*weight.dims);
        case.gives(position, Dtype::F32, weight)?;
        position += 1;
    }
    if wanted.dbias {
        by_channel("the gradient of the bias", case.result(position)?, rows)?;
    }
    Ok(())
}

/// The products cannot overflow: the attributes were checked as a shape.
fn covers(rows: NormRows, register: &Register) -> Check {
    let NormRows { outer, groups, channels, inner, .. } = rows;
    if groups == 0 {
        return Err("there are no groups".into());
    }
    if rows.numel() == register.numel {
        Ok(())
    } else {
        Err(format!("[{outer},{groups},{channels},{inner}] is not the {} elements of input 0", register.numel))
    }
}

fn by_channel(name: &str, register: &Register, rows: NormRows) -> Check {
    of_dtype(name, register, Dtype::F32)?;
    if register.numel == rows.affine() {
        Ok(())
    } else {
        Err(format!("{name} has {} elements, not {}", register.numel, rows.affine()))
    }
}
