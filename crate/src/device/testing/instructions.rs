//! Every row of the opcode table, executed once. The list of cases is held against the table, so that a new instruction
//! fails here until it has a case, and its case until it has a kernel.

use super::{Bench, program, stream};
use crate::dtype::Dtype;
use crate::program::NONE;
use crate::program::table::{DtypeClass, Family, OPCODES, Opcode};
use crate::program::testing::{A, F32, I32, Writer};

const X: &[u32] = &[2, 3];
const MIDDLE: [A; 3] = [A::W(2), A::W(3), A::W(1)];

/// A program around one instruction and how many scalars it reads.
fn case(row: &Opcode) -> Option<(Writer, usize)> {
    let plain = |writer| Some((writer, 0));
    let one = |results: &[(Dtype, &[u32])], attributes: &[A]| {
        plain(program(&[(F32, X)], |w, x| vec![w.op(row.name, results, x, attributes)]))
    };
    match (row.family, row.name) {
        (_, "input" | "output") => plain(program(&[(F32, X)], |_, x| x.to_vec())),
        (_, "view") => one(&[(F32, &[3])], &[A::W(2)]),
        (_, "assign" | "addInto") => plain(program(&[(F32, X), (F32, X)], |w, x| {
            w.op(row.name, &[], x, &[]);
            vec![x[0]]
        })),
        (_, "full") => Some((program(&[], |w, _| vec![w.op(row.name, &[(F32, X)], &[], &[A::W(0)])]), 1)),
        (_, "expand") => one(&[(F32, &[4, 2, 3])], &[]),
        (_, "cast") => one(&[(I32, X)], &[]),
        (_, "where") => {
            plain(program(&[(Dtype::Bool, X), (F32, X), (F32, &[3])], |w, x| vec![w.op(row.name, &[(F32, X)], x, &[])]))
        }
        (_, "clip") => Some((program(&[(F32, X)], |w, x| vec![w.like(row.name, x, &[A::W(0), A::W(1)])]), 2)),
        (Family::Element, _) => plain(element(row)),
        (_, "argmax" | "argmin") => one(&[(I32, &[2])], &MIDDLE),
        (_, "variance") => one(&[(F32, &[2])], &[&MIDDLE[..], &[A::F(1.0)]].concat()),
        (_, "topK") => plain(program(&[(F32, X)], |w, x| {
            let results: [(Dtype, &[u32]); 3] = [(F32, &[2, 2]), (I32, &[2, 2]), (I32, &[2, 2])];
            let y = w.op(row.name, &results, x, &[&MIDDLE[..], &[A::W(2)]].concat());
            vec![y, y + 1, y + 2]
        })),
        (_, "cumsum" | "cumprod") => one(&[(F32, X)], &[&MIDDLE[..], &[A::W(1), A::W(0)]].concat()),
        (Family::Reduce, _) => one(&[(F32, &[2])], &MIDDLE),
        (_, "softmaxGrad" | "logSoftmaxGrad") => {
            plain(program(&[(F32, X), (F32, X)], |w, x| vec![w.like(row.name, x, &MIDDLE)]))
        }
        (Family::Softmax, _) => one(&[(F32, X)], &MIDDLE),
        (_, "matmul") => plain(program(&[(F32, &[4, 3, 2]), (F32, &[4, 5, 3])], |w, x| {
            vec![w.op(row.name, &[(F32, &[4, 2, 5])], x, &[A::W(1), A::W(1)])]
        })),
        (_, "linear") => plain(program(&[(F32, X), (F32, &[3, 5]), (F32, &[5])], |w, x| {
            let y = w.op(row.name, &[(F32, &[2, 5]), (F32, &[2, 5])], x, &[A::W(10), A::W(1)]);
            vec![y, y + 1]
        })),
        (_, "linearGrad") => plain(program(&[(F32, &[2, 5]), (F32, &[2, 5]), (F32, X), (F32, &[3, 5])], |w, x| {
            let dx = w.op(row.name, &[(F32, X), (F32, &[3, 5]), (F32, &[5])], x, &[A::W(10), A::W(7)]);
            vec![dx, dx + 1, dx + 2]
        })),
        (_, "crossEntropy") => plain(program(&[(F32, X), (I32, &[2])], |w, x| {
            let y = w.op(row.name, &[(F32, &[2]), (F32, &[2]), (F32, &[])], x, &[A::W(99)]);
            vec![y, y + 1, y + 2]
        })),
        (_, "crossEntropyGrad") => plain(program(&[(F32, X), (I32, &[2]), (F32, &[2]), (F32, &[2])], |w, x| {
            vec![w.like(row.name, x, &[A::W(99)])]
        })),
        (_, "weightedCrossEntropy") => plain(program(&[(F32, X), (I32, &[2]), (F32, &[3]), (F32, &[])], |w, x| {
            let rows: [(Dtype, &[u32]); 3] = [(F32, &[2]); 3];
            let y = w.op(row.name, &rows, x, &[A::W(99), A::F(0.1)]);
            vec![y, y + 1, y + 2]
        })),
        (_, "weightedCrossEntropyGrad") => {
            plain(program(&[(F32, X), (I32, &[2]), (F32, &[2]), (F32, &[2]), (F32, &[3]), (F32, &[])], |w, x| {
                vec![w.like(row.name, x, &[A::W(99), A::F(0.1)])]
            }))
        }
        (_, "transpose") => one(&[(F32, &[3, 2])], &[A::L(&[1, 0])]),
        (_, "concat") => {
            plain(program(&[(F32, X), (F32, &[2, 4])], |w, x| vec![w.op(row.name, &[(F32, &[2, 7])], x, &[A::W(1)])]))
        }
        (_, "slice") => one(&[(F32, &[1, 2])], &[A::L(&[1, 1])]),
        (_, "pad") => Some((
            program(&[(F32, X)], |w, x| vec![w.op(row.name, &[(F32, &[4, 4])], x, &[A::L(&[1, 0]), A::W(0)])]),
            1,
        )),
        (_, "gather") => plain(program(&[(F32, X), (I32, &[4])], |w, x| {
            vec![w.op(row.name, &[(F32, &[2, 4])], x, &[A::W(1), A::W(0)])]
        })),
        (_, "require") => plain(program(&[(F32, X), (Dtype::Bool, &[])], |w, x| vec![w.like(row.name, x, &[A::W(0)])])),
        (_, "scatterAdd") => plain(program(&[(F32, &[2, 4]), (I32, &[4])], |w, x| {
            vec![w.op(row.name, &[(F32, X)], x, &[A::W(1), A::W(0)])]
        })),
        (Family::Optim, _) => optimiser(row),
        (Family::Norm, name) => norm(name).map(|writer| (writer, 0)),
        (Family::BatchNorm, name) => batch_norm(name),
        (_, "uniform") => {
            let attributes = [A::W(3), A::W(0), A::W(1), A::W(0), A::W(1), A::W(0)];
            Some((program(&[], |w, _| vec![w.op(row.name, &[(F32, X)], &[], &attributes)]), 2))
        }
        (_, "dropout") => {
            let scalars = [A::W(0), A::W(1), A::W(0), A::W(1), A::W(0)];
            let attributes = [&[A::W(3), A::W(1 << 23), A::F(2.0)][..], &scalars].concat();
            Some((program(&[(F32, X)], |w, x| vec![w.op(row.name, &[(F32, X)], x, &attributes)]), 2))
        }
        _ => None,
    }
}

