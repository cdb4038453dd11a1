//! The walk over a plan's steps: which of them are recorded, and what becomes of values when one cannot be. Steps run in
//! order; a step that needs a value that does not exist is not recorded, and its results do not exist either. What only the
//! GPU will know spreads as taint.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::engine::Engine;
use super::fault::{Gate, Taint, union};
use super::frame::Frame;
use super::kernels::shader::{Aligned, Call};
use super::kernels::{Prepared, Target as Adapter, prepare};
use super::physical::{Gpu, Run};
use super::planned::{Planned, Ready, Steps};
use crate::device::Failure;
use crate::device::profile::Subject;
use crate::error::{Error, Result};
use crate::plan::{After, Chain, Fused, Kernel, Operand, Step, StepKind};

impl Engine {
    /// Records all steps of a bound plan.
    pub(super) fn steps(&mut self, gpu: &mut Gpu, planned: &Planned, steps: &Steps, frame: &mut Frame) -> Result<()> {
        let labels = self.profiler.is_on().then(|| planned.labels());
        for (position, (step, ready)) in planned.plan.steps.iter().zip(&steps.ready).enumerate() {
            if self.abandoned.load(Ordering::Relaxed) {
                return Ok(());
            }
            let start = labels.map(|labels| (labels, Instant::now()));
            if start.is_some() {
                gpu.recorder.watch(&self.profiler);
            }
            let result = match &step.kind {
                StepKind::Chain(chain) => run_chain(gpu, step, chain, ready, frame),
                StepKind::Kernel(kernel) => self.kernel(gpu, step, kernel, ready, frame),
                StepKind::Fused(fused) => self.fused(gpu, planned, step, fused, ready, frame),
            };
            if let Err(error) = result {
                let failure = self.failed(gpu, planned, step, error)?;
                results(step).for_each(|result| frame.bound.fail(result.value, &failure));
                if let StepKind::Kernel(kernel) = &step.kind {
                    // Nobody knows which calls of it have been recorded.
                    changed(kernel).for_each(|operand| frame.bound.fail(operand.value, &failure));
                }
            }
            if let Some((labels, start)) = start {
                self.profiler.note(Subject::Recording(Arc::clone(labels), position), start);
                gpu.recorder.watch(&self.profiler);
            }
        }
        Ok(())
    }

    fn kernel(&mut self, gpu: &mut Gpu, step: &Step, kernel: &Kernel, ready: &Ready, frame: &mut Frame) -> Result<()> {
        let operands = || kernel.inputs.iter().flatten();
        if let Some(failure) = operands().find_map(|operand| frame.bound.failure(operand)).cloned() {
            kernel.outputs.iter().for_each(|output| frame.bound.fail(output.value, &failure));
            return Ok(());
        }
        let mut taint = union(operands().filter_map(|operand| frame.tainted(operand)));
        let mut checked = None;
        if let Some(check) = ready.prepared.check {
            let fresh = gpu.faults.cell(check, ready.place.clone(), taint.as_ref())?;
            checked = Some(Arc::clone(&fresh));
            let own: Taint = Arc::new([fresh]);
            taint = union(taint.iter().chain([&own]));
        }
        let gate = match &taint {
            Some(taint) if !kernel.mutates.is_empty() => gpu.faults.gate(&gpu.description.limits, taint)?,
            _ => Gate::open(),
        };
        let run = Run { frame, cell: checked.as_ref().map_or(0, |cell| cell.word()), gate: gate.word };
        gate.calls.iter().try_for_each(|call| gpu.record(call, None, &run))?;
        record(gpu, &ready.prepared.calls, &ready.pipelines, step.nanoseconds, &run)?;
        // Not before: a cell that nothing writes says what its former owner has found.
        self.checks.extend(checked);
        if let Some(taint) = &taint {
            kernel.outputs.iter().for_each(|output| frame.taint(output.value, taint));
        }
        Ok(())
    }

    fn fused(
        &mut self,
        gpu: &mut Gpu,
        planned: &Planned,
        step: &Step,
        fused: &Fused,
        ready: &Ready,
        frame: &mut Frame,
    ) -> Result<()> {
        let outputs = &fused.kernel.outputs;
        let missing_operand = fused.reads().find_map(|operand| frame.bound.failure(operand)).cloned();
        let mut behind = fused.after.iter().flat_map(|after| &after.chain.inputs);
        let recorded = match missing_operand {
            None if behind.all(|operand| frame.bound.failure(operand).is_none()) => {
                let run = Run { frame, cell: 0, gate: 0 };
                let recorded = record(gpu, &ready.prepared.calls, &ready.pipelines, step.nanoseconds, &run);
                if recorded.is_ok() {
                    if let Some(taint) = union(fused.reads().filter_map(|operand| frame.tainted(operand))) {
                        for output in outputs {
                            frame.taint(output.value, &taint);
                        }
                    }
                    if let Some(after) = &fused.after {
                        missing(&after.chain, frame);
                    }
                    return Ok(());
                }
                recorded.map(|()| None)
            }
            None => self.alone(gpu, planned, step, &fused.kernel, frame).map(|()| None),
            missing => Ok(missing),
        };
        let failure = match recorded {
            Ok(missing) => missing,
            Err(error) => Some(self.failed(gpu, planned, step, error)?),
        };
        if let Some(failure) = failure {
            for output in outputs {
                frame.bound.fail(output.value, &failure);
            }
        }
        // One after the other, each as far as its operands exist: not all of a chain comes from the product before it.
        let Some(After { chain, .. }) = &fused.after else { return Ok(()) };
        let recorded = prepare_now(gpu, step, StepKind::Chain(chain.clone()), frame)
            .and_then(|alone| run_chain(gpu, step, chain, &alone, frame));
        if let Err(error) = recorded {
            let failure = self.failed(gpu, planned, step, error)?;
            chain.outputs.iter().for_each(|output| frame.bound.fail(output.operand.value, &failure));
        }
        Ok(())
    }

