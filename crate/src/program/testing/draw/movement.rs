//! What moves elements or names the memory of others: views, changes in place, shapes, indices.

use super::of_type;
use crate::program::testing::{A, F32, I32, Random, Writer};
use crate::shape::numel;

pub(super) fn random_view(random: &mut Random, writer: &mut Writer, x: u32) {
    let elements = numel(&writer.dims(x)).unwrap() as u32;
    let offset = if random.chance(50) { 0 } else { random.below(elements + 1) };
    let rest = elements - offset;
    let dims = match random.below(3) {
        0 => vec![rest],
        1 => vec![1, rest],
        _ => vec![random.below(rest + 1)],
    };
    writer.op("view", &[(F32, &dims)], &[x], &[A::W(offset)]);
}

pub(super) fn random_movement(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    let rank = dims.len() as u32;
    match random.below(4) {
        0 => {
            let permutation: Vec<u32> = (0..rank).rev().collect();
            let turned: Vec<u32> = dims.iter().rev().copied().collect();
            writer.op("transpose", &[(F32, &turned)], &[x], &[A::L(&permutation)]);
        }
        1 if rank > 0 => {
            let axis = random.below(rank);
            let y = of_type(random, writer, F32, &dims);
            let mut longer = dims;
            longer[axis as usize] *= 2;
            writer.op("concat", &[(F32, &longer)], &[x, y], &[A::W(axis)]);
        }
        2 => {
            let starts: Vec<u32> = dims.iter().map(|&d| random.below(d + 1)).collect();
            let rest: Vec<u32> = dims.iter().zip(&starts).map(|(&d, &s)| random.below(d - s + 1)).collect();
            writer.op("slice", &[(F32, &rest)], &[x], &[A::L(&starts)]);
        }
        _ => {
            let before: Vec<u32> = dims.iter().map(|_| random.below(2)).collect();
            let wider: Vec<u32> = dims.iter().map(|d| (d + 1).min(12)).collect();
            if dims.iter().all(|&d| d < 12) {
                let value = writer.scalar();
                writer.op("pad", &[(F32, &wider)], &[x], &[A::L(&before), value]);
            }
        }
    }
}

pub(super) fn random_gather(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    let Some(axis) = (0..dims.len()).find(|&axis| dims[axis] > 0 && !dims.contains(&0)) else { return };
    let indices = of_type(random, writer, I32, &[3]);
    let mut taken = dims.clone();
    taken[axis] = 3;
    let y = writer.op("gather", &[(F32, &taken)], &[x, indices], &[A::W(axis as u32), A::W(0)]);
    if random.chance(50) {
        writer.op("scatterAdd", &[(F32, &dims)], &[y, indices], &[A::W(axis as u32), A::W(0)]);
    }
}

/// `assign` or `addInto` of a register to a new input or a view of it.
pub(super) fn random_change(random: &mut Random, writer: &mut Writer, source: u32) {
    let dims = writer.dims(source);
    let size = numel(&dims).unwrap() as u32;
    let target = writer.input(F32, &[size + 2]);
    let view = writer.op("view", &[(F32, &dims)], &[target], &[A::W(random.below(3))]);
    writer.op(random.pick(&["assign", "addInto"]), &[], &[view, source], &[]);
}