/// The instructions of optimisers.
fn optimiser(row: &Opcode) -> Option<(Writer, usize)> {
    match row.name {
        "squaredNorm" => {
            Some((program(&[(F32, X), (F32, &[5])], |w, x| vec![w.op(row.name, &[(F32, &[])], x, &[])]), 0))
        }
        "sgd" => Some((
            program(&[(F32, &[6]), (F32, &[6]), (I32, &[1]), (F32, X)], |w, x| {
                let operands = [x[0], x[1], x[2], NONE, NONE, x[3]];
                let attributes = [A::W(0), A::F(0.9), A::F(0.0), A::F(0.0), A::W(1), A::L(&[0, 0])];
                w.op(row.name, &[], &operands, &attributes);
                x[..3].to_vec()
            }),
            1,
        )),
        "adam" => Some((
            program(&[(F32, &[6]), (F32, &[6]), (F32, &[6]), (F32, &[6]), (I32, &[1]), (F32, X)], |w, x| {
                let operands = [x[0], x[1], x[2], x[3], x[4], NONE, NONE, x[5]];
                let attributes = [A::W(0), A::F(0.9), A::F(0.99), A::F(1e-8), A::F(0.01), A::W(1), A::L(&[0, 0])];
                w.op(row.name, &[], &operands, &attributes);
                x[..5].to_vec()
            }),
            1,
        )),
        "rmsprop" => Some((
            program(&[(F32, &[6]), (F32, &[6]), (F32, &[6]), (F32, &[6]), (I32, &[1]), (F32, X)], |w, x| {
                let operands = [x[0], x[1], x[2], x[3], x[4], NONE, NONE, x[5]];
                let attributes = [A::W(0), A::F(0.99), A::F(1e-8), A::F(0.01), A::F(0.9), A::L(&[0, 0])];
                w.op(row.name, &[], &operands, &attributes);
                x[..5].to_vec()
            }),
            1,
        )),
        "ema" => Some((
            program(&[(F32, &[6]), (I32, &[1]), (F32, X)], |w, x| {
                w.op(row.name, &[], &[x[0], x[1], NONE, NONE, x[2]], &[A::W(0), A::L(&[0, 0])]);
                x[..2].to_vec()
            }),
            1,
        )),
        _ => None,
    }
}

