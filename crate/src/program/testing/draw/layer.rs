//! Products, fused layers and normalisations, often with their gradients.

use super::element::random_element;
use super::of_type;
use crate::dtype::Dtype;
use crate::program::NONE;
use crate::program::testing::{A, BOOL, F32, I32, Random, Writer};

pub(super) fn random_product(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    let Some((&k, rows)) = dims.split_last() else { return };
    let n = 1 + random.below(5);
    let weight = of_type(random, writer, F32, &[k, n]);
    let mut y = rows.to_vec();
    y.push(n);
    let product = if random.chance(50) && !rows.is_empty() {
        let (weight, flip) = if random.chance(50) { (of_type(random, writer, F32, &[n, k]), 1) } else { (weight, 0) };
        writer.op("matmul", &[(F32, &y)], &[x, weight], &[A::W(0), A::W(flip)])
    } else {
        let bias = if random.chance(50) { of_type(random, writer, F32, &[n]) } else { NONE };
        let results: &[(Dtype, &[u32])] = &[(F32, &y), (F32, &y)];
        let z = random.below(2) as usize;
        let activation = A::W(random.below(11));
        writer.op("linear", results.get(..=z).unwrap(), &[x, weight, bias], &[activation, A::W(z as u32)])
    };
    if random.chance(50) {
        random_element(random, writer, product);
    }
}

pub(super) fn random_linear_grad(random: &mut Random, writer: &mut Writer, dy: u32) {
    let dims = writer.dims(dy);
    let Some((&n, rows)) = dims.split_last() else { return };
    let (activation, wanted, k) = (random.below(11), 1 + random.below(7), 1 + random.below(4));
    let mut x_dims = rows.to_vec();
    x_dims.push(k);
    let saved = if activation == 0 { NONE } else { of_type(random, writer, F32, &dims) };
    let x = if wanted & 2 == 0 { NONE } else { of_type(random, writer, F32, &x_dims) };
    let weight = if wanted & 1 == 0 { NONE } else { of_type(random, writer, F32, &[k, n]) };
    let all: [(Dtype, &[u32]); 3] = [(F32, &x_dims), (F32, &[k, n]), (F32, &[n])];
    let results: Vec<_> = (0..3).filter(|i| wanted >> i & 1 == 1).map(|i| all[i]).collect();
    let gradient = writer.op("linearGrad", &results, &[dy, saved, x, weight], &[A::W(activation), A::W(wanted)]);
    if random.chance(50) {
        random_element(random, writer, gradient);
    }
}

/// A norm over the last axis, or of groups of the second, and often its gradient.
pub(super) fn random_norm(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    let Some((&channels, leading)) = dims.split_last() else { return };
    let product = |dims: &[u32]| dims.iter().product::<u32>();
    let (name, sizes, per_row, by_channel) = match (&dims[..], random.below(3)) {
        ([outer, all, rest @ ..], 0) if *all > 0 => {
            let groups = if all.is_multiple_of(2) { 2 } else { 1 };
            let sizes = [*outer, groups, all / groups, product(rest)];
            ("groupNorm", sizes.map(A::W).to_vec(), outer * groups, *all)
        }
        (_, kind) => {
            let outer = product(leading);
            (if kind == 1 { "rmsNorm" } else { "layerNorm" }, vec![A::W(outer), A::W(channels)], outer, channels)
        }
    };
    let is_centred = name != "rmsNorm";
    let statistics = 1 + usize::from(is_centred);
    let weight = if random.chance(70) { of_type(random, writer, F32, &[by_channel]) } else { NONE };
    let per_row: (_, &[u32]) = (F32, &[per_row]);
    let mut operands = vec![x, weight];
    if is_centred {
        operands.push(if random.chance(70) { of_type(random, writer, F32, &[by_channel]) } else { NONE });
    }
    let eps = [&sizes[..], &[A::F(1e-5)]].concat();
    let y = writer.op(name, &[(F32, &dims[..]), per_row, per_row][..=statistics], &operands, &eps);
    if random.chance(60) {
        let mut operands = vec![y, x, weight];
        operands.extend((1..=statistics as u32).map(|i| y + i));
        let wanted = 1 | if weight == NONE { 0 } else { 2 } | if is_centred { 4 * random.below(2) } else { 0 };
        let all: [(Dtype, &[u32]); 3] = [(F32, &dims), (F32, &[by_channel]), (F32, &[by_channel])];
        let results: Vec<_> = (0..3).filter(|i| wanted >> i & 1 == 1).map(|i| all[i]).collect();
        writer.op(&format!("{name}Grad"), &results, &operands, &[&sizes[..], &[A::W(wanted)]].concat());
    }
}

pub(super) fn random_batch_norm(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    if dims.is_empty() {
        return;
    }
    let axis = random.below(dims.len() as u32) as usize;
    let product = |dims: &[u32]| dims.iter().product::<u32>();
    let (outer, channels, inner) = (product(&dims[..axis]), dims[axis], product(&dims[axis + 1..]));
    let view = [A::W(outer), A::W(channels), A::W(inner)];
    let each: (Dtype, &[u32]) = (F32, &[channels]);
    let mask = if random.chance(50) { of_type(random, writer, BOOL, &[outer, inner]) } else { NONE };
    let weight = if random.chance(50) { of_type(random, writer, F32, &[channels]) } else { NONE };
    let count = writer.op("batchNormStatistics", &[(F32, &[]), each, each], &[x, mask], &view);
    let (mean, m2) = (count + 1, count + 2);
    let variance = writer.op("batchNormVariance", &[each, each], &[m2, count], &[A::F(1e-5)]);
    let istd = variance + 1;
    let y = writer.like("batchNorm", &[x, mean, istd, weight, NONE, mask], &view);
    if random.chance(50) {
        let sums = writer.op("batchNormGradSums", &[each, each], &[y, x, mean, istd, mask], &view);
        writer.like("batchNormGrad", &[y, x, mean, istd, weight, sums, sums + 1, count, mask], &view);
    }
    if random.chance(50) {
        let running = [writer.input(F32, &[channels]), writer.input(F32, &[channels])];
        let updates = if random.chance(50) { writer.input(I32, &[]) } else { NONE };
        let ok = if random.chance(50) { of_type(random, writer, BOOL, &[]) } else { NONE };
        let operands = [running[0], running[1], updates, mean, variance, count, ok];
        let momentum = writer.scalar();
        writer.op("batchNormUpdate", &[], &operands, &[momentum, A::W(random.below(2)), A::W(random.below(2))]);
    }
}
