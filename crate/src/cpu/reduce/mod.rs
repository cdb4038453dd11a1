//! Reductions over the middle of `[outer, count, inner]`. `inner` = 1 reduces rows, `outer` = 1 reduces columns (bias
//! gradients, batch statistics).
//!
//! Sums are taken in a tree whose shape follows from positions alone (`sum.rs`): neither the number of threads nor zeros
//! appended to the reduced axis change a bit. The larger and the smaller of numbers (`order.rs`) need no fixed order
//! (`extreme.rs`).

mod arg;
mod extreme;
mod order;
mod sum;

use super::Cpu;
use super::elementwise::{Feed, Source};
use super::share::with_scratch;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::program::op::{Middle, ReduceOp};

use order::{Extreme, Floats, Integers};
pub(super) use sum::{Term, sums};

/// Reduces `x`, of `outer·count·inner` words, to `out`, of `outer·inner` words. `dtype` is that of `x`, f32 or i32; the
/// result has the same, or is i32 for the positions. Mean and variance are of f32. An empty sum is 0, mean and variance
/// of nothing are NaN; a NaN wins in `max`, `min` and the positions; of equals the first position counts.
pub fn reduce(cpu: &Cpu, kind: ReduceOp, axes: Middle, dtype: Dtype, x: &[u32], out: &mut [u32]) {
    let out = &mut out[..axes.outer * axes.inner];
    let x = &x[..out.len() * axes.count];
    if out.is_empty() {
        return;
    }
    let source = Source::Words(x);
    match (kind, dtype) {
        (ReduceOp::Sum, Dtype::F32) => sums(cpu, source, axes, Term::Value, out),
        (ReduceOp::Sum, _) => sum_integers(cpu, axes, x, out),
        (ReduceOp::Mean, _) => means(cpu, axes, source, out),
        (ReduceOp::Variance { correction }, _) => variances(cpu, axes, correction, x, out),
        (ReduceOp::Max, Dtype::F32) => extreme::reduce::<Floats>(cpu, axes, Extreme::Largest, source, out),
        (ReduceOp::Max, _) => extreme::reduce::<Integers>(cpu, axes, Extreme::Largest, source, out),
        (ReduceOp::Min, Dtype::F32) => extreme::reduce::<Floats>(cpu, axes, Extreme::Smallest, source, out),
        (ReduceOp::Min, _) => extreme::reduce::<Integers>(cpu, axes, Extreme::Smallest, source, out),
        (ReduceOp::Argmax, _) => arg::positions(cpu, axes, Extreme::Largest, dtype, x, out),
        (ReduceOp::Argmin, _) => arg::positions(cpu, axes, Extreme::Smallest, dtype, x, out),
    }
}

/// The same for f32 elements that a chain computes on the way: the bits are those of the chain, and then the reduction.
///
/// # Errors
/// [`Error::Internal`] for a kind that looks at elements more than once, or at their positions.
pub fn reduce_computed(cpu: &Cpu, kind: ReduceOp, axes: Middle, x: Feed, out: &mut [u32]) -> Result<()> {
    let source = Source::Chain(x);
    match kind {
        ReduceOp::Sum => sums(cpu, source, axes, Term::Value, out),
        ReduceOp::Mean => means(cpu, axes, source, out),
        ReduceOp::Max => extreme::reduce::<Floats>(cpu, axes, Extreme::Largest, source, out),
        ReduceOp::Min => extreme::reduce::<Floats>(cpu, axes, Extreme::Smallest, source, out),
        _ => return Err(Error::Internal(format!("{kind:?} of a chain"))),
    }
    Ok(())
}

fn means(cpu: &Cpu, axes: Middle, x: Source, out: &mut [u32]) {
    sums(cpu, x, axes, Term::Value, out);
    divide(out, axes.count as f32);
}

/// Two passes: E[x²] − E[x]² would cancel.
fn variances(cpu: &Cpu, axes: Middle, correction: f64, x: &[u32], out: &mut [u32]) {
    with_scratch(out.len(), |centres| {
        means(cpu, axes, Source::Words(x), centres);
        sums(cpu, Source::Words(x), axes, Term::SquaredDeviation(centres), out);
    });
    divide(out, (axes.count as f64 - correction).max(0.0) as f32);
}

fn divide(words: &mut [u32], by: f32) {
    for word in words {
        *word = (f32::from_bits(*word) / by).to_bits();
    }
}

/// Wrapping sums: the order does not matter.
fn sum_integers(cpu: &Cpu, axes: Middle, x: &[u32], out: &mut [u32]) {
    let Middle { outer, count, inner } = axes;
    let tasks = cpu.tasks(x.len() as u64 * 100, outer);
    let shared = super::share::Shared::new(out);
    cpu.ranges(tasks, outer, &|range| {
        // SAFETY: ranges of outer indices are disjoint, so are their results.
        let out = unsafe { shared.part(range.start * inner..range.end * inner) };
        out.fill(0);
        for (sums, x) in out.chunks_exact_mut(inner).zip(x[range.start * count * inner..].chunks(count.max(1) * inner))
        {
            for row in x.chunks_exact(inner) {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum = sum.wrapping_add(value);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests;
