//! One logical device on a GPU: slots, plans, memory, and what it still owes to its caller. It lives on the GPU's thread,
//! which hands it one job at a time. Errors stay with their values, as on `cpu`. How a plan's steps are recorded stands in
//! `walk`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::block::{Content, Memory, Storage, Tensor, Value};
use super::fault::{Cell, Outcome, clean, failure, span};
use super::frame::Frame;
use super::kernels::shader::Aligned;
use super::physical::Gpu;
use super::planned::Planned;
use super::staging::Reading;
use crate::device::failure::Unread;
use crate::device::memory::Purpose;
use crate::device::profile::{Profiler, Subject};
use crate::device::programs::Programs;
use crate::device::slots::Slots;
use crate::device::{Done, Failure, Source, Statistics, Target, Told};
use crate::error::{Error, Result};
use crate::plan::PlanCache;
use crate::program::Stream;

/// Plans kept: more than the signatures of a compiled function and an eager loop together.
const PLANS: usize = 256;
/// Code words of all plans together.
const PLANNED_WORDS: usize = 4 << 20;
/// Epochs of the memory pool are this many streams long.
const EPOCH_STREAMS: u32 = 256;
/// Checks of data whose outcome nobody has asked for, beyond which the device asks for itself.
const UNREAD_CHECKS: usize = 1024;

/// What is told when data has arrived.
enum Then {
    /// The data goes to a target.
    Read { target: Target, done: Done },
    /// The first failure nobody has been told about.
    Sync { done: Done },
    /// Memory is given back.
    Trim { done: Done },
    /// Nothing: the device wants to know for itself.
    Learn,
}

/// Something that waits for the GPU.
pub struct Waiting {
    submission: u64,
    data: Reading,
    cells: Vec<Arc<Cell>>,
    outcomes: Reading,
    requested: bool,
    then: Then,
}

impl Waiting {
    /// Whether somebody asked for it.
    pub fn is_job(&self) -> bool {
        !matches!(self.then, Then::Learn)
    }

    /// Whether it speaks for everything before it, so that it ends last.
    pub fn is_sync(&self) -> bool {
        matches!(self.then, Then::Sync { .. })
    }
}

/// Told to the caller once the job counts as finished.
pub type Tell = Option<Box<dyn FnOnce()>>;

/// The state of a logical device.
pub struct Engine {
    /// Its memory.
    pub memory: Arc<Memory>,
    pub(super) abandoned: Arc<AtomicBool>,
    slots: Slots<Tensor>,
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

    /// Begins to copy a slot to the host. Either the outcome is known now, or what waits for it is returned.
    pub fn read(&mut self, gpu: &mut Gpu, slot: u32, target: Target, done: Done) -> Begun {
        match self.begin_read(gpu, slot, &target) {
            Ok(None) => Begun::Told(Box::new(move || done(Ok(())))),
            Ok(Some((data, cells, outcomes))) => {
                let submission = gpu.recorder.next_submission();
                let then = Then::Read { target, done };
                Begun::Waits(Waiting { submission, data, cells, outcomes, requested: false, then })
            }
            Err(failure) => {
                failure.mark_seen();
                Begun::Told(Box::new(move || done(Err(failure))))
            }
        }
    }

    /// Nothing for a slot without elements or doubts.
    #[expect(clippy::type_complexity, reason = "the parts of a `Waiting`")]
    fn begin_read(
        &mut self,
        gpu: &mut Gpu,
        slot: u32,
        target: &Target,
    ) -> Told<Option<(Reading, Vec<Arc<Cell>>, Reading)>> {
        gpu.health.check()?;
        let value = match self.slots.get(slot)? {
            Content::Value(value) => value.clone(),
            Content::Failed(failure) => return Err(Arc::clone(failure)),
        };
        target.check(value.numel, value.dtype)?;
        let mut cells = Vec::new();
        for cell in value.storage.taint.iter() {
            match cell.outcome() {
                Outcome::Failed(failure) => return Err(failure),
                Outcome::Fine => {}
                Outcome::Unknown => cells.push(Arc::clone(cell)),
            }
        }
        let outcomes = outcomes_of(gpu, &cells)?;
        let data = staged(gpu, |gpu, reading| match value.storage.storage.block() {
            Some(block) if value.numel > 0 => {
                gpu.download(reading, &block.buffer, value.offset as u64 * 4, value.numel as u64 * 4)
            }
            _ => Ok(()),
        })?;
        Ok((value.numel > 0 || !cells.is_empty()).then_some((data, cells, outcomes)))
    }

    /// Begins to find out the first failure that nobody has been told about, once all work so far is done.
    pub fn sync(&mut self, gpu: &mut Gpu, done: Done) -> Begun {
        self.learn(gpu, Then::Sync { done })
    }

    /// Begins to give back all memory that only makes later work faster, once all work so far is done.
    pub fn trim_later(gpu: &Gpu, done: Done) -> Begun {
        if let Err(error) = gpu.health.check() {
            return Begun::Told(Box::new(move || done(Err(error.into()))));
        }
        let (data, outcomes) = (Reading::new(), Reading::new());
        let submission = last_submission(gpu);
        Begun::Waits(Waiting {
            submission,
            data,
            cells: Vec::new(),
            outcomes,
            requested: false,
            then: Then::Trim { done },
        })
    }

