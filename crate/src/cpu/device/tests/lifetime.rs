//! Slots, the end of a device, and what is promised to whoever waits.

use super::*;
use crate::device::Pressure;

fn square(n: u32) -> Writer {
    program(&[(F32, &[n, n])], |w, x| vec![w.op("matmul", &[(F32, &[n, n])], &[x[0], x[0]], &[A::W(0), A::W(0)])])
}

#[test]
fn freed_slots_are_gone_and_their_memory_is_used_again() {
    let bench = Bench::new(2, true);
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
    assert_eq!(statistics.memory.pool, 4096);
    assert_eq!((statistics.plans, statistics.plan_misses, statistics.plan_hits), (1, 1, 99));
}

#[test]
fn an_input_freed_by_the_program_that_reads_it_is_still_read() {
    let bench = Bench::new(2, true);
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

#[test]
fn close_finishes_pending_work_and_frees_everything() {
    let bench = Bench::new(2, true).on_its_own_thread();
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

#[test]
fn giving_up_drops_what_waits_and_returns_soon() {
    let bench = Bench::new(1, true).on_its_own_thread();
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

#[test]
fn a_long_queue_asks_the_caller_to_wait() {
    let bench = Bench::new(1, true).on_its_own_thread();
    bench.write(1, &vec![0.1; 300 * 300]);
    let words = stream(&square(300), &[1], &[2], &[], &[]);
    let pressed = (0..200).any(|_| bench.device.submit(&words, bench.turn).unwrap() == Pressure::Wait);
    assert!(pressed);
    while bench.device.wait(Duration::from_millis(20)) == Pressure::Wait {}
    while !bench.device.wait_idle(Duration::from_millis(20)) {}
    assert_eq!(bench.device.submit(&words, bench.turn).unwrap(), Pressure::None);
}

#[test]
fn a_batch_of_empty_products_costs_nothing_however_long() {
    let bench = Bench::new(1, true);
    let many = 1 << 30;
    let writer = program(&[(F32, &[many, 0, 1]), (F32, &[many, 1, 0])], |w, x| {
        vec![w.op("matmul", &[(F32, &[many, 0, 0])], x, &[A::W(0), A::W(0)])]
    });
    bench.write(1, &[]);
    bench.write(2, &[]);
    bench.submit(&stream(&writer, &[1, 2], &[3], &[], &[]));
    assert_eq!(bench.read(3, 0).unwrap(), []);
}

/// x·x·x: one intermediate of n² elements, one result.
fn cube(n: u32) -> Writer {
    program(&[(F32, &[n, n])], |w, x| {
        let square = w.op("matmul", &[(F32, &[n, n])], &[x[0], x[0]], &[A::W(0), A::W(0)]);
        vec![w.op("matmul", &[(F32, &[n, n])], &[square, x[0]], &[A::W(0), A::W(0)])]
    })
}

#[test]
fn memory_of_an_earlier_run_makes_room_for_what_comes_after() {
    // Input, intermediate and result of one run fit exactly.
    let bench = Bench::limited(1, true, Some(3 << 16));
    let run = || {
        bench.write(1, &vec![0.5; 128 * 128]);
        bench.submit(&stream(&cube(128), &[1], &[2], &[], &[]));
        assert_eq!(bench.read(2, 128 * 128).unwrap()[0], 2048.0);
        bench.submit(&stream(&Writer::default(), &[], &[], &[1, 2], &[]));
    };
    run();
    bench.write(3, &vec![1.0; 3 << 14]);
    assert_eq!(bench.read(3, 3 << 14).unwrap()[7], 1.0, "an upload");
    bench.submit(&stream(&Writer::default(), &[], &[], &[3], &[]));
    run();
    let fill = program(&[], |w, _| vec![w.op("full", &[(F32, &[3 << 14])], &[], &[A::W(0)])]);
    bench.submit(&stream(&fill, &[], &[4], &[], &[2.0]));
    assert_eq!(bench.read(4, 3 << 14).unwrap()[7], 2.0, "a result");
}

#[test]
fn small_programs_do_not_keep_the_memory_of_a_large_one() {
    let bench = Bench::new(1, true);
    bench.write(1, &vec![0.5; 128 * 128]);
    bench.write(2, &[0.5; 64]);
    bench.submit(&stream(&cube(128), &[1], &[3], &[], &[]));
    for _ in 0..1000 {
        bench.submit(&stream(&cube(8), &[2], &[4], &[], &[]));
    }
    bench.device.wait_idle(Duration::from_secs(10));
    assert!(bench.device.statistics().memory.arena <= 512);
}
