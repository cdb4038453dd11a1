//! Products, fused layers and their gradients, and the losses that follow them.

use super::{accepted, refused};
use crate::program::NONE;
use crate::program::testing::{A, F32, I32, Writer};

#[test]
fn products_fit() {
    let matmul = |a: &'static [u32], b: &'static [u32], y: &'static [u32], flags: [u32; 2]| {
        move |w: &mut Writer| {
            let (x, z) = (w.input(F32, a), w.input(F32, b));
            w.op("matmul", &[(F32, y)], &[x, z], &flags.map(A::W));
        }
    };
    accepted(matmul(&[5, 1, 2, 3], &[4, 3, 6], &[5, 4, 2, 6], [0, 0]));
    accepted(matmul(&[3, 2], &[6, 3], &[2, 6], [1, 1]));
    refused!(matmul(&[2, 3], &[4, 6], &[2, 6], [0, 0]), "3 and 4");
    refused!(matmul(&[2, 3], &[3, 6], &[2, 5], [0, 0]), "declared f32[2,5] and is f32[2,6]");
    refused!(matmul(&[2, 2, 3], &[3, 3, 6], &[2, 2, 6], [0, 0]), "do not broadcast");
    refused!(matmul(&[3], &[3, 6], &[6], [0, 0]), "[3] is no matrix");
    refused!(matmul(&[2, 3], &[3, 6], &[2, 6], [0, 2]), "a flag is 2");
}

#[test]
fn linear_fits() {
    let linear = |weight: &'static [u32], bias: Option<&'static [u32]>, results: usize, attributes: [u32; 2]| {
        move |w: &mut Writer| {
            let (x, weight) = (w.input(F32, &[2, 2, 3]), w.input(F32, weight));
            let bias = bias.map_or(NONE, |dims| w.input(F32, dims));
            let y: (_, &[u32]) = (F32, &[2, 2, 5]);
            w.op("linear", &[y, y][..results], &[x, weight, bias], &attributes.map(A::W));
        }
    };
    accepted(linear(&[3, 5], None, 1, [0, 0]));
    accepted(linear(&[3, 5], Some(&[5]), 2, [10, 1]));
    refused!(linear(&[4, 5], None, 1, [0, 0]), "3 and 4");
    refused!(linear(&[3, 5, 1], None, 1, [0, 0]), "is no matrix");
    refused!(linear(&[3, 5], Some(&[3]), 1, [0, 0]), "the bias is f32[3], not f32[5]");
    refused!(linear(&[3, 5], None, 2, [0, 0]), "declares 2 outputs and gives 1");
    refused!(linear(&[3, 5], None, 1, [11, 0]), "no activation 11");
}

#[test]
fn gradients_of_linear_fit() {
    // dy [2, 5], saved, x [2, 3], weight [3, 5]; which of the last three are there; the wanted ones.
    let grad = |present: [bool; 3], activation: u32, wanted: u32, results: &'static [&'static [u32]]| {
        move |w: &mut Writer| {
            let all = [w.input(F32, &[2, 5]), w.input(F32, &[2, 3]), w.input(F32, &[3, 5])];
            let dy = w.input(F32, &[2, 5]);
            let [saved, x, weight] = [0, 1, 2].map(|i| if present[i] { all[i] } else { NONE });
            let results: Vec<_> = results.iter().map(|&dims| (F32, dims)).collect();
            w.op("linearGrad", &results, &[dy, saved, x, weight], &[A::W(activation), A::W(wanted)]);
        }
    };
    accepted(grad([true, true, true], 1, 7, &[&[2, 3], &[3, 5], &[5]]));
    accepted(grad([false, false, false], 0, 4, &[&[5]]));
    refused!(grad([false, true, true], 1, 7, &[&[2, 3], &[3, 5], &[5]]), "saved is needed and absent");
    refused!(grad([true, true, true], 0, 7, &[&[2, 3], &[3, 5], &[5]]), "saved is there and not needed");
    refused!(grad([true, false, true], 1, 3, &[&[2, 3], &[3, 5]]), "x is needed");
    refused!(grad([true, true, true], 1, 2, &[&[3, 5]]), "the weight is there and not needed");
    refused!(grad([true, true, true], 1, 3, &[&[2, 3]]), "declares 1 outputs and gives 2");
    refused!(grad([true, true, true], 1, 3, &[&[3, 5], &[2, 3]]), "output 0");
    refused!(grad([true, true, true], 1, 8, &[&[2, 3]]), "wanted is 8");
    refused!(grad([true, true, true], 1, 0, &[&[2, 3]]), "wanted is 0");
}

#[test]
fn losses_fit() {
    let loss = |logits: &'static [u32], targets: &'static [u32]| {
        move |w: &mut Writer| {
            let (x, t) = (w.input(F32, logits), w.input(I32, targets));
            w.op("crossEntropy", &[(F32, targets), (F32, targets), (F32, &[])], &[x, t], &[A::W(0)]);
        }
    };
    accepted(loss(&[2, 3, 4], &[2, 3]));
    accepted(loss(&[0, 0], &[0]));
    refused!(loss(&[2, 3, 4], &[3]), "targets is i32[3], not i32[2,3]");
    refused!(loss(&[2, 0], &[2]), "have no class");
    refused!(loss(&[], &[]), "rank 0");
    refused!(
        |w| {
            let (x, t, l) = (w.input(F32, &[2, 4]), w.input(I32, &[2]), w.input(F32, &[1]));
            w.like("crossEntropyGrad", &[x, t, l, l], &[A::W(0)]);
        },
        "logSumExp is f32[1], not f32[2]"
    );
    let weighted = |weight: &'static [u32], has_sum: bool, smoothing: f64| {
        move |w: &mut Writer| {
            let (x, t) = (w.input(F32, &[2, 4]), w.input(I32, &[2]));
            let weight = w.input(F32, weight);
            let sum = if has_sum { w.input(F32, &[]) } else { NONE };
            let rows: [(_, &[u32]); 3] = [(F32, &[2]); 3];
            w.op("weightedCrossEntropy", &rows, &[x, t, weight, sum], &[A::W(0), A::F(smoothing)]);
        }
    };
    accepted(weighted(&[4], true, 0.5));
    accepted(weighted(&[4], false, 0.0));
    refused!(weighted(&[5], true, 0.5), "weight is f32[5], not f32[4]");
    refused!(weighted(&[4], true, 0.0), "the sum of weights is there and not needed");
    refused!(weighted(&[4], false, 0.5), "the sum of weights is absent");
    refused!(weighted(&[4], true, 1.5), "labelSmoothing is 1.5");
    refused!(weighted(&[4], true, f64::NAN), "labelSmoothing is NaN");
    accepted(|w| {
        let (x, t) = (w.input(F32, &[2, 4]), w.input(I32, &[2]));
        let rows: [(_, &[u32]); 3] = [(F32, &[2]); 3];
        let loss = w.op("weightedCrossEntropy", &rows, &[x, t, NONE, NONE], &[A::W(0), A::F(1.0)]);
        w.like("weightedCrossEntropyGrad", &[x, t, loss + 1, loss, NONE, NONE], &[A::W(0), A::F(1.0)]);
    });
}
