//! Where errors end up: in the values they prevented, with the instruction, and nowhere else.

use std::sync::Arc;

use super::{Bench, program, stream, told};
use crate::dtype::Dtype;
use crate::plan::{Base, Plan, StepKind};
use crate::program::testing::{A, F32, I32, Random, Writer, random_program};

/// gather of three rows of [4, 2], doubled, and a product that has nothing to do with it.
pub(super) fn gathering() -> Writer {
    program(&[(F32, &[4, 2]), (I32, &[3])], |w, x| {
        let rows = w.op("gather", &[(F32, &[3, 2])], x, &[A::W(0), A::W(1)]);
        let doubled = w.like("add", &[rows, rows], &[]);
        let other = w.op("matmul", &[(F32, &[4, 4])], &[x[0], x[0]], &[A::W(0), A::W(1)]);
        vec![rows, doubled, other]
    })
}

/// A product with a chain behind it, of whose two results the last does not come from the product.
pub(crate) fn half_from_a_product() -> Writer {
    program(&[(F32, &[2, 2]), (F32, &[2, 2])], |w, x| {
        let product = w.op("matmul", &[(F32, &[2, 2])], &[x[0], x[0]], &[A::W(0), A::W(0)]);
        let scaled = w.like("mul", &[product, x[1]], &[]);
        vec![scaled, w.like("neg", &[x[1]], &[])]
    })
}

/// Makes the instruction of a plan that has a chain behind it fail when it runs: there is nothing where it reads.
pub(crate) fn break_fused(plan: &mut Plan) {
    let fused = plan.steps.iter_mut().find_map(|step| match &mut step.kind {
        StepKind::Fused(fused) if fused.after.is_some() => Some(fused),
        _ => None,
    });
    fused.unwrap().kernel.inputs[0].as_mut().unwrap().location.base = Base::Nowhere;
}

pub(super) fn with_bad_index(bench: &Bench) {
    bench.write(1, &[1.0; 8]);
    bench.write_i32(2, &[0, 4, 1]);
    bench.submit(&stream(&gathering(), &[1, 2], &[10, 11, 12], &[], &[]));
}

pub(crate) fn a_bad_index_fails_what_depends_on_it_and_nothing_else(bench: &Bench) {
    with_bad_index(bench);
    let failure = bench.read(10, 6).unwrap_err();
    assert_eq!(failure.error.code(), "ERR_ARGUMENT");
    assert_eq!(failure.error.message(), "embedding: index 4 at position 1 is outside [0, 4)");
    let place = failure.place.as_ref().unwrap();
    assert_eq!((place.instruction, place.op), (2, "gather"));
    assert!(place.line.contains("gather"), "{}", place.line);
    assert!(Arc::ptr_eq(&failure, &bench.read(11, 6).unwrap_err()));
    assert_eq!(bench.read(12, 16).unwrap(), [2.0; 16]);
}

