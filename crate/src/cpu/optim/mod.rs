//! Optimisers over slabs: all parameters of a group lie in one tensor, as do their moments, and each gradient updates its
//! segment. One pass over memory. The state is f32; what depends on the step alone is computed once per segment in f64.
//!
//! Step counters live on the device and count applied updates. A gate that is false leaves everything as it is.

mod adam;
mod ema;
mod rmsprop;
mod sgd;
#[cfg(test)]
mod tests;

pub use adam::adam;
pub use ema::ema;
pub use rmsprop::rmsprop;
pub use sgd::sgd;

use std::ops::Range;

use super::Cpu;
use super::elementwise::Source;
use super::reduce::{Term, sums};
use super::share::Shared;
use crate::program::op::{Middle, Segment};

/// What scales and gates an update.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// Multiplies every gradient; 1 if absent.
    pub scale: Option<f32>,
    /// Whether to update at all; yes if absent.
    pub ok: Option<bool>,
}

impl Gate {
    fn is_closed(self) -> bool {
        self.ok == Some(false)
    }
}

/// Σ x² over all tensors: per tensor in the fixed tree of sums, the tensors in order in f64.
pub fn squared_norm(cpu: &Cpu, tensors: &[&[u32]]) -> f32 {
    let mut total = 0.0;
    for x in tensors {
        let mut sum = [0];
        let all = Middle { outer: 1, count: x.len(), inner: 1 };
        sums(cpu, Source::Words(x), all, Term::Square, &mut sum);
        total += f64::from(f32::from_bits(sum[0]));
    }
    total as f32
}

/// Counts the update for every parameter that has a gradient.
fn count(steps: &mut [i32], segments: &[Segment]) {
    for segment in segments {
        let step = &mut steps[segment.parameter as usize];
        *step = step.saturating_add(1);
    }
}

/// The elements to update, as one long list cut anywhere.
struct Parts<'a> {
    segments: &'a [Segment],
    gradients: &'a [&'a [f32]],
    slab: usize,
}

/// Updates a part of a segment: the segment, where the part lies in the slab, its gradient.
type Update<'a> = dyn Fn(Segment, Range<usize>, &[f32]) + Sync + 'a;

impl Parts<'_> {
    /// Calls `body` with parts of segments: where they lie in the slab, and their gradient. Together they are all
    /// elements, each once.
    fn each(&self, cpu: &Cpu, picoseconds: u64, body: &Update) {
        let total: usize = self.gradients.iter().map(|g| g.len()).sum();
        // Decode promises disjoint segments; in this order that is cheap to see, and in any other one thread is safe.
        let tasks = if self.are_ascending() { cpu.tasks(total as u64 * picoseconds, total) } else { 1 };
        cpu.ranges(tasks, total, &|range| {
            let mut before = 0;
            for (&segment, gradient) in self.segments.iter().zip(self.gradients) {
                let start = range.start.clamp(before, before + gradient.len()) - before;
                let end = range.end.clamp(before, before + gradient.len()) - before;
                before += gradient.len();
                if start < end {
                    let offset = segment.offset as usize;
                    body(segment, offset + start..offset + end, &gradient[start..end]);
                }
            }
        });
    }

    fn are_ascending(&self) -> bool {
        let mut end = 0;
        self.segments.iter().zip(self.gradients).all(|(segment, gradient)| {
            let start = segment.offset as usize;
            let after = start >= end;
            end = start + gradient.len();
            after && end <= self.slab
        })
    }
}

/// A part of a slab that may be absent. It is empty then, and a kernel that knows does not look at it.
///
/// # Safety
/// As [`Shared::part`].
unsafe fn part(slab: Option<Shared<'_, f32>>, range: Range<usize>) -> &mut [f32] {
    match slab {
        // SAFETY: the caller's promise.
        Some(slab) => unsafe { slab.part(range) },
        None => &mut [],
    }
}
