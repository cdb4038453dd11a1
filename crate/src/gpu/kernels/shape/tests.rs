//! What moves elements, against `cpu`: windows of large operands, targets inside a slab; texts through naga.

use super::super::canary::{Arena, bits, floats, kernel, prepare, words};
use super::super::testing::{Lab, Settings, operand, validate};
use crate::cpu::{Cpu, Isa, Pool, shape as cpu};
use crate::dtype::Dtype;
use crate::gpu::{Class, Traits};
use crate::program::Op;
use crate::shape::{Dims, numel};

fn processor() -> Cpu {
    Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() }
}

fn dims(dims: &[u32]) -> Dims {
    Dims::new(dims).unwrap()
}

/// Words of every kind, NaNs with payloads among them.
fn payload(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| i.wrapping_mul(0x9e37_79b9) ^ if i % 3 == 0 { 0x7f80_0000 } else { 0 }).collect()
}

const PERMUTED: [(&[u32], &[u32]); 17] = [
    (&[], &[]),
    (&[7], &[0]),
    (&[0, 3], &[1, 0]),
    (&[2, 3], &[1, 0]),
    (&[1, 257], &[1, 0]),
    (&[31, 33], &[1, 0]),
    (&[16, 64], &[1, 0]),
    (&[257, 65], &[1, 0]),
    (&[13, 12], &[1, 0]),
    (&[2, 3, 4], &[0, 2, 1]),
    (&[5, 36, 40], &[0, 2, 1]),
    (&[2, 3, 4], &[1, 0, 2]),
    (&[2, 3, 4], &[0, 1, 2]),
    (&[3, 33, 17], &[2, 0, 1]),
    (&[2, 3, 2, 5], &[3, 1, 0, 2]),
    (&[2, 1, 3, 1, 2, 1, 2, 2], &[7, 0, 6, 1, 5, 2, 4, 3]),
    (&[3, 12, 3, 3, 2, 3, 2, 13], &[7, 6, 5, 4, 3, 2, 0, 1]),
];

#[test]
fn transposes_are_those_of_the_cpu() {
    let Some(mut lab) = Lab::open() else { return };
    for (from, permutation) in PERMUTED {
        let to: Vec<u32> = permutation.iter().map(|&axis| from[axis as usize]).collect();
        let data = payload(numel(from).unwrap());
        let mut want = vec![0; data.len()];
        cpu::transpose(&processor(), from, permutation, &data, &mut want);
        for shift in [0, 3] {
            let mut arena = Arena::default();
            let x = arena.read(Dtype::F32, from, &data, shift);
            let y = arena.written(Dtype::F32, &to);
            let step = kernel(Op::Transpose { permutation: dims(permutation) }, &[Some(x)], &[y]);
            let got = arena.run(&mut lab, &step, Settings::default());
            assert!(words(&got, &y) == want, "{from:?} by {permutation:?}");
        }
    }
}

const WINDOWS: [(&[u32], &[u32], &[u32]); 13] = [
    (&[], &[], &[]),
    (&[7], &[2], &[5]),
    (&[7], &[7], &[0]),
    (&[64], &[8], &[33]),
    (&[4, 5], &[1, 0], &[3, 5]),
    (&[4, 5], &[1, 2], &[3, 2]),
    (&[3, 4, 5], &[0, 1, 2], &[3, 2, 3]),
    (&[0, 5], &[0, 1], &[0, 4]),
    (&[33, 257], &[1, 17], &[31, 33]),
    (&[33, 260], &[1, 16], &[31, 32]),
    (&[40, 8], &[0, 3], &[40, 1]),
    (&[1, 2, 3], &[0, 0, 0], &[1, 2, 3]),
    (&[3, 3, 3, 3, 3, 3, 3, 3], &[1, 0, 1, 0, 1, 0, 1, 1], &[2, 2, 2, 2, 2, 2, 2, 1]),
];

#[test]
fn slices_and_pads_are_those_of_the_cpu() {
    let Some(mut lab) = Lab::open() else { return };
    let nan = f64::from(f32::NAN);
    for (large, starts, small) in WINDOWS {
        let data = payload(numel(large).unwrap());
        let mut part = vec![0; numel(small).unwrap()];
        cpu::slice(&processor(), large, starts, small, &data, &mut part);
        for shift in [0, 2] {
            let mut arena = Arena::default();
            let x = arena.read(Dtype::I32, large, &data, shift);
            let y = arena.written(Dtype::I32, small);
            let step = kernel(Op::Slice { starts: dims(starts) }, &[Some(x)], &[y]);
            let got = arena.run(&mut lab, &step, Settings::default());
            assert!(words(&got, &y) == part, "{small:?} at {starts:?} of {large:?}");

            for (dtype, value, word) in
                [(Dtype::F32, nan, f32::NAN.to_bits()), (Dtype::I32, -3.0, -3i32 as u32), (Dtype::Bool, 5.0, 1)]
            {
                let mut want = vec![0; data.len()];
                cpu::pad(&processor(), small, starts, large, word, &part, &mut want);
                let mut arena = Arena::default();
                let x = arena.read(dtype, small, &part, shift);
                let y = arena.written(dtype, large);
                let step = kernel(Op::Pad { before: dims(starts), value: 1 }, &[Some(x)], &[y]);
                let settings = Settings { scalars: &[9.0, value], ..Settings::default() };
                let got = arena.run(&mut lab, &step, settings);
                assert!(words(&got, &y) == want, "{small:?} at {starts:?} in {large:?}");
            }
        }
    }
}

