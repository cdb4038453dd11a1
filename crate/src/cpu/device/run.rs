//! The walk over a plan's steps, and what becomes of values when a step fails. Steps run in order; a step that needs a
//! value that does not exist is not run, and its results do not exist either.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::engine::Engine;
use super::frame::Frame;
use super::fused::Beside;
use super::prepare::{Around, Planned, Prepared, run_chain};
use crate::cpu::elementwise;
use crate::device::profile::Subject;
use crate::device::{Failure, Place};
use crate::error::{Error, Result};
use crate::plan::{Chain, Fused, Kernel, MAX_CHAIN_OUTPUTS, Operand, Step, StepKind};

impl Engine {
    /// Runs all steps of a bound plan.
    pub(super) fn steps(&mut self, planned: &Planned, frame: &mut Frame) {
        let labels = self.profiler.is_on().then(|| planned.labels());
        for (position, (step, prepared)) in planned.plan.steps.iter().zip(&planned.steps).enumerate() {
            if self.abandoned.load(Ordering::Relaxed) {
                return;
            }
            let start = labels.map(|labels| (labels, Instant::now()));
            match (&step.kind, prepared) {
                (StepKind::Chain(chain), Prepared::Chain(prepared)) => {
                    self.chain(planned, step, chain, prepared, frame);
                }
                (StepKind::Kernel(kernel), prepared) => self.kernel(planned, step, kernel, prepared, frame),
                (StepKind::Fused(fused), Prepared::Fused(prepared)) => {
                    self.fused(planned, step, fused, prepared, frame);
                }
                (StepKind::Chain(_) | StepKind::Fused(_), _) => {
                    let error = Error::Internal("a step that was prepared as something else".into());
                    self.failed(planned, step, error);
                }
            }
            if let Some((labels, start)) = start {
                self.profiler.note(Subject::Step(Arc::clone(labels), position), start);
            }
        }
    }

    fn kernel(&mut self, planned: &Planned, step: &Step, kernel: &Kernel, prepared: &Prepared, frame: &mut Frame) {
        let missing = kernel.inputs.iter().flatten().find_map(|operand| frame.bound.failure(operand)).cloned();
        let failure = if let Some(failure) = missing {
            failure
        } else {
            let result = guarded(|| self.dispatch(kernel, prepared, &Beside::NOTHING, frame));
            if !matches!(result, Err(Stop::Error(_))) {
                changed(kernel).filter_map(|operand| frame.home(operand)).for_each(|(storage, _)| storage.touch());
            }
            match result {
                Ok(()) => return,
                Err(Stop::Error(error)) => self.failed(planned, step, error),
                Err(Stop::Panic(error)) => {
                    let failure = self.failed(planned, step, error);
                    // Nobody knows how much of an in-place operand has been changed.
                    changed(kernel).for_each(|operand| frame.bound.fail(operand.value, &failure));
                    failure
                }
            }
        };
        for output in &kernel.outputs {
            frame.bound.fail(output.value, &failure);
        }
    }

    fn fused(&mut self, planned: &Planned, step: &Step, fused: &Fused, prepared: &Around, frame: &mut Frame) {
        let missing = fused.reads().find_map(|operand| frame.bound.failure(operand)).cloned();
        let mut behind = fused.after.iter().flat_map(|after| &after.chain.inputs);
        let with_behind = behind.all(|operand| frame.bound.failure(operand).is_none());
        let failure = match missing {
            None => {
                let result = guarded(|| {
                    let beside = Beside::new(fused, prepared, frame, with_behind)?;
                    self.dispatch(&fused.kernel, &prepared.kernel, &beside, frame)
                });
                match result {
                    Ok(()) if with_behind => return,
                    Ok(()) => None,
                    Err(Stop::Error(error) | Stop::Panic(error)) => Some(self.failed(planned, step, error)),
                }
            }
            missing => missing,
        };
        if let Some(failure) = failure {
            fused.kernel.outputs.iter().for_each(|output| frame.bound.fail(output.value, &failure));
        }
        // One after the other, each as far as its operands exist: not all of a chain comes from the product before it.
        if let (Some(after), Some(prepared)) = (&fused.after, &prepared.after) {
            self.chain(planned, step, &after.chain, prepared, frame);
        }
    }

    fn chain(
        &mut self,
        planned: &Planned,
        step: &Step,
        chain: &Chain,
        prepared: &elementwise::Chain,
        frame: &mut Frame,
    ) {
        // Per output, the first input it depends on that does not exist.
        let mut missing: [Option<Arc<Failure>>; MAX_CHAIN_OUTPUTS] = [const { None }; MAX_CHAIN_OUTPUTS];
        let missing = &mut missing[..chain.outputs.len()];
        if !frame.bound.is_whole() {
            for (missing, output) in missing.iter_mut().zip(&chain.outputs) {
                let depends = |i: &usize| output.depends_on >> i & 1 == 1;
                let mut inputs = (0..chain.inputs.len()).filter(depends);
                *missing = inputs.find_map(|i| frame.bound.failure(&chain.inputs[i])).cloned();
            }
        }
        let missing = &*missing;
        let result = if missing.iter().all(Option::is_none) {
            guarded(|| run_chain(prepared, &self.cpu, chain, frame))
        } else if missing.iter().any(Option::is_none) {
            // Rare enough to be prepared again, for the results that can be had.
            guarded(|| {
                let wanted = |output: usize| missing.get(output).is_some_and(Option::is_none);
                let part = chain.part(wanted);
                run_chain(&elementwise::Chain::new(&part)?, &self.cpu, &part, frame)
            })
        } else {
            Ok(())
        };
        for (output, failure) in chain.outputs.iter().zip(missing) {
            if let Some(failure) = failure {
                frame.bound.fail(output.operand.value, failure);
            }
        }
        if let Err(Stop::Error(error) | Stop::Panic(error)) = result {
            let failure = self.failed(planned, step, error);
            for output in &chain.outputs {
                frame.bound.fail(output.operand.value, &failure);
            }
        }
    }

    /// A new failure of a step.
    fn failed(&mut self, planned: &Planned, step: &Step, error: Error) -> Arc<Failure> {
        let instruction = step.instruction as usize;
        let place = planned.program.instructions().get(instruction).map(|known| Place {
            instruction: step.instruction,
            op: known.row.name,
            line: planned.program.line(instruction),
        });
        let failure = Failure::new(error, place);
        self.unread.push(&failure);
        failure
    }
}

/// The operands that an instruction changes in place.
fn changed(kernel: &Kernel) -> impl Iterator<Item = &Operand> {
    kernel.mutates.iter().filter_map(|&position| kernel.inputs.get(position)?.as_ref())
}

/// How a step ended early.
enum Stop {
    /// It said so, having changed nothing in place.
    Error(Error),
    /// It panicked, at whatever point.
    Panic(Error),
}

fn guarded(body: impl FnOnce() -> Result<()>) -> std::result::Result<(), Stop> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result.map_err(Stop::Error),
        Err(payload) => Err(Stop::Panic(Error::from_panic(&*payload))),
    }
}
