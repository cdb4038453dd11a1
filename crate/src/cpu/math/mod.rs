//! The scalar functions that elementwise kernels are made of: our own polynomials, so that every device and instruction
//! set agrees, the loops vectorise, and the error is known. Branch-free: whatever depends on the argument is a select.
//!
//! Each function is generic over `FMA`, which says whether `f32::mul_add` is one instruction; it must be inlined into a
//! loop that [`dispatch!`](crate::dispatch) has instantiated. NaN comes out wherever it goes in, ±0, ±∞ and subnormals
//! are treated as IEEE 754 and C treat them.
//!
//! | function | error | where |
//! |---|---|---|
//! | `exp` | 1.5e-7 relative, one subnormal step below 2⁻¹²⁶ | everywhere |
//! | `decay` (eˣ for x ≤ 0) | 1.5e-7 relative, 0 below 2⁻¹²⁶ | x ≤ 0 |
//! | `expm1` | 2.5e-7 relative | everywhere |
//! | `log`, `log1p` | 2e-7 relative | everywhere |
//! | `tanh`, `sigmoid` | 3e-7 relative; σ is 0 below 2⁻¹²⁶ | everywhere |
//! | `erf` | 2e-7 relative | everywhere |
//! | `normal_cdf` (Φ) | 5e-7 relative, 0 below 2⁻¹²⁶ | both tails |
//! | `pow` | 2.5e-7 relative | everywhere |
//!
//! The tests of each file sweep the bit patterns of f32 against f64 and hold these figures. The constants are named
//! because shaders are emitted from the same ones.

pub(crate) mod exp;
pub(crate) mod log;
pub(crate) mod normal;
pub(crate) mod pow;
#[cfg(test)]
mod sweep;

pub(crate) use exp::sigmoid_pair;
pub use exp::{decay, exp, expm1, sigmoid, tanh};
pub use log::{log, log1p};
pub(crate) use normal::{TAIL_HIGHEST, normal_cdf_and_density};
pub use normal::{erf, normal_cdf};
pub use pow::pow;

/// The exponent field of an f32: all ones in infinities and NaN.
pub const EXPONENT_BITS: u32 = 0x7f80_0000;

/// a·b + c, fused where that is one instruction.
#[inline(always)]
pub(crate) fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// c₀ + c₁x + c₂x² + …, by Horner's rule.
#[inline(always)]
pub(crate) fn polynomial<const FMA: bool, const N: usize>(x: f32, coefficients: &[f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = madd::<FMA>(sum, x, coefficients[i]);
    }
    sum
}

/// The larger of two; NaN if either is.
#[inline(always)]
pub fn maximum(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller of two; NaN if either is.
#[inline(always)]
pub fn minimum(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

/// −1, 0 or 1; ±0 and NaN stay.
#[inline(always)]
pub fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_and_sign_pass_nan_on() {
        for f in [maximum, minimum] {
            assert!(f(f32::NAN, 1.0).is_nan() && f(1.0, f32::NAN).is_nan());
        }
        assert_eq!((maximum(-1.0, 2.0), minimum(-1.0, 2.0)), (2.0, -1.0));
        assert_eq!((sign(3.0), sign(-f32::INFINITY), sign(0.0)), (1.0, -1.0, 0.0));
        assert!(sign(f32::NAN).is_nan() && sign(-0.0).is_sign_negative());
    }
}
