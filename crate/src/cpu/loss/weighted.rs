//! Cross-entropy with class indices, weights of classes and label smoothing, fused as the plain one is. With
//! q = w ⊙ ((1 − ε)·one-hot + ε/C) the loss of an item is Σ q ⊙ (ln Σexp − x), its gradient g·(Σq·softmax(x) − q).
//! What is smoothed is a second sum over a row that is still in the cache; without smoothing it is not taken.

use super::{check_targets, item_ranges};
use crate::cpu::gather::BadIndex;
use crate::cpu::share::Shared;
use crate::cpu::softmax::{max_and_log_sum, sum_by_position};
use crate::cpu::{Cpu, math};
use crate::program::op::Smoothed;

/// Weights of classes, and their sum where something is smoothed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weights<'a> {
    /// One for each class; all are 1 without them.
    pub each: Option<&'a [f32]>,
    /// Their sum.
    pub sum: Option<f32>,
}

/// What a target's weight is divided into, and what the classes weigh.
#[derive(Clone, Copy)]
struct Rule<'a> {
    ignore_index: i32,
    /// 1 − ε: for the target itself.
    own: f32,
    /// ε/C: for every class.
    each: f32,
    weight: Option<&'a [f32]>,
    /// Σ weight.
    all: f32,
}

impl<'a> Rule<'a> {
    fn new(rule: Smoothed, classes: usize, weights: Weights<'a>) -> Self {
        let Smoothed { ignore_index, smoothing } = rule;
        let each = if classes == 0 { 0.0 } else { (smoothing / classes as f64) as f32 };
        let all = weights.sum.unwrap_or(classes as f32);
        Self { ignore_index, own: (1.0 - smoothing) as f32, each, weight: weights.each, all }
    }

    fn of(&self, class: usize) -> f32 {
        self.weight.map_or(1.0, |weight| weight[class])
    }
}

/// Losses, ln Σexp and the weight of the target of every item, 0 for ignored ones. The first target that is outside
/// `[0, classes)` and not ignored is an error, and nothing is written.
pub fn weighted_cross_entropy(
    cpu: &Cpu,
    rule: Smoothed,
    (logits, targets): (&[f32], &[i32]),
    weights: Weights,
    [losses, log_sums, weighed]: [&mut [f32]; 3],
) -> Result<(), BadIndex> {
    let classes = check_targets(rule.ignore_index, logits.len(), targets)?;
    let rule = Rule::new(rule, classes, weights);
    let (losses, log_sums, weighed) = (Shared::new(losses), Shared::new(log_sums), Shared::new(weighed));
    item_ranges(cpu, 600, logits.len(), targets.len(), &|range| {
        let logits = &logits[range.start * classes..range.end * classes];
        let targets = &targets[range.clone()];
        // SAFETY: ranges of items are disjoint.
        let out = unsafe { (losses.part(range.clone()), log_sums.part(range.clone()), weighed.part(range)) };
        crate::dispatch!(
            cpu.isa,
            forward(
                rule: &Rule = &rule,
                logits: &[f32] = logits,
                targets: &[i32] = targets,
                losses: &mut [f32] = out.0,
                log_sums: &mut [f32] = out.1,
                weighed: &mut [f32] = out.2
            )
        );
    });
    Ok(())
}

#[inline(always)]
fn forward<const FMA: bool>(
    rule: &Rule,
    logits: &[f32],
    targets: &[i32],
    losses: &mut [f32],
    log_sums: &mut [f32],
    weighed: &mut [f32],
) {
    let classes = logits.len().checked_div(targets.len()).unwrap_or(0);
    for (item, &target) in targets.iter().enumerate() {
        let x = &logits[item * classes..(item + 1) * classes];
        let (max, log_sum) = max_and_log_sum::<FMA>(x);
        log_sums[item] = max + log_sum;
        if target == rule.ignore_index {
            (losses[item], weighed[item]) = (0.0, 0.0);
            continue;
        }
        let weight = rule.of(target as usize);
        // Differences to the maximum, here and below: it may be large, they are small.
        let mut loss = weight * rule.own * ((max - x[target as usize]) + log_sum);
        if rule.each > 0.0 {
            let spread = match rule.weight {
                None => sum_by_position(x, |_, x| max - x),
                Some(weight) => sum_by_position(x, |class, x| weight[class] * (max - x)),
            };
            loss += rule.each * (spread + rule.all * log_sum);
        }
        (losses[item], weighed[item]) = (loss, weight);
    }
}

