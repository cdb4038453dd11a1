//! Products: `matmul` over batches, `linear` and its gradients. All operands are f32.

use super::element::broadcast;
use super::{Case, Check, of_dtype, of_type};
use crate::cpu::activation::Activation;
use crate::dtype::Dtype;
use crate::program::Register;
use crate::program::op::{Op, Wanted};
use crate::shape::Dims;

pub(super) fn check(case: &Case) -> Check {
    match *case.op {
        Op::Matmul { transpose_a, transpose_b } => matmul(case, transpose_a, transpose_b),
        Op::Linear { save_z, .. } => linear(case, save_z),
        Op::LinearGrad { activation, wanted } => linear_grad(case, activation, wanted),
        _ => Err("is no product".into()),
    }
}

/// `[…, M, K] · [K, N]`, each transposed where asked; rank ≥ 2; the leading dimensions broadcast.
fn matmul(case: &Case, transpose_a: bool, transpose_b: bool) -> Check {
    let (a, b) = (case.operand(0)?, case.operand(1)?);
    of_dtype("input 1", b, Dtype::F32)?;
    let (batch_a, [m, k]) = matrix(a, transpose_a)?;
    let (batch_b, [inner, n]) = matrix(b, transpose_b)?;
    if k != inner {
        return Err(format!("inner sizes of {} and {} differ: {k} and {inner}", a.dims, b.dims));
    }
    let dims = broadcast(batch_a, batch_b)?.with(m).and_then(|dims| dims.with(n));
    case.gives(0, Dtype::F32, &dims.ok_or("the rank is too high")?)
}

/// Leading dimensions, rows and columns.
fn matrix(register: &Register, transpose: bool) -> Check<(&[u32], [u32; 2])> {
    let (batch, &[rows, columns]) =
        register.dims.split_last_chunk().ok_or_else(|| format!("{} is no matrix", register.dims))?;
    Ok((batch, if transpose { [columns, rows] } else { [rows, columns] }))
}

/// `[x […, K], weight [K, N], bias [N] | none]` → y `[…, N]`, and z of the same shape when it is saved.
fn linear(case: &Case, save_z: bool) -> Check {
    let (x, weight) = (case.operand(0)?, case.operand(1)?);
    let (rows, k) = last(x)?;
    of_dtype("the weight", weight, Dtype::F32)?;
    let &[weight_k, n] = &*weight.dims else { return Err(format!("weight {} is no matrix", weight.dims)) };
    if k != weight_k {
        return Err(format!("x {} and weight {} do not fit: {k} and {weight_k}", x.dims, weight.dims));
    }
    if let Some(bias) = case.optional(2)? {
        of_type("the bias", bias, Dtype::F32, &[n])?;
    }
    case.result_count(1 + usize::from(save_z))?;
    let dims = with_last(rows, n)?;
    (0..=usize::from(save_z)).try_for_each(|i| case.gives(i, Dtype::F32, &dims))
}

/// `[dy […, N], saved | none, x […, K] | none, weight [K, N] | none]`. `saved` has the shape of dy and is there exactly
/// if there is an activation, `x` exactly if dweight is wanted, `weight` exactly if dx is.
fn linear_grad(case: &Case, activation: Activation, wanted: Wanted) -> Check {
    let dy = case.operand(0)?;
    let (rows, n) = last(dy)?;
    let saved = present(case, 1, "saved", activation != Activation::None)?;
    let x = present(case, 2, "x", wanted.dweight)?;
    let weight = present(case, 3, "the weight", wanted.dx)?;
    if let Some(saved) = saved {
        of_type("saved", saved, Dtype::F32, &dy.dims)?;
    }
    case.result_count([wanted.dx, wanted.dweight, wanted.dbias].into_iter().filter(|&is| is).count())?;
    let mut position = 0;
    let mut k_of_weight = None;
    if let Some(weight) = weight {
        of_dtype("the weight", weight, Dtype::F32)?;
        let &[k, weight_n] = &*weight.dims else { return Err(format!("weight {} is no matrix", weight.dims)) };
        if weight_n != n {
            return Err(format!("dy {} and weight {} do not fit", dy.dims, weight.dims));
        }
        case.gives(position, Dtype::F32, &with_last(rows, k)?)?;
        position += 1;
        k_of_weight = Some(k);
    }
    if let Some(x) = x {
        of_dtype("x", x, Dtype::F32)?;
        let (x_rows, k) = last(x)?;
        if x_rows != rows || k_of_weight.is_some_and(|weight_k| weight_k != k) {
            return Err(format!("x {} does not fit dy {} and the weight", x.dims, dy.dims));
        }
        case.gives(position, Dtype::F32, &[k, n])?;
        position += 1;
    }
    if wanted.dbias {
        case.gives(position, Dtype::F32, &[n])?;
    }
    Ok(())
}

/// An operand that is there exactly if it is needed.
fn present<'a>(case: &Case<'a>, position: usize, name: &str, needed: bool) -> Check<Option<&'a Register>> {
    let operand = case.optional(position)?;
    if operand.is_some() == needed {
        Ok(operand)
    } else {
        Err(format!("{name} is {}", if needed { "needed and absent" } else { "there and not needed" }))
    }
}

/// Leading dimensions and the last one.
fn last(register: &Register) -> Check<(&[u32], u32)> {
    match register.dims.split_last() {
        Some((&last, rows)) => Ok((rows, last)),
        None => Err("rank 0 where rows are needed".into()),
    }
}

fn with_last(rows: &[u32], last: u32) -> Check<Dims> {
    Dims::new(rows).and_then(|dims| dims.with(last)).ok_or_else(|| "the rank is too high".into())
}
