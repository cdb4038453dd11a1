//! The parts of batch normalisation against formulas in f64: layouts, masks, thread counts, a mean far from 0, and known
//! running statistics.

use super::*;
use crate::cpu::{Cpu, Isa, Pool};
use crate::program::op::Channels;

/// Nothing, one, and one around the widths of blocks, strips, lanes and groups; channels side by side and not.
const SHAPES: [[usize; 3]; 20] = [
    [0, 3, 1],
    [4, 0, 1],
    [0, 2, 7],
    [3, 2, 0],
    [1, 1, 1],
    [2, 1, 1],
    [63, 5, 1],
    [64, 17, 1],
    [65, 511, 1],
    [129, 513, 1],
    [1000, 33, 1],
    [9, 1031, 1],
    [2, 1, 3],
    [5, 7, 31],
    [3, 8, 33],
    [4, 9, 49],
    [2, 3, 2047],
    [2, 2, 2049],
    [41, 17, 100],
    [1, 5, 5000],
];

fn every_cpu() -> impl Iterator<Item = Cpu> {
    Isa::available().into_iter().map(|isa| Cpu { isa, pool: Pool::new(3).unwrap() })
}

fn floats(count: usize, seed: u32) -> Vec<f32> {
    let word = |i: u32| i.wrapping_mul(0x9e37_79b9).wrapping_add(seed.wrapping_mul(0x85eb_ca6b)) >> 8;
    (0..count as u32).map(|i| word(i) as f32 / 8_388_608.0 - 0.5).collect()
}

fn channels([outer, channels, inner]: [usize; 3]) -> Channels {
    Channels { outer, channels, inner }
}

/// Every third position is left out.
fn mask(of: Channels) -> Vec<u32> {
    (0..of.positions()).map(|i| u32::from(i % 3 != 1)).collect()
}

/// The values of a channel that count, in f64.
fn values(of: Channels, x: &[f32], mask: Option<&[u32]>, channel: usize) -> Vec<f64> {
    let positions = (0..of.positions()).filter(|&i| mask.is_none_or(|mask| mask[i] != 0));
    positions.map(|i| f64::from(x[(i / of.inner * of.channels + channel) * of.inner + i % of.inner])).collect()
}

/// What the mask leaves out is NaN.
fn poisoned(of: Channels, mut x: Vec<f32>, mask: Option<&[u32]>) -> Vec<f32> {
    for (i, x) in x.iter_mut().enumerate() {
        let position = i / of.inner / of.channels * of.inner + i % of.inner;
        if mask.is_some_and(|mask| mask[position] == 0) {
            *x = f32::NAN;
        }
    }
    x
}

fn near(got: f32, want: f64, scale: f64) {
    assert!((f64::from(got) - want).abs() <= 2e-6 * scale + 1e-30, "{got} instead of {want}, scale {scale}");
}

#[test]
fn statistics_follow_the_formulas() {
    for cpu in every_cpu() {
        for of in SHAPES.map(channels) {
            let some = mask(of);
            for mask in [None, Some(&some[..])] {
                let x = poisoned(of, floats(of.numel(), 1), mask);
                let (mut mean, mut m2) = (vec![f32::NAN; of.channels], vec![f32::NAN; of.channels]);
                let count = statistics(&cpu, of, &x, mask, &mut mean, &mut m2);
                let counted = mask.map_or(of.positions(), |mask| mask.iter().filter(|&&on| on != 0).count());
                assert_eq!(count, counted, "{of:?}");
                for channel in 0..of.channels {
                    let all = values(of, &x, mask, channel);
                    let centre = all.iter().sum::<f64>() / (count as f64).max(1.0);
                    near(mean[channel], centre, 0.5);
                    near(m2[channel], all.iter().map(|x| (x - centre).powi(2)).sum(), count as f64);
                }
            }
        }
    }
}

