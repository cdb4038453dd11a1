//! The same program gives the same bits, whoever runs it: caller or device thread, one thread or several, fused or not,
//! on fresh memory or on memory full of old values.

use super::*;
use crate::program::Program;

/// What became of every output and every input of a program, in words or error codes.
type Outcome = Vec<Result<Vec<u32>, &'static str>>;

fn run(bench: &Bench, writer: &Writer, seed: u64) -> Outcome {
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
                bench.device.write(slot, &Source::Bool(Cow::Owned(data))).unwrap();
            }
        }
    }
    let scalars: Vec<f64> = (0..writer.scalars).map(|i| f64::from(i) / 8.0).collect();
    bench.submit(&stream(writer, &inputs, &outputs, &[], &scalars));
    let registers = program.inputs().iter().chain(program.outputs()).map(|&id| program.register(id));
    let outcome = inputs.iter().chain(&outputs).zip(registers).map(|(&slot, register)| {
        bench.words(slot, register.numel, register.dtype).map_err(|failure| failure.error.code())
    });
    let outcome = outcome.collect();
    bench.submit(&stream(&Writer::default(), &[], &[], &[inputs, outputs].concat(), &[]));
    outcome
}

#[test]
fn bits_do_not_depend_on_who_runs() {
    let benches = [
        Bench::new(1, true).on_its_own_thread(),
        Bench::new(3, true).on_its_own_thread(),
        Bench::new(1, false).on_its_own_thread(),
    ];
    let mut inline = Bench::new(1, true);
    let mut random = Random::new(7);
    for seed in 0..400 {
        let writer = random_program(&mut random, 12);
        inline.turn += 1;
        let expected = run(&inline, &writer, seed);
        for (name, bench) in ["one thread", "three threads", "unfused"].iter().zip(&benches) {
            let program = Program::decode(&writer.code).unwrap();
            assert_eq!(run(bench, &writer, seed), expected, "{name}, seed {seed}:\n{program}");
        }
    }
}

#[test]
fn jobs_keep_their_order_on_both_paths() {
    for own_thread in [false, true] {
        let mut bench = Bench::new(2, true);
        if own_thread {
            bench = bench.on_its_own_thread();
        }
        let add = program(&[(F32, &[3]), (F32, &[3])], |w, x| {
            w.op("addInto", &[], x, &[]);
            vec![]
        });
        bench.write(1, &[0.0; 3]);
        for round in 0..300 {
            if !own_thread {
                bench.turn += round % 2;
            }
            bench.write(2, &[round as f32; 3]);
            bench.submit(&stream(&add, &[1, 2], &[], &[2], &[]));
        }
        assert_eq!(bench.read(1, 3).unwrap(), [44850.0; 3]);
    }
}

#[test]
fn packed_weights_change_no_bit_and_no_write_is_missed() {
    let bench = Bench::new(2, true);
    let (k, n) = (70, 45);
    let weight: Vec<f32> = (0..k * n).map(|i| (i % 97) as f32 / 97.0 - 0.4).collect();
    bench.write(1, &vec![0.3; 5 * k]);
    bench.write(2, &weight);
    let shapes: [(Dtype, &[u32]); 2] = [(F32, &[5, k as u32]), (F32, &[k as u32, n as u32])];
    let product = program(&shapes, |w, x| vec![w.op("matmul", &[(F32, &[5, n as u32])], x, &[A::W(0), A::W(0)])]);
    let double = program(&shapes[1..], |w, x| {
        let two = w.op("add", &[shapes[1]], &[x[0], x[0]], &[]);
        w.op("assign", &[], &[x[0], two], &[]);
        vec![]
    });
    let multiply = |slot| bench.submit(&stream(&product, &[1, 2], &[slot], &[], &[]));
    for slot in 10..13 {
        multiply(slot);
    }
    let first = bench.read(10, 5 * n).unwrap();
    assert!(bench.device.statistics().memory.packed > 0);
    assert_eq!(bench.read(12, 5 * n).unwrap(), first);
    bench.submit(&stream(&double, &[2], &[], &[], &[]));
    multiply(13);
    multiply(14);
    let doubled: Vec<f32> = first.iter().map(|y| y * 2.0).collect();
    assert_eq!(bench.read(13, 5 * n).unwrap(), doubled);
    assert_eq!(bench.read(14, 5 * n).unwrap(), doubled);
}
