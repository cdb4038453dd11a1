//! The largest elements against `cpu`: order, ties, NaN, a line alone and among others; texts through naga.

use super::super::canary::{Arena, kernel, prepare, words};
use super::super::testing::{Lab, Settings, operand, validate};
use super::*;
use crate::cpu::top_k as cpu;
use crate::cpu::{Cpu, Isa, Pool};
use crate::gpu::{Class, Traits};
use crate::program::Op;

/// Lengths around powers of two, the tile, two and several tiles; each with how many are wanted.
const CASES: [([usize; 3], &[usize]); 14] = [
    ([3, 1, 1], &[1]),
    ([300, 2, 1], &[1, 2]),
    ([7, 3, 5], &[1, 3]),
    ([5, 128, 1], &[1, 100, 128]),
    ([5, 129, 1], &[5, 129]),
    ([3, 255, 2], &[40]),
    ([2, 1023, 1], &[1023]),
    ([2, 1024, 3], &[7, 1024]),
    ([2, 1025, 1], &[1, 1024, 1025]),
    ([1, 2048, 2], &[2000]),
    ([2, 2049, 1], &[3, 1500, 2049]),
    ([1, 5000, 3], &[1, 1024, 3000]),
    ([1, 70_001, 1], &[10, 70_001]),
    ([0, 5, 2], &[2]),
];

fn dims(axes: Middle, k: usize) -> [u32; 3] {
    [axes.outer, k, axes.inner].map(|size| size as u32)
}

/// Few values, so that there are ties; the special ones of the dtype among them.
fn mixed(count: usize, dtype: Dtype, seed: u32) -> Vec<u32> {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-45, -1e-45, -f32::NAN];
    let word = |i: u32| i.wrapping_mul(0x9e37_79b9).wrapping_add(seed) >> 7;
    let element = |i: u32| match (dtype, word(i) % 11) {
        (Dtype::F32, 0) => special[word(i) as usize / 11 % special.len()].to_bits(),
        (Dtype::F32, 1..=5) => ((word(i) % 7) as f32 - 3.0).to_bits(),
        (Dtype::F32, _) => (word(i) as f32 - 16_777_216.0).to_bits(),
        (_, 0) => i32::MIN as u32,
        (_, 1) => i32::MAX as u32,
        _ => (word(i) % 9).wrapping_sub(4),
    };
    (0..count as u32).map(element).collect()
}

/// What the cpu finds: elements, indices, places.
fn on_cpu(axes: Middle, k: usize, dtype: Dtype, x: &[u32]) -> [Vec<u32>; 3] {
    let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() };
    let size = axes.outer * k * axes.inner;
    let (mut values, mut indices, mut places) = (vec![0; size], vec![0; size], vec![0; size]);
    let to = cpu::Largest { values: &mut values, indices: &mut indices, places: &mut places };
    cpu::top_k(&cpu, axes, k, dtype, x, to);
    let words = |integers: Vec<i32>| integers.into_iter().map(i32::cast_unsigned).collect();
    [values, words(indices), words(places)]
}

/// What the gpu finds, from an operand that begins `shift` words behind a multiple of 16.
fn on_gpu(lab: &mut Lab, axes: Middle, k: usize, dtype: Dtype, x: &[u32], shift: usize) -> [Vec<u32>; 3] {
    let mut arena = Arena::default();
    let x = arena.read(dtype, &dims(axes, axes.count), x, shift);
    let to = [dtype, Dtype::I32, Dtype::I32].map(|dtype| arena.written(dtype, &dims(axes, k)));
    let after = arena.run(lab, &kernel(Op::TopK { axes, k }, &[Some(x)], &to), Settings::default());
    to.map(|to| words(&after, &to).to_vec())
}

#[test]
fn every_text_is_valid_and_none_depends_on_the_batch() {
    for class in [Class::Discrete, Class::Software] {
        for ([_, count, inner], wanted) in CASES {
            for (&k, dtype) in wanted.iter().flat_map(|k| [Dtype::F32, Dtype::I32].map(|dtype| (k, dtype))) {
                let texts = |outer| {
                    let axes = Middle { outer, count, inner };
                    let x = operand(dtype, &dims(axes, count), 1);
                    let to = [dtype, Dtype::I32, Dtype::I32].map(|dtype| operand(dtype, &dims(axes, k), 1 << 24));
                    let step = kernel(Op::TopK { axes, k }, &[Some(x)], &to);
                    let calls = prepare(&step, &Traits::least(class)).calls;
                    calls.iter().for_each(validate);
                    calls.iter().map(|call| call.shader.text.clone()).collect::<Vec<_>>()
                };
                assert_eq!(texts(1), texts(20));
            }
        }
    }
}

#[test]
fn the_largest_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    for ([outer, count, inner], wanted) in CASES {
        let axes = Middle { outer, count, inner };
        for dtype in [Dtype::F32, Dtype::I32] {
            for (shift, &k) in wanted.iter().enumerate() {
                let x = mixed(outer * count * inner, dtype, 77 * k as u32);
                let [got, want] = [on_gpu(&mut lab, axes, k, dtype, &x, shift), on_cpu(axes, k, dtype, &x)];
                assert!(got == want, "{axes:?} {k} {dtype:?}");
            }
        }
    }
}

#[test]
fn equals_come_in_the_order_of_their_indices() {
    let Some(mut lab) = Lab::open() else { return };
    for (dtype, word) in
        [(Dtype::I32, i32::MIN as u32), (Dtype::F32, f32::NEG_INFINITY.to_bits()), (Dtype::F32, f32::NAN.to_bits())]
    {
        for count in [1usize, 33, 1000, 3000] {
            let axes = Middle { outer: 2, count, inner: 1 };
            let [_, indices, _] = on_gpu(&mut lab, axes, count, dtype, &vec![word; 2 * count], 0);
            let each = 0..count as u32;
            assert!(indices.iter().copied().eq(each.clone().chain(each)));
        }
    }
}

#[test]
fn a_line_alone_gives_what_it_gives_among_others() {
    let Some(mut lab) = Lab::open() else { return };
    for (count, k) in [(7, 3), (300, 300), (2500, 1100)] {
        let rows = 9;
        let x = mixed(rows * count, Dtype::F32, 5);
        let axes = |outer| Middle { outer, count, inner: 1 };
        let [values, indices, _] = on_gpu(&mut lab, axes(rows), k, Dtype::F32, &x, 0);
        let [value, index, place] = on_gpu(&mut lab, axes(1), k, Dtype::F32, &x[(rows - 1) * count..], 3);
        assert!(values[(rows - 1) * k..] == value && indices[(rows - 1) * k..] == index && index == place);
    }
}
