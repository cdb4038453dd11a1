//! Programs that are compiled once and run by number: they do what their streams do, in the same order, and fail alike.

use super::failures::{gathering, with_bad_index};
use super::order::{run, run_by};
use super::{Bench, bare, program, stream};
use crate::error::Result;
use crate::program::testing::{A, F32, Random, Writer, random_program};

const PROGRAM: u32 = 7;

fn negative() -> Writer {
    program(&[(F32, &[3])], |w, x| vec![w.like("neg", x, &[])])
}

pub(crate) fn a_compiled_program_gives_the_bits_of_its_stream(bench: &Bench) {
    let mut random = Random::new(23);
    for seed in 0..8 {
        let writer = random_program(&mut random, 8);
        let number = u32::MAX - seed;
        let wanted = run(bench, &writer, seed.into());
        bench.compile(number, &writer.code).unwrap();
        for _ in 0..3 {
            let got = run_by(bench, &writer, seed.into(), |words| bench.run(number, &bare(words)));
            assert_eq!(got, wanted, "seed {seed}");
        }
    }
}

pub(crate) fn compiling_tells_what_a_run_will_take(bench: &Bench) {
    let shape = (F32, &[4, 4][..]);
    let writer = program(&[shape], |w, x| {
        let square = |w: &mut Writer, x: u32| w.op("matmul", &[shape], &[x, x], &[A::W(0), A::W(0)]);
        let first = square(w, x[0]);
        let second = square(w, first);
        vec![square(w, second)]
    });
    let info = bench.compile(PROGRAM, &writer.code).unwrap();
    assert_eq!((info.steps, info.arena_bytes, info.live_bytes), (3, 128, 128));
    assert!(!info.planning.is_zero());
    assert_eq!(bench.device.statistics().plans, 0, "it is not in the cache, and not evicted from it");
}

pub(crate) fn a_program_that_is_not_there_fails_its_outputs(bench: &Bench) {
    let words = bare(&stream(&negative(), &[1], &[2], &[1], &[]));
    let attempt = || {
        bench.write(1, &[1.0, 2.0, 3.0]);
        bench.run(PROGRAM, &words);
        bench.read(2, 3).map_err(|failure| failure.error.message().to_owned())
    };
    let missing = "program 7 has not been compiled on this device".to_owned();
    assert_eq!(attempt(), Err(missing.clone()));
    assert_eq!(bench.code(1, 3), "ERR_DISPOSED", "what the stream frees is freed all the same");
    bench.compile(PROGRAM, &negative().code).unwrap();
    bench.compile(PROGRAM + 1, &negative().code).unwrap();
    assert_eq!(attempt().unwrap(), [-1.0, -2.0, -3.0]);
    bench.device.release(PROGRAM);
    bench.device.release(PROGRAM);
    assert_eq!(attempt(), Err(missing));
    bench.compile(PROGRAM, &program(&[(F32, &[3])], |w, x| vec![w.like("square", x, &[])]).code).unwrap();
    assert_eq!(attempt().unwrap(), [1.0, 4.0, 9.0]);
    bench.write(1, &[5.0; 3]);
    bench.run(PROGRAM + 1, &words);
    assert_eq!(bench.read(2, 3).unwrap(), [-5.0; 3], "other programs stay");
}

pub(crate) fn compiled_runs_keep_their_order_over_many_turns(bench: &Bench) {
    add_up(bench, true);
}

pub(crate) fn compiled_runs_keep_their_order_in_one_turn(bench: &Bench) {
    bench.use_up_turn();
    add_up(bench, false);
}

/// Adds numbers up, every third twice, by a program whose number changes hands while earlier runs may still wait.
fn add_up(bench: &Bench, turns: bool) {
    let add = |times: usize| {
        program(&[(F32, &[3]), (F32, &[3])], |w, x| {
            (0..times).for_each(|_| _ = w.op("addInto", &[], x, &[]));
            vec![]
        })
    };
    let (once, twice) = (add(1), add(2));
    let words = bare(&stream(&once, &[1, 2], &[], &[2], &[]));
    bench.write(1, &[0.0; 3]);
    for round in 0..300 {
        if turns && round % 2 == 1 {
            bench.next_turn();
        }
        bench.compile(PROGRAM, if round % 3 == 0 { &twice.code } else { &once.code }).unwrap();
        bench.write(2, &[round as f32; 3]);
        bench.run(PROGRAM, &words);
        if round % 5 == 0 {
            bench.device.release(PROGRAM);
        }
    }
    assert_eq!(bench.read(1, 3).unwrap(), [59700.0; 3]);
    bench.sync().unwrap();
}