/// A norm or its gradient.
fn norm(name: &str) -> Option<Writer> {
    let groups = [A::W(2), A::W(3), A::W(1), A::W(1)];
    let rows = [A::W(2), A::W(3)];
    Some(match name {
        "layerNorm" => program(&[(F32, X), (F32, &[3]), (F32, &[3])], |w, x| {
            let y = w.op(name, &[(F32, X), (F32, &[2]), (F32, &[2])], x, &[&rows[..], &[A::F(0.5)]].concat());
            vec![y, y + 1, y + 2]
        }),
        "groupNorm" => program(&[(F32, X), (F32, &[3]), (F32, &[3])], |w, x| {
            let y = w.op(name, &[(F32, X), (F32, &[6]), (F32, &[6])], x, &[&groups[..], &[A::F(0.5)]].concat());
            vec![y, y + 1, y + 2]
        }),
        "rmsNorm" => program(&[(F32, X), (F32, &[3])], |w, x| {
            let y = w.op(name, &[(F32, X), (F32, &[2])], x, &[&rows[..], &[A::F(0.5)]].concat());
            vec![y, y + 1]
        }),
        "layerNormGrad" => norm_grad(name, &[&rows[..], &[A::W(7)]].concat(), 2, 2),
        "groupNormGrad" => norm_grad(name, &[&groups[..], &[A::W(7)]].concat(), 6, 2),
        "rmsNormGrad" => norm_grad(name, &[&rows[..], &[A::W(3)]].concat(), 2, 1),
        _ => return None,
    })
}

/// All gradients of a norm that has so many rows, and knows so much of each.
fn norm_grad(name: &str, attributes: &[A], rows: u32, known: usize) -> Writer {
    let rows = [rows];
    let statistics = vec![(F32, &rows[..]); known];
    let inputs = [&[(F32, X), (F32, X), (F32, &[3][..])], &statistics[..]].concat();
    program(&inputs, |w, x| {
        let results: &[(Dtype, &[u32])] = &[(F32, X), (F32, &[3]), (F32, &[3])];
        let first = w.op(name, results.get(..known + 1).unwrap_or(results), x, attributes);
        (first..=first + known as u32).collect()
    })
}

