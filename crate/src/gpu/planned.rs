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
use crate::plan::{Label, Options, Plan, Step};
use crate::program::Program;

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
        let plan = Plan::new(&program, Options { fuse, before, after, in_place: true, limits: limits(traits) })?;
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
        let prepared = self.plan.steps.iter().map(|step| prepare(step, target)).collect::<Result<Vec<_>>>()?;
        let scratch = prepared.iter().map(|prepared| prepared.scratch).max().unwrap_or(0);
        let ready = self.plan.steps.iter().zip(prepared).map(|(step, prepared)| {
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
