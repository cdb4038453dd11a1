//! Normalisations of rows and of channels, with their gradients and running statistics.

use super::{accepted, refused};
use crate::dtype::Dtype;
use crate::program::NONE;
use crate::program::testing::{A, BOOL, F32, I32, Writer};

#[test]
fn norms_fit() {
    // x [2, 6]; weight and bias, if there are any; the sizes; results beside y.
    let norm =
        |name: &'static str, affine: [Option<&'static [u32]>; 2], sizes: &'static [u32], rows: &'static [u32]| {
            move |w: &mut Writer| {
                let x = w.input(F32, &[2, 6]);
                let [weight, bias] = affine.map(|dims| dims.map_or(NONE, |dims| w.input(F32, dims)));
                let attributes: Vec<_> = sizes.iter().map(|&size| A::W(size)).chain([A::F(1e-5)]).collect();
                let results: &[(_, &[u32])] = &[(F32, &[2, 6]), (F32, rows), (F32, rows)];
                if name == "rmsNorm" {
                    w.op(name, &results[..2], &[x, weight], &attributes);
                } else {
                    w.op(name, results, &[x, weight, bias], &attributes);
                }
            }
        };
    accepted(norm("layerNorm", [Some(&[6]), Some(&[2, 3])], &[2, 6], &[2]));
    accepted(norm("layerNorm", [None, None], &[1, 12], &[1]));
    accepted(norm("rmsNorm", [Some(&[6]), None], &[2, 6], &[2]));
    accepted(norm("groupNorm", [Some(&[6]), None], &[2, 3, 2, 1], &[6]));
    accepted(norm("groupNorm", [Some(&[2]), None], &[2, 2, 1, 3], &[4]));
    refused!(norm("layerNorm", [None, None], &[2, 5], &[2]), "[2,1,5,1] is not the 12 elements of input 0");
    refused!(norm("groupNorm", [None, None], &[2, 0, 6, 1], &[0]), "there are no groups");
    refused!(norm("groupNorm", [None, None], &[0, 1, u32::MAX, u32::MAX], &[0]), "more than 2^31 - 1");
    refused!(norm("layerNorm", [Some(&[5]), None], &[2, 6], &[2]), "the weight has 5 elements, not 6");
    refused!(norm("groupNorm", [None, Some(&[2])], &[2, 3, 2, 1], &[6]), "the bias has 2 elements, not 6");
    refused!(norm("rmsNorm", [None, None], &[2, 6], &[3]), "declared f32[3] and is f32[2]");
    refused!(
        |w| {
            let x = w.input(I32, &[2, 6]);
            w.op("rmsNorm", &[(I32, &[2, 6]), (I32, &[2])], &[x, NONE], &[A::W(2), A::W(6), A::F(0.0)]);
        },
        "is i32, not float"
    );
}

#[test]
fn gradients_of_norms_fit() {
    // dy and x [2, 6], the weight, statistics of so many rows; wanted and what comes.
    let grad = |name: &'static str, weight: bool, rows: [u32; 2], wanted: u32, results: &'static [&'static [u32]]| {
        move |w: &mut Writer| {
            let (dy, x) = (w.input(F32, &[2, 6]), w.input(F32, &[2, 6]));
            let weight = if weight { w.input(F32, &[6]) } else { NONE };
            let statistics = rows.map(|rows| w.input(F32, &[rows]));
            let results: Vec<_> = results.iter().map(|&dims| (F32, dims)).collect();
            let attributes = [A::W(2), A::W(6), A::W(wanted)];
            let operands = [dy, x, weight, statistics[0], statistics[1]];
            w.op(name, &results, &operands[..if name == "rmsNormGrad" { 4 } else { 5 }], &attributes);
        }
    };
    accepted(grad("layerNormGrad", true, [2, 2], 7, &[&[2, 6], &[6], &[6]]));
    accepted(grad("layerNormGrad", false, [2, 2], 5, &[&[2, 6], &[2, 3]]));
    accepted(grad("rmsNormGrad", true, [2, 2], 3, &[&[2, 6], &[6]]));
    refused!(grad("layerNormGrad", true, [2, 3], 1, &[&[2, 6]]), "input 4 is f32[3], not f32[2]");
    refused!(grad("layerNormGrad", false, [2, 2], 2, &[&[6]]), "the gradient of a weight is wanted that is absent");
    refused!(
        grad("rmsNormGrad", true, [2, 2], 5, &[&[2, 6], &[6]]),
        "the gradient of a bias is wanted where there is none"
    );
    refused!(grad("layerNormGrad", true, [2, 2], 7, &[&[2, 6], &[6]]), "declares 2 outputs and gives 3");
    refused!(grad("layerNormGrad", true, [2, 2], 2, &[&[2, 3]]), "declared f32[2,3] and is f32[6]");
    refused!(grad("layerNormGrad", true, [2, 2], 4, &[&[5]]), "the gradient of the bias has 5 elements, not 6");
    refused!(grad("layerNormGrad", true, [2, 2], 0, &[&[2, 6]]), "wanted is 0");
    refused!(
        |w| {
            let (dy, x, rows) = (w.input(F32, &[2, 6]), w.input(F32, &[6, 2]), w.input(F32, &[2]));
            w.op("rmsNormGrad", &[(F32, &[2, 6])], &[dy, x, NONE, rows], &[A::W(2), A::W(6), A::W(1)]);
        },
        "x is f32[6,2], not f32[2,6]"
    );
}

