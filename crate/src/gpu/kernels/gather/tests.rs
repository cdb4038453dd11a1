//! Taking and adding slices as `cpu` does, in every form to the bit; what a bad index reports and leaves alone; texts.

use super::super::Check;
use super::super::canary::{Arena, kernel, prepare, words};
use super::super::testing::{Lab, Settings, operand, validate};
use crate::cpu::gather::{self as cpu, Axis};
use crate::cpu::{Cpu, Isa, Pool};
use crate::dtype::Dtype;
use crate::gpu::{Class, Traits};
use crate::program::Op;
use crate::program::op::{Indexed, Reason};

fn processor() -> Cpu {
    Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() }
}

/// Values whose sum depends on the order.
fn uneven(count: usize) -> Vec<u32> {
    (0..count).map(|i| ((i % 97) as f32 * 1.1f32.powi((i % 300) as i32 - 150)).to_bits()).collect()
}

/// Shapes as [outer, size, inner] and numbers of indices; the last ones are sorted, in one, two and three passes.
const CASES: [([usize; 3], usize); 12] = [
    ([1, 5, 1], 9),
    ([2, 3, 7], 0),
    ([3, 7, 4], 11),
    ([1, 0, 4], 0),
    ([1, 3, 0], 2),
    ([0, 3, 2], 2),
    ([2, 1009, 17], 65),
    ([3, 31, 1], 300),
    ([1, 200, 64], 5003),
    ([2, 1, 512], 1200),
    ([1, 1009, 52], 3001),
    ([1, 70_001, 4], 600),
];

fn indices(size: usize, count: usize) -> Vec<i32> {
    // Some often, some never.
    (0..count).map(|k| if k % 5 == 0 { size as i32 / 2 } else { (k * 7919 % size.max(1)) as i32 }).collect()
}

#[test]
fn slices_are_taken_and_added_as_on_the_cpu() {
    let Some(mut lab) = Lab::open() else { return };
    for ([outer, size, inner], count) in CASES {
        let axis = Axis { outer, size, inner };
        let at = indices(size, count);
        let at_words: Vec<u32> = at.iter().map(|&i| i as u32).collect();
        let (large, small) = ([outer as u32, size as u32, inner as u32], [outer as u32, count as u32, inner as u32]);
        for shift in [0, 1] {
            let x: Vec<u32> = (0..(outer * size * inner) as u32).map(|i| i | 0x7f80_0000).collect();
            let mut want = vec![0; outer * count * inner];
            cpu::gather(&processor(), axis, &x, &at, &mut want).unwrap();
            let mut arena = Arena::default();
            let x = arena.read(Dtype::F32, &large, &x, shift);
            let k = arena.read(Dtype::I32, &[count as u32], &at_words, shift);
            let y = arena.written(Dtype::F32, &small);
            let step = kernel(Op::Gather { axis: 1, of: Indexed::Index }, &[Some(x), Some(k)], &[y]);
            assert_eq!(words(&arena.run(&mut lab, &step, Settings::default()), &y), want);

            for dtype in [Dtype::F32, Dtype::I32] {
                let dy = uneven(outer * count * inner);
                let mut want = vec![0; outer * size * inner];
                cpu::scatter_add(&processor(), axis, dtype, &dy, &at, &mut want).unwrap();
                let mut arena = Arena::default();
                let x = arena.read(dtype, &small, &dy, shift);
                let k = arena.read(Dtype::I32, &[count as u32], &at_words, shift);
                let y = arena.written(dtype, &large);
                let step = kernel(Op::ScatterAdd { axis: 1, of: Indexed::Index }, &[Some(x), Some(k)], &[y]);
                assert!(words(&arena.run(&mut lab, &step, Settings::default()), &y) == want, "{axis:?} {count}");
            }
        }
    }
}

#[test]
fn both_forms_have_the_same_bits() {
    let Some(mut lab) = Lab::open() else { return };
    // 512 · 600 · 4 pairs are direct on a GPU and sorted on a processor: a run holds their results against each other.
    let traits = [Class::Discrete, Class::Software].map(Traits::least);
    let mut arena = Arena::default();
    let dy = arena.read(Dtype::F32, &[600, 4], &uneven(2400), 0);
    let at: Vec<u32> = indices(512, 600).iter().map(|&i| i as u32).collect();
    let k = arena.read(Dtype::I32, &[600], &at, 0);
    let y = arena.written(Dtype::F32, &[512, 4]);
    let step = kernel(Op::ScatterAdd { axis: 0, of: Indexed::Index }, &[Some(dy), Some(k)], &[y]);
    let calls = traits.map(|traits| prepare(&step, &traits).calls.len());
    assert!(calls[0] == 2 && calls[1] > 2);
    arena.run(&mut lab, &step, Settings::default());
}