#[test]
fn operands_are_joined() {
    let Some(mut lab) = Lab::open() else { return };
    let many: Vec<u32> = (0..40).map(|i| i % 3).collect();
    let cases: [(&[u32], usize, &[u32]); 8] = [
        (&[3], 0, &[3]),
        (&[9], 0, &[3, 0, 4]),
        (&[2, 9], 1, &[3, 1, 4]),
        (&[2, 3, 2], 1, &[3, 1]),
        (&[0, 3], 1, &[3, 2]),
        (&[17, 9], 1, &[31, 33, 257]),
        (&[6, 9, 3], 1, &[4, 8, 12]),
        (&[9, 5], 0, &many),
    ];
    for (shape, axis, sizes) in cases {
        for shift in [0, 1] {
            let shape_of = |size| shape.iter().enumerate().map(move |(i, &d)| if i == axis { size } else { d });
            let mut arena = Arena::default();
            let mut parts = Vec::new();
            for (i, &size) in sizes.iter().enumerate() {
                let shape: Vec<u32> = shape_of(size).collect();
                let data: Vec<u32> = payload(numel(&shape).unwrap() + i)[i..].to_vec();
                parts.push((arena.read(Dtype::F32, &shape, &data, shift), data, size));
            }
            let whole: Vec<u32> = shape_of(sizes.iter().sum()).collect();
            let y = arena.written(Dtype::F32, &whole);
            let mut want = vec![0; y.numel];
            let slices: Vec<_> = parts.iter().map(|(_, data, size)| (&data[..], *size)).collect();
            cpu::concat(&processor(), &whole, axis, &slices, &mut want);
            let inputs: Vec<_> = parts.iter().map(|&(part, ..)| Some(part)).collect();
            let step = kernel(Op::Concat { axis: axis as u32 }, &inputs, &[y]);
            let got = arena.run(&mut lab, &step, Settings::default());
            assert!(words(&got, &y) == want, "{sizes:?} along {axis}");
        }
    }
}

#[test]
fn targets_in_a_slab_are_changed_up_to_their_end() {
    let Some(mut lab) = Lab::open() else { return };
    for count in [0, 1, 3, 4, 7, 64, 1021] {
        for shifts in [[0, 0], [1, 0], [0, 1], [3, 3]] {
            for (op, dtype) in [(Op::Assign, Dtype::Bool), (Op::AddInto, Dtype::F32), (Op::AddInto, Dtype::I32)] {
                let [a, b] = if dtype == Dtype::F32 {
                    [1, 2].map(|seed| bits(&floats(count, seed)))
                } else {
                    [payload(count), payload(2 * count)[count..].to_vec()]
                };
                let mut arena = Arena::default();
                let x = arena.changed(dtype, &[count as u32], &a, shifts[0]);
                let y = arena.read(dtype, &[count as u32], &b, shifts[1]);
                let mut want = a.clone();
                match op {
                    Op::Assign => cpu::assign(&processor(), &mut want, &b),
                    _ => cpu::add_into(&processor(), dtype, &mut want, &b),
                }
                let step = kernel(op, &[Some(x), Some(y)], &[]);
                assert_eq!(words(&arena.run(&mut lab, &step, Settings::default()), &x), want);
                let closed = Settings { closed: true, ..Settings::default() };
                assert_eq!(words(&arena.run(&mut lab, &step, closed), &x), a);
            }
        }
    }
}

#[test]
fn texts_are_valid_and_know_no_sizes() {
    for class in [Class::Discrete, Class::Software] {
        let traits = Traits::least(class);
        for offset in [0, 1] {
            let text = |op: Op, inputs: &[&[u32]], output: &[u32]| {
                let inputs: Vec<_> = inputs.iter().map(|dims| Some(operand(Dtype::F32, dims, offset))).collect();
                let prepared = prepare(&kernel(op, &inputs, &[operand(Dtype::F32, output, 0)]), &traits);
                prepared.calls.iter().for_each(validate);
                prepared.calls.into_iter().map(|call| call.shader).collect::<Vec<_>>()
            };
            let turn = |batch: u32| {
                let permutation = dims(&[0, 2, 1]);
                text(Op::Transpose { permutation }, &[&[batch, 64, 20]], &[batch, 20, 64])
            };
            assert_eq!(turn(8), turn(24));
            let cut = |batch: u32| text(Op::Slice { starts: dims(&[0, 4]) }, &[&[batch, 16]], &[batch, 8]);
            assert_eq!(cut(8), cut(24));
            let join = |batch: u32| text(Op::Concat { axis: 1 }, &[&[batch, 4], &[batch, 8]], &[batch, 12]);
            assert_eq!(join(8), join(24));
            let pad = |batch: u32| text(Op::Pad { before: dims(&[0, 4]), value: 0 }, &[&[batch, 4]], &[batch, 12]);
            assert_eq!(pad(8), pad(24));
        }
    }
}

#[test]
fn operands_of_many_windows_are_changed_in_parts() {
    let traits = Traits::least(Class::Integrated);
    let count = 600 << 20;
    let (x, y) = (operand(Dtype::F32, &[count], 3), operand(Dtype::F32, &[count], 0));
    let prepared = prepare(&kernel(Op::AddInto, &[Some(x), Some(y)], &[]), &traits);
    prepared.calls.iter().for_each(validate);
    assert!(prepared.calls.len() > 16 && prepared.calls.iter().all(|call| call.windows.len() == 3));
}
