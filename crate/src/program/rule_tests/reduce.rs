//! What works over the middle of `[outer, count, inner]`: reductions, softmax and its gradient, the k largest, scans.

use super::{accepted, refused};
use crate::dtype::Dtype;
use crate::program::testing::{A, F32, I32, Writer};

#[test]
fn reductions_cover_their_operand() {
    let reduce = |name: &'static str, dims: &'static [u32], result: &'static [u32], axes: [u32; 3]| {
        move |w: &mut Writer| {
            let x = w.input(F32, dims);
            let dtype = if name == "argmax" { I32 } else { F32 };
            w.op(name, &[(dtype, result)], &[x], &axes.map(A::W));
        }
    };
    accepted(reduce("sum", &[2, 3, 4], &[2, 4], [2, 3, 4]));
    accepted(reduce("sum", &[2, 3, 4], &[2, 1, 4], [2, 3, 4]));
    accepted(reduce("mean", &[0, 3], &[3], [1, 0, 3]));
    accepted(reduce("max", &[0, 3], &[0], [0, 3, 1]));
    refused!(reduce("sum", &[2, 3, 4], &[2, 4], [2, 3, 5]), "is not the 24 elements");
    refused!(reduce("sum", &[2, 3, 4], &[8, 2], [2, 3, 4]), "has 16 elements and gets 8");
    refused!(reduce("max", &[0, 3], &[3], [1, 0, 3]), "largest or smallest of nothing");
    refused!(reduce("argmax", &[2, 0], &[2], [2, 0, 1]), "largest or smallest of nothing");
    refused!(reduce("sum", &[0], &[0], [0, u32::MAX, u32::MAX]), "more than 2^31 - 1");
    refused!(
        |w| {
            let x = w.input(F32, &[4]);
            w.op("argmin", &[(F32, &[])], &[x], &[A::W(1), A::W(4), A::W(1)]);
        },
        "is i32[]"
    );
    refused!(
        |w| {
            let (x, y) = (w.input(F32, &[4]), w.input(F32, &[2, 2]));
            w.like("softmaxGrad", &[x, y], &[A::W(1), A::W(4), A::W(1)]);
        },
        "y is f32[2,2], not f32[4]"
    );
}

#[test]
fn the_largest_are_no_more_than_there_are() {
    const FOUR: &[u32] = &[2, 2, 4];
    let top_k = |results: [(Dtype, &'static [u32]); 3], attributes: [u32; 4]| {
        move |w: &mut Writer| {
            let x = w.input(F32, &[2, 3, 4]);
            w.op("topK", &results, &[x], &attributes.map(A::W));
        }
    };
    accepted(top_k([(F32, FOUR), (I32, FOUR), (I32, FOUR)], [2, 3, 4, 2]));
    accepted(top_k([(F32, &[2, 0, 4]), (I32, &[0]), (I32, &[0])], [2, 3, 4, 0]));
    refused!(top_k([(F32, FOUR), (I32, FOUR), (I32, FOUR)], [2, 3, 5, 2]), "is not the 24 elements");
    refused!(top_k([(F32, FOUR), (I32, FOUR), (I32, FOUR)], [2, 3, 4, 4]), "takes 4 of 3 elements");
    refused!(top_k([(F32, FOUR), (I32, FOUR), (I32, FOUR)], [2, 3, 4, 3]), "has 16 elements and gets 24");
    refused!(top_k([(F32, FOUR), (I32, FOUR), (I32, &[2, 4])], [2, 3, 4, 2]), "output 2 has 8 elements and gets 16");
    refused!(top_k([(I32, FOUR), (I32, FOUR), (I32, FOUR)], [2, 3, 4, 2]), "is f32[2,2,4]");
    refused!(top_k([(F32, FOUR), (I32, FOUR), (F32, FOUR)], [2, 3, 4, 2]), "is i32[2,2,4]");
}

#[test]
fn scans_keep_the_shape() {
    let scan = |result: &'static [u32], attributes: [u32; 5]| {
        move |w: &mut Writer| {
            let x = w.input(I32, &[2, 3, 4]);
            w.op("cumprod", &[(I32, result)], &[x], &attributes.map(A::W));
        }
    };
    accepted(scan(&[2, 3, 4], [2, 3, 4, 1, 0]));
    refused!(scan(&[2, 3, 4], [2, 3, 5, 1, 0]), "is not the 24 elements");
    refused!(scan(&[6, 4], [2, 3, 4, 1, 0]), "is i32[2,3,4]");
    refused!(scan(&[2, 3, 4], [2, 3, 4, 2, 0]), "a flag is 2");
}
