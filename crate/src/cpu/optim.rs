//! Optimisers over slabs: all parameters of a group lie in one tensor, as do their moments, and each gradient updates its
//! segment. One pass over memory. The state is f32; what depends on the step alone is computed once per segment in f64.
//!
//! Step counters live on the device and count applied updates. A gate that is false leaves everything as it is.

use std::ops::Range;

use super::elementwise::Source;
use super::reduce::{Term, sums};
use super::share::Shared;
use super::{Cpu, math};
use crate::program::op::{AdamW, Middle, Segment, Sgd};

/// What scales and gates an update.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// Multiplies every gradient; 1 if absent.
    pub scale: Option<f32>,
    /// Whether to update at all; yes if absent.
    pub ok: Option<bool>,
}

impl Gate {
    fn is_closed(self) -> bool {
        self.ok == Some(false)
    }
}

/// Σ x² over all tensors: per tensor in the fixed tree of sums, the tensors in order in f64.
pub fn squared_norm(cpu: &Cpu, tensors: &[&[u32]]) -> f32 {
    let mut total = 0.0;
    for x in tensors {
        let mut sum = [0];
        let all = Middle { outer: 1, count: x.len(), inner: 1 };
        sums(cpu, Source::Words(x), all, Term::Square, &mut sum);
        total += f64::from(f32::from_bits(sum[0]));
    }
    total as f32
}

/// One step of `AdamW`: p ← p(1 − lr·wd); m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²;
/// p ← p − lr/(1 − β₁ᵗ)·m / (√v/√(1 − β₂ᵗ) + eps).
///
/// `segments` of `rule` say where each gradient belongs in the slabs and which of `steps` counts for it.
pub fn adamw(
    cpu: &Cpu,
    rule: &AdamW,
    lr: f64,
    gate: Gate,
    [params, first, second]: [&mut [f32]; 3],
    steps: &mut [i32],
    gradients: &[&[f32]],
) {
    if gate.is_closed() {
        return;
    }
    let parts = Parts { segments: &rule.segments, gradients, slab: params.len() };
    let (params, first, second) = (Shared::new(params), Shared::new(first), Shared::new(second));
    let counters = &*steps;
    parts.each(cpu, 500, &|segment, own, gradient| {
        let t = f64::from(counters[segment.parameter as usize]) + 1.0;
        // −expm1(t·ln β) = 1 − βᵗ without cancellation for small t.
        let correction = |beta: f64| -(t * beta.ln()).exp_m1();
        let step = AdamStep {
            scale: gate.scale.unwrap_or(1.0),
            keep: (1.0 - lr * rule.weight_decay) as f32,
            beta1: rule.beta1 as f32,
            new1: (1.0 - rule.beta1) as f32,
            beta2: rule.beta2 as f32,
            new2: (1.0 - rule.beta2) as f32,
            rate: (lr / correction(rule.beta1)) as f32,
            root: (1.0 / correction(rule.beta2).sqrt()) as f32,
            eps: rule.eps as f32,
        };
        // SAFETY: `Parts` gives each element of the slabs to one call.
        let (p, m, v) = unsafe { (params.part(own.clone()), first.part(own.clone()), second.part(own)) };
        crate::dispatch!(
            cpu.isa,
            adam(
                step: &AdamStep = &step,
                g: &[f32] = gradient,
                p: &mut [f32] = p,
                m: &mut [f32] = m,
                v: &mut [f32] = v
            )
        );
    });
    count(steps, &rule.segments);
}

