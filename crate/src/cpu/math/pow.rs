//! xʸ = 2^(y·log₂|x|). The logarithm and its product with y are carried in two floats each: y·log₂|x| reaches 128, and
//! every bit lost there is lost 128 times over in the result.

use super::exp::{ROUND, at_least, at_most, scale};
use super::log::split_any;
use super::polynomial;

/// 2 / ln 2 in two parts: log₂((1 + s)/(1 − s)) = 2/ln 2·s + s³·([`LOG2_CUBIC`] in s²).
pub const TWO_LOG2_E: (f32, f32) = (2.885_39, 3.851_926e-8);

/// The rest of log₂((1 + s)/(1 − s)) over s³, in s², for |s| ≤ 0.1716: 3e-11 of the logarithm.
pub const LOG2_CUBIC: [f32; 4] = [0.961_796_7, 0.577_078_5, 0.411_915_2, 0.336_778_16];

/// 2ʳ ≈ 1 + r·(c₀ + c₁r + …) for |r| ≤ ½: 3e-9 relative.
#[expect(clippy::approx_constant, reason = "c₀ is ln 2 by nature; the fit decides its last bit")]
pub const EXP2: [f32; 6] = [0.693_147_2, 0.240_226_48, 0.055_503_6, 0.009_618_506, 0.001_339_080_6, 0.000_153_264_63];

/// 2²³: from here on every f32 is an integer, and from twice this on an even one.
const INTEGERS: f32 = 8_388_608.0;

/// Larger exponents act like this one: |log₂ x| is at least 8.6e-8, which it takes out of range.
pub(crate) const LARGEST_EXPONENT: f32 = 8_589_934_592.0;

/// The upper 12 bits of the significand.
const UPPER_HALF: u32 = 0xffff_f000;

/// a·b as a sum of two floats, exactly.
#[inline(always)]
pub(super) fn two_product<const FMA: bool>(a: f32, b: f32) -> (f32, f32) {
    let high = a * b;
    if FMA {
        return (high, a.mul_add(b, -high));
    }
    let a_high = f32::from_bits(a.to_bits() & UPPER_HALF);
    let b_high = f32::from_bits(b.to_bits() & UPPER_HALF);
    let (a_low, b_low) = (a - a_high, b - b_high);
    let low = ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low;
    (high, low)
}

/// a + b as a sum of two floats, exactly, if a is 0 or no smaller than b.
#[inline(always)]
fn fast_two_sum(a: f32, b: f32) -> (f32, f32) {
    let high = a + b;
    (high, b - (high - a))
}

/// log₂ x for a positive finite x, as a sum of two floats: 2⁻³⁰ relative.
#[inline(always)]
fn log2<const FMA: bool>(x: f32) -> (f32, f32) {
    let (n, m) = split_any(x);
    let f = m - 1.0;
    let (d, d_low) = fast_two_sum(1.0, m);
    let inverse = 1.0 / d;
    let s = f * inverse;
    let (back, back_low) = two_product::<FMA>(s, d);
    let s_low = ((f - back) - back_low - s * d_low) * inverse;
    let square = s * s;
    let (main, main_low) = two_product::<FMA>(TWO_LOG2_E.0, s);
    let rest = s * square * polynomial::<FMA, 4>(square, &LOG2_CUBIC);
    let low = main_low + (TWO_LOG2_E.1 * s + TWO_LOG2_E.0 * s_low) + rest;
    let (high, high_low) = fast_two_sum(n as f32, main);
    fast_two_sum(high, high_low + low)
}

/// 2^(high + low); 0 and ∞ out of range.
#[inline(always)]
fn exp2<const FMA: bool>(high: f32, low: f32) -> f32 {
    let low = if high.abs() < 160.0 { low } else { 0.0 };
    let x = at_least(at_most(high, 160.0), -160.0);
    let rounded = x + ROUND;
    let r = (x - (rounded - ROUND)) + low;
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    scale(1.0 + r * polynomial::<FMA, 6>(r, &EXP2), n)
}

