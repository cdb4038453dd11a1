//! Optimiser steps against their formulas in f64 and known values; gates, segments in any order, any number of threads.

use super::*;
use crate::cpu::{Isa, Pool};
use crate::program::op::{Adam, Ema, Rmsprop, Sgd};

const OPEN: Gate = Gate { scale: None, ok: None };

fn every_cpu() -> impl Iterator<Item = Cpu> {
    Isa::available().into_iter().flat_map(|isa| [1, 3].map(|n| Cpu { isa, pool: Pool::new(n).unwrap() }))
}

fn floats(count: usize, seed: u32) -> Vec<f32> {
    let word = |i: u32| i.wrapping_mul(0x9e37_79b9).wrapping_add(seed.wrapping_mul(0x85eb_ca6b)) >> 8;
    (0..count as u32).map(|i| word(i) as f32 / 8_388_608.0 - 1.0).collect()
}

/// Segments of these lengths with a gap of 3 after each, and the size of the slab.
fn layout(lengths: &[usize]) -> (Box<[Segment]>, usize) {
    let mut offset = 2;
    let segments = lengths.iter().enumerate().map(|(parameter, &length)| {
        let segment = Segment { parameter: parameter as u32, offset };
        offset += length as u32 + 3;
        segment
    });
    let segments = segments.collect();
    (segments, offset as usize)
}

const LENGTHS: [usize; 7] = [1, 0, 17, 256, 100_003, 5, 4099];

fn adam_rule(segments: Box<[Segment]>) -> Adam {
    Adam { lr: 0, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, decoupled: true, segments }
}

#[test]
fn adamw_follows_its_formula_over_several_steps() {
    let (lr, scale) = (0.01, 0.5);
    for cpu in every_cpu() {
        let (segments, size) = layout(&LENGTHS);
        let rule = adam_rule(segments);
        let start = floats(size, 1);
        let (mut p, mut m, mut v) = (start.clone(), vec![0.0; size], vec![0.0; size]);
        let mut exact: Vec<[f64; 3]> = start.iter().map(|&p| [f64::from(p), 0.0, 0.0]).collect();
        let mut steps = vec![0; LENGTHS.len()];
        for t in 1..=3 {
            let all: Vec<_> = LENGTHS.iter().map(|&n| floats(n, 10 + t as u32)).collect();
            let gradients: Vec<_> = all.iter().map(Vec::as_slice).collect();
            let gate = Gate { scale: Some(scale), ok: Some(true) };
            adam(&cpu, &rule, lr, gate, [&mut p, &mut m, &mut v], None, &mut steps, &gradients);
            for (segment, gradient) in rule.segments.iter().zip(&all) {
                for (i, &g) in gradient.iter().enumerate() {
                    let [p, m, v] = &mut exact[segment.offset as usize + i];
                    let g = f64::from(g) * f64::from(scale);
                    *p *= 1.0 - lr * 0.01;
                    *m = 0.9 * *m + 0.1 * g;
                    *v = 0.999 * *v + 0.001 * g * g;
                    let (c1, c2) = (1.0 - 0.9f64.powi(t), 1.0 - 0.999f64.powi(t));
                    *p -= lr / c1 * *m / ((*v / c2).sqrt() + 1e-8);
                }
            }
            assert!(steps.iter().all(|&s| s == t));
        }
        for i in 0..size {
            let near = |a: f32, b: f64, budget: f64| (f64::from(a) - b).abs() <= budget;
            assert!(near(p[i], exact[i][0], 5e-7) && near(m[i], exact[i][1], 2e-7) && near(v[i], exact[i][2], 2e-7));
        }
        // What lies between the segments is nobody's.
        assert!(p[..2] == start[..2] && p[size - 3..] == start[size - 3..]);
    }
}

