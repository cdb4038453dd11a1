//! What waits for the GPU: reads, syncs and trims that the host has asked for, and what the device wants to know for itself.
//! Each begins with copies into staging memory and ends, once their submission has been worked off, by telling whoever asked.
//! The thread does not stand still meanwhile: it asks whether something is ready, and goes on. How data is copied is in
//! `staging`, when to ask in `thread::service`; what cells mean is in `fault`.

use std::sync::Arc;

use super::block::Content;
use super::engine::Engine;
use super::fault::{Cell, Outcome, failure, span};
use super::physical::Gpu;
use super::staging::Reading;
use crate::device::{Done, Failure, Target, Told};
use crate::error::Result;

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

/// How a job that asks for data has begun.
pub enum Begun {
    /// Its end is known.
    Told(Box<dyn FnOnce()>),
    /// It waits for the GPU.
    Waits(Waiting),
}

impl Engine {
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
