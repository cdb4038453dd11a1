//! One logical device on a GPU: slots, plans, memory, and what it still owes to its caller. It lives on the GPU's thread,
//! which hands it one job at a time. Errors stay with their values, as on `cpu`. How a plan's steps are recorded stands in
//! `walk`, how data and failures come back to the host in `waiting`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::block::{Content, Memory, Storage, Tensor, Value};
use super::fault::{Cell, clean};
use super::frame::Frame;
use super::kernels::shader::Aligned;
use super::physical::Gpu;
use super::planned::Planned;
use crate::device::failure::Unread;
use crate::device::memory::Purpose;
use crate::device::profile::{Profiler, Subject};
use crate::device::programs::Programs;
use crate::device::slots::Slots;
use crate::device::{Failure, Source, Statistics};
use crate::error::{Error, Result};
use crate::plan::PlanCache;
use crate::program::Stream;

/// Plans kept: more than the signatures of a compiled function and an eager loop together.
const PLANS: usize = 256;
/// Code words of all plans together.
const PLANNED_WORDS: usize = 4 << 20;
/// Epochs of the memory pool are this many streams long.
const EPOCH_STREAMS: u32 = 256;

/// The state of a logical device.
pub struct Engine {
    /// Its memory.
    pub memory: Arc<Memory>,
    pub(super) abandoned: Arc<AtomicBool>,
    pub(super) slots: Slots<Tensor>,
    plans: PlanCache<Planned>,
    programs: Programs<Planned>,
    fuse: bool,
    pub(super) unread: Unread,
    /// Notes what is done, if anybody wants to know.
    pub profiler: Arc<Profiler>,
    /// Checks whose outcome is not known.
    pub(super) checks: Vec<Arc<Cell>>,
    frame: Frame,
    streams: u32,
}

impl Engine {
    /// An empty device. It ends early once `abandoned` is set.
    pub fn new(memory: Arc<Memory>, fuse: bool, abandoned: Arc<AtomicBool>) -> Self {
        Self {
            memory,
            abandoned,
            slots: Slots::default(),
            plans: PlanCache::new(PLANS, PLANNED_WORDS),
            programs: Programs::default(),
            fuse,
            unread: Unread::default(),
            profiler: Arc::default(),
            checks: Vec::new(),
            frame: Frame::default(),
            streams: 0,
        }
    }

    /// Keeps a compiled program under a number.
    pub fn keep(&mut self, program: u32, planned: Planned) {
        if let Err(error) = self.programs.insert(program, planned) {
            self.unread.push(&error.into());
        }
    }

    /// Forgets a compiled program.
    pub fn release(&mut self, program: u32) {
        self.programs.remove(program);
    }

    /// Runs a stream. Whatever goes wrong ends in its output slots.
    pub fn submit(&mut self, gpu: &mut Gpu, words: &[u32]) {
        self.serve(gpu, words, None, |engine, gpu, stream| {
            if stream.code.is_empty() && stream.inputs.is_empty() && stream.outputs.is_empty() {
                return Ok(None);
            }
            let fuse = engine.fuse;
            engine.plans.get(stream.code, |code| Planned::new(code, fuse, gpu.traits())).map(Some)
        });
    }

    /// Runs a compiled program on what a stream binds. Whatever goes wrong ends in its output slots.
    pub fn run(&mut self, gpu: &mut Gpu, program: u32, words: &[u32]) {
        self.serve(gpu, words, Some(program), |engine, _, stream| {
            stream.check_bare().and_then(|()| engine.programs.get(program).map(Some))
        });
    }

    fn serve(
        &mut self,
        gpu: &mut Gpu,
        words: &[u32],
        program: Option<u32>,
        plan: impl FnOnce(&mut Self, &Gpu, &Stream) -> Result<Option<Arc<Planned>>>,
    ) {
        let start = self.profiler.start();
        let stream = match Stream::parse(words) {
            Ok(stream) => stream,
            Err(error) => return self.unread.push(&Failure::new(error, None)),
        };
        let mut frame = std::mem::take(&mut self.frame);
        let ran = Error::catch(|| match plan(self, gpu, &stream)? {
            Some(planned) => self.execute(gpu, &planned, &stream, &mut frame),
            None => Ok(()),
        });
        if let Err(error) = ran {
            self.poison(&stream, &Failure::new(error, None));
        }
        frame.clear();
        self.frame = frame;
        for &slot in stream.frees {
            self.slots.free(slot);
        }
        if let Some(start) = start {
            self.profiler.note(Subject::Run(program), start);
        }
        self.streams += 1;
        if self.streams.is_multiple_of(EPOCH_STREAMS) {
            self.frame.kept.end_epoch();
            self.memory.end_epoch();
        }
    }