#[test]
fn known_values() {
    for cpu in every_cpu() {
        let one = || vec![Segment { parameter: 0, offset: 0 }].into_boxed_slice();
        let (mut p, mut m, mut v, mut steps) = ([1.0], [0.0], [0.0], [0]);
        adam(&cpu, &adam_rule(one()), 0.1, OPEN, [&mut p, &mut m, &mut v], None, &mut steps, &[&[2.0]]);
        assert!((p[0] - 0.8990).abs() < 1e-6);

        for (nesterov, want) in [(false, [0.9, 0.71]), (true, [0.81, 0.539])] {
            let rule = Sgd { lr: 0, momentum: 0.9, dampening: 0.0, weight_decay: 0.0, nesterov, segments: one() };
            // The velocity before the first step is not read.
            let (mut p, mut b, mut steps) = ([1.0], [f32::NAN], [0]);
            for want in want {
                sgd(&cpu, &rule, 0.1, OPEN, &mut p, Some(&mut b), &mut steps, &[&[1.0]]);
                assert!((p[0] - want).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn sgd_follows_its_formula() {
    for cpu in every_cpu() {
        for (momentum, dampening, nesterov) in [(0.0, 0.0, false), (0.8, 0.25, false), (0.8, 0.0, true)] {
            let (segments, size) = layout(&LENGTHS);
            let rule = Sgd { lr: 0, momentum, dampening, weight_decay: 0.1, nesterov, segments };
            let (mut p, mut b) = (floats(size, 1), vec![0.0; size]);
            let mut exact: Vec<[f64; 2]> = p.iter().map(|&p| [f64::from(p), 0.0]).collect();
            let mut steps = vec![0; LENGTHS.len()];
            for t in 1..=3 {
                let all: Vec<_> = LENGTHS.iter().map(|&n| floats(n, 20 + t)).collect();
                let gradients: Vec<_> = all.iter().map(Vec::as_slice).collect();
                let velocity = (momentum != 0.0).then_some(&mut b[..]);
                sgd(&cpu, &rule, 0.05, OPEN, &mut p, velocity, &mut steps, &gradients);
                for (segment, gradient) in rule.segments.iter().zip(&all) {
                    for (i, &g) in gradient.iter().enumerate() {
                        let [p, b] = &mut exact[segment.offset as usize + i];
                        let g = f64::from(g) + 0.1 * *p;
                        *b = if t == 1 { g } else { momentum * *b + (1.0 - dampening) * g };
                        let d = if nesterov {
                            g + momentum * *b
                        } else if momentum == 0.0 {
                            g
                        } else {
                            *b
                        };
                        *p -= 0.05 * d;
                    }
                }
            }
            assert!(p.iter().zip(&exact).all(|(&p, exact)| (f64::from(p) - exact[0]).abs() < 5e-7));
        }
    }
}

#[test]
fn a_closed_gate_changes_nothing() {
    for cpu in every_cpu() {
        let (segments, size) = layout(&[5, 7]);
        let rule = adam_rule(segments.clone());
        let start = floats(size, 1);
        let (mut p, mut m, mut v, mut steps) = (start.clone(), start.clone(), start.clone(), [3, 4]);
        let gradients: [&[f32]; 2] = [&[f32::NAN; 5], &[f32::INFINITY; 7]];
        let gate = Gate { scale: Some(f32::NAN), ok: Some(false) };
        adam(&cpu, &rule, 0.1, gate, [&mut p, &mut m, &mut v], None, &mut steps, &gradients);
        let rule = Sgd { lr: 0, momentum: 0.9, dampening: 0.0, weight_decay: 0.0, nesterov: false, segments };
        sgd(&cpu, &rule, 0.1, gate, &mut p, Some(&mut m), &mut steps, &gradients);
        assert!(p == start && m == start && v == start && steps == [3, 4]);
    }
}

#[test]
fn threads_and_the_order_of_segments_change_no_bit() {
    for isa in Isa::available() {
        let run = |threads, reverse: bool| {
            let cpu = Cpu { isa, pool: Pool::new(threads).unwrap() };
            let (mut segments, size) = layout(&LENGTHS);
            let mut all: Vec<_> = LENGTHS.iter().map(|&n| floats(n, 5)).collect();
            if reverse {
                segments.reverse();
                all.reverse();
            }
            let gradients: Vec<_> = all.iter().map(Vec::as_slice).collect();
            let (mut p, mut m, mut v) = (floats(size, 1), vec![0.0; size], vec![0.0; size]);
            let mut steps = [0; LENGTHS.len()];
            adam(&cpu, &adam_rule(segments), 0.1, OPEN, [&mut p, &mut m, &mut v], None, &mut steps, &gradients);
            p.iter().map(|p| p.to_bits()).collect::<Vec<_>>()
        };
        let want = run(1, false);
        assert!(want == run(3, false) && want == run(3, true));
    }
}

#[test]
fn the_norm_is_that_of_all_tensors() {
    for cpu in every_cpu() {
        assert_eq!(squared_norm(&cpu, &[&[3f32.to_bits()], &[], &[4f32.to_bits()]]), 25.0);
        let tensors: Vec<Vec<u32>> =
            LENGTHS.iter().map(|&n| floats(n, 9).iter().map(|x| x.to_bits()).collect()).collect();
        let slices: Vec<_> = tensors.iter().map(Vec::as_slice).collect();
        let exact: f64 = tensors.iter().flatten().map(|&w| f64::from(f32::from_bits(w)).powi(2)).sum();
        assert!((f64::from(squared_norm(&cpu, &slices)) - exact).abs() <= 1e-6 * exact);
        assert!(!squared_norm(&cpu, &[&[f32::INFINITY.to_bits()]]).is_finite());
    }
}

/// One step over these segments: slabs, counters, gradients.
type Step<'a> = dyn Fn(&Cpu, Box<[Segment]>, &mut [Vec<f32>], &mut [i32], &[&[f32]]) + 'a;

/// Three steps with these slabs beside the parameters, element by element beside `exact` in f64.
fn against_formula(slabs: usize, step: &Step, exact: &dyn Fn(&mut [f64], f64, i32)) {
    for cpu in every_cpu() {
        let (segments, size) = layout(&LENGTHS);
        let mut memory: Vec<Vec<f32>> = vec![floats(size, 1)];
        memory.extend((0..slabs).map(|_| vec![0.0; size]));
        let mut wanted: Vec<Vec<f64>> =
            (0..size).map(|i| memory.iter().map(|slab| f64::from(slab[i])).collect()).collect();
        let mut steps = vec![0; LENGTHS.len()];
        for t in 1..=3 {
            let all: Vec<_> = LENGTHS.iter().map(|&n| floats(n, 30 + t as u32)).collect();
            let gradients: Vec<_> = all.iter().map(Vec::as_slice).collect();
            step(&cpu, segments.clone(), &mut memory, &mut steps, &gradients);
            for (segment, gradient) in segments.iter().zip(&all) {
                for (i, &g) in gradient.iter().enumerate() {
                    exact(&mut wanted[segment.offset as usize + i], f64::from(g), t);
                }
            }
            assert!(steps.iter().all(|&s| s == t));
        }
        for (i, wanted) in wanted.iter().enumerate() {
            for (slab, &want) in memory.iter().zip(wanted) {
                let got = f64::from(slab[i]);
                assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "element {i}: {got} instead of {want}");
            }
        }
    }
}

#[test]
fn adam_follows_its_formula_coupled_or_not_with_the_greatest_moment_or_without() {
    for (decoupled, amsgrad) in [(false, false), (true, false), (false, true), (true, true)] {
        against_formula(
            3,
            &|cpu, segments, memory, steps, gradients| {
                let [p, m, v, most] = memory else { panic!() };
                let rule = Adam { lr: 0, beta1: 0.8, beta2: 0.5, eps: 1e-3, weight_decay: 0.1, decoupled, segments };
                let most = amsgrad.then_some(&mut most[..]);
                adam(cpu, &rule, 0.05, OPEN, [p, m, v], most, steps, gradients);
            },
            &|state, g, t| {
                let [p, m, v, most] = state else { panic!() };
                let g = if decoupled { g } else { g + 0.1 * *p };
                *m = 0.8 * *m + 0.2 * g;
                *v = 0.5 * *v + 0.5 * g * g;
                if amsgrad {
                    *most = most.max(*v);
                }
                let second = if amsgrad { *most } else { *v };
                let (c1, c2) = (1.0 - 0.8f64.powi(t), 1.0 - 0.5f64.powi(t));
                *p = *p * if decoupled { 1.0 - 0.05 * 0.1 } else { 1.0 }
                    - 0.05 / c1 * *m / (second.sqrt() / c2.sqrt() + 1e-3);
            },
        );
    }
}

#[test]
fn rmsprop_follows_its_formula_in_all_its_forms() {
    for (centered, momentum) in [(false, 0.0), (true, 0.0), (false, 0.7), (true, 0.7)] {
        against_formula(
            3,
            &|cpu, segments, memory, steps, gradients| {
                let [p, v, a, b] = memory else { panic!() };
                let rule = Rmsprop { lr: 0, alpha: 0.9, eps: 1e-2, weight_decay: 0.1, momentum, segments };
                let optional = [centered.then_some(&mut a[..]), (momentum != 0.0).then_some(&mut b[..])];
                rmsprop(cpu, &rule, 0.05, OPEN, [p, v], optional, steps, gradients);
            },
            &|state, g, _| {
                let [p, v, a, b] = state else { panic!() };
                let g = g + 0.1 * *p;
                *v = 0.9 * *v + 0.1 * g * g;
                if centered {
                    *a = 0.9 * *a + 0.1 * g;
                }
                let mut d = g / ((*v - *a * *a).sqrt() + 1e-2);
                if momentum != 0.0 {
                    *b = momentum * *b + d;
                    d = *b;
                }
                *p -= 0.05 * d;
            },
        );
    }
}

#[test]
fn a_variance_that_rounding_makes_negative_is_none() {
    for cpu in every_cpu() {
        let segments = [Segment { parameter: 0, offset: 0 }].into();
        let rule = Rmsprop { lr: 0, alpha: 0.5, eps: 0.5, weight_decay: 0.0, momentum: 0.0, segments };
        // The square of the mean is above the mean of the squares.
        let (mut p, mut v, mut a, mut steps) = ([1.0], [0.0], [3.0], [1]);
        rmsprop(&cpu, &rule, 1.0, OPEN, [&mut p, &mut v], [Some(&mut a), None], &mut steps, &[&[1.0]]);
        assert!(p == [-1.0] && v == [0.5] && a == [2.0]);
        rmsprop(&cpu, &rule, 1.0, OPEN, [&mut p, &mut v], [Some(&mut a), None], &mut steps, &[&[f32::NAN]]);
        assert!(p[0].is_nan());
    }
}

#[test]
fn averages_follow_their_formula_and_are_exact_at_both_ends() {
    for weight in [0.001, 0.3, 0.5, 0.9] {
        against_formula(
            0,
            &|cpu, segments, memory, steps, values| {
                ema(cpu, &Ema { weight: 0, segments }, weight, OPEN, &mut memory[0], steps, values);
            },
            &|state, x, t| state[0] += if t == 1 { 1.0 } else { weight } * (x - state[0]),
        );
    }
    for cpu in every_cpu() {
        let values: &[&[f32]] = &[&[0.1, f32::MAX]];
        for (weight, counted, want) in [(0.3, 0, values[0]), (1.0, 5, values[0]), (0.0, 5, &[f32::MIN, 7.0])] {
            let rule = Ema { weight: 0, segments: [Segment { parameter: 0, offset: 0 }].into() };
            // The first value is the average whatever was there.
            let mut averages = if counted == 0 { [f32::NAN, f32::INFINITY] } else { [f32::MIN, 7.0] };
            let mut steps = [counted];
            ema(&cpu, &rule, weight, OPEN, &mut averages, &mut steps, values);
            assert!(averages == *want && steps == [counted + 1], "{weight}: {averages:?}");
        }
    }
}

#[test]
fn a_closed_gate_changes_nothing_of_the_others_either() {
    for cpu in every_cpu() {
        let (segments, size) = layout(&[5, 7]);
        let start = floats(size, 1);
        let gradients: [&[f32]; 2] = [&[f32::NAN; 5], &[f32::INFINITY; 7]];
        let gate = Gate { scale: Some(f32::NAN), ok: Some(false) };
        let [mut p, mut v, mut a, mut b] = [(); 4].map(|()| start.clone());
        let mut steps = [3, 4];
        let rule =
            Rmsprop { lr: 0, alpha: 0.9, eps: 0.0, weight_decay: 0.1, momentum: 0.9, segments: segments.clone() };
        rmsprop(&cpu, &rule, 0.1, gate, [&mut p, &mut v], [Some(&mut a), Some(&mut b)], &mut steps, &gradients);
        ema(&cpu, &Ema { weight: 0, segments }, 0.5, gate, &mut p, &mut steps, &gradients);
        assert!(p == start && v == start && a == start && b == start && steps == [3, 4]);
    }
}
