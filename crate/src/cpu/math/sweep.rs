//! Holds a function to its budget on a grid of all bit patterns, with and without fused multiply-add.

/// The largest error a function may have: the larger of the two bounds counts.
#[derive(Clone, Copy)]
pub(super) struct Budget {
    /// Of the exact value.
    pub relative: f64,
    /// For results near zero, or below the normal range.
    pub absolute: f64,
}

/// Arguments: every `step`th bit pattern (a prime, so that all exponents and last bits occur), the special values, and a
/// dense grid where the functions bend.
fn arguments(step: usize) -> impl Iterator<Item = f32> {
    let patterns = (0..=u32::MAX).step_by(step).map(f32::from_bits);
    let dense = (-110_000..110_000).map(|i| i as f32 * 1e-3);
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, f32::MIN_POSITIVE];
    patterns.chain(dense).chain(special)
}

/// Compares `got` with `want` on all [`arguments`].
pub(super) fn hold(name: &str, step: usize, got: impl Fn(f32) -> f32, want: impl Fn(f64) -> f64, budget: Budget) {
    let (mut worst, mut at) = (0.0f64, 0.0f32);
    for x in arguments(step) {
        let (y, exact) = (got(x), want(f64::from(x)));
        if exact.is_nan() || (exact as f32).is_infinite() || y.is_infinite() {
            let same =
                if exact.is_nan() { y.is_nan() } else { (f64::from(y) - exact).abs() < 1e32 || y == exact as f32 };
            assert!(same, "{name}({x:e}) is {y:e}, not {exact:e}");
            continue;
        }
        let error = (f64::from(y) - exact).abs();
        assert!(!error.is_nan(), "{name}({x:e}) is {y:e}, not {exact:e}");
        // Below the normal range half a subnormal step is the best there is.
        if error > budget.absolute && error > 8e-46 && error > worst * exact.abs() {
            (worst, at) = (error / exact.abs(), x);
        }
    }
    assert!(worst <= budget.relative, "{name}: relative error {worst:.3e} at {at:e}, allowed {:.1e}", budget.relative);
}

/// Sweeps a function of the form `f::<FMA>`.
macro_rules! sweep {
    ($name:expr, $f:ident, $want:expr, $budget:expr) => {
        $crate::cpu::math::sweep::hold($name, 2003, $f::<false>, $want, $budget);
        $crate::cpu::math::sweep::hold($name, 2003, $f::<true>, $want, $budget);
    };
}
pub(super) use sweep;