pub(crate) fn a_failure_spreads_over_programs_and_stops_updates(bench: &Bench) {
    with_bad_index(bench);
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

pub(crate) fn a_chain_computes_what_does_not_depend_on_the_missing_operand(bench: &Bench) {
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

/// A mean of a chain, and a product with a chain behind it that has two results, each without one of the operands.
pub(crate) fn a_missing_operand_spreads_through_instructions_with_chains_around_them(bench: &Bench) {
    let writer = program(&[(F32, &[2, 2]), (F32, &[2, 2]), (F32, &[2, 2])], |w, x| {
        let difference = w.like("sub", &[x[0], x[1]], &[]);
        let square = w.like("square", &[difference], &[]);
        let mean = w.op("mean", &[(F32, &[])], &[square], &[A::W(1), A::W(4), A::W(1)]);
        let product = w.op("matmul", &[(F32, &[2, 2])], &[x[0], x[0]], &[A::W(0), A::W(0)]);
        let doubled = w.like("add", &[product, product], &[]);
        let scaled = w.like("mul", &[doubled, x[2]], &[]);
        let beside = w.like("neg", &[x[2]], &[]);
        vec![mean, doubled, scaled, beside]
    });
    let sizes = [(10, 1), (11, 4), (12, 4), (13, 4)];
    let wanted: [&[f32]; 4] = [&[3.75], &[14.0, 20.0, 30.0, 44.0], &[28.0, 40.0, 60.0, 88.0], &[-2.0; 4]];
    for missing in [None, Some(1), Some(2), Some(3)] {
        bench.write(1, &[1.0, 2.0, 3.0, 4.0]);
        bench.write(2, &[0.0, 1.0, 0.0, 2.0]);
        bench.write(3, &[2.0; 4]);
        let slot = |slot: u32| if missing == Some(slot) { 99 } else { slot };
        bench.submit(&stream(&writer, &[slot(1), slot(2), slot(3)], &[10, 11, 12, 13], &[], &[]));
        let lost: &[u32] = match missing {
            None => &[],
            Some(1) => &[10, 11, 12],
            Some(2) => &[10],
            Some(_) => &[12, 13],
        };
        for ((slot, len), wanted) in sizes.into_iter().zip(wanted) {
            if lost.contains(&slot) {
                assert_eq!(bench.code(slot, len), "ERR_DISPOSED", "{missing:?} {slot}");
            } else {
                assert_eq!(bench.read(slot, len).unwrap(), wanted, "{missing:?} {slot}");
            }
        }
    }
}

/// A softmax between two chains, without one of the operands.
pub(crate) fn a_missing_operand_spreads_through_a_softmax_between_chains(bench: &Bench) {
    let writer = program(&[(F32, &[2, 2]), (F32, &[2, 2]), (F32, &[2, 2])], |w, x| {
        let difference = w.like("sub", &[x[0], x[1]], &[]);
        let soft = w.like("softmax", &[difference], &[A::W(2), A::W(2), A::W(1)]);
        let doubled = w.like("add", &[soft, soft], &[]);
        let scaled = w.like("mul", &[doubled, x[2]], &[]);
        let beside = w.like("neg", &[x[2]], &[]);
        vec![doubled, scaled, beside]
    });
    for missing in [None, Some(1), Some(2), Some(3)] {
        bench.write(1, &[1.0, 2.0, 3.0, 4.0]);
        bench.write(2, &[0.0, 1.0, 2.0, 3.0]);
        bench.write(3, &[3.0; 4]);
        let slot = |slot: u32| if missing == Some(slot) { 99 } else { slot };
        bench.submit(&stream(&writer, &[slot(1), slot(2), slot(3)], &[10, 11, 12], &[], &[]));
        let lost: &[u32] = match missing {
            None => &[],
            Some(3) => &[11, 12],
            Some(_) => &[10, 11],
        };
        for (slot, wanted) in [(10, 1.0), (11, 3.0), (12, -3.0)] {
            if lost.contains(&slot) {
                assert_eq!(bench.code(slot, 4), "ERR_DISPOSED", "{missing:?} {slot}");
            } else {
                assert_eq!(bench.read(slot, 4).unwrap(), [wanted; 4], "{missing:?} {slot}");
            }
        }
    }
}

pub(crate) fn sync_tells_the_first_unread_failure_once(bench: &Bench) {
    with_bad_index(bench);
    assert_eq!(bench.sync().unwrap_err().error.code(), "ERR_ARGUMENT");
    bench.sync().unwrap();
    with_bad_index(bench);
    assert_eq!(bench.code(11, 6), "ERR_ARGUMENT");
    bench.sync().unwrap();
    with_bad_index(bench);
    let (done, end) = told();
    bench.device.close(done);
    assert_eq!(end.recv().unwrap().unwrap_err().error.code(), "ERR_ARGUMENT");
}

pub(crate) fn slots_that_do_not_fit_the_program_fail_all_of_it(bench: &Bench) {
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

pub(crate) fn an_in_place_operand_must_not_be_read_through_another_slot(bench: &Bench) {
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

/// On a device of 1 MiB.
pub(crate) fn out_of_memory_leaves_the_device_working(bench: &Bench) {
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

/// Not among the tests that [`device_tests`](super::device_tests) declares: how many rounds a device can take is its own.
pub(crate) fn damaged_streams_end_in_failures_and_leave_the_device_working(bench: &Bench, rounds: usize) {
    let mut random = Random::new(11);
    let negative = program(&[(F32, &[3])], |w, x| vec![w.like("neg", x, &[])]);
    for _ in 0..rounds {
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

pub(crate) fn a_listener_that_panics_does_not_stop_the_device(bench: &Bench) {
    bench.device.sync(Box::new(|_| std::panic::resume_unwind(Box::new("told"))));
    bench.sync().unwrap();
    bench.write(1, &[1.0]);
    assert_eq!(bench.read(1, 1).unwrap(), [1.0]);
}
