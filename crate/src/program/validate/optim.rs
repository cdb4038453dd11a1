//! `squaredNorm` and the optimisers. Slabs are f32 and of one shape; `steps` is i32 `[P]`; the clip factor f32 and the gate
//! bool are of rank 0. Each gradient has a segment: its parameter is below P, its elements lie inside the slab, and no two
//! segments share a parameter or an element, so that they can be updated at the same time.

use super::{Case, Check, of_dtype, of_type};
use crate::dtype::Dtype::{Bool, F32, I32};
use crate::program::Op;
use crate::program::op::Segment;

pub(super) fn check(case: &Case) -> Check {
    match case.op {
        Op::SquaredNorm => {
            for operand in case.operands_from(0) {
                of_dtype("an input", operand?, F32)?;
            }
            case.gives(0, F32, &[])
        }
        Op::Sgd(sgd) => {
            let slab = case.operand(0)?;
            match case.optional(1)? {
                Some(momentum) => of_type("the momentum slab", momentum, F32, &slab.dims)?,
                // Also for a NaN, which a kernel would multiply the slab with.
                None if sgd.momentum != 0.0 || sgd.nesterov => return Err("momentum needs its slab".into()),
                None => {}
            }
            update(case, 2, &sgd.segments)
        }
        Op::Adam(adam) => {
            let slab = case.operand(0)?;
            of_type("the m slab", case.operand(1)?, F32, &slab.dims)?;
            of_type("the v slab", case.operand(2)?, F32, &slab.dims)?;
            if let Some(greatest) = case.optional(3)? {
                of_type("the slab of greatest v", greatest, F32, &slab.dims)?;
            }
            update(case, 4, &adam.segments)
        }
        Op::Rmsprop(rule) => {
            let slab = case.operand(0)?;
            of_type("the v slab", case.operand(1)?, F32, &slab.dims)?;
            if let Some(mean) = case.optional(2)? {
                of_type("the mean slab", mean, F32, &slab.dims)?;
            }
            match case.optional(3)? {
                Some(velocity) => of_type("the velocity slab", velocity, F32, &slab.dims)?,
                None if rule.momentum != 0.0 => return Err("momentum needs its slab".into()),
                None => {}
            }
            update(case, 4, &rule.segments)
        }
        Op::Ema(ema) => update(case, 1, &ema.segments),
        _ => Err("is no optimiser".into()),
    }
}

/// Checks what all optimisers end with: `steps, scale | none, ok | none, …gradients`, from a position on.
fn update(case: &Case, position: usize, segments: &[Segment]) -> Check {
    let slab = case.operand(0)?;
    let steps = case.operand(position)?;
    of_type("steps", steps, I32, &[steps.numel as u32])?;
    if let Some(scale) = case.optional(position + 1)? {
        of_type("scale", scale, F32, &[])?;
    }
    if let Some(ok) = case.optional(position + 2)? {
        of_type("ok", ok, Bool, &[])?;
    }
    let gradients = position + 3;
    if segments.len() != case.operands.len() - gradients {
        return Err(format!("{} segments for {} gradients", segments.len(), case.operands.len() - gradients));
    }
    let mut ranges = reserve(segments.len())?;
    let mut parameters = reserve(segments.len())?;
    for (gradient, segment) in case.operands_from(gradients).zip(segments) {
        let gradient = gradient?;
        of_dtype("a gradient", gradient, F32)?;
        let begin = segment.offset as usize;
        // No overflow: 2³² + 2³¹.
        let end = begin + gradient.numel;
        if segment.parameter as usize >= steps.numel || end > slab.numel {
            return Err(format!(
                "parameter {} at elements {begin} to {end} is outside {} parameters in {} elements",
                segment.parameter, steps.numel, slab.numel
            ));
        }
        parameters.push(segment.parameter as usize);
        if begin < end {
            ranges.push((begin, end));
        }
    }
    parameters.sort_unstable();
    if parameters.array_windows().any(|[a, b]| a == b) {
        return Err("two segments belong to one parameter".into());
    }
    ranges.sort_unstable();
    if ranges.array_windows().any(|[(_, end), (begin, _)]| end > begin) {
        return Err("two segments overlap".into());
    }
    Ok(())
}

fn reserve<T>(length: usize) -> Check<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(length).map_err(|_| "no memory to check the segments".to_string())?;
    Ok(list)
}