/// The parts of batch normalisation of [2, 3, 4], with everything that may be absent.
fn batch_norm(name: &'static str) -> Option<(Writer, usize)> {
    const X: (Dtype, &[u32]) = (F32, &[2, 3, 4]);
    const C: (Dtype, &[u32]) = (F32, &[3]);
    const ONE: (Dtype, &[u32]) = (F32, &[]);
    const MASK: (Dtype, &[u32]) = (Dtype::Bool, &[2, 4]);
    let view = [A::W(2), A::W(3), A::W(4)];
    let (inputs, results): (&[_], &[_]) = match name {
        "batchNormStatistics" => (&[X, MASK], &[ONE, C, C]),
        "batchNormVariance" => (&[C, ONE], &[C, C]),
        "batchNorm" => (&[X, C, C, C, C, MASK], &[X]),
        "batchNormGradSums" => (&[X, X, C, C, MASK], &[C, C]),
        "batchNormGrad" => (&[X, X, C, C, C, C, C, ONE, MASK], &[X]),
        "batchNormUpdate" => {
            let writer = program(&[C, C, (I32, &[]), C, C, ONE, (Dtype::Bool, &[])], |w, x| {
                w.op(name, &[], x, &[A::W(0), A::W(1), A::W(0)]);
                x[..3].to_vec()
            });
            return Some((writer, 1));
        }
        _ => return None,
    };
    let attributes: &[A] = if name == "batchNormVariance" { &[A::F(1e-5)] } else { &view };
    let writer = program(inputs, |w, x| {
        let first = w.op(name, results, x, attributes);
        (first..first + results.len() as u32).collect()
    });
    Some((writer, 0))
}

/// An elementwise instruction without surprises: all operands of one dtype, which the result has too or is bool.
fn element(row: &Opcode) -> Writer {
    const BOOLEAN: [&str; 7] = ["isFinite", "equal", "notEqual", "greater", "greaterEqual", "less", "lessEqual"];
    let from = if row.dtypes == DtypeClass::Bool { Dtype::Bool } else { F32 };
    let to = if BOOLEAN.contains(&row.name) { Dtype::Bool } else { from };
    let attributes = vec![A::F(1.0); row.attributes.len()];
    program(&vec![(from, X); row.inputs.0 as usize], |w, x| vec![w.op(row.name, &[(to, X)], x, &attributes)])
}

pub(crate) fn every_instruction_runs(bench: &Bench) {
    for row in OPCODES {
        let (writer, scalars) = case(row).unwrap_or_else(|| panic!("{} has no case", row.name));
        let (inputs, outputs) = fill(bench, &writer);
        bench.submit(&stream(&writer, &inputs, &outputs, &[], &[0.5, 1.5][..scalars]));
        for (slot, register) in outputs.iter().zip(output_registers(&writer)) {
            let (dtype, dims) = &writer.registers[register as usize];
            let words = bench.words(*slot, dims.iter().product::<u32>() as usize, *dtype);
            let words = words.unwrap_or_else(|failure| panic!("{}: {failure:?}", row.name));
            assert!(*dtype != F32 || words.iter().all(|&w| f32::from_bits(w).is_finite()), "{}", row.name);
        }
    }
    bench.sync().unwrap();
}

/// Gives each input ones and zeros, which are legal for every instruction.
fn fill(bench: &Bench, writer: &Writer) -> (Vec<u32>, Vec<u32>) {
    let program = crate::program::Program::decode(&writer.code).unwrap();
    let inputs: Vec<u32> = (0..program.inputs().len() as u32).collect();
    for (&slot, &register) in inputs.iter().zip(program.inputs()) {
        let register = program.register(register);
        let numel = register.numel;
        match register.dtype {
            Dtype::F32 => bench.write(slot, &vec![1.0; numel]),
            Dtype::I32 => bench.write_i32(slot, &vec![0; numel]),
            Dtype::Bool => bench.write_bool(slot, &vec![1; numel]),
        }
    }
    (inputs, (100..100 + writer.outputs).collect())
}

fn output_registers(writer: &Writer) -> Vec<u32> {
    crate::program::Program::decode(&writer.code).unwrap().outputs().to_vec()
}
