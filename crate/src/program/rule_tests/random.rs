//! Random numbers and dropout: whole rows, and the words of a program that draws.

use super::{accepted, refused};
use crate::program::testing::{A, F32, I32, Writer};

#[test]
fn random_numbers_come_in_whole_rows() {
    let uniform = |w: &mut Writer, dtype, dims: &[u32], inner| {
        let scalars: [A; 5] = std::array::from_fn(|i| A::W(i as u32));
        w.op("uniform", &[(dtype, dims)], &[], &[&[A::W(inner)][..], &scalars].concat())
    };
    let program = accepted(|w| {
        uniform(w, F32, &[6, 4], 4);
        uniform(w, F32, &[6, 4], 24);
        uniform(w, F32, &[], 1);
        uniform(w, F32, &[0, 4], 4);
        uniform(w, F32, &[4, 0], 0);
    });
    assert_eq!(
        program.line(0),
        "%0: f32[6,4] = uniform {inner: 4, seedLow: $0, seedHigh: $1, site: $2, draw: $3, rowBase: $4}"
    );
    refused!(
        |w| {
            uniform(w, F32, &[6, 4], 5);
        },
        "24 elements are no rows of 5"
    );
    refused!(
        |w| {
            uniform(w, F32, &[6, 4], 0);
        },
        "24 elements are no rows of 0"
    );
    refused!(
        |w| {
            uniform(w, I32, &[6, 4], 4);
        },
        "output 0 is i32, not float"
    );
}

#[test]
fn dropout_is_like_its_operand_and_has_whole_rows() {
    let dropout = |w: &mut Writer, from: &[u32], to: &[u32], inner, threshold| {
        let scalars: [A; 5] = std::array::from_fn(|i| A::W(i as u32));
        let x = w.input(F32, from);
        w.op("dropout", &[(F32, to)], &[x], &[&[A::W(inner), A::W(threshold), A::F(2.0)][..], &scalars].concat())
    };
    let program = accepted(|w| {
        dropout(w, &[6, 4], &[6, 4], 4, 1 << 23);
        dropout(w, &[], &[], 1, 0);
        dropout(w, &[4, 0], &[4, 0], 0, 1 << 24);
    });
    assert_eq!(
        program.line(1),
        "%1: f32[6,4] = dropout %0 {inner: 4, threshold: 8388608, scale: 2, seedLow: $0, seedHigh: $1, site: $2, \
         draw: $3, rowBase: $4}"
    );
    refused!(
        |w| {
            dropout(w, &[6, 4], &[6, 4], 5, 1);
        },
        "24 elements are no rows of 5"
    );
    refused!(
        |w| {
            dropout(w, &[6, 4], &[4, 6], 4, 1);
        },
        "output 0 is declared f32[4,6] and is f32[6,4]"
    );
    refused!(
        |w| {
            dropout(w, &[6, 4], &[6, 4], 4, (1 << 24) + 1);
        },
        "the threshold is 16777217, above 2^24"
    );
}
