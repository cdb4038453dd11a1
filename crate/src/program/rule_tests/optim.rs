//! Optimisers: segments, state, gates.

use super::{accepted, refused};
use crate::dtype::Dtype;
use crate::program::NONE;
use crate::program::testing::{A, BOOL, F32, I32, Writer};

/// An optimiser step over a slab of 16 with two gradients of 4 elements.
fn sgd(momentum: Option<u32>, factor: f64, segments: &'static [u32], steps: u32) -> impl FnOnce(&mut Writer) {
    move |w| {
        let slab = w.input(F32, &[16]);
        let velocity = momentum.map_or(NONE, |size| w.input(F32, &[size]));
        let steps = w.input(I32, &[steps]);
        let (g, h) = (w.input(F32, &[2, 2]), w.input(F32, &[4]));
        let attributes = [A::W(0), A::F(factor), A::F(0.0), A::F(0.0), A::W(0), A::L(segments)];
        w.op("sgd", &[], &[slab, velocity, steps, NONE, NONE, g, h], &attributes);
    }
}

#[test]
fn segments_are_disjoint_and_inside_the_slab() {
    accepted(sgd(None, 0.0, &[1, 12, 0, 8], 2));
    accepted(sgd(Some(16), 0.9, &[0, 0, 1, 4], 2));
    refused!(sgd(Some(15), 0.9, &[0, 0, 1, 4], 2), "the momentum slab is f32[15], not f32[16]");
    refused!(sgd(None, 0.9, &[0, 0, 1, 4], 2), "momentum needs its slab");
    refused!(sgd(None, f64::NAN, &[0, 0, 1, 4], 2), "momentum needs its slab");
    refused!(sgd(None, 0.0, &[0, 0, 1, 3], 2), "two segments overlap");
    refused!(sgd(None, 0.0, &[0, 0, 0, 4], 2), "two segments belong to one parameter");
    refused!(sgd(None, 0.0, &[0, 0, 2, 4], 2), "parameter 2");
    refused!(sgd(None, 0.0, &[0, 0, 1, 13], 2), "outside 2 parameters in 16 elements");
    refused!(sgd(None, 0.0, &[0, 0, 1, u32::MAX], 2), "outside");
    refused!(sgd(None, 0.0, &[0, 0], 2), "1 segments for 2 gradients");
    refused!(sgd(None, 0.0, &[0, 0, 1], 2), "segments are pairs");
}

#[test]
fn optimisers_take_their_state_and_gates() {
    // m, v, greatest v, scale, ok.
    let adam = |slabs: [&'static [u32]; 3], scale: &'static [u32], ok: Dtype| {
        move |w: &mut Writer| {
            let slab = w.input(F32, &[8]);
            let slabs = slabs.map(|dims| w.input(F32, dims));
            let (steps, scale, ok) = (w.input(I32, &[1]), w.input(F32, scale), w.input(ok, &[]));
            let g = w.input(F32, &[8]);
            let attributes = [A::W(0), A::F(0.9), A::F(0.99), A::F(1e-8), A::F(0.0), A::W(1), A::L(&[0, 0])];
            w.op("adam", &[], &[slab, slabs[0], slabs[1], slabs[2], steps, scale, ok, g], &attributes);
        }
    };
    accepted(adam([&[8], &[8], &[8]], &[], BOOL));
    refused!(adam([&[7], &[8], &[8]], &[], BOOL), "the m slab is f32[7], not f32[8]");
    refused!(adam([&[8], &[2, 4], &[8]], &[], BOOL), "the v slab is f32[2,4], not f32[8]");
    refused!(adam([&[8], &[8], &[9]], &[], BOOL), "the slab of greatest v is f32[9], not f32[8]");
    refused!(adam([&[8], &[8], &[8]], &[1], BOOL), "scale is f32[1], not f32[]");
    refused!(adam([&[8], &[8], &[8]], &[], F32), "ok is f32[], not bool[]");
    // v, mean, velocity; momentum.
    let rmsprop = |slabs: [Option<u32>; 3], momentum: f64| {
        move |w: &mut Writer| {
            let slab = w.input(F32, &[8]);
            let slabs = slabs.map(|size| size.map_or(NONE, |size| w.input(F32, &[size])));
            let (steps, g) = (w.input(I32, &[1]), w.input(F32, &[8]));
            let attributes = [A::W(0), A::F(0.9), A::F(1e-8), A::F(0.0), A::F(momentum), A::L(&[0, 0])];
            w.op("rmsprop", &[], &[slab, slabs[0], slabs[1], slabs[2], steps, NONE, NONE, g], &attributes);
        }
    };
    accepted(rmsprop([Some(8), None, None], 0.0));
    accepted(rmsprop([Some(8), Some(8), Some(8)], 0.9));
    refused!(rmsprop([None, Some(8), Some(8)], 0.9), "input 1 is absent");
    refused!(rmsprop([Some(7), None, None], 0.0), "the v slab is f32[7], not f32[8]");
    refused!(rmsprop([Some(8), Some(7), None], 0.0), "the mean slab is f32[7], not f32[8]");
    refused!(rmsprop([Some(8), None, Some(9)], 0.9), "the velocity slab is f32[9], not f32[8]");
    refused!(rmsprop([Some(8), None, None], 0.9), "momentum needs its slab");
    refused!(rmsprop([Some(8), None, None], f64::NAN), "momentum needs its slab");
    let ema = |steps: &'static [u32], segments: &'static [u32]| {
        move |w: &mut Writer| {
            let (slab, steps, x) = (w.input(F32, &[8]), w.input(I32, steps), w.input(F32, &[4]));
            w.op("ema", &[], &[slab, steps, NONE, NONE, x], &[A::W(0), A::L(segments)]);
        }
    };
    accepted(ema(&[1], &[0, 4]));
    refused!(ema(&[1, 1], &[0, 4]), "steps is i32[1,1], not i32[1]");
    refused!(ema(&[1], &[0, 5]), "outside 1 parameters in 8 elements");
    refused!(
        |w| {
            let (slab, steps) = (w.input(F32, &[8]), w.input(I32, &[1]));
            w.op("ema", &[], &[slab, steps, NONE, NONE, slab], &[A::W(0), A::L(&[0, 0])]);
        },
        "changes input 0, which overlaps input 4"
    );
    refused!(
        |w| {
            let (slab, steps) = (w.input(F32, &[8]), w.input(I32, &[1]));
            let attributes = [A::W(0), A::F(0.0), A::F(0.0), A::F(0.0), A::W(0), A::L(&[0, 0])];
            w.op("sgd", &[], &[slab, NONE, steps, NONE, NONE, slab], &attributes);
        },
        "changes input 0, which overlaps input 5"
    );
}
