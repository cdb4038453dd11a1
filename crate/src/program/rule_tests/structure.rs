//! Views and changes in place: what memory an instruction may name, and what it may not share.

use super::{accepted, refused};
use crate::program::testing::{A, BOOL, F32, I32, Writer};

#[test]
fn views_stay_inside() {
    for (dims, offset) in [(&[5][..], 0), (&[2], 3), (&[0], 5), (&[1], u32::MAX)] {
        refused!(
            |w| {
                let x = w.input(F32, &[4]);
                w.op("view", &[(F32, dims)], &[x], &[A::W(offset)]);
            },
            "leave the 4 there are"
        );
    }
    refused!(
        |w| {
            let x = w.input(F32, &[4]);
            w.op("view", &[(I32, &[4])], &[x], &[A::W(0)]);
        },
        "a view of f32 cannot be i32"
    );
    let program = accepted(|w| {
        let x = w.input(F32, &[6]);
        let y = w.op("view", &[(F32, &[2, 2])], &[x], &[A::W(1)]);
        w.op("view", &[(F32, &[1])], &[y], &[A::W(3)]);
    });
    assert_eq!((program.register(2).root, program.register(2).offset), (0, 4));
    // A view of a view is as small as the view it looks through.
    refused!(
        |w| {
            let x = w.input(F32, &[6]);
            let y = w.op("view", &[(F32, &[2])], &[x], &[A::W(1)]);
            w.op("view", &[(F32, &[3])], &[y], &[A::W(0)]);
        },
        "leave the 2"
    );
}

#[test]
fn only_inputs_are_changed_and_nothing_else_in_the_instruction_overlaps_them() {
    refused!(
        |w| {
            let x = w.input(F32, &[4]);
            let y = w.like("exp", &[x], &[]);
            w.op("assign", &[], &[y, x], &[]);
        },
        "changes input 0, whose memory is no input"
    );
    let overlapping = |offset: u32| {
        move |w: &mut Writer| {
            let x = w.input(F32, &[6]);
            let target = w.op("view", &[(F32, &[2])], &[x], &[A::W(2)]);
            let source = w.op("view", &[(F32, &[2])], &[x], &[A::W(offset)]);
            w.op("addInto", &[], &[target, source], &[]);
        }
    };
    for offset in [1, 2, 3] {
        refused!(overlapping(offset), "changes input 0, which overlaps input 1");
    }
    for offset in [0, 4] {
        accepted(overlapping(offset));
    }
    refused!(
        |w| {
            let (x, y) = (w.input(F32, &[2]), w.input(F32, &[1, 2]));
            w.op("assign", &[], &[x, y], &[]);
        },
        "source is f32[1,2], not f32[2]"
    );
    refused!(
        |w| {
            let x = w.input(BOOL, &[2]);
            let y = w.input(BOOL, &[2]);
            w.op("addInto", &[], &[x, y], &[]);
        },
        "not number"
    );
}
