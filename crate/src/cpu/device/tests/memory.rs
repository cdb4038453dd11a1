//! Memory that outlives the run that needed it, and what makes room when it is short.

use std::thread;
use std::time::{Duration, Instant};

use super::super::worker::IDLE;
use super::*;
use crate::device::testing::lifetime::cube;

#[test]
fn freed_memory_waits_in_the_pool() {
    let bench = bench(2, true);
    lifetime::freed_slots_are_gone_and_their_memory_is_used_again(&bench);
    assert_eq!(bench.device.statistics().memory.pool, 4096);
}

#[test]
fn what_the_caller_frees_itself_goes_back_though_the_thread_has_rested() {
    let bench = bench(1, true);
    for _ in 0..2 {
        thread::sleep(IDLE * 3 / 2);
        bench.next_turn();
        bench.write(1, &[1.0; 1000]);
        bench.submit(&stream(&Writer::default(), &[], &[], &[1], &[]));
        assert_eq!(bench.device.statistics().memory.pool, 4096);
        let begun = Instant::now();
        while bench.device.statistics().memory.pool > 0 {
            assert!(begun.elapsed() < Duration::from_secs(10));
            thread::yield_now();
        }
    }
}

#[test]
fn a_caller_that_works_by_itself_keeps_its_memory() {
    let bench = bench(1, true);
    let begun = Instant::now();
    while begun.elapsed() < IDLE * 5 / 2 {
        bench.next_turn();
        bench.write(1, &[1.0; 1000]);
        bench.submit(&stream(&Writer::default(), &[], &[], &[1], &[]));
        assert_eq!(bench.device.statistics().memory.pool, 4096, "after {:?}", begun.elapsed());
        thread::sleep(IDLE / 20);
    }
}

#[test]
fn memory_of_an_earlier_run_makes_room_for_what_comes_after() {
    // Input, intermediate and result of one run fit exactly.
    let bench = limited(1, true, Some(3 << 16));
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
    let bench = bench(1, true);
    bench.write(1, &vec![0.5; 128 * 128]);
    bench.write(2, &[0.5; 64]);
    bench.submit(&stream(&cube(128), &[1], &[3], &[], &[]));
    for _ in 0..1000 {
        bench.submit(&stream(&cube(8), &[2], &[4], &[], &[]));
    }
    bench.device.wait_idle(Duration::from_secs(10));
    assert!(bench.device.statistics().memory.arena <= 512);
}

#[test]
fn packed_weights_make_room_for_results() {
    let bench = limited(1, true, Some(300 << 10));
    bench.write(1, &vec![0.5; 128 * 128]);
    let shape: (Dtype, &[u32]) = (F32, &[128, 128]);
    let product = program(&[shape], |w, x| vec![w.op("matmul", &[shape], &[x[0], x[0]], &[A::W(0), A::W(0)])]);
    // 64 KiB each: the operand, its packed copy, and three results, one more than there is room for.
    for slot in 10..13 {
        bench.submit(&stream(&product, &[1], &[slot], &[], &[]));
        assert_eq!(bench.read(slot, 128 * 128).unwrap(), vec![32.0; 128 * 128], "slot {slot}");
        let packed = bench.device.statistics().memory.packed;
        assert_eq!(packed > 0, slot == 11, "slot {slot}: {packed} bytes");
    }
}

#[test]
fn memory_kept_between_runs_makes_room_too() {
    let bench = limited(1, false, Some((1 << 20) + 4096));
    bench.write(1, &vec![0.5; 1 << 17]);
    // Unfused, the intermediate needs an arena of 512 KiB.
    let writer = program(&[(F32, &[1 << 17])], |w, x| {
        let root = w.like("sqrt", x, &[]);
        vec![w.op("sum", &[(F32, &[])], &[root], &[A::W(1), A::W(1 << 17), A::W(1)])]
    });
    for slot in [2, 3] {
        bench.submit(&stream(&writer, &[1], &[2], &[], &[]));
        assert!(bench.read(2, 1).is_ok());
        assert_eq!(bench.device.statistics().memory.arena, 1 << 19);
        bench.write(slot + 8, &vec![0.25; 1 << 16]);
        assert!(bench.read(slot + 8, 1 << 16).is_ok());
        bench.submit(&stream(&Writer::default(), &[], &[], &[slot + 8], &[]));
    }
}
