//! Slots, the end of a device, and what is promised to whoever waits.

use std::time::Duration;

use super::{Bench, program, stream, told};
use crate::device::{Pressure, Target, Usage};
use crate::program::testing::{A, F32, Writer};

fn square(n: u32) -> Writer {
    program(&[(F32, &[n, n])], |w, x| vec![w.op("matmul", &[(F32, &[n, n])], &[x[0], x[0]], &[A::W(0), A::W(0)])])
}

/// x·x·x: one intermediate of n² elements, one result.
pub(crate) fn cube(n: u32) -> Writer {
    program(&[(F32, &[n, n])], |w, x| {
        let square = w.op("matmul", &[(F32, &[n, n])], &[x[0], x[0]], &[A::W(0), A::W(0)]);
        vec![w.op("matmul", &[(F32, &[n, n])], &[square, x[0]], &[A::W(0), A::W(0)])]
    })
}

pub(crate) fn freed_slots_are_gone_and_their_memory_is_used_again(bench: &Bench) {
    let writer = program(&[(F32, &[1000])], |w, x| vec![w.like("neg", x, &[])]);
    bench.write(1, &[1.0; 1000]);
    for _ in 0..100 {
        bench.submit(&stream(&writer, &[1], &[2], &[], &[]));
        bench.submit(&stream(&Writer::default(), &[], &[], &[2], &[]));
    }
    assert_eq!(bench.code(2, 1000), "ERR_DISPOSED");
    let statistics = bench.device.statistics();
    assert_eq!(statistics.live_slots, 1);
    assert_eq!(statistics.memory.live, 4096);
    assert_eq!((statistics.plans, statistics.plan_misses, statistics.plan_hits), (1, 1, 99));
}

pub(crate) fn an_input_freed_by_the_program_that_reads_it_is_still_read(bench: &Bench) {
    let writer = program(&[(F32, &[2])], |w, x| {
        let view = w.op("view", &[(F32, &[1])], x, &[A::W(1)]);
        vec![w.like("neg", x, &[]), view]
    });
    bench.write(1, &[1.0, 2.0]);
    bench.submit(&stream(&writer, &[1], &[2, 3], &[1], &[]));
    assert_eq!(bench.read(2, 2).unwrap(), [-1.0, -2.0]);
    assert_eq!(bench.read(3, 1).unwrap(), [2.0], "the view keeps the memory");
    assert_eq!(bench.code(1, 2), "ERR_DISPOSED");
}

pub(crate) fn close_finishes_pending_work_and_frees_everything(bench: &Bench) {
    bench.use_up_turn();
    bench.write(1, &vec![0.1; 200 * 200]);
    let words = stream(&square(200), &[1], &[2], &[], &[]);
    for _ in 0..20 {
        bench.submit(&words);
    }
    let mut result = vec![0.0_f32; 200 * 200];
    // SAFETY: `result` outlives the read, which has ended before `end` is told.
    let target = unsafe { Target::new(result.as_mut_ptr().cast(), 200 * 200, F32) };
    let (done, read) = told();
    bench.device.read(2, target, done);
    let (done, end) = told();
    bench.device.close(done);
    end.recv().unwrap().unwrap();
    read.recv().unwrap().unwrap();
    assert!((result[0] - 2.0).abs() < 1e-5);
    assert_eq!(bench.device.submit(&words, 0).unwrap_err().code(), "ERR_DEVICE_LOST");
    assert_eq!(bench.code(2, 200 * 200), "ERR_DEVICE_LOST");
    let (done, end) = told();
    bench.device.close(done);
    assert_eq!(end.recv().unwrap().unwrap_err().error.code(), "ERR_DEVICE_LOST");
    let memory = bench.device.statistics().memory;
    assert_eq!((memory.live, memory.arena, memory.pool, memory.packed), (0, 0, 0, 0));
}

pub(crate) fn trim_gives_back_what_nothing_needs_and_nothing_else(bench: &Bench) {
    let (n, bytes) = (128, 128 * 128 * 4);
    bench.use_up_turn();
    bench.write(1, &vec![0.5; n * n]);
    let words = stream(&cube(n as u32), &[1], &[2], &[], &[]);
    for _ in 0..20 {
        bench.submit(&words);
    }
    bench.submit(&stream(&cube(n as u32), &[1], &[3], &[2], &[]));
    // Behind work that needs the very memory.
    let (done, end) = told();
    bench.device.trim(done);
    end.recv().unwrap().unwrap();
    let Usage { live, arena, pool, packed, peak } = bench.device.statistics().memory;
    assert_eq!((live, arena, pool, packed), (2 * bytes, 0, 0, 0));
    assert!(peak >= 4 * bytes, "{peak}");
    assert_eq!(bench.read(3, n * n).unwrap(), vec![2048.0; n * n]);
    bench.submit(&words);
    assert_eq!(bench.read(2, n * n).unwrap(), vec![2048.0; n * n]);
    assert_eq!(bench.device.statistics().memory.arena, bytes);
    let (done, end) = told();
    bench.device.close(done);
    end.recv().unwrap().unwrap();
    let (done, end) = told();
    bench.device.trim(done);
    assert_eq!(end.recv().unwrap().unwrap_err().error.code(), "ERR_DEVICE_LOST");
}

pub(crate) fn giving_up_drops_what_waits_and_returns_soon(bench: &Bench) {
    bench.use_up_turn();
    bench.write(1, &vec![0.1; 500 * 500]);
    let words = stream(&square(500), &[1], &[2], &[], &[]);
    for _ in 0..60 {
        bench.submit(&words);
    }
    let (done, end) = told();
    bench.device.sync(done);
    bench.device.abandon(Duration::from_secs(10));
    assert!(end.recv().is_err(), "the callback is dropped, not called");
    assert!(bench.device.wait_idle(Duration::ZERO));
    assert_eq!(bench.device.submit(&words, 0).unwrap_err().code(), "ERR_DEVICE_LOST");
}

pub(crate) fn a_long_queue_asks_the_caller_to_wait(bench: &Bench) {
    bench.use_up_turn();
    bench.write(1, &vec![0.1; 300 * 300]);
    let words = stream(&square(300), &[1], &[2], &[], &[]);
    let pressed = (0..200).any(|_| bench.submit(&words) == Pressure::Wait);
    assert!(pressed);
    while bench.device.wait(Duration::from_millis(20)) == Pressure::Wait {}
    while !bench.device.wait_idle(Duration::from_millis(20)) {}
    assert_eq!(bench.submit(&words), Pressure::None);
}

pub(crate) fn a_batch_of_empty_products_costs_nothing_however_long(bench: &Bench) {
    let many = 1 << 30;
    let writer = program(&[(F32, &[many, 0, 1]), (F32, &[many, 1, 0])], |w, x| {
        vec![w.op("matmul", &[(F32, &[many, 0, 0])], x, &[A::W(0), A::W(0)])]
    });
    bench.write(1, &[]);
    bench.write(2, &[]);
    bench.submit(&stream(&writer, &[1, 2], &[3], &[], &[]));
    assert_eq!(bench.read(3, 0).unwrap(), []);
}