/// The gradient of the logits from the upstream gradient of every loss.
pub fn weighted_cross_entropy_grad(
    cpu: &Cpu,
    rule: Smoothed,
    (logits, targets): (&[f32], &[i32]),
    (log_sums, upstream): (&[f32], &[f32]),
    weights: Weights,
    out: &mut [f32],
) -> Result<(), BadIndex> {
    let classes = check_targets(rule.ignore_index, logits.len(), targets)?;
    let rule = Rule::new(rule, classes, weights);
    let out = Shared::new(out);
    item_ranges(cpu, 450, logits.len(), targets.len(), &|range| {
        let elements = range.start * classes..range.end * classes;
        // SAFETY: ranges of items are disjoint.
        let out = unsafe { out.part(elements.clone()) };
        crate::dispatch!(
            cpu.isa,
            backward(
                rule: &Rule = &rule,
                logits: &[f32] = &logits[elements],
                targets: &[i32] = &targets[range.clone()],
                log_sums: &[f32] = &log_sums[range.clone()],
                upstream: &[f32] = &upstream[range],
                out: &mut [f32] = out
            )
        );
    });
    Ok(())
}

#[inline(always)]
fn backward<const FMA: bool>(
    rule: &Rule,
    logits: &[f32],
    targets: &[i32],
    log_sums: &[f32],
    upstream: &[f32],
    out: &mut [f32],
) {
    let classes = logits.len().checked_div(targets.len()).unwrap_or(0);
    for (item, &target) in targets.iter().enumerate() {
        let range = item * classes..(item + 1) * classes;
        let (x, dx) = (&logits[range.clone()], &mut out[range]);
        if target == rule.ignore_index {
            // Selected, not multiplied by zero: NaN must not get through.
            dx.fill(0.0);
            continue;
        }
        let (log_sum, g) = (log_sums[item], upstream[item]);
        let (target, each) = (target as usize, rule.each);
        let own = rule.of(target) * rule.own;
        let all = own + each * rule.all;
        match rule.weight {
            Some(weight) if each > 0.0 => {
                for ((dx, &x), &weight) in dx.iter_mut().zip(x).zip(weight) {
                    *dx = g * (all * math::decay::<FMA>(x - log_sum) - each * weight);
                }
            }
            _ => {
                for (dx, &x) in dx.iter_mut().zip(x) {
                    *dx = g * (all * math::decay::<FMA>(x - log_sum) - each);
                }
            }
        }
        let spread = if each > 0.0 { each * rule.of(target) } else { 0.0 };
        dx[target] = g * (all * math::decay::<FMA>(x[target] - log_sum) - (spread + own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, Pool};

    fn every_cpu() -> impl Iterator<Item = Cpu> {
        Isa::available().into_iter().map(|isa| Cpu { isa, pool: Pool::new(3).unwrap() })
    }

    /// Losses, ln Σexp, weights of targets, gradient.
    type Results = [Vec<f32>; 4];

    fn run(cpu: &Cpu, rule: Smoothed, x: &[f32], targets: &[i32], weight: Option<&[f32]>, g: &[f32]) -> Results {
        let smoothed = rule.smoothing > 0.0;
        let weights = Weights { each: weight, sum: weight.filter(|_| smoothed).map(|weight| weight.iter().sum()) };
        let mut out = [vec![f32::NAN; targets.len()], vec![f32::NAN; targets.len()], vec![f32::NAN; targets.len()]];
        let [losses, log_sums, weighed] = &mut out;
        weighted_cross_entropy(cpu, rule, (x, targets), weights, [losses, log_sums, weighed]).unwrap();
        let mut dx = vec![f32::NAN; x.len()];
        weighted_cross_entropy_grad(cpu, rule, (x, targets), (log_sums, g), weights, &mut dx).unwrap();
        let [losses, log_sums, weighed] = out;
        [losses, log_sums, weighed, dx]
    }

    #[test]
    fn losses_and_gradients_follow_the_formulas() {
        for cpu in every_cpu() {
            for (items, classes) in [(0, 5), (1, 1), (3, 10), (97, 33), (301, 1000), (2, 5000)] {
                let x: Vec<f32> = (0..items * classes).map(|i| (i * 7919 % 1009) as f32 / 50.0 - 10.0).collect();
                let targets: Vec<i32> =
                    (0..items).map(|i| if i % 5 == 3 { -100 } else { (i * 31 % classes) as i32 }).collect();
                let upstream: Vec<f32> = (0..items).map(|i| i as f32 * 0.25 - 1.0).collect();
                let weight: Vec<f32> = (0..classes).map(|c| (c % 7) as f32 * 0.5).collect();
                for (weight, smoothing) in [(None, 0.0), (None, 0.1), (Some(&*weight), 0.0), (Some(&*weight), 0.3)] {
                    let rule = Smoothed { ignore_index: -100, smoothing };
                    let [losses, _, weighed, dx] = run(&cpu, rule, &x, &targets, weight, &upstream);
                    for item in 0..items {
                        let x: Vec<f64> =
                            x[item * classes..(item + 1) * classes].iter().map(|&v| f64::from(v)).collect();
                        let log_sum = x.iter().map(|x| x.exp()).sum::<f64>().ln();
                        let target = targets[item];
                        let of = |c: usize| weight.map_or(1.0, |weight| f64::from(weight[c]));
                        let q = |c: usize| {
                            let hit = f64::from(c as i32 == target);
                            if target < 0 {
                                0.0
                            } else {
                                of(c) * ((1.0 - smoothing) * hit + smoothing / classes as f64)
                            }
                        };
                        let loss: f64 = (0..classes).map(|c| q(c) * (log_sum - x[c])).sum();
                        assert!(
                            (f64::from(losses[item]) - loss).abs() <= 2e-6 + 2e-6 * loss,
                            "{} {loss}",
                            losses[item]
                        );
                        let want = if target < 0 { 0.0 } else { of(target as usize) };
                        assert_eq!(f64::from(weighed[item]), want);
                        let total: f64 = (0..classes).map(q).sum();
                        for (c, x) in x.iter().enumerate() {
                            let want = f64::from(upstream[item]) * (total * (x - log_sum).exp() - q(c));
                            let got = f64::from(dx[item * classes + c]);
                            assert!((got - want).abs() <= 5e-6 * f64::from(upstream[item]).abs(), "{got} {want}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn without_weights_and_smoothing_it_is_the_plain_one_to_the_bit() {
        for cpu in every_cpu() {
            let (items, classes) = (37, 41);
            let x: Vec<f32> = (0..items * classes).map(|i| (i * 7919 % 1009) as f32 / 50.0 - 10.0).collect();
            let targets: Vec<i32> = (0..items as i32).map(|i| if i % 4 == 1 { -100 } else { i }).collect();
            let upstream = vec![0.7; items];
            let rule = Smoothed { ignore_index: -100, smoothing: 0.0 };
            let [losses, log_sums, weighed, dx] = run(&cpu, rule, &x, &targets, None, &upstream);
            let (mut plain, mut sums) = (vec![0.0; items], vec![0.0; items]);
            let count = super::super::cross_entropy(&cpu, -100, &x, &targets, &mut plain, &mut sums).unwrap();
            assert_eq!((&losses, &log_sums, weighed.iter().sum::<f32>()), (&plain, &sums, count as f32));
            let mut slopes = vec![0.0; x.len()];
            super::super::cross_entropy_grad(&cpu, -100, &x, &targets, &sums, &upstream, &mut slopes).unwrap();
            assert_eq!(dx, slopes);
        }
    }

    #[test]
    fn large_logits_lose_no_digits() {
        for cpu in every_cpu() {
            let rule = Smoothed { ignore_index: -100, smoothing: 0.5 };
            let [losses, ..] = run(&cpu, rule, &[1e6; 4], &[2], Some(&[1.0, 2.0, 3.0, 2.0]), &[1.0]);
            // Σq·ln 4 with Σq = 3·½ + ½·8/4.
            assert!((losses[0] - 2.5 * 4_f32.ln()).abs() < 1e-6, "{}", losses[0]);
        }
    }

    #[test]
    fn what_is_ignored_contributes_nothing_and_bad_targets_are_reported() {
        for cpu in every_cpu() {
            let x = [f32::NAN, f32::INFINITY, 0.0, 0.0];
            let rule = Smoothed { ignore_index: 7, smoothing: 0.2 };
            let weight = [2.0, 3.0];
            let [losses, _, weighed, dx] = run(&cpu, rule, &x, &[7, 0], Some(&weight), &[f32::NAN, 1.0]);
            assert_eq!((losses[0], weighed[0], &dx[..2]), (0.0, 0.0, &[0.0; 2][..]));
            assert!(losses[1].is_finite() && dx[2] < 0.0);
            let mut out = [[9.0; 2], [9.0; 2], [9.0; 2]];
            let bad = Err(BadIndex { position: 1, index: 2, size: 2 });
            let result = weighted_cross_entropy(
                &cpu,
                rule,
                (&x, &[7, 2]),
                Weights::default(),
                out.each_mut().map(|x| &mut x[..]),
            );
            assert_eq!((result, out), (bad, [[9.0; 2]; 3]));
            let mut dx = [9.0; 4];
            let result = weighted_cross_entropy_grad(
                &cpu,
                rule,
                (&x, &[7, 2]),
                (&[0.0; 2], &[1.0; 2]),
                Weights::default(),
                &mut dx,
            );
            assert_eq!((result, dx), (bad, [9.0; 4]));
        }
    }
}
