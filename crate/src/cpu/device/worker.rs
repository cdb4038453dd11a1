//! The thread of a device: it works the [`Queue`] off, in order, on the [`Engine`]. Jobs come from one caller, the
//! [`Device`](super::handle::Device). Results go to callbacks on the device thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::engine::{Engine, Lookup};
use super::memory::Value;
use super::prepare::Planned;
use crate::device::queue::{Next, Queue};
use crate::device::{Done, Source, Target};
use crate::error::Error;

/// After this long without work, memory that was kept for reuse goes back to the system.
pub(super) const IDLE: Duration = Duration::from_secs(1);
/// States of the device thread: it has given memory back and waits for whatever comes; nothing has been done since it
/// began to wait; the caller has done something itself.
const RESTED: u8 = 0;
const QUIET: u8 = 1;
const STIRRED: u8 = 2;

/// Epochs of the memory pool are this many streams long.
const EPOCH_STREAMS: u32 = 256;

/// Something to do for the device thread.
pub enum Job {
    /// Run a stream, whose plan may have been looked up already.
    Submit { stream: Vec<u32>, lookup: Option<Lookup> },
    /// Keep a compiled program.
    Keep { program: u32, planned: Box<Planned> },
    /// Run a compiled program.
    Run { program: u32, stream: Vec<u32> },
    /// Forget a compiled program.
    Release { program: u32 },
    /// Give a slot host data.
    Write { slot: u32, upload: Upload },
    /// Copy a slot to the host.
    Read { slot: u32, target: Target, done: Done },
    /// Tell the first failure nobody has been told about.
    Sync { done: Done },
    /// Give back what only makes later work faster.
    Trim { done: Done },
    /// Tell the first failure nobody has been told about, after freeing everything. The last job.
    Close { done: Done },
}

/// Host data on its way to a slot.
pub enum Upload {
    /// Already in device memory.
    Placed(Value),
    /// Device memory was short: it will be tried again in order, when earlier jobs have freed theirs.
    Staged(Source<'static>),
}

impl Upload {
    /// Bytes that it holds until it is finished.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Placed(value) => value.numel as u64 * 4,
            Self::Staged(source) => source.len() as u64 * 4,
        }
    }

    /// Puts the data into its slot.
    pub fn finish(self, slot: u32, engine: &mut Engine) {
        let value = match self {
            Self::Placed(value) => Ok(value),
            Self::Staged(source) => Error::catch(|| engine.place(&source)),
        };
        engine.write(slot, value);
    }
}

impl Job {
    /// Bytes of an upload that it holds until it is finished.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Write { upload, .. } => upload.bytes(),
            _ => 0,
        }
    }
}

/// What a caller and a device thread share.
pub struct Worker {
    /// What is to be done.
    pub queue: Queue<Job>,
    engine: Mutex<Engine>,
    epoch: AtomicU32,
    /// How the device thread waits: work of the caller's own goes past the queue, but leaves memory to give back too.
    state: AtomicU8,
}

impl Worker {
    /// An engine and its queue.
    pub fn new(queue: Queue<Job>, engine: Engine) -> Self {
        Self { queue, engine: Mutex::new(engine), epoch: AtomicU32::new(0), state: AtomicU8::new(QUIET) }
    }

