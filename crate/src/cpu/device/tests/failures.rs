//! Where errors end up: in the values they prevented, with the instruction, and nowhere else.

use super::*;

/// gather of three rows of [4, 2], doubled, and a product that has nothing to do with it.
fn gathering() -> Writer {
    program(&[(F32, &[4, 2]), (I32, &[3])], |w, x| {
        let rows = w.op("gather", &[(F32, &[3, 2])], x, &[A::W(0)]);
        let doubled = w.like("add", &[rows, rows], &[]);
        let other = w.op("matmul", &[(F32, &[4, 4])], &[x[0], x[0]], &[A::W(0), A::W(1)]);
        vec![rows, doubled, other]
    })
}

fn with_bad_index(bench: &Bench) {
    bench.write(1, &[1.0; 8]);
    bench.write_i32(2, &[0, 4, 1]);
    bench.submit(&stream(&gathering(), &[1, 2], &[10, 11, 12], &[], &[]));
}

#[test]
fn a_bad_index_fails_what_depends_on_it_and_nothing_else() {
    let bench = Bench::new(2, true);
    with_bad_index(&bench);
    let failure = bench.read(10, 6).unwrap_err();
    assert_eq!(failure.error.code(), "ERR_ARGUMENT");
    assert_eq!(failure.error.message(), "index 4 at position 1 is outside [0, 4)");
    let place = failure.place.as_ref().unwrap();
    assert_eq!((place.instruction, place.op), (2, "gather"));
    assert!(place.line.contains("gather"), "{}", place.line);
    assert!(Arc::ptr_eq(&failure, &bench.read(11, 6).unwrap_err()));
    assert_eq!(bench.read(12, 16).unwrap(), [2.0; 16]);
}

#[test]
fn a_failure_spreads_over_programs_and_stops_updates() {
    let bench = Bench::new(2, true);
    with_bad_index(&bench);
    bench.write(3, &[5.0; 6]);
    let update = program(&[(F32, &[3, 2]), (F32, &[3, 2])], |w, x| {
        let root = w.like("sqrt", &[x[1]], &[]);
        w.op("addInto", &[], &[x[0], root], &[]);
        let seen = w.like("neg", &[x[0]], &[]);
        vec![seen, root]
    });
    bench.submit(&stream(&update, &[3, 10], &[20, 21], &[], &[]));
    assert_eq!(bench.read(3, 6).unwrap(), [5.0; 6], "the update was not applied");
    assert_eq!(bench.read(20, 6).unwrap(), [-5.0; 6], "and its target is still a value");
    assert_eq!(bench.code(21, 6), "ERR_ARGUMENT");
}

#[test]
fn a_chain_computes_what_does_not_depend_on_the_missing_operand() {
    let bench = Bench::new(1, true);
    bench.write(1, &[1.0, 2.0, 3.0]);
    let writer = program(&[(F32, &[3]), (F32, &[3])], |w, x| {
        let doubled = w.like("add", &[x[0], x[0]], &[]);
        let both = w.like("mul", &[doubled, x[1]], &[]);
        let more = w.like("square", &[doubled], &[]);
        vec![doubled, both, more]
    });
    bench.submit(&stream(&writer, &[1, 99], &[10, 11, 12], &[], &[]));
    assert_eq!(bench.read(10, 3).unwrap(), [2.0, 4.0, 6.0]);
    assert_eq!(bench.read(12, 3).unwrap(), [4.0, 16.0, 36.0]);
    assert_eq!(bench.code(11, 3), "ERR_DISPOSED");
}

#[test]
fn sync_tells_the_first_unread_failure_once() {
    let bench = Bench::new(2, true);
    with_bad_index(&bench);
    assert_eq!(bench.sync().unwrap_err().error.code(), "ERR_ARGUMENT");
    bench.sync().unwrap();
    with_bad_index(&bench);
    assert_eq!(bench.code(11, 6), "ERR_ARGUMENT");
    bench.sync().unwrap();
    with_bad_index(&bench);
    let (done, end) = told();
    bench.device.close(done);
    assert_eq!(end.recv().unwrap().unwrap_err().error.code(), "ERR_ARGUMENT");
}

#[test]
fn slots_that_do_not_fit_the_program_fail_all_of_it() {
    let bench = Bench::new(2, true);
    let writer = program(&[(F32, &[3])], |w, x| vec![w.like("neg", x, &[])]);
    bench.write(1, &[1.0; 4]);
    bench.submit(&stream(&writer, &[1], &[10], &[], &[]));
    assert_eq!(bench.code(10, 3), "ERR_PROGRAM");
    bench.write_i32(2, &[1; 3]);
    bench.submit(&stream(&writer, &[2], &[11], &[], &[]));
    assert_eq!(bench.code(11, 3), "ERR_PROGRAM");
    let mut broken = stream(&writer, &[1], &[12], &[], &[]);
    *broken.last_mut().unwrap() = 77;
    bench.submit(&broken);
    assert_eq!(bench.code(12, 3), "ERR_PROGRAM");
    bench.submit(&[1, 2, 3]);
    assert_eq!(bench.sync().unwrap_err().error.code(), "ERR_PROGRAM");
}