pub(crate) fn a_compiled_program_fails_where_its_stream_does(bench: &Bench) {
    with_bad_index(bench);
    bench.compile(PROGRAM, &gathering().code).unwrap();
    bench.run(PROGRAM, &bare(&stream(&gathering(), &[1, 2], &[20, 21, 22], &[], &[])));
    let failure = bench.read(21, 6).unwrap_err();
    assert_eq!(failure.place.as_ref().map(|place| (place.instruction, place.op)), Some((2, "gather")));
    assert_eq!(bench.read(22, 16).unwrap(), [2.0; 16]);
    // A failure of an earlier stream spreads into the program.
    bench.compile(PROGRAM, &program(&[(F32, &[3, 2])], |w, x| vec![w.like("neg", x, &[])]).code).unwrap();
    bench.run(PROGRAM, &bare(&stream(&negative(), &[10], &[30], &[], &[])));
    assert_eq!(bench.code(30, 6), "ERR_ARGUMENT");
}

pub(crate) fn a_stream_that_does_not_fit_the_program_fails_its_outputs(bench: &Bench) {
    let writer = program(&[(F32, &[3])], |w, x| {
        let low = w.op("clip", &[(F32, &[3])], x, &[A::W(0), A::W(1)]);
        vec![low]
    });
    bench.compile(PROGRAM, &writer.code).unwrap();
    bench.write(1, &[-9.0, 0.5, 9.0]);
    let counts = |inputs: &[u32], outputs: &[u32], scalars: &[f64]| {
        let mut shape = Writer { inputs: inputs.len() as u32, outputs: outputs.len() as u32, ..Writer::default() };
        let bare = stream(&shape, inputs, outputs, &[], scalars);
        shape.code.clone_from(&writer.code);
        (bare, stream(&shape, inputs, outputs, &[], scalars))
    };
    let (fits, with_code) = counts(&[1], &[2], &[0.0, 1.0]);
    for (words, outputs) in [
        (counts(&[], &[2], &[0.0, 1.0]).0, &[2][..]),
        (counts(&[1, 1], &[2], &[0.0, 1.0]).0, &[2]),
        (counts(&[1], &[2, 3], &[0.0, 1.0]).0, &[2, 3]),
        (counts(&[1], &[2], &[0.0]).0, &[2]),
        (with_code, &[2]),
    ] {
        bench.run(PROGRAM, &words);
        for &slot in outputs {
            assert_eq!(bench.code(slot, 3), "ERR_PROGRAM", "{words:?}");
        }
    }
    bench.run(PROGRAM, &fits[..fits.len() - 1]);
    assert_eq!(bench.sync().unwrap_err().error.code(), "ERR_PROGRAM");
    bench.run(PROGRAM, &fits);
    assert_eq!(bench.read(2, 3).unwrap(), [0.0, 0.5, 1.0]);
}

pub(crate) fn words_that_are_no_program_are_not_compiled(bench: &Bench) {
    bench.compile(PROGRAM, &negative().code).unwrap();
    let mut random = Random::new(31);
    let mut refused = 0;
    for _ in 0..400 {
        let mut code = random_program(&mut random, 6).code;
        for _ in 0..=random.below(2) {
            let at = random.below(code.len() as u32) as usize;
            code[at] = if random.chance(50) { random.below(300) } else { random.next() as u32 };
        }
        code.truncate(code.len() - random.below(2) as usize);
        if let Err(error) = bench.compile(PROGRAM + 1, &code) {
            assert!(matches!(error.code(), "ERR_PROGRAM" | "ERR_OUT_OF_MEMORY"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 100, "{refused} were refused");
    bench.write(1, &[1.0, 2.0, 3.0]);
    bench.run(PROGRAM, &bare(&stream(&negative(), &[1], &[2], &[], &[])));
    assert_eq!(bench.read(2, 3).unwrap(), [-1.0, -2.0, -3.0]);
    bench.sync().unwrap();
}

pub(crate) fn damaged_streams_of_a_compiled_program_leave_the_device_working(bench: &Bench) {
    bench.compile(PROGRAM, &negative().code).unwrap();
    let words = bare(&stream(&negative(), &[1], &[2], &[1], &[]));
    let mut random = Random::new(37);
    for _ in 0..500 {
        let mut damaged = words.clone();
        for _ in 0..=random.below(2) {
            let at = random.below(damaged.len() as u32) as usize;
            damaged[at] = random.below(4);
        }
        bench.run(PROGRAM + random.below(8) / 7, &damaged);
        bench.write(1, &[1.0, 2.0, 3.0]);
        bench.run(PROGRAM, &words);
        assert_eq!(bench.read(2, 3).unwrap(), [-1.0, -2.0, -3.0]);
    }
}

pub(crate) fn a_closed_device_compiles_and_runs_nothing(bench: &Bench) {
    bench.compile(PROGRAM, &negative().code).unwrap();
    let (done, end) = super::told();
    bench.device.close(done);
    end.recv().unwrap().unwrap();
    let refused = |result: Result<()>| assert_eq!(result.unwrap_err().code(), "ERR_DEVICE_LOST");
    refused(bench.compile(PROGRAM, &negative().code).map(drop));
    refused(bench.device.run(PROGRAM, &bare(&stream(&negative(), &[1], &[2], &[], &[])), 0).map(drop));
    bench.device.release(PROGRAM);
}
