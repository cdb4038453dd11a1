//! What a program does to its slots, and that jobs are done in order.

use super::{Bench, program, stream};
use crate::device::Pressure;
use crate::dtype::Dtype;
use crate::program::Program;
use crate::program::testing::{F32, Random, Writer};

/// What became of every output and every input of a program, in words or error codes.
pub(crate) type Outcome = Vec<Result<Vec<u32>, &'static str>>;

/// Runs a program on data from a seed, and frees what it has made.
pub(crate) fn run(bench: &Bench, writer: &Writer, seed: u64) -> Outcome {
    run_by(bench, writer, seed, |words| bench.submit(words))
}

/// The same, where `submit` is told the stream.
pub(crate) fn run_by(bench: &Bench, writer: &Writer, seed: u64, submit: impl FnOnce(&[u32]) -> Pressure) -> Outcome {
    let program = Program::decode(&writer.code).unwrap();
    let mut random = Random::new(seed);
    let inputs: Vec<u32> = (0..program.inputs().len() as u32).collect();
    let outputs: Vec<u32> = (1000..1000 + program.outputs().len() as u32).collect();
    for (&slot, &id) in inputs.iter().zip(program.inputs()) {
        let register = program.register(id);
        match register.dtype {
            Dtype::F32 => {
                let data: Vec<f32> = (0..register.numel).map(|_| random.below(4001) as f32 / 1000.0 - 2.0).collect();
                bench.write(slot, &data);
            }
            // Mostly legal indices.
            Dtype::I32 => {
                let data: Vec<i32> = (0..register.numel).map(|_| random.below(4) as i32 % 3).collect();
                bench.write_i32(slot, &data);
            }
            Dtype::Bool => {
                let data: Vec<u8> = (0..register.numel).map(|_| random.below(2) as u8).collect();
                bench.write_bool(slot, &data);
            }
        }
    }
    let scalars: Vec<f64> = (0..writer.scalars).map(|i| f64::from(i) / 8.0).collect();
    submit(&stream(writer, &inputs, &outputs, &[], &scalars));
    let registers = program.inputs().iter().chain(program.outputs()).map(|&id| program.register(id));
    let outcome = inputs.iter().chain(&outputs).zip(registers).map(|(&slot, register)| {
        bench.words(slot, register.numel, register.dtype).map_err(|failure| failure.error.code())
    });
    let outcome = outcome.collect();
    bench.submit(&stream(&Writer::default(), &[], &[], &[inputs, outputs].concat(), &[]));
    outcome
}

pub(crate) fn jobs_keep_their_order_over_many_turns(bench: &Bench) {
    add_up(bench, true);
}

pub(crate) fn jobs_keep_their_order_in_one_turn(bench: &Bench) {
    bench.use_up_turn();
    add_up(bench, false);
}

/// Adds numbers up, each of them written to the same slot.
fn add_up(bench: &Bench, turns: bool) {
    let add = program(&[(F32, &[3]), (F32, &[3])], |w, x| {
        w.op("addInto", &[], x, &[]);
        vec![]
    });
    bench.write(1, &[0.0; 3]);
    for round in 0..300 {
        if turns && round % 2 == 1 {
            bench.next_turn();
        }
        bench.write(2, &[round as f32; 3]);
        bench.submit(&stream(&add, &[1, 2], &[], &[2], &[]));
    }
    assert_eq!(bench.read(1, 3).unwrap(), [44850.0; 3]);
}
