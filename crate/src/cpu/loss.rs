//! Cross-entropy with class indices, fused with the log-softmax: logits `[items, classes]`, one target per item. A loss is
//! ln Σexp(x) − x[target]; its gradient g·(softmax(x) − one-hot) comes from the saved ln Σexp(x) without storing a
//! softmax. An ignored item costs nothing and gets a zero gradient, whatever its logits hold. Weights of classes and
//! smoothing have loops of their own, so that this one stays as short as it is.

mod weighted;

use std::ops::Range;

pub use weighted::{Weights, weighted_cross_entropy, weighted_cross_entropy_grad};

use super::gather::BadIndex;
use super::share::Shared;
use super::softmax::max_and_log_sum;
use super::{Cpu, math};

/// Fails for the first target outside `[0, classes)` that is not `ignore_index`; gives the number of classes.
fn check_targets(ignore_index: i32, elements: usize, targets: &[i32]) -> Result<usize, BadIndex> {
    let classes = elements.checked_div(targets.len()).unwrap_or(0);
    for (position, &target) in targets.iter().enumerate() {
        if target != ignore_index {
            BadIndex::check(position, target, classes)?;
        }
    }
    Ok(classes)
}

/// Calls `body` with ranges of items that are worth a task each.
fn item_ranges(cpu: &Cpu, picoseconds: u64, elements: usize, items: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
    cpu.ranges(cpu.tasks(elements as u64 * picoseconds, items), items, body);
}

/// Losses and ln Σexp of every item; returns how many are not ignored. A target outside `[0, classes)` that is not
/// `ignore_index` is an error, and nothing is written: the first one is reported.
pub fn cross_entropy(
    cpu: &Cpu,
    ignore_index: i32,
    logits: &[f32],
    targets: &[i32],
    losses: &mut [f32],
    log_sums: &mut [f32],
) -> Result<usize, BadIndex> {
    let items = targets.len();
    let classes = logits.len().checked_div(items).unwrap_or(0);
    let mut counted = 0;
    for (position, &target) in targets.iter().enumerate() {
        if target == ignore_index {
            continue;
        }
        BadIndex::check(position, target, classes)?;
        counted += 1;
    }
    let (losses, log_sums) = (Shared::new(losses), Shared::new(log_sums));
    item_ranges(cpu, 500, logits.len(), items, &|range| {
        let logits = &logits[range.start * classes..range.end * classes];
        let targets = &targets[range.clone()];
        // SAFETY: ranges of items are disjoint.
        let (losses, log_sums) = unsafe { (losses.part(range.clone()), log_sums.part(range)) };
        crate::dispatch!(
            cpu.isa,
            forward(
                ignore_index: i32 = ignore_index,
                logits: &[f32] = logits,
                targets: &[i32] = targets,
                losses: &mut [f32] = losses,
                log_sums: &mut [f32] = log_sums
            )
        );
    });
    Ok(counted)
}

#[inline(always)]
fn forward<const FMA: bool>(
    ignore_index: i32,
    logits: &[f32],
    targets: &[i32],
    losses: &mut [f32],
    log_sums: &mut [f32],
) {
    let classes = logits.len().checked_div(targets.len()).unwrap_or(0);
    for (item, &target) in targets.iter().enumerate() {
        let x = &logits[item * classes..(item + 1) * classes];
        let (max, log_sum) = max_and_log_sum::<FMA>(x);
        log_sums[item] = max + log_sum;
        // Not ln Σexp − x[target]: the maximum may be large, the difference small.
        losses[item] = if target == ignore_index { 0.0 } else { (max - x[target as usize]) + log_sum };
    }
}

