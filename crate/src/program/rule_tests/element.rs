//! Elementwise instructions: dtypes by the table and by each other, shapes by broadcasting.

use super::{accepted, refusal, refused};
use crate::program::testing::{BOOL, F32, I32};

#[test]
fn dtypes_follow_the_table_and_each_other() {
    for (name, wrong, class) in [("exp", I32, "float"), ("neg", BOOL, "number"), ("logicalNot", F32, "bool")] {
        refused!(
            |w| {
                let x = w.input(wrong, &[2]);
                w.like(name, &[x], &[]);
            },
            class
        );
    }
    refused!(
        |w| {
            let (x, y) = (w.input(F32, &[2]), w.input(I32, &[2]));
            w.like("add", &[x, y], &[]);
        },
        "input 1 is i32, not f32"
    );
    refused!(
        |w| {
            let x = w.input(F32, &[2]);
            w.like("less", &[x, x], &[]);
        },
        "declared f32[2] and is bool[2]"
    );
    refused!(
        |w| {
            let x = w.input(F32, &[2]);
            w.like("isFinite", &[x], &[]);
        },
        "is bool[2]"
    );
    refused!(
        |w| {
            let x = w.input(F32, &[2]);
            w.like("where", &[x, x, x], &[]);
        },
        "the condition is f32, not bool"
    );
    refused!(
        |w| {
            let (c, x, y) = (w.input(BOOL, &[2]), w.input(F32, &[2]), w.input(I32, &[2]));
            w.op("where", &[(F32, &[2])], &[c, x, y], &[]);
        },
        "input 2 is i32, not f32"
    );
}

#[test]
fn elementwise_results_have_the_broadcast_shape() {
    for (a, b, result) in [(&[2, 3][..], &[2][..], &[2, 3][..]), (&[2, 3], &[3], &[3]), (&[1], &[1], &[2])] {
        refusal(|w| {
            let (x, y) = (w.input(F32, a), w.input(F32, b));
            w.op("add", &[(F32, result)], &[x, y], &[]);
        });
    }
    accepted(|w| {
        let (x, y) = (w.input(F32, &[3, 1, 2]), w.input(F32, &[4, 1]));
        w.op("add", &[(F32, &[3, 4, 2])], &[x, y], &[]);
        let (c, one) = (w.input(BOOL, &[4, 1]), w.input(F32, &[]));
        w.op("where", &[(F32, &[3, 4, 2])], &[c, x, one], &[]);
        let (none, row) = (w.input(F32, &[0, 1]), w.input(F32, &[2]));
        w.op("mul", &[(F32, &[0, 2])], &[none, row], &[]);
    });
    refused!(
        |w| {
            let x = w.input(F32, &[3]);
            w.op("expand", &[(F32, &[3, 2])], &[x], &[]);
        },
        "[3] does not expand to [3,2]"
    );
    refused!(
        |w| {
            let x = w.input(F32, &[3]);
            w.op("cast", &[(I32, &[4])], &[x], &[]);
        },
        "declared i32[4] and is i32[3]"
    );
}