    /// What waits for the outcome of all checks so far.
    fn learn(&mut self, gpu: &mut Gpu, then: Then) -> Begun {
        let mut cells = std::mem::take(&mut self.checks);
        cells.retain(|cell| match cell.outcome() {
            Outcome::Unknown => true,
            Outcome::Fine => false,
            Outcome::Failed(failure) => {
                // Found out by a read, which may have told another one.
                self.unread.push(&failure);
                false
            }
        });
        let outcomes = match outcomes_of(gpu, &cells).and_then(|outcomes| gpu.health.check().map(|()| outcomes)) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                // Whoever asks next may learn what they say.
                self.checks = cells;
                let failure = Failure::new(error, None);
                return Begun::Told(Box::new(move || {
                    if let Then::Sync { done } = then {
                        done(Err(failure));
                    }
                }));
            }
        };
        let submission = last_submission(gpu);
        Begun::Waits(Waiting { submission, data: Reading::new(), cells, outcomes, requested: false, then })
    }

    /// What the device wants to know for itself, if it is time to.
    pub fn curiosity(&mut self, gpu: &mut Gpu) -> Option<Waiting> {
        if self.checks.len() < UNREAD_CHECKS {
            return None;
        }
        match self.learn(gpu, Then::Learn) {
            Begun::Waits(waiting) => Some(waiting),
            Begun::Told(_) => None,
        }
    }

    /// Asks for what something waits for, once the GPU has been told to copy it. It comes with a later poll, also from a
    /// GPU that has finished.
    pub fn request(gpu: &Gpu, waiting: &mut Waiting) {
        if !waiting.requested && gpu.recorder.next_submission() > waiting.submission && !gpu.health.is_lost() {
            waiting.requested = true;
            waiting.data.request();
            waiting.outcomes.request();
        }
    }

    /// Whether what waits has what it waits for.
    ///
    /// # Errors
    /// [`Error::Lost`]; what the library refuses.
    pub fn is_ready(gpu: &Gpu, waiting: &Waiting) -> Result<bool> {
        gpu.health.check()?;
        let is_finished = waiting.requested && gpu.recorder.is_finished(waiting.submission);
        Ok(is_finished && waiting.data.is_ready()? && waiting.outcomes.is_ready()?)
    }

    /// Ends what waits: with its data, or with the reason why there is none. `may_write` says whether the target is still
    /// there.
    pub fn settle(&mut self, gpu: &mut Gpu, waiting: Waiting, result: Result<()>, may_write: bool) -> Tell {
        let Waiting { data, cells, outcomes, then, .. } = waiting;
        let arrived = result.is_ok();
        let result = result.map_err(Arc::<Failure>::from).and_then(|()| {
            let mut first = None;
            outcomes.words(|words| {
                first = failure(&cells, words);
                Ok(())
            })?;
            Ok(first)
        });
        if result.is_err() && !matches!(then, Then::Read { .. }) {
            self.checks.extend(cells.iter().cloned());
        }
        let tell: Tell = match then {
            Then::Read { mut target, done } => {
                let result = result.and_then(|failure| failure.map_or(Ok(()), Err)).and_then(|()| {
                    let mut at = 0;
                    let mut copy = |words: &[u32]| {
                        let result = target.fill_from(at, words);
                        at += words.len();
                        result
                    };
                    if may_write { Ok(data.words(&mut copy)?) } else { Ok(()) }
                });
                if let Err(failure) = &result {
                    failure.mark_seen();
                }
                Some(Box::new(move || done(result)))
            }
            Then::Sync { done } => {
                let unread = self.note(result, &cells);
                Some(Box::new(move || done(unread.map_or(Ok(()), Err))))
            }
            Then::Trim { done } => {
                let result = result.map(|_| ());
                if arrived {
                    self.trim();
                    gpu.trim();
                }
                Some(Box::new(move || done(result)))
            }
            Then::Learn => {
                self.keep_failures(&cells);
                None
            }
        };
        if arrived {
            gpu.release(data);
            gpu.release(outcomes);
        }
        tell
    }

    /// The first failure that nobody has been told about, now that cells are known.
    fn note(&mut self, result: Told<Option<Arc<Failure>>>, cells: &[Arc<Cell>]) -> Option<Arc<Failure>> {
        self.keep_failures(cells);
        match result {
            Ok(_) => self.unread.take(),
            Err(failure) => Some(failure),
        }
    }

    fn keep_failures(&mut self, cells: &[Arc<Cell>]) {
        for cell in cells {
            if let Outcome::Failed(failure) = cell.outcome() {
                self.unread.push(&failure);
            }
        }
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

/// How a job that asks for data has begun.
pub enum Begun {
    /// Its end is known.
    Told(Box<dyn FnOnce()>),
    /// It waits for the GPU.
    Waits(Waiting),
}

/// A read whose copies have been recorded. What only waits to be freed is freed if there is no room for them.
fn staged(gpu: &mut Gpu, copy: impl Fn(&mut Gpu, &mut Reading) -> Result<()>) -> Result<Reading> {
    let mut reading = Reading::new();
    if copy(gpu, &mut reading).is_err() {
        // What looks like want of memory may be a device that is gone.
        gpu.health.check()?;
        gpu.reclaim()?;
        reading = Reading::new();
        copy(gpu, &mut reading)?;
    }
    Ok(reading)
}

/// The read of what cells say.
fn outcomes_of(gpu: &mut Gpu, cells: &[Arc<Cell>]) -> Result<Reading> {
    staged(gpu, |gpu, reading| span(cells).map_or(Ok(()), |span| gpu.download_cells(reading, span)))
}

/// The submission after which all work so far is done.
fn last_submission(gpu: &Gpu) -> u64 {
    let next = gpu.recorder.next_submission();
    // Work may have been submitted already: then the wait is for that.
    if gpu.recorder.is_empty() { next - 1 } else { next }
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