#[test]
fn a_large_mean_does_not_cancel() {
    for cpu in every_cpu() {
        for of in [[4000, 3, 1], [2, 3, 2000]].map(channels) {
            let x: Vec<f32> =
                (0..of.numel()).map(|i| 10_000.0 + (i / of.inner / of.channels + i % of.inner) as f32 % 2.0).collect();
            let (mut mean, mut m2) = ([0.0; 3], [0.0; 3]);
            statistics(&cpu, of, &x, None, &mut mean, &mut m2);
            assert_eq!((mean, m2), ([10_000.5; 3], [1000.0; 3]));
        }
    }
}

/// Ten thousand deviations: a mean is rounded by as much as a thousandth of one.
#[test]
fn a_mean_far_from_0_leaves_the_spread_its_digits() {
    for cpu in every_cpu() {
        for of in [[4000, 33, 1], [130, 513, 1], [3, 5, 5000], [300, 4, 49]].map(channels) {
            let some: Vec<u32> = (0..of.positions()).map(|i| u32::from(i >= 70 && i % 3 != 1)).collect();
            for mask in [None, Some(&some[..])] {
                let x = poisoned(of, floats(of.numel(), 1).iter().map(|x| x + 5773.5).collect(), mask);
                let (mut mean, mut m2) = (vec![f32::NAN; of.channels], vec![f32::NAN; of.channels]);
                statistics(&cpu, of, &x, mask, &mut mean, &mut m2);
                for channel in 0..of.channels {
                    let all = values(of, &x, mask, channel);
                    let centre = all.iter().sum::<f64>() / all.len() as f64;
                    let want: f64 = all.iter().map(|x| (x - centre).powi(2)).sum();
                    assert!((f64::from(mean[channel]) - centre).abs() <= 6e-8 * centre);
                    assert!((f64::from(m2[channel]) - want).abs() <= 1e-6 * want, "{of:?}: {} {want}", m2[channel]);
                }
            }
        }
    }
}

#[test]
fn what_is_infinite_has_an_infinite_mean() {
    for cpu in every_cpu() {
        for of in [[300, 3, 1], [2, 3, 3000]].map(channels) {
            let mut x = floats(of.numel(), 1);
            x[of.inner] = f32::INFINITY;
            let (mut mean, mut m2) = ([0.0; 3], [0.0; 3]);
            statistics(&cpu, of, &x, None, &mut mean, &mut m2);
            assert!(mean[1] == f32::INFINITY && m2[1].is_nan());
            assert!([0, 2].into_iter().all(|channel| mean[channel].is_finite() && m2[channel].is_finite()));
        }
    }
}

#[test]
fn the_gradient_follows_the_formulas() {
    for cpu in every_cpu() {
        for of in SHAPES.map(channels) {
            let some = mask(of);
            for mask in [None, Some(&some[..])] {
                let (dy, x) = (poisoned(of, floats(of.numel(), 2), mask), poisoned(of, floats(of.numel(), 3), mask));
                let (mean, weight) = (floats(of.channels, 4), floats(of.channels, 5));
                let istd: Vec<f32> = floats(of.channels, 6).iter().map(|x| 1.5 + x).collect();
                let (mut sums, mut products) = (vec![f32::NAN; of.channels], vec![f32::NAN; of.channels]);
                grad_sums(&cpu, of, &dy, &x, &mean, &istd, mask, &mut sums, &mut products);
                for channel in 0..of.channels {
                    let (dy, x) = (values(of, &dy, mask, channel), values(of, &x, mask, channel));
                    near(sums[channel], dy.iter().sum(), dy.len() as f64);
                    let normal = |x: &f64| (x - f64::from(mean[channel])) * f64::from(istd[channel]);
                    near(
                        products[channel],
                        dy.iter().zip(&x).map(|(dy, x)| dy * normal(x)).sum(),
                        2.0 * dy.len() as f64,
                    );
                }
                let mut dx = vec![f32::NAN; of.numel()];
                let with = Coefficients { mean: &mean, istd: &istd, weight: Some(&weight) };
                grad(&cpu, of, with, [&sums, &products], 7.0, &dy, &x, mask, &mut dx);
                for (i, dx) in dx.into_iter().enumerate() {
                    let channel = i / of.inner % of.channels;
                    let [dy, x, mean, istd, weight, sum, product] =
                        [dy[i], x[i], mean[channel], istd[channel], weight[channel], sums[channel], products[channel]]
                            .map(f64::from);
                    let normal = (x - mean) * istd;
                    let want = weight * istd * (dy - sum / 7.0 - normal * product / 7.0);
                    let scale = weight.abs() * istd * (1.0 + sum.abs() + 2.0 * product.abs());
                    if dy.is_nan() { assert_eq!(dx.to_bits(), 0) } else { near(dx, want, scale) }
                }
            }
        }
    }
}

