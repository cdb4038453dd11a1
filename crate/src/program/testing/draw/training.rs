//! Losses, and steps of optimisers over slabs of two parameters.

use super::of_type;
use crate::program::NONE;
use crate::program::testing::{A, BOOL, F32, I32, Random, Writer};
use crate::shape::numel;

pub(super) fn random_loss(random: &mut Random, writer: &mut Writer, logits: u32) {
    let dims = writer.dims(logits);
    let Some((&classes, items)) = dims.split_last() else { return };
    if classes == 0 {
        return;
    }
    let targets = of_type(random, writer, I32, items);
    let ignore = A::W((-100_i32).cast_unsigned());
    let loss = writer.op("crossEntropy", &[(F32, items), (F32, items), (F32, &[])], &[logits, targets], &[ignore]);
    if random.chance(30) {
        let weight = of_type(random, writer, F32, &[classes]);
        let sum = of_type(random, writer, F32, &[]);
        let (operands, attributes) = ([logits, targets, weight, sum], [ignore, A::F(0.25)]);
        let weighted = writer.op("weightedCrossEntropy", &[(F32, items); 3], &operands, &attributes);
        let operands = [logits, targets, weighted + 1, weighted, weight, sum];
        writer.like("weightedCrossEntropyGrad", &operands, &attributes);
    }
    if random.chance(50) {
        writer.like("crossEntropyGrad", &[logits, targets, loss + 1, loss], &[ignore]);
    }
}

pub(super) fn random_optimiser(random: &mut Random, writer: &mut Writer, gradient: u32) {
    let size = numel(&writer.dims(gradient)).unwrap() as u32;
    let slab_dims = [2 * size + 3];
    let slabs: Vec<u32> = (0..4).map(|_| writer.input(F32, &slab_dims)).collect();
    let steps = writer.input(I32, &[2]);
    let scale = if random.chance(50) { of_type(random, writer, F32, &[]) } else { NONE };
    let ok = if random.chance(50) { of_type(random, writer, BOOL, &[]) } else { NONE };
    let (lr, segments) = (writer.scalar(), A::L(&[1, size, 0, 0]));
    let momentum = if random.chance(50) { (0.9, slabs[1]) } else { (0.0, NONE) };
    let rest = [steps, scale, ok, gradient, gradient];
    match random.below(4) {
        0 => {
            let attributes = [lr, A::F(momentum.0), A::F(0.0), A::F(0.0), A::W(0), segments];
            writer.op("sgd", &[], &[&[slabs[0], momentum.1], &rest[..]].concat(), &attributes);
        }
        1 => {
            let greatest = if random.chance(50) { slabs[3] } else { NONE };
            let decoupled = A::W(random.below(2));
            let attributes = [lr, A::F(0.9), A::F(0.99), A::F(1e-8), A::F(0.01), decoupled, segments];
            let operands = [&[slabs[0], slabs[1], slabs[2], greatest], &rest[..]].concat();
            writer.op("adam", &[], &operands, &attributes);
        }
        2 => {
            let mean = if random.chance(50) { slabs[3] } else { NONE };
            let attributes = [lr, A::F(0.9), A::F(1e-8), A::F(0.01), A::F(momentum.0), segments];
            let operands = [&[slabs[0], slabs[2], mean, momentum.1], &rest[..]].concat();
            writer.op("rmsprop", &[], &operands, &attributes);
        }
        _ => {
            writer.op("ema", &[], &[&slabs[..1], &rest[..]].concat(), &[lr, segments]);
        }
    }
}