    /// Records the instruction of a step without the chains around it.
    fn alone(
        &mut self,
        gpu: &mut Gpu,
        planned: &Planned,
        step: &Step,
        kernel: &Kernel,
        frame: &mut Frame,
    ) -> Result<()> {
        let mut alone = prepare_now(gpu, step, StepKind::Kernel(kernel.clone()), frame)?;
        alone.place = Some(planned.place(step));
        self.kernel(gpu, step, kernel, &alone, frame)
    }

    /// A new failure of a step, on a device that lives.
    fn failed(&mut self, gpu: &Gpu, planned: &Planned, step: &Step, error: Error) -> Result<Arc<Failure>> {
        gpu.health.check()?;
        let failure = Failure::new(error, Some(planned.place(step)));
        self.unread.push(&failure);
        Ok(failure)
    }
}

/// What the operands of a chain do to its outputs: the first that does not exist, and what the others may suffer from.
fn missing(chain: &Chain, frame: &mut Frame) -> Vec<Option<Arc<Failure>>> {
    let mut missing = Vec::with_capacity(chain.outputs.len());
    for output in &chain.outputs {
        let inputs = || {
            let depends = |(i, _): &(usize, &Operand)| output.depends_on >> i & 1 == 1;
            chain.inputs.iter().enumerate().filter(depends).map(|(_, operand)| operand)
        };
        missing.push(inputs().find_map(|operand| frame.bound.failure(operand)).cloned());
        if let Some(taint) = union(inputs().filter_map(|operand| frame.tainted(operand))) {
            frame.taint(output.operand.value, &taint);
        }
    }
    missing
}

/// Prepares for this run a step that is not the plan's: rare enough to be done again.
fn prepare_now(gpu: &Gpu, step: &Step, kind: StepKind, frame: &Frame) -> Result<Ready> {
    let target = Adapter { traits: gpu.traits(), aligned: Aligned { misaligned: frame.misaligned() } };
    Ok(prepare(&Step { kind, ..*step }, target)?.into())
}

/// Records a chain, or what of it can be had.
fn run_chain(gpu: &mut Gpu, step: &Step, chain: &Chain, ready: &Ready, frame: &mut Frame) -> Result<()> {
    let missing = missing(chain, frame);
    let part;
    let ready = if missing.iter().all(Option::is_none) {
        ready
    } else if missing.iter().any(Option::is_none) {
        // For the results that can be had.
        let kind = StepKind::Chain(chain.part(|output| missing.get(output).is_some_and(Option::is_none)));
        part = prepare_now(gpu, step, kind, frame)?;
        &part
    } else {
        part = Prepared::default().into();
        &part
    };
    for (output, failure) in chain.outputs.iter().zip(&missing) {
        if let Some(failure) = failure {
            frame.bound.fail(output.operand.value, failure);
        }
    }
    let run = Run { frame, cell: 0, gate: 0 };
    record(gpu, &ready.prepared.calls, &ready.pipelines, step.nanoseconds, &run)
}

/// Records calls that take so long together, as the planner estimates, by their pipelines as far as these have been looked
/// up. Whatever fills a submission closes it.
fn record(
    gpu: &mut Gpu,
    calls: &[Call],
    pipelines: &[wgpu::ComputePipeline],
    nanoseconds: u64,
    run: &Run,
) -> Result<()> {
    let share = nanoseconds / calls.len().max(1) as u64;
    for (number, call) in calls.iter().enumerate() {
        gpu.record(call, pipelines.get(number), run)?;
        gpu.recorder.count(share);
        gpu.submit_when_full()?;
    }
    Ok(())
}

/// The operands that an instruction changes in place.
fn changed(kernel: &Kernel) -> impl Iterator<Item = &Operand> {
    kernel.mutates.iter().filter_map(|&position| kernel.inputs.get(position)?.as_ref())
}

/// What a step writes.
fn results(step: &Step) -> Box<dyn Iterator<Item = &Operand> + '_> {
    match &step.kind {
        StepKind::Chain(chain) => Box::new(chain.outputs.iter().map(|output| &output.operand)),
        StepKind::Kernel(kernel) => Box::new(kernel.outputs.iter()),
        StepKind::Fused(fused) => Box::new(fused.results()),
    }
}
