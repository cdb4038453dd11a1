//! eˣ and what is made of it. x = n·ln 2 + r with |r| ≤ ½ ln 2; eʳ − 1 is a polynomial; 2ⁿ is put together from bits.

use super::{madd, polynomial};

/// log₂ e.
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// ln 2 in two parts: the first has 9 significant bits, so that its product with any exponent is exact.
pub const LN2_HIGH: f32 = 0.693_359_4;
/// What [`LN2_HIGH`] exceeds ln 2 by, negated.
pub const LN2_LOW: f32 = -2.121_944_4e-4;

/// eʳ ≈ 1 + r + r²·(c₀ + c₁r + …) for |r| ≤ ½ ln 2: 1.5e-8 of eʳ − 1 (minimax, coefficients rounded one by one).
pub const EXP: [f32; 5] = [0.499_999_97, 0.166_665_42, 0.041_667_43, 0.008_366_876, 0.001_387_187_9];

/// 1.5·2²³: adding it rounds to an integer, which is then in the low bits.
pub const ROUND: f32 = 12_582_912.0;

/// Above it eˣ is infinite (ln of the largest f32 is 88.7228).
pub const EXP_HIGHEST: f32 = 89.0;
/// Below it eˣ is zero (half the smallest subnormal is e^−103.97).
pub const EXP_LOWEST: f32 = -104.0;

/// ln 2⁻¹²⁶: below it eˣ is subnormal.
pub const DECAY_LOWEST: f32 = -87.336_54;

/// Below it eˣ − 1 rounds to −1.
pub const EXPM1_LOWEST: f32 = -17.5;

/// From 9.011 on tanh is 1 in f32.
pub const TANH_HIGHEST: f32 = 9.02;

/// n, as a float and in the low bits of a word, and r.
#[inline(always)]
pub(super) fn reduce<const FMA: bool>(x: f32) -> (i32, f32) {
    let rounded = madd::<FMA>(x, LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = madd::<FMA>(n, -LN2_LOW, madd::<FMA>(n, -LN2_HIGH, x));
    (rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32, r)
}

/// eʳ − 1 for |r| ≤ ½ ln 2.
#[inline(always)]
fn expm1_reduced<const FMA: bool>(r: f32) -> f32 {
    madd::<FMA>(r * r, polynomial::<FMA, 5>(r, &EXP), r)
}

/// 2ⁿ for −127 < n < 128.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// x·2ⁿ for 0.5 ≤ x ≤ 2 and |n| ≤ 252, with one rounding: the first of two factors loses nothing.
#[inline(always)]
pub(super) fn scale(x: f32, n: i32) -> f32 {
    let half = n >> 1;
    x * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// x, not above `highest`; NaN stays.
#[inline(always)]
pub(super) fn at_most(x: f32, highest: f32) -> f32 {
    if x > highest { highest } else { x }
}

/// x, not below `lowest`; NaN stays.
#[inline(always)]
pub(super) fn at_least(x: f32, lowest: f32) -> f32 {
    if x < lowest { lowest } else { x }
}

/// eˣ.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    let (n, r) = reduce::<FMA>(at_least(at_most(x, EXP_HIGHEST), EXP_LOWEST));
    scale(1.0 + expm1_reduced::<FMA>(r), n)
}

/// eˣ for x ≤ 0, as it is inside softmax, σ and Φ: a third cheaper, and 0 where eˣ is below the normal range.
#[inline(always)]
pub fn decay<const FMA: bool>(x: f32) -> f32 {
    decay_sum::<FMA>(x, 0.0)
}

/// e^(x + tail) for x ≤ 0, where `tail` is below the precision of x.
#[inline(always)]
pub(super) fn decay_sum<const FMA: bool>(x: f32, tail: f32) -> f32 {
    let (n, r) = reduce::<FMA>(x);
    let y = (1.0 + expm1_reduced::<FMA>(r + tail)) * power_of_two(n);
    if x < DECAY_LOWEST { 0.0 } else { y }
}

/// eˣ − 1 as 2·(a + b) with the two halves still apart: 2ⁿ(eʳ − 1) + (2ⁿ − 1), halved so that n = 128 is no special case.
#[inline(always)]
fn half_expm1<const FMA: bool>(x: f32) -> f32 {
    let (n, r) = reduce::<FMA>(x);
    let half = power_of_two(n.wrapping_sub(1));
    madd::<FMA>(half, expm1_reduced::<FMA>(r), half - 0.5)
}

/// eˣ − 1, without cancellation near 0.
#[inline(always)]
pub fn expm1<const FMA: bool>(x: f32) -> f32 {
    let y = 2.0 * half_expm1::<FMA>(at_least(at_most(x, EXP_HIGHEST), EXPM1_LOWEST));
    // Keeps −0 and subnormals, which the halving above would lose.
    if x.abs() < f32::EPSILON { x } else { y }
}

/// The hyperbolic tangent: with E = e^{2|x|} − 1 it is E / (E + 2), which loses nothing near 0.
#[inline(always)]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    let size = at_most(x.abs(), TANH_HIGHEST);
    let half = half_expm1::<FMA>(2.0 * size);
    let y = half / (half + 1.0);
    let y = if size < f32::EPSILON { size } else { y };
    y.copysign(x)
}

