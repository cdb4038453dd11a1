//! Programs that have been planned, with their steps as dispatches: what can be worked out before a program is bound to
//! slots, but for which of those are aligned. Made once per code.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::kernels::shader::{Aligned, Call};
use super::kernels::{Prepared, Target, limits, limits_after, limits_before, prepare};
use super::physical::Gpu;
use super::traits::Traits;
use crate::device::Place;
use crate::error::Result;
use crate::plan::{Kernel, Label, Options, Plan, Step, StepKind};
use crate::program::{Op, Program};

/// A program that has been planned, with its steps as dispatches.
pub struct Planned {
    /// For texts.
    pub program: Program,
    /// What to do and where.
    pub plan: Plan,
    /// What its steps are called, once somebody has asked.
    labels: OnceLock<Arc<[Label]>>,
    /// By which inputs are aligned: nearly always one entry.
    steps: RefCell<HashMap<Aligned, Arc<Steps>>>,
}

/// The steps of a plan as dispatches.
pub struct Steps {
    /// One per step.
    pub ready: Vec<Ready>,
    /// Words of scratch memory that one of them needs at most.
    pub scratch: usize,
}

/// A step as dispatches, with what has been looked up for them once.
pub struct Ready {
    /// What is dispatched.
    pub prepared: Prepared,
    /// The pipeline of each call.
    pub pipelines: Vec<wgpu::ComputePipeline>,
    /// Where the step stands, if it checks data: its failures are found when it has long been recorded.
    pub place: Option<Place>,
}

impl From<Prepared> for Ready {
    /// With nothing looked up.
    fn from(prepared: Prepared) -> Self {
        Self { prepared, pipelines: Vec::new(), place: None }
    }
}

impl Planned {
    /// Decodes, validates and plans code words for an adapter.
    ///
    /// # Errors
    /// Words that are no program; no memory to plan one.
    pub fn new(code: &[u32], fuse: bool, traits: &Traits) -> Result<Self> {
        let program = Program::decode(code)?;
        let (before, after) = (Some(limits_before(traits)), Some(limits_after(traits)));
        let plan =
            Plan::new(&program, Options { fuse, before, after, rows: false, in_place: true, limits: limits(traits) })?;
        Ok(Self { program, plan, labels: OnceLock::new(), steps: RefCell::default() })
    }

    /// What its steps are called.
    pub fn labels(&self) -> &Arc<[Label]> {
        self.labels.get_or_init(|| self.plan.labels(&self.program).into())
    }

    /// The steps as dispatches, with their pipelines: what can fail there fails before anything has been changed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::error::Error::OutOfMemory) for tensors that the adapter cannot bind.
    pub fn steps(&self, gpu: &mut Gpu, aligned: Aligned) -> Result<Arc<Steps>> {
        if let Some(steps) = self.steps.borrow().get(&aligned) {
            return Ok(Arc::clone(steps));
        }
        let target = Target { traits: gpu.traits(), aligned };
        let all = &self.plan.steps;
        let prepared = all.iter().enumerate().map(|(at, step)| {
            let prepared = prepare(step, target)?;
            Ok(if is_checked_before(all.get(..at).unwrap_or_default(), step) { prepared.unchecked() } else { prepared })
        });
        let prepared = prepared.collect::<Result<Vec<_>>>()?;
        let scratch = prepared.iter().map(|prepared| prepared.scratch).max().unwrap_or(0);
        let ready = all.iter().zip(prepared).map(|(step, prepared)| {
            // Cloning is counting a reference.
            let pipeline = |call: &Call| gpu.pipelines.pipeline(&call.shader).cloned();
            let pipelines = prepared.calls.iter().map(pipeline).collect::<Result<Vec<_>>>()?;
            let place = prepared.check.is_some().then(|| self.place(step));
            Ok(Ready { prepared, pipelines, place })
        });
        let steps = Arc::new(Steps { ready: ready.collect::<Result<Vec<_>>>()?, scratch });
        self.steps.borrow_mut().insert(aligned, Arc::clone(&steps));
        Ok(steps)
    }

    /// Where a step stands in the program.
    pub fn place(&self, step: &Step) -> Place {
        let instruction = step.instruction as usize;
        let op = self.program.instructions().get(instruction).map_or("", |known| known.row.name);
        Place { instruction: step.instruction, op, line: self.program.line(instruction) }
    }
}

