//! Running sums and products against `cpu`, the bits that other rows and what follows must not change; texts through naga.

use super::super::canary::{Arena, floats, kernel, prepare, words};
use super::super::testing::{Lab, Settings, operand, validate};
use super::*;
use crate::cpu::{self, Cpu, Isa, Pool};
use crate::gpu::{Class, Traits};
use crate::program::Op;

/// Around one block, and one block of blocks.
fn shapes() -> [Middle; 14] {
    [
        (1, 1, 1),
        (70, 2, 1),
        (3, 31, 1),
        (3, 32, 5),
        (9, 33, 1),
        (2, 64, 100),
        (2, 300, 3),
        (2, 1023, 1),
        (2, 1024, 2),
        (3, 1025, 1),
        (1, 40_009, 1),
        (1, 3000, 4),
        (0, 5, 2),
        (2, 0, 3),
    ]
    .map(|(outer, count, inner)| Middle { outer, count, inner })
}

fn every_way(axes: Middle) -> impl Iterator<Item = Scan> {
    [ScanOp::Sum, ScanOp::Product].into_iter().flat_map(move |kind| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(reverse, exclusive)| Scan {
            kind,
            axes,
            reverse,
            exclusive,
        })
    })
}

fn dims(axes: Middle) -> [u32; 3] {
    [axes.outer, axes.count, axes.inner].map(|size| size as u32)
}

fn on_gpu(lab: &mut Lab, of: Scan, dtype: Dtype, x: &[u32], shift: usize) -> Vec<u32> {
    let mut arena = Arena::default();
    let x = arena.read(dtype, &dims(of.axes), x, shift);
    let y = arena.written(dtype, &dims(of.axes));
    let after = arena.run(lab, &kernel(Op::Scan(of), &[Some(x)], &[y]), Settings::default());
    words(&after, &y).to_vec()
}

fn on_cpu(of: Scan, dtype: Dtype, x: &[u32]) -> Vec<u32> {
    let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() };
    let mut y = vec![0; x.len()];
    cpu::scan::scan(&cpu, of, dtype, x, &mut y);
    y
}

/// Terms between −1 and 1, or factors near 1.
fn elements(kind: ScanOp, count: usize) -> Vec<u32> {
    let element = |x: f32| if kind == ScanOp::Sum { x } else { 1.0 + 0.003 * x };
    floats(count, 7).into_iter().map(|x| element(x).to_bits()).collect()
}

#[test]
fn every_text_is_valid_and_none_depends_on_the_batch() {
    for axes in shapes() {
        for of in every_way(axes) {
            for dtype in [Dtype::F32, Dtype::I32] {
                let texts = |outer| {
                    let of = Scan { axes: Middle { outer, ..axes }, ..of };
                    let (x, y) = (operand(dtype, &dims(of.axes), 1), operand(dtype, &dims(of.axes), 1 << 22));
                    let calls = prepare(&kernel(Op::Scan(of), &[Some(x)], &[y]), &Traits::least(Class::Discrete)).calls;
                    calls.iter().for_each(validate);
                    calls.iter().map(|call| call.shader.text.clone()).collect::<Vec<_>>()
                };
                assert_eq!(texts(1), texts(20));
            }
        }
    }
}

#[test]
fn running_sums_and_products_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    for axes in shapes() {
        let size = axes.outer * axes.count * axes.inner;
        for (shift, of) in every_way(axes).enumerate() {
            let x = elements(of.kind, size);
            let (got, want) = (on_gpu(&mut lab, of, Dtype::F32, &x, shift % 2), on_cpu(of, Dtype::F32, &x));
            // Up to a block of blocks the order is the same.
            let same = axes.count <= BLOCK * BLOCK;
            let scale = if of.kind == ScanOp::Sum { axes.count as f32 } else { 4.0 };
            for (&got, &want) in got.iter().zip(&want) {
                let off = (f32::from_bits(got) - f32::from_bits(want)).abs();
                assert!(got == want || !same && off <= 1e-6 * scale, "{of:?}: {off}");
            }
            let x: Vec<u32> = (0..size as u32).map(|i| i.wrapping_mul(0x9e37_79b9) | 1).collect();
            assert!(on_gpu(&mut lab, of, Dtype::I32, &x, 0) == on_cpu(of, Dtype::I32, &x), "{of:?}");
        }
    }
}

#[test]
fn rows_alone_and_what_follows_change_no_bit() {
    let Some(mut lab) = Lab::open() else { return };
    for kind in [ScanOp::Sum, ScanOp::Product] {
        let (outer, count) = (5, 3000);
        let x = elements(kind, outer * count);
        let of =
            |outer, count| Scan { kind, axes: Middle { outer, count, inner: 1 }, reverse: false, exclusive: false };
        let all = on_gpu(&mut lab, of(outer, count), Dtype::F32, &x, 0);
        let last = (outer - 1) * count;
        for short in [1, 32, 33, 1024, 1100, count] {
            let start = on_gpu(&mut lab, of(1, short), Dtype::F32, &x[last..][..short], 1);
            assert!(all[last..][..short] == start, "{short}");
            // From the other end, what is appended comes first: zeros of a sum, ones of a product.
            let backwards = |count| Scan { reverse: true, ..of(1, count) };
            let end = on_gpu(&mut lab, backwards(short), Dtype::F32, &x[last..][..short], 1);
            let nothing = if kind == ScanOp::Sum { 0.0f32 } else { 1.0 }.to_bits();
            let longer: Vec<u32> = x[last..][..short].iter().copied().chain([nothing; 41]).collect();
            let longer = on_gpu(&mut lab, backwards(longer.len()), Dtype::F32, &longer, 0);
            assert!(longer[..short] == end, "{short} backwards");
        }
    }
}

#[test]
fn special_values_stay_what_they_are() {
    let Some(mut lab) = Lab::open() else { return };
    let mut x = vec![-0.0f32; 70];
    x[40] = f32::INFINITY;
    x[60] = f32::NAN;
    let x: Vec<u32> = x.into_iter().map(f32::to_bits).collect();
    let axes = Middle { outer: 1, count: 70, inner: 1 };
    let y = on_gpu(&mut lab, Scan { kind: ScanOp::Sum, axes, reverse: false, exclusive: false }, Dtype::F32, &x, 0);
    assert!(y[..40].iter().all(|&word| word == (-0.0f32).to_bits()));
    assert!(y[40..60].iter().all(|&word| word == f32::INFINITY.to_bits()));
    assert!(y[60..].iter().all(|&word| f32::from_bits(word).is_nan()));
}