    fn poison(&mut self, stream: &Stream, failure: &Arc<Failure>) {
        self.unread.push(failure);
        for &slot in stream.outputs {
            // Without room for the slot there is nothing to put the failure in; reading it will say so.
            if self.slots.reserve(slot).is_ok() {
                self.slots.set(slot, Content::Failed(Arc::clone(failure)));
            }
        }
    }

    /// Binds, records, and stores the outputs.
    fn execute(&mut self, gpu: &mut Gpu, planned: &Planned, stream: &Stream, frame: &mut Frame) -> Result<()> {
        gpu.health.check()?;
        let plan = &planned.plan;
        plan.interface.check(stream)?;
        for &slot in stream.outputs {
            self.slots.reserve(slot)?;
        }
        frame.scalars.extend(stream.scalars());
        let unread = &mut self.unread;
        frame.bind(plan, stream.inputs, &self.slots, &mut |failure| unread.push(failure))?;
        let steps = planned.steps(gpu, Aligned { misaligned: frame.misaligned() })?;
        let memory = &self.memory;
        frame.allocate(plan, steps.scratch, |words, purpose| allocate(gpu, memory, words, purpose))?;
        self.steps(gpu, planned, &steps, frame)?;
        for (slot, failure) in frame.bound.broken(plan, stream.inputs) {
            self.slots.set(slot, Content::Failed(failure));
        }
        for (content, &slot) in frame.outputs(plan)?.into_iter().zip(stream.outputs) {
            self.slots.set(slot, content);
        }
        Ok(())
    }

    /// Gives a slot host data, or the reason why there is none.
    pub fn write(&mut self, gpu: &mut Gpu, slot: u32, source: &Source) {
        let placed = gpu.health.check().and_then(|()| self.place(gpu, source));
        let content = match self.slots.reserve(slot).and(placed) {
            Ok(value) => Content::Value(value),
            Err(error) => {
                let failure = Failure::new(error, None);
                self.unread.push(&failure);
                Content::Failed(failure)
            }
        };
        self.slots.set(slot, content);
    }

    fn place(&mut self, gpu: &mut Gpu, source: &Source) -> Result<Value> {
        let numel = source.numel()?;
        let mut storage = allocate(gpu, &self.memory, numel, Purpose::Slot);
        if matches!(storage, Err(Error::OutOfMemory(_))) && self.frame.kept.give_back() {
            storage = allocate(gpu, &self.memory, numel, Purpose::Slot);
        }
        let storage = storage?;
        match gpu.upload(source, &storage) {
            Err(Error::OutOfMemory(_)) => {
                gpu.reclaim()?;
                gpu.upload(source, &storage)?;
            }
            result => result?,
        }
        let storage = Arc::new(Tensor { storage, taint: clean() });
        Ok(Value { storage, offset: 0, numel, dtype: source.dtype() })
    }

    /// Frees everything.
    pub fn clear(&mut self) {
        self.slots = Slots::default();
        self.plans.clear();
        self.programs.clear();
        self.checks.clear();
        self.trim();
    }

    /// Gives memory that waits for reuse back.
    pub fn trim(&mut self) {
        self.frame.kept.give_back();
        self.memory.empty_pool();
    }

    /// Counters.
    pub fn statistics(&self) -> Statistics {
        let plans = self.plans.counters();
        Statistics {
            memory: self.memory.usage(),
            live_slots: self.slots.live(),
            plans: plans.entries,
            plan_hits: plans.hits,
            plan_misses: plans.misses,
            ..Statistics::default()
        }
    }
}

/// Memory for a run. What only waits to be freed is freed first.
fn allocate(gpu: &mut Gpu, memory: &Arc<Memory>, words: usize, purpose: Purpose) -> Result<Storage> {
    let bytes = words as u64 * 4;
    let most = gpu.traits().buffer_bytes;
    if bytes > most {
        return Err(Error::OutOfMemory(format!(
            "{bytes} bytes in one piece never fit: the adapter allows {most} per buffer"
        )));
    }
    match memory.allocate(words, purpose) {
        Err(Error::OutOfMemory(_)) => {
            // What looks like want of memory may be a device that is gone.
            gpu.health.check()?;
            gpu.reclaim()?;
            memory.allocate(words, purpose)
        }
        result => result,
    }
}