/// xʸ with the special cases of IEEE 754: a negative base takes integer exponents only (else NaN), anything to the 0 and
/// 1 to anything are 1. x² is x·x.
#[inline(always)]
pub fn pow<const FMA: bool>(x: f32, y: f32) -> f32 {
    let (base, size) = (x.abs(), y.abs());
    let (log, log_low) = log2::<FMA>(base);
    let exponent = at_least(at_most(y, LARGEST_EXPONENT), -LARGEST_EXPONENT);
    let (high, low) = two_product::<FMA>(log, exponent);
    let power = exp2::<FMA>(high, low + log_low * exponent);

    let all_integers = size >= INTEGERS;
    let shifted = if all_integers { size } else { size + INTEGERS };
    let integer = all_integers | (shifted - INTEGERS == size);
    let odd = integer & (size < 2.0 * INTEGERS) & (shifted.to_bits() & 1 == 1);

    let unbounded = (base == 0.0) == (y < 0.0);
    let limit = if unbounded { f32::INFINITY } else { 0.0 };
    let power = if (base == 0.0) | (base == f32::INFINITY) { limit } else { power };
    let power = if odd & x.is_sign_negative() { -power } else { power };
    let undefined = (x < 0.0) & (base < f32::INFINITY) & !integer;
    let power = if undefined | x.is_nan() | y.is_nan() { f32::NAN } else { power };
    let power = if (y == 0.0) | (x == 1.0) { 1.0 } else { power };
    if y == 2.0 { x * x } else { power }
}

#[cfg(test)]
mod tests {
    use super::super::sweep::{Budget, hold};
    use super::*;

    fn both(x: f32, y: f32) -> [f32; 2] {
        [pow::<false>(x, y), pow::<true>(x, y)]
    }

    #[test]
    fn special_cases_follow_the_standard() {
        const SPECIAL: [f32; 21] = [
            0.0,
            -0.0,
            0.5,
            -0.5,
            1.0,
            -1.0,
            1.5,
            -1.5,
            2.0,
            -2.0,
            3.0,
            -3.0,
            8_388_607.0,
            -8_388_609.0,
            16_777_216.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::MAX,
            1e-45,
            f32::MIN_POSITIVE,
        ];
        for x in SPECIAL {
            for y in SPECIAL {
                let want = f64::from(x).powf(f64::from(y)) as f32;
                for got in both(x, y) {
                    let same = got.to_bits() == want.to_bits()
                        || (got.is_nan() && want.is_nan())
                        || ((got - want) / want).abs() < 2e-7;
                    assert!(same, "{x:e}^{y:e}: {got:e}, not {want:e}");
                }
            }
        }
    }

    #[test]
    fn pow_keeps_its_budget() {
        for y in [-37.3f32, -1.0, -0.5, 1.0 / 3.0, 0.5, 0.999, 1.0, 1.5, 3.0, 17.0, 100.5] {
            let want = |x: f64| x.powf(f64::from(y));
            hold(&format!("x^{y}"), 20_011, |x| pow::<false>(x, y), want, Budget { relative: 2.5e-7, absolute: 2e-45 });
        }
        for x in [1e-30f32, 0.3, 0.999_999, 1.000_001, 1.4, 2.0, 10.0, 3e20] {
            let want = |y: f64| f64::from(x).powf(y);
            hold(&format!("{x}^y"), 20_011, |y| pow::<true>(x, y), want, Budget { relative: 2.5e-7, absolute: 2e-45 });
        }
    }

    #[test]
    fn squares_are_products() {
        for x in [-3.7f32, 0.1, 1e-30, 1e19, 1.234_567_9] {
            assert!(both(x, 2.0).iter().all(|p| p.to_bits() == (x * x).to_bits()));
        }
    }
}
