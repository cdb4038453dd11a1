//! Every rule of the validator, broken one at a time.

use super::testing::{A, BOOL, F32, I32, Writer};
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
        let text = refusal($build);
        $(assert!(text.contains($part), "{text:?} does not say {:?}", $part);)+
    }};
}

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
    let top_k = |results: [(crate::dtype::Dtype, &'static [u32]); 3], attributes: [u32; 4]| {
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
    accepted(require(BOOL, &[], &[2, 3], 2));
    refused!(require(BOOL, &[1], &[2, 3], 0), "the condition is bool[1], not bool[]");
    refused!(require(I32, &[], &[2, 3], 0), "the condition is i32[], not bool[]");
    refused!(require(BOOL, &[], &[3, 2], 0), "output 0 is declared i32[3,2] and is i32[2,3]");
    refused!(require(BOOL, &[], &[2, 3], 3), "there is no reason 3");
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

/// An optimiser step over a slab of 16 with two gradients of 4 elements.
fn sgd(momentum: Option<u32>, factor: f64, segments: &'static [u32], steps: u32) -> impl FnOnce(&mut Writer) {
    move |w| {
        let slab = w.input(F32, &[16]);
        let velocity = momentum.map_or(NONE, |size| w.input(F32, &[size]));
        let steps = w.input(I32, &[steps]);
        let (g, h) = (w.input(F32, &[2, 2]), w.input(F32, &[4]));
        let attributes = [A::W(0), A::F(factor), A::F(0.0), A::F(0.0), A::W(0), A::L(segments)];
        w.op("sgd", &[], &[slab, velocity, steps, NONE, NONE, g, h], &attributes);
    }
}

#[test]
fn segments_are_disjoint_and_inside_the_slab() {
    accepted(sgd(None, 0.0, &[1, 12, 0, 8], 2));
    accepted(sgd(Some(16), 0.9, &[0, 0, 1, 4], 2));
    refused!(sgd(Some(15), 0.9, &[0, 0, 1, 4], 2), "the momentum slab is f32[15], not f32[16]");
    refused!(sgd(None, 0.9, &[0, 0, 1, 4], 2), "momentum needs its slab");
    refused!(sgd(None, f64::NAN, &[0, 0, 1, 4], 2), "momentum needs its slab");
    refused!(sgd(None, 0.0, &[0, 0, 1, 3], 2), "two segments overlap");
    refused!(sgd(None, 0.0, &[0, 0, 0, 4], 2), "two segments belong to one parameter");
    refused!(sgd(None, 0.0, &[0, 0, 2, 4], 2), "parameter 2");
    refused!(sgd(None, 0.0, &[0, 0, 1, 13], 2), "outside 2 parameters in 16 elements");
    refused!(sgd(None, 0.0, &[0, 0, 1, u32::MAX], 2), "outside");
    refused!(sgd(None, 0.0, &[0, 0], 2), "1 segments for 2 gradients");
    refused!(sgd(None, 0.0, &[0, 0, 1], 2), "segments are pairs");
}

#[test]
fn optimisers_take_their_state_and_gates() {
    // m, v, greatest v, scale, ok.
    let adam = |slabs: [&'static [u32]; 3], scale: &'static [u32], ok: super::Dtype| {
        move |w: &mut Writer| {
            let slab = w.input(F32, &[8]);
            let slabs = slabs.map(|dims| w.input(F32, dims));
            let (steps, scale, ok) = (w.input(I32, &[1]), w.input(F32, scale), w.input(ok, &[]));
            let g = w.input(F32, &[8]);
            let attributes = [A::W(0), A::F(0.9), A::F(0.99), A::F(1e-8), A::F(0.0), A::W(1), A::L(&[0, 0])];
            w.op("adam", &[], &[slab, slabs[0], slabs[1], slabs[2], steps, scale, ok, g], &attributes);
        }
    };
    accepted(adam([&[8], &[8], &[8]], &[], BOOL));
    refused!(adam([&[7], &[8], &[8]], &[], BOOL), "the m slab is f32[7], not f32[8]");
    refused!(adam([&[8], &[2, 4], &[8]], &[], BOOL), "the v slab is f32[2,4], not f32[8]");
    refused!(adam([&[8], &[8], &[9]], &[], BOOL), "the slab of greatest v is f32[9], not f32[8]");
    refused!(adam([&[8], &[8], &[8]], &[1], BOOL), "scale is f32[1], not f32[]");
    refused!(adam([&[8], &[8], &[8]], &[], F32), "ok is f32[], not bool[]");
    // v, mean, velocity; momentum.
    let rmsprop = |slabs: [Option<u32>; 3], momentum: f64| {
        move |w: &mut Writer| {
            let slab = w.input(F32, &[8]);
            let slabs = slabs.map(|size| size.map_or(NONE, |size| w.input(F32, &[size])));
            let (steps, g) = (w.input(I32, &[1]), w.input(F32, &[8]));
            let attributes = [A::W(0), A::F(0.9), A::F(1e-8), A::F(0.0), A::F(momentum), A::L(&[0, 0])];
            w.op("rmsprop", &[], &[slab, slabs[0], slabs[1], slabs[2], steps, NONE, NONE, g], &attributes);
        }
    };
    accepted(rmsprop([Some(8), None, None], 0.0));
    accepted(rmsprop([Some(8), Some(8), Some(8)], 0.9));
    refused!(rmsprop([None, Some(8), Some(8)], 0.9), "input 1 is absent");
    refused!(rmsprop([Some(7), None, None], 0.0), "the v slab is f32[7], not f32[8]");
    refused!(rmsprop([Some(8), Some(7), None], 0.0), "the mean slab is f32[7], not f32[8]");
    refused!(rmsprop([Some(8), None, Some(9)], 0.9), "the velocity slab is f32[9], not f32[8]");
    refused!(rmsprop([Some(8), None, None], 0.9), "momentum needs its slab");
    refused!(rmsprop([Some(8), None, None], f64::NAN), "momentum needs its slab");
    let ema = |steps: &'static [u32], segments: &'static [u32]| {
        move |w: &mut Writer| {
            let (slab, steps, x) = (w.input(F32, &[8]), w.input(I32, steps), w.input(F32, &[4]));
            w.op("ema", &[], &[slab, steps, NONE, NONE, x], &[A::W(0), A::L(segments)]);
        }
    };
    accepted(ema(&[1], &[0, 4]));
    refused!(ema(&[1, 1], &[0, 4]), "steps is i32[1,1], not i32[1]");
    refused!(ema(&[1], &[0, 5]), "outside 1 parameters in 8 elements");
    refused!(
        |w| {
            let (slab, steps) = (w.input(F32, &[8]), w.input(I32, &[1]));
            w.op("ema", &[], &[slab, steps, NONE, NONE, slab], &[A::W(0), A::L(&[0, 0])]);
        },
        "changes input 0, which overlaps input 4"
    );
    refused!(
        |w| {
            let (slab, steps) = (w.input(F32, &[8]), w.input(I32, &[1]));
            let attributes = [A::W(0), A::F(0.0), A::F(0.0), A::F(0.0), A::W(0), A::L(&[0, 0])];
            w.op("sgd", &[], &[slab, NONE, steps, NONE, NONE, slab], &attributes);
        },
        "changes input 0, which overlaps input 5"
    );
}

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

#[test]
fn batch_normalisation_fits() {
    const X: &[u32] = &[2, 3, 4];
    const C: &[u32] = &[3];
    let view = |outer, channels, inner| [A::W(outer), A::W(channels), A::W(inner)];
    let statistics = |mask: (crate::dtype::Dtype, &'static [u32]), of: [u32; 3], count: &'static [u32]| {
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
    let update = |updates: (crate::dtype::Dtype, &'static [u32]), shared: bool, flag: u32| {
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