#[test]
fn an_in_place_operand_must_not_be_read_through_another_slot() {
    let bench = Bench::new(2, true);
    bench.write(1, &[1.0, 2.0, 3.0, 4.0]);
    let views = program(&[(F32, &[4])], |w, x| {
        let low = w.op("view", &[(F32, &[2])], x, &[A::W(0)]);
        let middle = w.op("view", &[(F32, &[2])], x, &[A::W(1)]);
        let high = w.op("view", &[(F32, &[2])], x, &[A::W(2)]);
        vec![low, middle, high]
    });
    bench.submit(&stream(&views, &[1], &[2, 3, 4], &[], &[]));
    let add = program(&[(F32, &[2]), (F32, &[2])], |w, x| {
        w.op("addInto", &[], x, &[]);
        vec![x[0]]
    });
    bench.submit(&stream(&add, &[2, 3], &[10], &[], &[]));
    assert_eq!(bench.code(10, 2), "ERR_PROGRAM");
    bench.submit(&stream(&add, &[2, 4], &[11], &[], &[]));
    assert_eq!(bench.read(1, 4).unwrap(), [4.0, 6.0, 3.0, 4.0], "views share memory");
}

#[test]
fn out_of_memory_leaves_the_device_working() {
    let bench = Bench::limited(2, true, Some(1 << 20));
    bench.write(1, &vec![0.5; 64 * 64]);
    let shape: (Dtype, &[u32]) = (F32, &[64, 64]);
    let big = program(&[shape], |w, x| vec![w.op("expand", &[(F32, &[100, 64, 64])], x, &[])]);
    bench.submit(&stream(&big, &[1], &[10], &[], &[]));
    let failure = bench.read(10, 100 * 64 * 64).unwrap_err();
    assert_eq!(failure.error.code(), "ERR_OUT_OF_MEMORY");
    assert!(failure.error.message().contains("1638400 bytes"), "{}", failure.error.message());
    assert!(failure.error.message().contains("1048576 allowed"), "{}", failure.error.message());
    bench.write(2, &vec![1.0; 1 << 20]);
    assert_eq!(bench.code(2, 1 << 20), "ERR_OUT_OF_MEMORY");
    let product = program(&[shape], |w, x| vec![w.op("matmul", &[shape], &[x[0], x[0]], &[A::W(0), A::W(0)])]);
    for _ in 0..50 {
        bench.submit(&stream(&product, &[1], &[11], &[], &[]));
        assert_eq!(bench.read(11, 64 * 64).unwrap(), [16.0; 64 * 64]);
    }
}

#[test]
fn packed_weights_make_room_for_results() {
    let bench = Bench::limited(1, true, Some(300 << 10));
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
    let bench = Bench::limited(1, false, Some((1 << 20) + 4096));
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

#[test]
fn damaged_streams_end_in_failures_and_leave_the_device_working() {
    let bench = Bench::limited(2, true, Some(4 << 20));
    let mut random = Random::new(11);
    let negative = program(&[(F32, &[3])], |w, x| vec![w.like("neg", x, &[])]);
    for _ in 0..3000 {
        for slot in 100..104 {
            let data: Vec<f32> = (0..random.below(13)).map(|i| i as f32).collect();
            bench.write(slot, &data);
        }
        let mut words = random_program(&mut random, 8).stream();
        for _ in 0..random.below(3) {
            let at = random.below(words.len() as u32) as usize;
            words[at] = if random.chance(50) { random.below(300) } else { random.next() as u32 };
        }
        bench.submit(&words);
        bench.write(1, &[1.0, 2.0, 3.0]);
        bench.submit(&stream(&negative, &[1], &[2], &[1], &[]));
        assert_eq!(bench.read(2, 3).unwrap(), [-1.0, -2.0, -3.0]);
    }
}

#[test]
fn a_listener_that_panics_does_not_stop_the_device() {
    let bench = Bench::new(1, true);
    bench.device.sync(Box::new(|_| std::panic::resume_unwind(Box::new("told"))));
    bench.sync().unwrap();
    bench.write(1, &[1.0]);
    assert_eq!(bench.read(1, 1).unwrap(), [1.0]);
}