    /// The engine; free while the queue is idle, else after the job that runs.
    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        // Kernels run under their own guard; a panic elsewhere leaves slots and counters whole, at worst a lost output.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine for a caller that does a job itself, while the queue is idle.
    pub fn engine_inline(&self) -> MutexGuard<'_, Engine> {
        // Once a second at most: as long as the thread has not rested, it looks here by itself.
        if self.state.swap(STIRRED, Ordering::AcqRel) == RESTED {
            self.queue.bell().ring();
        }
        self.engine()
    }

    /// The engine, unless a job runs.
    pub fn engine_at_rest(&self) -> Option<MutexGuard<'_, Engine>> {
        match self.engine.try_lock() {
            Ok(engine) => Some(engine),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Runs a stream on the engine, which the calling thread holds.
    pub fn submit(&self, stream: &[u32], lookup: Option<Lookup>, engine: &mut Engine) {
        engine.submit(stream, lookup);
        self.count(engine);
    }

    /// Runs a compiled program on the engine, which the calling thread holds.
    pub fn run(&self, stream: &[u32], lookup: Lookup, engine: &mut Engine) {
        engine.run(stream, lookup);
        self.count(engine);
    }

    /// Counts a run; some end an epoch.
    fn count(&self, engine: &mut Engine) {
        if self.epoch.fetch_add(1, Ordering::Relaxed) % EPOCH_STREAMS == EPOCH_STREAMS - 1 {
            engine.end_epoch();
        }
    }

    /// The life of the device thread.
    pub fn work(&self) {
        while let Some(job) = self.next() {
            let (last, bytes) = (matches!(job, Job::Close { .. }), job.bytes());
            // A panic here is our bug, and so rare that `sync` may tell it: those of programs have become failures of
            // their results.
            let tell = Error::catch(|| Ok(self.job(job))).unwrap_or_else(|error| {
                self.engine().report(error);
                None
            });
            // First idle, then told: whoever is waiting for the result finds an idle device.
            self.queue.finish(bytes);
            if let Some(tell) = tell {
                // A listener that panics must not end the thread that everybody else waits for.
                let _ = catch_unwind(AssertUnwindSafe(tell));
            }
            if last {
                return;
            }
        }
    }

    /// Waits for the next job; `None` when nobody waits for results any more. Gives memory back once nothing has been
    /// done for a while, here or by the caller.
    fn next(&self) -> Option<Job> {
        let bell = self.queue.bell();
        self.state.store(QUIET, Ordering::Release);
        loop {
            let heard = bell.rings();
            match self.queue.try_next() {
                Next::Job(job) => return Some(job),
                Next::Abandoned => return None,
                Next::Nothing => {}
            }
            let rested = self.state.load(Ordering::Acquire) == RESTED;
            if bell.wait(heard, (!rested).then_some(IDLE)) {
                continue;
            }
            // Rested before the memory goes, so that whatever the caller does meanwhile rings.
            let change = |from, to| self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
            if change(STIRRED, QUIET).is_err() && change(QUIET, RESTED).is_ok() {
                self.engine().trim();
                self.queue.trim();
            }
        }
    }

    /// Runs one job; what is left to do is telling its result.
    fn job(&self, job: Job) -> Option<Box<dyn FnOnce()>> {
        match job {
            Job::Submit { stream, lookup } => {
                self.submit(&stream, lookup, &mut self.engine());
                self.queue.recycle(stream);
                None
            }
            Job::Keep { program, planned } => {
                let mut engine = self.engine();
                if let Err(error) = engine.keep(program, *planned) {
                    engine.report(error);
                }
                None
            }
            Job::Run { program, stream } => {
                let mut engine = self.engine();
                let lookup = engine.compiled(program);
                self.run(&stream, lookup, &mut engine);
                drop(engine);
                self.queue.recycle(stream);
                None
            }
            Job::Release { program } => {
                self.engine().release(program);
                None
            }
            Job::Write { slot, upload } => {
                upload.finish(slot, &mut self.engine());
                None
            }
            Job::Read { slot, mut target, done } => {
                let _gate = self.queue.gate()?;
                let result = self.engine().read(slot, &mut target);
                Some(Box::new(move || done(result)))
            }
            Job::Sync { done } => {
                let unread = self.engine().take_unread();
                Some(Box::new(move || done(unread.map_or(Ok(()), Err))))
            }
            Job::Trim { done } => {
                self.queue.trim();
                self.engine().shrink();
                Some(Box::new(move || done(Ok(()))))
            }
            Job::Close { done } => {
                let unread = self.engine().close();
                Some(Box::new(move || done(unread.map_or(Ok(()), Err))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cpu::device::{machine, memory::Memory};
    use crate::device::testing::told;

    #[test]
    fn trimming_lets_go_of_the_buffers_of_streams() {
        let queue = Queue::new(Arc::default());
        let engine = Engine::new(machine(1).unwrap(), Memory::new((), None), true, Arc::default());
        let worker = Worker::new(queue, engine);
        worker.queue.recycle(Vec::with_capacity(1000));
        let (done, end) = told();
        worker.job(Job::Trim { done }).unwrap()();
        end.recv().unwrap().unwrap();
        assert!(worker.queue.copy(&[1]).unwrap().capacity() < 1000);
    }
}