#[test]
fn rows_are_normalised_alone() {
    for cpu in every_cpu() {
        for of in SHAPES.map(channels) {
            let some = mask(of);
            for mask in [None, Some(&some[..])] {
                let x = poisoned(of, floats(of.numel(), 7), mask);
                let (mean, istd, weight, bias) =
                    (floats(of.channels, 8), floats(of.channels, 9), floats(of.channels, 10), floats(of.channels, 11));
                let with = Coefficients { mean: &mean, istd: &istd, weight: Some(&weight) };
                let mut y = vec![f32::NAN; of.numel()];
                forward(&cpu, of, with, Some(&bias), &x, mask, &mut y);
                for (i, &y) in y.iter().enumerate() {
                    let channel = i / of.inner % of.channels;
                    let [x, mean, istd, weight, bias] =
                        [x[i], mean[channel], istd[channel], weight[channel], bias[channel]].map(f64::from);
                    if x.is_nan() {
                        assert_eq!(y.to_bits(), 0);
                    } else {
                        near(y, (x - mean) * istd * weight + bias, 1.0);
                    }
                }
                let size = of.channels * of.inner;
                for row in 0..of.outer {
                    let (alone, range) = (Channels { outer: 1, ..of }, row * size..(row + 1) * size);
                    let mask = mask.map(|mask| &mask[row * of.inner..(row + 1) * of.inner]);
                    let mut one = vec![f32::NAN; size];
                    forward(&cpu, alone, with, Some(&bias), &x[range.clone()], mask, &mut one);
                    assert!(one.iter().zip(&y[range]).all(|(a, b)| a.to_bits() == b.to_bits()), "{of:?} row {row}");
                }
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    for isa in Isa::available() {
        let [one, three] = [1, 3].map(|threads| Cpu { isa, pool: Pool::new(threads).unwrap() });
        for of in [[3000, 600, 1], [60, 40, 300]].map(channels) {
            let (dy, x, mean) = (floats(of.numel(), 1), floats(of.numel(), 2), floats(of.channels, 3));
            let both = [&one, &three].map(|cpu| {
                let mut results = [(); 4].map(|()| vec![f32::NAN; of.channels]);
                let [a, b, c, d] = &mut results;
                statistics(cpu, of, &x, None, a, b);
                grad_sums(cpu, of, &dy, &x, &mean, &mean, None, c, d);
                results
            });
            assert!(both[0] == both[1], "{of:?}");
        }
    }
}

#[test]
fn the_variance_of_nothing_is_0() {
    let (mut v, mut istd) = ([9.0; 2], [9.0; 2]);
    variance(&[0.0, 0.0], 0.0, 0.25, &mut v, &mut istd);
    assert_eq!((v, istd), ([0.0; 2], [2.0; 2]));
    variance(&[8.0, 0.0], 2.0, 0.0, &mut v, &mut istd);
    assert_eq!((v, istd[0]), ([4.0, 0.0], 0.5));
}

#[test]
fn running_statistics_of_the_channel_1_3() {
    for (unbiased, want) in [(true, 1.1), (false, 1.0)] {
        let (mut mean, mut var) = ([0.0], [1.0]);
        let fresh = Fresh { mean: &[2.0], variance: &[1.0], count: 2.0, factor: 0.1, unbiased };
        update(&mut mean, &mut var, fresh);
        near(mean[0], 0.2, 0.1);
        near(var[0], want, 0.1);
    }
}
