//! ln x and ln(1 + x). x = m·2ⁿ with √½ ≤ m < √2; ln m is a polynomial in m − 1.

use super::exp::{LN2_HIGH, LN2_LOW};
use super::{madd, polynomial};

/// ln(1 + f) ≈ f − ½f² + f³·(c₀ + c₁f + …) for √½ − 1 ≤ f ≤ √2 − 1: 6e-9 relative.
pub const LOG: [f32; 8] =
    [0.333_333_3, -0.250_008_37, 0.200_012_85, -0.166_227_74, 0.141_998_34, -0.131_642_31, 0.127_783_37, -0.076_451_1];

/// The bits of √½: where one binade of m ends and the next begins.
pub const SQRT_HALF_BITS: u32 = 0x3f35_04f3;

/// What subnormals are multiplied by: 2²⁵.
const LIFT: f32 = 33_554_432.0;

/// n and m of a positive normal number.
#[inline(always)]
pub(super) fn split(x: f32) -> (i32, f32) {
    let n = (x.to_bits().wrapping_sub(SQRT_HALF_BITS) as i32) >> 23;
    (n, f32::from_bits(x.to_bits().wrapping_sub((n << 23) as u32)))
}

/// n and m of a positive number, subnormals included.
#[inline(always)]
pub(super) fn split_any(x: f32) -> (i32, f32) {
    let subnormal = x < f32::MIN_POSITIVE;
    let (n, m) = split(if subnormal { x * LIFT } else { x });
    (if subnormal { n - 25 } else { n }, m)
}

/// n·ln 2 + ln(1 + f).
#[inline(always)]
fn assemble<const FMA: bool>(n: i32, f: f32) -> f32 {
    let n = n as f32;
    let square = f * f;
    let low = madd::<FMA>(n, LN2_LOW, square * f * polynomial::<FMA, 8>(f, &LOG));
    madd::<FMA>(n, LN2_HIGH, madd::<FMA>(-0.5, square, low) + f)
}

/// `y`, or the value that ln has where it is not finite.
#[inline(always)]
fn with_edges(x: f32, y: f32) -> f32 {
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x >= 0.0 { y } else { f32::NAN }
}

/// The natural logarithm.
#[inline(always)]
pub fn log<const FMA: bool>(x: f32) -> f32 {
    let (n, m) = split_any(x);
    with_edges(x, assemble::<FMA>(n, m - 1.0))
}

/// ln(1 + x), without cancellation near 0: what 1 + x loses to rounding is added to m.
#[inline(always)]
pub fn log1p<const FMA: bool>(x: f32) -> f32 {
    let sum = 1.0 + x;
    let big = sum - 1.0;
    let lost = (1.0 - (sum - big)) + (x - big);
    let (n, m) = split(sum);
    // 2⁻ⁿ; zero for n ≥ 127, where nothing visible is lost.
    let scale = f32::from_bits((127i32.wrapping_sub(n).max(0) << 23) as u32);
    let f = madd::<FMA>(lost, scale, m - 1.0);
    let y = with_edges(sum, assemble::<FMA>(n, f));
    // Keeps −0 and subnormals.
    if x.abs() < f32::EPSILON / 2.0 { x } else { y }
}

#[cfg(test)]
mod tests {
    use super::super::sweep::{Budget, sweep};
    use super::*;

    #[test]
    fn log_keeps_its_budget() {
        sweep!("log", log, f64::ln, Budget { relative: 2e-7, absolute: 0.0 });
    }

    #[test]
    fn log1p_keeps_its_budget() {
        sweep!("log1p", log1p, f64::ln_1p, Budget { relative: 2e-7, absolute: 0.0 });
    }

    #[test]
    fn edges_are_exact() {
        for f in [log::<false>, |x| log1p::<false>(x - 1.0)] {
            assert_eq!((f(0.0), f(1.0), f(f32::INFINITY)), (f32::NEG_INFINITY, 0.0, f32::INFINITY));
            assert!(f(-1.0).is_nan() && f(f32::NAN).is_nan() && f(f32::NEG_INFINITY).is_nan());
        }
        assert_eq!(log::<false>(-0.0), f32::NEG_INFINITY);
        for x in [0.0, -0.0, 1e-45, -1e-40] {
            assert_eq!(log1p::<false>(x).to_bits(), x.to_bits(), "{x:e}");
        }
    }
}