/// Whether all that a step would check has been checked by one before it, on whose results it depends, so that it suffers
/// from that check anyway. So it is with the gradient of a cross-entropy in the program of its losses.
fn is_checked_before(before: &[Step], step: &Step) -> bool {
    let StepKind::Kernel(Kernel { op, inputs, .. }) = &step.kind else { return false };
    let ignored = match op {
        Op::CrossEntropyGrad { ignore_index } => *ignore_index,
        Op::WeightedCrossEntropyGrad(rule) => rule.ignore_index,
        _ => return false,
    };
    let [Some(logits), Some(targets), Some(log_sums), ..] = &inputs[..] else { return false };
    // The nearest first, and none beyond one that might change the targets.
    let kernels = before.iter().rev().map(|step| match &step.kind {
        StepKind::Kernel(kernel) => Some(kernel),
        StepKind::Fused(fused) => Some(&fused.kernel),
        StepKind::Chain(_) => None,
    });
    let unchanging = kernels.take_while(|kernel| kernel.is_none_or(|kernel| kernel.mutates.is_empty()));
    unchanging.flatten().any(|kernel| {
        let other = match &kernel.op {
            Op::CrossEntropy { ignore_index } => *ignore_index,
            Op::WeightedCrossEntropy(rule) => rule.ignore_index,
            _ => return false,
        };
        let ([Some(x), Some(y), ..], [_, sums, ..]) = (&kernel.inputs[..], &kernel.outputs[..]) else { return false };
        other == ignored
            && sums.value == log_sums.value
            && (y.value, y.location, y.numel) == (targets.value, targets.location, targets.numel)
            && x.numel == logits.numel
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::testing::{A, F32, I32, Writer};

    const IGNORED: u32 = 0xffff_ff9c;

    /// Whether the last step of a program is known to be checked before, for each change between losses and gradient.
    fn is_checked(ignored: u32, change: impl Fn(&mut Writer, u32, u32) -> u32) -> bool {
        let mut w = Writer::default();
        let (x, y, other) = (w.input(F32, &[4, 3]), w.input(I32, &[4]), w.input(I32, &[4]));
        let item = (F32, &[4][..]);
        let losses = w.op("crossEntropy", &[item, item, (F32, &[])], &[x, y], &[A::W(IGNORED)]);
        let targets = change(&mut w, y, other);
        let operands = [x, targets, losses + 1, losses];
        let dx = w.op("crossEntropyGrad", &[(F32, &[4, 3])], &operands, &[A::W(ignored)]);
        w.output(dx);
        let plan = Plan::new(&Program::decode(&w.code).unwrap(), Options::ALL).unwrap();
        let (last, before) = plan.steps.split_last().unwrap();
        assert!(before.iter().all(|step| !is_checked_before(&[], step)));
        is_checked_before(before, last)
    }

    #[test]
    fn a_gradient_is_checked_by_its_losses_and_by_nothing_else() {
        assert!(is_checked(IGNORED, |_, targets, _| targets));
        assert!(!is_checked(7, |_, targets, _| targets));
        assert!(!is_checked(IGNORED, |_, _, other| other));
        // Inputs may share memory: a change of any of them may be one of the targets.
        assert!(!is_checked(IGNORED, |w, targets, other| {
            let (to, from) = (w.input(F32, &[4]), w.input(F32, &[4]));
            w.op("assign", &[], &[to, from], &[]);
            let _ = other;
            targets
        }));
    }

    #[test]
    fn the_check_goes_with_its_call() {
        let traits = Traits::least(super::super::traits::Class::Software);
        let mut w = Writer::default();
        let (x, y, sums, dl) = (w.input(F32, &[4, 3]), w.input(I32, &[4]), w.input(F32, &[4]), w.input(F32, &[4]));
        let dx = w.op("crossEntropyGrad", &[(F32, &[4, 3])], &[x, y, sums, dl], &[A::W(IGNORED)]);
        w.output(dx);
        let plan = Plan::new(&Program::decode(&w.code).unwrap(), Options::ALL).unwrap();
        let target = Target { traits: &traits, aligned: Aligned::default() };
        let prepared = prepare(&plan.steps[0], target).unwrap();
        let unchecked = prepared.clone().unchecked();
        assert_eq!((prepared.calls.len(), unchecked.calls.len(), unchecked.check), (2, 1, None));
        assert_eq!(prepared.calls[1..], unchecked.calls[..]);
        assert_eq!(unchecked.clone().unchecked(), unchecked);
    }
}