/// σ(x) = 1/(1 + e⁻ˣ), from the side that does not overflow.
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    sigmoid_pair::<FMA>(x).0
}

/// σ(x) and 1 − σ(x) = σ(−x), both to full relative precision.
#[inline(always)]
pub(crate) fn sigmoid_pair<const FMA: bool>(x: f32) -> (f32, f32) {
    let e = decay::<FMA>(-x.abs());
    let large = 1.0 / (1.0 + e);
    let small = e * large;
    if x >= 0.0 { (large, small) } else { (small, large) }
}

#[cfg(test)]
mod tests {
    use super::super::sweep::{Budget, hold, sweep};
    use super::*;

    #[test]
    fn exp_keeps_its_budget() {
        sweep!("exp", exp, f64::exp, Budget { relative: 1.5e-7, absolute: 2e-45 });
    }

    #[test]
    fn expm1_keeps_its_budget() {
        sweep!("expm1", expm1, f64::exp_m1, Budget { relative: 2.5e-7, absolute: 0.0 });
    }

    #[test]
    fn tanh_keeps_its_budget() {
        sweep!("tanh", tanh, f64::tanh, Budget { relative: 3e-7, absolute: 0.0 });
    }

    #[test]
    fn sigmoid_keeps_its_budget() {
        // From the left: f64's 1/(1 + e⁻ˣ) is exact enough there, and infinite e⁻ˣ gives 0.
        sweep!("sigmoid", sigmoid, |x: f64| 1.0 / (1.0 + (-x).exp()), Budget { relative: 3e-7, absolute: 1.2e-38 });
    }

    #[test]
    fn decay_keeps_its_budget() {
        let budget = Budget { relative: 1.5e-7, absolute: 1.2e-38 };
        hold("decay", 2003, |x| decay::<true>(-x.abs()), |x| (-x.abs()).exp(), budget);
        hold("decay", 2003, |x| decay::<false>(-x.abs()), |x| (-x.abs()).exp(), budget);
    }

    #[test]
    fn edges_are_exact() {
        for (x, y) in [(0.0, 1.0), (-0.0, 1.0), (f32::INFINITY, f32::INFINITY), (f32::NEG_INFINITY, 0.0), (-104.1, 0.0)]
        {
            assert_eq!(exp::<false>(x).to_bits(), f32::to_bits(y), "exp {x}");
        }
        assert_eq!(exp::<false>(88.722_84), f32::INFINITY);
        assert!(exp::<false>(88.722_83).is_finite() && exp::<false>(-103.9) > 0.0);
        for x in [0.0, -0.0, 1e-45, -1e-45, 1e-39] {
            assert_eq!(expm1::<false>(x).to_bits(), x.to_bits(), "expm1 {x:e}");
            assert_eq!(tanh::<false>(x).to_bits(), x.to_bits(), "tanh {x:e}");
        }
        assert_eq!((expm1::<false>(f32::NEG_INFINITY), expm1::<false>(f32::INFINITY)), (-1.0, f32::INFINITY));
        assert_eq!((tanh::<false>(f32::NEG_INFINITY), tanh::<false>(9.02)), (-1.0, 1.0));
        assert_eq!((sigmoid::<false>(f32::NEG_INFINITY), sigmoid::<false>(f32::INFINITY)), (0.0, 1.0));
        for f in [exp::<false>, expm1::<false>, tanh::<false>, sigmoid::<false>] {
            assert!(f(f32::NAN).is_nan());
        }
    }
}
