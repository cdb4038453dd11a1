//! Softmax and its logarithm over the middle of `[outer, count, inner]`, forward and backward, in one dispatch each.
//!
//! m = max x, e = exp(x − m), s = Σe: y = e/s, or x − m − ln s. Backward, softmax: dx = y ⊙ (dy − Σ dy⊙y); log-softmax:
//! dx = dy − exp(y)·Σdy. NaN, and a row of −∞ only, give NaN; what is below 2⁻¹²⁶ before it is scaled is 0.

pub(super) mod form;
#[cfg(test)]
mod tests;

use super::{Prepared, Target, input, output};
use crate::error::Result;
use crate::plan::Kernel;
use crate::program::op::Middle;
use form::Work;

/// `[x]` → y.
pub(super) fn forward(kernel: &Kernel, log: bool, axes: Middle, target: Target) -> Result<Prepared> {
    let (x, y) = (input(kernel, 0)?, output(kernel, 0)?);
    let work = Work {
        name: if log { "log_softmax" } else { "softmax" },
        a: x,
        b: None,
        out: Some(y),
        has_top: true,
        term: "decay(a - V(top))",
        also: "",
        of_term: !log,
        scale: if log { "scale = log_of(s)" } else { "scale = 1.0 / s" },
        result: if log { "(a - V(top)) - V(scale)" } else { "a * scale" },
        last: "",
    };
    run(&work, axes, target)
}

/// `[dy, y]` → dx.
pub(super) fn backward(kernel: &Kernel, log: bool, axes: Middle, target: Target) -> Result<Prepared> {
    let (dy, y, dx) = (input(kernel, 0)?, input(kernel, 1)?, output(kernel, 0)?);
    let work = Work {
        name: if log { "log_softmax_grad" } else { "softmax_grad" },
        a: dy,
        b: Some(y),
        out: Some(dx),
        has_top: false,
        // Mesa would take products out of a sum of four, to fuse them into it, in some forms and not in others.
        term: if log { "a" } else { "hidden(a * b)" },
        also: "",
        of_term: false,
        scale: "scale = s",
        result: if log { "a - hidden(decay(b) * scale)" } else { "b * (a - V(scale))" },
        last: "",
    };
    run(&work, axes, target)
}

fn run(work: &Work, axes: Middle, target: Target) -> Result<Prepared> {
    if axes.outer * axes.count * axes.inner == 0 {
        return Ok(Prepared::default());
    }
    Ok(vec![form::call(work, axes, target, |_| ())?].into())
}