/// The gradient of the logits from the upstream gradient of every loss. Targets are those that
/// [`cross_entropy`] has accepted.
pub fn cross_entropy_grad(
    cpu: &Cpu,
    ignore_index: i32,
    logits: &[f32],
    targets: &[i32],
    log_sums: &[f32],
    upstream: &[f32],
    out: &mut [f32],
) -> Result<(), BadIndex> {
    let classes = check_targets(ignore_index, logits.len(), targets)?;
    let out = Shared::new(out);
    item_ranges(cpu, 400, logits.len(), targets.len(), &|range| {
        let elements = range.start * classes..range.end * classes;
        // SAFETY: ranges of items are disjoint.
        let out = unsafe { out.part(elements.clone()) };
        crate::dispatch!(
            cpu.isa,
            backward(
                ignore_index: i32 = ignore_index,
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
    ignore_index: i32,
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
        if target == ignore_index {
            // Selected, not multiplied by zero: NaN must not get through.
            dx.fill(0.0);
            continue;
        }
        let (log_sum, g) = (log_sums[item], upstream[item]);
        for (dx, &x) in dx.iter_mut().zip(x) {
            *dx = g * math::decay::<FMA>(x - log_sum);
        }
        let hit = target as usize;
        dx[hit] = g * (math::decay::<FMA>(x[hit] - log_sum) - 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, Pool};

    fn every_cpu() -> impl Iterator<Item = Cpu> {
        Isa::available().into_iter().map(|isa| Cpu { isa, pool: Pool::new(3).unwrap() })
    }

    #[test]
    fn losses_and_gradients_follow_the_formulas() {
        for cpu in every_cpu() {
            for (items, classes) in [(0, 5), (1, 1), (3, 10), (97, 33), (301, 1000)] {
                let x: Vec<f32> = (0..items * classes).map(|i| (i * 7919 % 1009) as f32 / 50.0 - 10.0).collect();
                let targets: Vec<i32> =
                    (0..items).map(|i| if i % 5 == 3 { -100 } else { (i * 31 % classes) as i32 }).collect();
                let upstream: Vec<f32> = (0..items).map(|i| i as f32 * 0.25 - 1.0).collect();
                let (mut losses, mut log_sums) = (vec![f32::NAN; items], vec![f32::NAN; items]);
                let mut dx = vec![f32::NAN; items * classes];
                let count = cross_entropy(&cpu, -100, &x, &targets, &mut losses, &mut log_sums);
                assert_eq!(count, Ok(targets.iter().filter(|&&t| t >= 0).count()));
                cross_entropy_grad(&cpu, -100, &x, &targets, &log_sums, &upstream, &mut dx).unwrap();
                for item in 0..items {
                    let x: Vec<f64> = x[item * classes..(item + 1) * classes].iter().map(|&v| f64::from(v)).collect();
                    let max = x.iter().copied().fold(f64::MIN, f64::max);
                    let log_sum = max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
                    assert!((f64::from(log_sums[item]) - log_sum).abs() < 2e-6);
                    let target = targets[item];
                    let loss = if target < 0 { 0.0 } else { log_sum - x[target as usize] };
                    assert!((f64::from(losses[item]) - loss).abs() <= 1e-6 + 3e-7 * loss, "{} {loss}", losses[item]);
                    for (class, x) in x.iter().enumerate() {
                        let hit = f64::from(class as i32 == target);
                        let g = if target < 0 { 0.0 } else { f64::from(upstream[item]) };
                        let want = g * ((x - log_sum).exp() - hit);
                        assert!((f64::from(dx[item * classes + class]) - want).abs() <= 2e-6 * g.abs());
                    }
                }
            }
        }
    }

    #[test]
    fn the_known_value() {
        for cpu in every_cpu() {
            let (mut loss, mut log_sum) = ([0.0], [0.0]);
            let x = [0.0, std::f32::consts::LN_2, 0.0];
            assert_eq!(cross_entropy(&cpu, -100, &x, &[1], &mut loss, &mut log_sum), Ok(1));
            assert!((loss[0] - std::f32::consts::LN_2).abs() < 1e-7);
        }
    }

    #[test]
    fn what_is_ignored_contributes_nothing() {
        for cpu in every_cpu() {
            let x = [f32::NAN, f32::INFINITY, 0.0, 0.0];
            let (mut losses, mut log_sums, mut dx) = ([9.0; 2], [9.0; 2], [9.0; 4]);
            assert_eq!(cross_entropy(&cpu, 7, &x, &[7, 0], &mut losses, &mut log_sums), Ok(1));
            cross_entropy_grad(&cpu, 7, &x, &[7, 0], &log_sums, &[f32::NAN, 1.0], &mut dx).unwrap();
            assert_eq!((losses[0], &dx[..2]), (0.0, &[0.0; 2][..]));
            assert!(losses[1].is_finite() && dx[2] < 0.0);
        }
    }

    #[test]
    fn the_first_bad_target_is_reported() {
        for cpu in every_cpu() {
            for (bad, index) in [(3, 3), (-1, -1), (i32::MIN, i32::MIN)] {
                let (mut losses, mut log_sums, mut dx) = ([9.0; 3], [9.0; 3], [9.0; 9]);
                let targets = [-100, 2, bad];
                let want = Err(BadIndex { position: 2, index, size: 3 });
                assert_eq!(cross_entropy(&cpu, -100, &[0.0; 9], &targets, &mut losses, &mut log_sums), want);
                let grad = cross_entropy_grad(&cpu, -100, &[0.0; 9], &targets, &log_sums, &[1.0; 3], &mut dx);
                assert_eq!(grad.map(|()| 0), want);
                assert_eq!(losses, [9.0; 3]);
            }
        }
    }
}