/// The constants of one Adam step.
struct AdamStep {
    scale: f32,
    keep: f32,
    beta1: f32,
    new1: f32,
    beta2: f32,
    new2: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

#[inline(always)]
fn adam<const FMA: bool>(step: &AdamStep, g: &[f32], p: &mut [f32], m: &mut [f32], v: &mut [f32]) {
    let &AdamStep { scale, keep, beta1, new1, beta2, new2, rate, root, eps } = step;
    for (((&g, p), m), v) in g.iter().zip(p).zip(m).zip(v) {
        let g = g * scale;
        *m = math::madd::<FMA>(beta1, *m, new1 * g);
        *v = math::madd::<FMA>(beta2, *v, new2 * g * g);
        let direction = *m / math::madd::<FMA>(v.sqrt(), root, eps);
        *p = math::madd::<FMA>(-rate, direction, *p * keep);
    }
}

/// One step of SGD: g ← g + wd·p; with momentum μ, b ← t = 1 ? g : μb + (1 − dampening)g and d = nesterov ? g + μb : b,
/// else d = g; p ← p − lr·d.
pub fn sgd(
    cpu: &Cpu,
    rule: &Sgd,
    lr: f64,
    gate: Gate,
    params: &mut [f32],
    velocity: Option<&mut [f32]>,
    steps: &mut [i32],
    gradients: &[&[f32]],
) {
    if gate.is_closed() {
        return;
    }
    let parts = Parts { segments: &rule.segments, gradients, slab: params.len() };
    let params = Shared::new(params);
    let velocity = velocity.filter(|_| rule.momentum != 0.0).map(Shared::new);
    let counters = &*steps;
    parts.each(cpu, 250, &|segment, own, gradient| {
        let started = counters[segment.parameter as usize] > 0;
        let step = SgdStep {
            scale: gate.scale.unwrap_or(1.0),
            decay: rule.weight_decay as f32,
            rate: lr as f32,
            momentum: rule.momentum as f32,
            old: if started { rule.momentum as f32 } else { 0.0 },
            new: if started { (1.0 - rule.dampening) as f32 } else { 1.0 },
            nesterov: rule.nesterov,
            started,
        };
        // SAFETY: `Parts` gives each element of the slabs to one call.
        let p = unsafe { params.part(own.clone()) };
        match &velocity {
            Some(velocity) => {
                // SAFETY: as above.
                let b = unsafe { velocity.part(own) };
                crate::dispatch!(
                    cpu.isa,
                    descend_with_momentum(
                        step: &SgdStep = &step, g: &[f32] = gradient, p: &mut [f32] = p, b: &mut [f32] = b
                    )
                );
            }
            None => {
                crate::dispatch!(cpu.isa, descend(step: &SgdStep = &step, g: &[f32] = gradient, p: &mut [f32] = p));
            }
        }
    });
    count(steps, &rule.segments);
}

/// The constants of one SGD step.
struct SgdStep {
    scale: f32,
    decay: f32,
    rate: f32,
    momentum: f32,
    /// Weights of the old velocity and of the gradient in the new one.
    old: f32,
    new: f32,
    nesterov: bool,
    /// Whether there is an old velocity; before, its memory says nothing.
    started: bool,
}

#[inline(always)]
fn descend<const FMA: bool>(step: &SgdStep, g: &[f32], p: &mut [f32]) {
    let &SgdStep { scale, decay, rate, .. } = step;
    for (&g, p) in g.iter().zip(p) {
        let g = math::madd::<FMA>(decay, *p, g * scale);
        *p = math::madd::<FMA>(-rate, g, *p);
    }
}

#[inline(always)]
fn descend_with_momentum<const FMA: bool>(step: &SgdStep, g: &[f32], p: &mut [f32], b: &mut [f32]) {
    let &SgdStep { scale, decay, rate, momentum, old, new, nesterov, started } = step;
    for ((&g, p), b) in g.iter().zip(p).zip(b) {
        let g = math::madd::<FMA>(decay, *p, g * scale);
        let before = if started { *b } else { 0.0 };
        *b = math::madd::<FMA>(old, before, new * g);
        let direction = if nesterov { math::madd::<FMA>(momentum, *b, g) } else { *b };
        *p = math::madd::<FMA>(-rate, direction, *p);
    }
}

/// Counts the update for every parameter that has a gradient.
fn count(steps: &mut [i32], segments: &[Segment]) {
    for segment in segments {
        let step = &mut steps[segment.parameter as usize];
        *step = step.saturating_add(1);
    }
}

/// The elements to update, as one long list cut anywhere.
struct Parts<'a> {
    segments: &'a [Segment],
    gradients: &'a [&'a [f32]],
    slab: usize,
}

/// Updates a part of a segment: the segment, where the part lies in the slab, its gradient.
type Update<'a> = dyn Fn(Segment, Range<usize>, &[f32]) + Sync + 'a;

impl Parts<'_> {
    /// Calls `body` with parts of segments: where they lie in the slab, and their gradient. Together they are all
    /// elements, each once.
    fn each(&self, cpu: &Cpu, picoseconds: u64, body: &Update) {
        let total: usize = self.gradients.iter().map(|g| g.len()).sum();
        // Decode promises disjoint segments; in this order that is cheap to see, and in any other one thread is safe.
        let tasks = if self.are_ascending() { cpu.tasks(total as u64 * picoseconds, total) } else { 1 };
        cpu.ranges(tasks, total, &|range| {
            let mut before = 0;
            for (&segment, gradient) in self.segments.iter().zip(self.gradients) {
                let start = range.start.clamp(before, before + gradient.len()) - before;
                let end = range.end.clamp(before, before + gradient.len()) - before;
                before += gradient.len();
                if start < end {
                    let offset = segment.offset as usize;
                    body(segment, offset + start..offset + end, &gradient[start..end]);
                }
            }
        });
    }

    fn are_ascending(&self) -> bool {
        let mut end = 0;
        self.segments.iter().zip(self.gradients).all(|(segment, gradient)| {
            let start = segment.offset as usize;
            let after = start >= end;
            end = start + gradient.len();
            after && end <= self.slab
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, Pool};

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

    fn adam_rule(segments: Box<[Segment]>) -> AdamW {
        AdamW { lr: 0, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, segments }
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
                adamw(&cpu, &rule, lr, gate, [&mut p, &mut m, &mut v], &mut steps, &gradients);
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
                assert!(
                    near(p[i], exact[i][0], 5e-7) && near(m[i], exact[i][1], 2e-7) && near(v[i], exact[i][2], 2e-7)
                );
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
            adamw(&cpu, &adam_rule(one()), 0.1, OPEN, [&mut p, &mut m, &mut v], &mut steps, &[&[2.0]]);
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
            adamw(&cpu, &rule, 0.1, gate, [&mut p, &mut m, &mut v], &mut steps, &gradients);
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
                adamw(&cpu, &adam_rule(segments), 0.1, OPEN, [&mut p, &mut m, &mut v], &mut steps, &gradients);
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
}
