//! What moves elements: by shape, and by indices; and the condition on data.

use super::{accepted, refused};
use crate::program::op::Reason;
use crate::program::testing::{A, BOOL, F32, I32, Writer};

#[test]
fn movement_stays_inside() {
    let shape = |name: &'static str, from: &'static [u32], to: &'static [u32], list: &'static [u32]| {
        move |w: &mut Writer| {
            let x = w.input(F32, from);
            let attributes: &[A] = if name == "pad" { &[A::L(list), A::W(0)] } else { &[A::L(list)] };
            w.op(name, &[(F32, to)], &[x], attributes);
        }
    };
    accepted(shape("transpose", &[2, 3, 4], &[4, 2, 3], &[2, 0, 1]));
    refused!(shape("transpose", &[2, 3], &[2, 3], &[0, 0]), "no permutation");
    refused!(shape("transpose", &[2, 3], &[2], &[0]), "no permutation");
    refused!(shape("transpose", &[2, 3], &[2, 3], &[0, 2]), "no axis 2");
    refused!(shape("transpose", &[2, 3], &[2, 3], &[1, 0]), "declared f32[2,3] and is f32[3,2]");
    refused!(shape("transpose", &[2, 3], &[2, 3], &[0; 9]), "a list of 9 numbers");
    accepted(shape("slice", &[4, 4], &[2, 0], &[2, 4]));
    refused!(shape("slice", &[4, 4], &[2, 2], &[3, 0]), "not inside");
    refused!(shape("slice", &[4, 4], &[2, 2], &[u32::MAX, 0]), "not inside");
    refused!(shape("slice", &[4, 4], &[2], &[0]), "not inside");
    refused!(shape("slice", &[4, 4], &[2, 2], &[0]), "not inside");
    accepted(shape("pad", &[2], &[5], &[3]));
    refused!(shape("pad", &[2], &[5], &[4]), "not inside");
    let concat = |dims: &'static [u32], to: &'static [u32], axis: u32| {
        move |w: &mut Writer| {
            let (x, y) = (w.input(F32, &[2, 3]), w.input(F32, dims));
            w.op("concat", &[(F32, to)], &[x, y], &[A::W(axis)]);
        }
    };
    accepted(concat(&[2, 1], &[2, 4], 1));
    refused!(concat(&[1, 1], &[2, 4], 1), "do not fit along axis 1");
    refused!(concat(&[2], &[2, 4], 1), "do not fit along axis 1");
    refused!(concat(&[2, 1], &[2, 3], 1), "is f32[2,4]");
    refused!(concat(&[2, 3], &[2, 3], 2), "no axis 2");
}

#[test]
fn indices_name_something() {
    let gather = |x: &'static [u32], indices: &'static [u32], y: &'static [u32], axis: u32| {
        move |w: &mut Writer| {
            let (x, indices) = (w.input(F32, x), w.input(I32, indices));
            w.op("gather", &[(F32, y)], &[x, indices], &[A::W(axis), A::W(0)]);
        }
    };
    accepted(gather(&[4, 5], &[2, 3], &[4, 2, 3], 1));
    accepted(gather(&[4, 5], &[], &[5], 0));
    accepted(gather(&[0, 5], &[0], &[0, 5], 0));
    refused!(gather(&[4, 5], &[2], &[4, 2], 2), "no axis 2");
    refused!(gather(&[4, 5], &[2], &[2, 4], 1), "is f32[4,2]");
    refused!(gather(&[0, 5], &[2], &[2, 5], 0), "nothing that an index could name");
    refused!(gather(&[1; 8], &[1, 1], &[1; 8], 0), "too high a rank");
    let require = |condition, dims: &'static [u32], to: &'static [u32], reason: u32| {
        move |w: &mut Writer| {
            let (x, ok) = (w.input(I32, &[2, 3]), w.input(condition, dims));
            w.op("require", &[(I32, to)], &[x, ok], &[A::W(reason)]);
        }
    };
    let reasons = Reason::ALL.len() as u32;
    accepted(require(BOOL, &[], &[2, 3], reasons - 1));
    refused!(require(BOOL, &[1], &[2, 3], 0), "the condition is bool[1], not bool[]");
    refused!(require(I32, &[], &[2, 3], 0), "the condition is i32[], not bool[]");
    refused!(require(BOOL, &[], &[3, 2], 0), "output 0 is declared i32[3,2] and is i32[2,3]");
    refused!(require(BOOL, &[], &[2, 3], reasons), &format!("there is no reason {reasons}"));
    let scatter = |dy: &'static [u32], to: &'static [u32]| {
        move |w: &mut Writer| {
            let (x, indices) = (w.input(F32, dy), w.input(I32, &[2]));
            w.op("scatterAdd", &[(F32, to)], &[x, indices], &[A::W(0), A::W(0)]);
        }
    };
    accepted(scatter(&[2, 5], &[9, 5]));
    refused!(scatter(&[2, 5], &[9, 4]), "dy is [2,5], not [2,4]");
    refused!(scatter(&[2, 5], &[0, 5]), "nothing that an index could name");
    refused!(
        |w| {
            let x = w.input(F32, &[2]);
            w.op("gather", &[(F32, &[2])], &[x, x], &[A::W(0), A::W(0)]);
        },
        "indices is f32, not i32"
    );
    refused!(
        |w| {
            let (x, indices) = (w.input(F32, &[2]), w.input(I32, &[2]));
            w.op("gather", &[(F32, &[2])], &[x, indices], &[A::W(0), A::W(5)]);
        },
        "indices are of no operation 5"
    );
}
