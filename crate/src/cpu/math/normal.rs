//! The normal distribution and the error function. Both come from one fit of the tail, Φ(−z) = e^{−z²/2}·R(z): the form of
//! Abramowitz and Stegun 7.1.26, a polynomial in 1/(1 + pz), with more terms and fitted to the relative error, so that
//! the far tail does not cancel.

use super::exp::{at_most, decay_sum};
use super::{madd, polynomial, pow::two_product};

/// p of the tail's variable t = 1/(1 + pz).
pub const TAIL_SCALE: f32 = 0.35;

/// R(z) ≈ t·(c₀ + c₁t + …) for 0 ≤ z ≤ 14.6: 3.4e-8 relative (minimax, coefficients rounded one by one).
pub const TAIL: [f32; 9] = [
    0.139_621_29,
    0.139_863_8,
    0.119_819_2,
    0.105_560_65,
    -0.023_231_456,
    0.159_347_31,
    -0.255_863_13,
    0.144_042_63,
    -0.029_160_313,
];

/// erf x ≈ x + x·(c₀ + c₁x² + …) for |x| ≤ [`ERF_SMALL`]: 6.8e-9 relative.
pub const ERF: [f32; 6] =
    [0.128_379_17, -0.376_125_9, 0.112_828_65, -0.026_807_288, 0.005_057_703_7, -0.000_634_851_87];

/// Up to here erf is the polynomial of [`ERF`]: 1 − 2Φ(−√2·x) would cancel.
pub const ERF_SMALL: f32 = 0.85;

/// Above it e^{−z²/2} is below the normal range.
pub(crate) const TAIL_HIGHEST: f32 = 15.0;

/// Φ(−z) and e^{−z²/2} for z ≥ 0. The square is carried in two parts: its rounding alone would cost 6e-6 at z = 14.
#[inline(always)]
fn tail<const FMA: bool>(z: f32) -> (f32, f32) {
    let z = at_most(z, TAIL_HIGHEST);
    let (high, low) = two_product::<FMA>(0.5 * z, z);
    let density = decay_sum::<FMA>(-high, -low);
    let t = 1.0 / madd::<FMA>(TAIL_SCALE, z, 1.0);
    (density * (t * polynomial::<FMA, 9>(t, &TAIL)), density)
}

/// Φ(z), the integral of the standard normal density up to z.
#[inline(always)]
pub fn normal_cdf<const FMA: bool>(z: f32) -> f32 {
    normal_cdf_and_density::<FMA>(z).0
}

/// Φ(z) and e^{−z²/2}, which is √(2π) times its derivative.
#[inline(always)]
pub(crate) fn normal_cdf_and_density<const FMA: bool>(z: f32) -> (f32, f32) {
    let (tail, density) = tail::<FMA>(z.abs());
    (if z >= 0.0 { 1.0 - tail } else { tail }, density)
}

/// The error function.
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let size = x.abs();
    let small = madd::<FMA>(x, polynomial::<FMA, 6>(x * x, &ERF), x);
    let (tail, _) = tail::<FMA>(size * std::f32::consts::SQRT_2);
    let large = madd::<FMA>(-2.0, tail, 1.0).copysign(x);
    if size <= ERF_SMALL { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::super::sweep::{Budget, sweep};
    use super::*;

    /// erfc in f64 for a ≥ 0: the Taylor series below 2.5, the continued fraction (Lentz) above. 1e-13 relative.
    fn erfc(a: f64) -> f64 {
        if a < 2.5 {
            let (mut term, mut sum) = (a, a);
            for n in 1..90 {
                term *= -a * a / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let mut fraction = 0.0;
        for n in (1..200).rev() {
            fraction = f64::from(n) / 2.0 / (a + fraction);
        }
        (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt())
    }

    fn erf64(x: f64) -> f64 {
        if x.abs() < 1e-3 {
            let series = x - x * x * x / 3.0 + x.powi(5) / 10.0;
            return series * std::f64::consts::FRAC_2_SQRT_PI;
        }
        (1.0 - erfc(x.abs())).copysign(x)
    }

    fn cdf64(z: f64) -> f64 {
        let tail = 0.5 * erfc(z.abs() * std::f64::consts::FRAC_1_SQRT_2);
        if z > 0.0 { 1.0 - tail } else { tail }
    }

    #[test]
    fn erf_keeps_its_budget() {
        sweep!("erf", erf, |x: f64| if x.is_nan() { x } else { erf64(x) }, Budget { relative: 2e-7, absolute: 0.0 });
    }

    #[test]
    fn the_normal_distribution_keeps_its_budget() {
        let want = |z: f64| if z.is_nan() { z } else { cdf64(z) };
        sweep!("Φ", normal_cdf, want, Budget { relative: 5e-7, absolute: 1.2e-38 });
    }

    #[test]
    fn edges_are_exact() {
        assert_eq!((erf::<false>(f32::INFINITY), erf::<false>(f32::NEG_INFINITY)), (1.0, -1.0));
        assert_eq!((normal_cdf::<false>(f32::INFINITY), normal_cdf::<false>(f32::NEG_INFINITY)), (1.0, 0.0));
        assert!(erf::<false>(f32::NAN).is_nan() && normal_cdf::<false>(f32::NAN).is_nan());
        assert!(erf::<false>(-0.0).is_sign_negative());
    }
}
