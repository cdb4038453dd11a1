//! Batch normalisation of x seen as `[outer, channels, inner]`: statistics and column sums (`sums.rs`), what is done to
//! each element (`apply.rs`), and here what is done to each channel.
//!
//! μ = Σx/m, M2 = Σ(x − μ)², y = (x − μ)·istd·γ + β, dx = γ·istd·(dy − Σdy/m − x̂·Σdy·x̂/m). Sums over a channel are taken
//! in blocks of positions, each in two passes while it is in the cache; blocks are brought together in f64, one after the
//! other. So the order depends on the shape alone, and nothing cancels: never E[x²] − E[x]². What a mask leaves out is
//! not read where channels lie side by side, and selected away where they do not.

mod apply;
mod sums;
#[cfg(test)]
mod tests;

pub use apply::{Coefficients, forward, grad};
pub use sums::{grad_sums, statistics};

/// Biased variance and 1/√(variance + eps) from M2 and count. The variance of nothing is 0.
pub fn variance(m2: &[f32], count: f32, eps: f64, variance: &mut [f32], istd: &mut [f32]) {
    for ((&m2, variance), istd) in m2.iter().zip(variance).zip(istd) {
        *variance = m2 / count.max(1.0);
        *istd = (1.0 / (f64::from(*variance) + eps).sqrt()) as f32;
    }
}

/// New statistics for [`update`].
#[derive(Clone, Copy)]
pub struct Fresh<'a> {
    /// Means.
    pub mean: &'a [f32],
    /// Biased variances.
    pub variance: &'a [f32],
    /// How many values they are of.
    pub count: f32,
    /// Their weight.
    pub factor: f64,
    /// Whether the variance taken in is M2/(count − 1).
    pub unbiased: bool,
}

/// r ← r + factor·(new − r).
pub fn update(mean: &mut [f32], variance: &mut [f32], fresh: Fresh) {
    let count = f64::from(fresh.count);
    let correction = if fresh.unbiased { count / (count - 1.0) } else { 1.0 };
    let blend = |old: &mut f32, new: f64| {
        let before = f64::from(*old);
        *old = (before + fresh.factor * (new - before)) as f32;
    };
    for (old, &new) in mean.iter_mut().zip(fresh.mean) {
        blend(old, f64::from(new));
    }
    for (old, &new) in variance.iter_mut().zip(fresh.variance) {
        blend(old, f64::from(new) * correction);
    }
}