#[test]
fn batch_normalisation_fits() {
    const X: &[u32] = &[2, 3, 4];
    const C: &[u32] = &[3];
    let view = |outer, channels, inner| [A::W(outer), A::W(channels), A::W(inner)];
    let statistics = |mask: (Dtype, &'static [u32]), of: [u32; 3], count: &'static [u32]| {
        move |w: &mut Writer| {
            let (x, mask) = (w.input(F32, X), w.input(mask.0, mask.1));
            w.op("batchNormStatistics", &[(F32, count), (F32, C), (F32, C)], &[x, mask], &view(of[0], of[1], of[2]));
        }
    };
    accepted(statistics((BOOL, &[2, 4]), [2, 3, 4], &[]));
    refused!(statistics((BOOL, &[2, 4]), [2, 3, 5], &[]), "[2,3,5] is not the 24 elements");
    refused!(statistics((BOOL, &[2, 4]), [4, 3, 2], &[1]), "output 0 is declared f32[1]");
    refused!(statistics((BOOL, &[2, 4]), [4, 2, 3], &[]), "the mask has 8 elements for 12");
    refused!(statistics((F32, &[2, 4]), [2, 3, 4], &[]), "the mask is f32, not bool");
    refused!(statistics((BOOL, &[2, 4]), [1 << 16, 1 << 16, 0], &[]), "more than 2^31 - 1 elements");
    let forward = |weight: &'static [u32], result: &'static [u32]| {
        move |w: &mut Writer| {
            let x = w.input(F32, X);
            let (mean, weight) = (w.input(F32, C), w.input(F32, weight));
            w.op("batchNorm", &[(F32, result)], &[x, mean, mean, weight, NONE, NONE], &view(2, 3, 4));
        }
    };
    accepted(forward(C, X));
    refused!(forward(&[4], X), "an operand of channels is f32[4], not f32[3]");
    refused!(forward(C, &[24]), "output 0 is declared f32[24]");
    refused!(
        |w| {
            let x = w.input(F32, X);
            w.op("batchNorm", &[(F32, X)], &[x, NONE, NONE, NONE, NONE, NONE], &view(2, 3, 4));
        },
        "input 1 is absent"
    );
    let gradient = |x: &'static [u32], count: &'static [u32]| {
        move |w: &mut Writer| {
            let (dy, x, mean, count) = (w.input(F32, X), w.input(F32, x), w.input(F32, C), w.input(F32, count));
            let sums = w.op("batchNormGradSums", &[(F32, C), (F32, C)], &[dy, x, mean, mean, NONE], &view(2, 3, 4));
            w.like("batchNormGrad", &[dy, x, mean, mean, NONE, sums, sums + 1, count, NONE], &view(2, 3, 4));
        }
    };
    accepted(gradient(X, &[]));
    refused!(gradient(&[24], &[]), "x is f32[24], not f32[2,3,4]");
    refused!(gradient(X, &[1]), "the count is f32[1], not f32[]");
    refused!(
        |w| {
            let (m2, count) = (w.input(F32, C), w.input(F32, &[3]));
            w.op("batchNormVariance", &[(F32, C), (F32, C)], &[m2, count], &[A::F(0.0)]);
        },
        "the count is f32[3], not f32[]"
    );
    let update = |updates: (Dtype, &'static [u32]), shared: bool, flag: u32| {
        move |w: &mut Writer| {
            let mean = w.input(F32, C);
            let variance = if shared { mean } else { w.input(F32, C) };
            let (updates, new, count) = (w.input(updates.0, updates.1), w.input(F32, C), w.input(F32, &[]));
            let attributes = [A::W(0), A::W(flag), A::W(1)];
            w.op("batchNormUpdate", &[], &[mean, variance, updates, new, new, count, NONE], &attributes);
        }
    };
    accepted(update((I32, &[]), false, 0));
    refused!(update((I32, &[1]), false, 0), "updates is i32[1], not i32[]");
    refused!(update((F32, &[]), false, 0), "updates is f32[], not i32[]");
    refused!(update((I32, &[]), true, 0), "changes input 0, which overlaps input 1");
    refused!(update((I32, &[]), false, 2), "a flag is 2");
}