#[test]
fn no_dispatch_adds_up_more_than_a_watchdog_waits_for() {
    for class in [Class::Discrete, Class::Integrated] {
        let sums = |count: u32, size: u32| {
            let dy = operand(Dtype::F32, &[count, 4], 0);
            let k = operand(Dtype::I32, &[count], 0);
            let y = operand(Dtype::F32, &[size, 4], 0);
            let calls = prepare(
                &kernel(Op::ScatterAdd { axis: 0, of: Indexed::Index }, &[Some(dy), Some(k)], &[y]),
                &Traits::least(class),
            )
            .calls;
            (calls.len(), calls.iter().filter(|call| call.shader.name == "scatter_add").count())
        };
        assert_eq!(sums(8000, 1), (2, 1));
        // Few elements that would each look far: sorted.
        let (calls, adding) = sums(9000, 1);
        assert!(calls > 2 && adding == 1);
        assert_eq!(sums(600_000, 5000).1, 3);
    }
}

#[test]
fn bad_indices_are_reported_and_reach_nothing() {
    let Some(mut lab) = Lab::open() else { return };
    let bad = [1, i32::MIN, -1, 3, i32::MAX].map(|i| i as u32);
    for (op, count) in
        [(Op::Gather { axis: 0, of: Indexed::Index }, 3), (Op::ScatterAdd { axis: 0, of: Indexed::Index }, 5)]
    {
        let mut arena = Arena::default();
        let x = arena.read(Dtype::F32, &[count, 4], &uneven(count as usize * 4), 0);
        let k = arena.read(Dtype::I32, &[5], &bad, 0);
        let y = arena.written(Dtype::F32, &[8 - count, 4]);
        let step = kernel(op, &[Some(x), Some(k)], &[y]);
        arena.run(&mut lab, &step, Settings::default());
        let prepared = prepare(&step, &Traits::software());
        assert_eq!(prepared.check, Some(Check::Range { what: "index", size: 3 }));
    }
}

#[test]
fn what_a_condition_is_required_for_is_copied_whether_it_holds_or_not() {
    let Some(mut lab) = Lab::open() else { return };
    let reason = Reason::ClipNotFinite;
    for (size, shift) in [(0, 0), (1, 0), (1, 1), (67, 0), (67, 1), (4096, 0)] {
        for ok in [0, 1] {
            let mut arena = Arena::default();
            let values: Vec<u32> = (0..size).map(|i| i | 0x7f80_0000).collect();
            let x = arena.read(Dtype::F32, &[size], &values, shift);
            let holds = arena.read(Dtype::Bool, &[], &[ok], shift);
            let y = arena.written(Dtype::F32, &[size]);
            let step = kernel(Op::Require { reason }, &[Some(x), Some(holds)], &[y]);
            assert_eq!(words(&arena.run(&mut lab, &step, Settings::default()), &y), values);
            assert_eq!(prepare(&step, &Traits::software()).check, Some(Check::Condition(reason)));
        }
    }
}

#[test]
fn texts_are_valid_and_know_no_sizes() {
    for class in [Class::Discrete, Class::Software] {
        let traits = Traits::least(class);
        for inner in [3, 4] {
            let texts = |count: u32, size: u32| {
                let small = operand(Dtype::F32, &[count, inner], 0);
                let large = operand(Dtype::F32, &[size, inner], 0);
                let k = operand(Dtype::I32, &[count], 0);
                let steps = [
                    kernel(Op::Gather { axis: 0, of: Indexed::Index }, &[Some(large), Some(k)], &[small]),
                    kernel(Op::ScatterAdd { axis: 0, of: Indexed::Index }, &[Some(small), Some(k)], &[large]),
                    kernel(
                        Op::Require { reason: Reason::ClipNotFinite },
                        &[Some(small), Some(operand(Dtype::Bool, &[], 0))],
                        &[small],
                    ),
                ];
                let calls: Vec<_> = steps.iter().flat_map(|step| prepare(step, &traits).calls).collect();
                calls.iter().for_each(validate);
                calls.into_iter().map(|call| call.shader).collect::<Vec<_>>()
            };
            assert_eq!(texts(7, 30), texts(9, 40));
            assert_eq!(texts(30_000, 5000), texts(40_000, 6000));
        }
    }
}
