//! Every rule of the validator, broken one at a time: what is refused, with which text, and what at the edge of the rule is
//! accepted. One file for each family, as in `validate`; here are the rules that hold for every instruction. Words that follow no
//! writer at all are in `hostile_tests`. Everything is written by [`Writer`], which checks nothing.

mod element;
mod movement;
mod norm;
mod optim;
mod product;
mod random;
mod reduce;
mod structure;

use super::testing::{A, F32, Writer};
use super::{NONE, Program};

/// The text with which a program is refused.
fn refusal(build: impl FnOnce(&mut Writer)) -> String {
    let mut writer = Writer::default();
    build(&mut writer);
    let error = Program::decode(&writer.code).expect_err("the program is accepted");
    assert_eq!(error.code(), "ERR_PROGRAM");
    error.message().to_string()
}

/// Checks that a program is refused with a text that has all these parts.
macro_rules! refused {
    ($build:expr, $($part:expr),+) => {{
        let text = $crate::program::rule_tests::refusal($build);
        $(assert!(text.contains($part), "{text:?} does not say {:?}", $part);)+
    }};
}
use refused;

fn accepted(build: impl FnOnce(&mut Writer)) -> Program {
    let mut writer = Writer::default();
    build(&mut writer);
    Program::decode(&writer.code).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_operand_is_there() {
    refused!(|w| w.output(0), "instruction 0 (output)", "%0", "not defined before");
    refused!(
        |w| {
            w.input(F32, &[2]);
            w.op("neg", &[(F32, &[2])], &[1], &[]);
        },
        "instruction 1 (neg)",
        "%1"
    );
    refused!(|w| w.output(NONE), "input 0 is absent");
    refused!(
        |w| {
            let x = w.input(F32, &[2]);
            w.like("add", &[x, NONE], &[]);
        },
        "input 1 is absent"
    );
    refused!(
        |w| {
            let x = w.input(F32, &[2]);
            w.op("squaredNorm", &[(F32, &[])], &[x, NONE], &[]);
        },
        "input 1 is absent"
    );
}

#[test]
fn counts_are_those_of_the_table() {
    refused!(
        |w| {
            w.op("input", &[], &[], &[]);
        },
        "cannot have 0 outputs"
    );
    refused!(
        |w| {
            let x = w.input(F32, &[2]);
            w.op("neg", &[(F32, &[2])], &[x, x], &[]);
        },
        "cannot have 2 inputs"
    );
    refused!(
        |w| {
            w.op("concat", &[(F32, &[2])], &[], &[A::W(0)]);
        },
        "cannot have 0 inputs"
    );
}

#[test]
fn shapes_and_dtypes_of_declarations_are_checked() {
    refused!(|w| w.code = vec![5 << 16, 1, 3 | 1 << 8, 4], "says it has 5 words, 4 are left");
    refused!(|w| w.code = vec![4 << 16, 1, 3 | 1 << 8, 4], "dtype 3");
    refused!(|w| w.code = vec![12 << 16, 1, 9 << 8, 1, 1, 1, 1, 1, 1, 1, 1, 1], "rank 9");
    refused!(|w| w.code = vec![4 << 16, 1, 1 << 8 | 1 << 24, 4], "rank 65537");
    refused!(
        |w| {
            w.input(F32, &[1 << 16, 1 << 15]);
        },
        "more than 2^31 - 1"
    );
    refused!(
        |w| {
            w.input(F32, &[0, u32::MAX, u32::MAX]);
        },
        "more than 2^31 - 1"
    );
    accepted(|w| {
        w.input(F32, &[0, 1 << 30]);
        w.input(F32, &[i32::MAX.cast_unsigned()]);
    });
    refused!(|w| w.code = vec![0], "instruction 0 (input)", "ends too early");
    refused!(|w| w.code = vec![4 << 16, 1, 0, 7], "1 words too many");
    refused!(|w| w.code = vec![2 << 16 | 9, 0], "no opcode 9");
}
