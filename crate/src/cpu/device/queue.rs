//! The queue of a device and the thread that works it off, in order, on the [`Engine`]. Jobs come from one caller, the
//! [`Device`](super::handle::Device). Results go to callbacks on the device thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::engine::{Engine, Lookup};
use super::failure::Failure;
use super::slots::Value;
use super::transfer::{Source, Target};
use crate::error::{Error, Result};

/// Queued jobs beyond which a caller is asked to wait.
const QUEUED_JOBS: usize = 64;
/// Bytes of queued uploads beyond which a caller is asked to wait.
const STAGED_BYTES: u64 = 256 << 20;
/// Stream buffers kept for the next submissions.
const SPARE_BUFFERS: usize = 8;
/// After this long without work, memory that was kept for reuse goes back to the system.
const IDLE: Duration = Duration::from_secs(1);
/// Epochs of the memory pool are this many streams long.
const EPOCH_STREAMS: u32 = 256;

/// Called once with how a job ended, on whatever thread that happens.
pub type Done = Box<dyn FnOnce(std::result::Result<(), Arc<Failure>>) + Send>;

/// Something to do for the device thread.
pub enum Job {
    /// Run a stream, whose plan may have been looked up already.
    Submit { stream: Vec<u32>, lookup: Option<Lookup> },
    /// Give a slot host data.
    Write { slot: u32, upload: Upload },
    /// Copy a slot to the host.
    Read { slot: u32, target: Target, done: Done },
    /// Tell the first failure nobody has been told about.
    Sync { done: Done },
    /// The same, after freeing everything. The last job.
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
    fn bytes(&self) -> u64 {
        match self {
            Self::Placed(value) => value.numel as u64 * 4,
            Self::Staged(source) => source.len() as u64 * 4,
        }
    }

    /// Puts the data into its slot.
    pub fn finish(self, slot: u32, engine: &mut Engine) {
        let value = match self {
            Self::Placed(value) => Ok(value),
            Self::Staged(source) => engine.place(&source),
        };
        engine.write(slot, value);
    }
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    spare: Vec<Vec<u32>>,
    closed: bool,
}

/// What a caller and a device thread share.
pub struct Queue {
    jobs: Mutex<Jobs>,
    /// Rung when a job has been queued.
    work: Condvar,
    /// Rung when a job has been finished.
    progress: Condvar,
    engine: Mutex<Engine>,
    /// Jobs queued or running. Only the caller raises it, so a zero it reads stays one until it queues another.
    pending: AtomicUsize,
    staged: AtomicU64,
    /// Set when nobody waits for results any more: what is queued is dropped, what runs ends after its current kernel.
    abandoned: Arc<AtomicBool>,
    /// Held while a read writes to the host, so that giving up can wait for its end.
    gate: Mutex<()>,
    epoch: AtomicU32,
}

impl Queue {
    /// An empty queue for an engine that stops early once `abandoned` is set.
    pub fn new(engine: Engine, abandoned: Arc<AtomicBool>) -> Self {
        Self {
            jobs: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
            engine: Mutex::new(engine),
            pending: AtomicUsize::new(0),
            staged: AtomicU64::new(0),
            abandoned,
            gate: Mutex::new(()),
            epoch: AtomicU32::new(0),
        }
    }

    /// The engine; free while the queue is idle, else after the job that runs.
    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        // Kernels run under their own guard; a panic elsewhere leaves slots and counters whole, at worst a lost output.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine, unless a job runs.
    pub fn engine_at_rest(&self) -> Option<MutexGuard<'_, Engine>> {
        match self.engine.try_lock() {
            Ok(engine) => Some(engine),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Makes room for one more job.
    ///
    /// # Errors
    /// [`Error::Lost`] when closed, [`Error::OutOfMemory`] when there is no room.
    pub fn reserve(&self) -> Result<()> {
        let mut jobs = self.jobs();
        if jobs.closed {
            return Err(Error::Lost("the device has been closed".into()));
        }
        jobs.waiting.try_reserve(1).map_err(|_| Error::OutOfMemory("no room for another job".into()))
    }

    /// Queues a job for which room has been reserved. After [`Job::Close`] there is no more room.
    pub fn push(&self, job: Job) {
        if let Job::Write { upload, .. } = &job {
            self.staged.fetch_add(upload.bytes(), Ordering::Relaxed);
        }
        let mut jobs = self.jobs();
        self.pending.fetch_add(1, Ordering::AcqRel);
        jobs.closed |= matches!(job, Job::Close { .. });
        jobs.waiting.push_back(job);
        drop(jobs);
        self.work.notify_one();
    }

    /// An empty buffer for a stream.
    pub fn buffer(&self) -> Vec<u32> {
        self.jobs().spare.pop().unwrap_or_default()
    }

    /// Whether nothing is queued or running.
    pub fn is_idle(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    /// Whether more is queued than a caller should be ahead.
    pub fn is_full(&self) -> bool {
        self.pending.load(Ordering::Acquire) > QUEUED_JOBS || self.staged.load(Ordering::Relaxed) > STAGED_BYTES
    }

    /// Waits until the condition holds, which it may only begin to when a job ends; false when `at_most` has passed.
    pub fn wait_until(&self, at_most: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + at_most;
        let mut jobs = self.jobs();
        while !holds(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            jobs = self.progress.wait_timeout(jobs, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Drops what is queued, with its callbacks, makes what runs end early, and waits for a read that has begun: its
    /// target is about to go.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        let mut jobs = self.jobs();
        jobs.closed = true;
        let dropped = std::mem::take(&mut jobs.waiting);
        drop(jobs);
        self.pending.fetch_sub(dropped.len(), Ordering::AcqRel);
        drop(dropped);
        self.work.notify_all();
        drop(self.gate.lock());
    }

    /// Runs a stream on the engine, which the calling thread holds.
    pub fn submit(&self, stream: &[u32], lookup: Option<Lookup>, engine: &mut Engine) {
        engine.submit(stream, lookup);
        if self.epoch.fetch_add(1, Ordering::Relaxed) % EPOCH_STREAMS == EPOCH_STREAMS - 1 {
            engine.end_epoch();
        }
    }

    /// The life of the device thread.
    pub fn work(&self) {
        while let Some(job) = self.next() {
            let last = matches!(job, Job::Close { .. });
            // A panic here is our bug; those of kernels have become failures of their results.
            let tell = catch_unwind(AssertUnwindSafe(|| self.run(job))).unwrap_or(None);
            // First idle, then told: whoever is waiting for the result finds an idle device.
            self.finish();
            if let Some(tell) = tell {
                // A listener that panics must not end the thread that everybody else waits for.
                let _ = catch_unwind(AssertUnwindSafe(tell));
            }
            if last {
                return;
            }
        }
    }

    /// Waits for the next job; `None` when nobody waits for results any more.
    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs();
        let mut rested = false;
        loop {
            if self.abandoned.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            if rested {
                jobs = self.work.wait(jobs).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (guard, timeout) = self.work.wait_timeout(jobs, IDLE).unwrap_or_else(PoisonError::into_inner);
            jobs = guard;
            if timeout.timed_out() && jobs.waiting.is_empty() {
                rested = true;
                drop(jobs);
                self.engine().trim();
                jobs = self.jobs();
            }
        }
    }

    /// Runs one job; what is left to do is telling its result.
    fn run(&self, job: Job) -> Option<Box<dyn FnOnce()>> {
        match job {
            Job::Submit { mut stream, lookup } => {
                self.submit(&stream, lookup, &mut self.engine());
                stream.clear();
                let mut jobs = self.jobs();
                if jobs.spare.len() < SPARE_BUFFERS {
                    jobs.spare.push(stream);
                }
                None
            }
            Job::Write { slot, upload } => {
                let bytes = upload.bytes();
                upload.finish(slot, &mut self.engine());
                self.staged.fetch_sub(bytes, Ordering::Relaxed);
                None
            }
            Job::Read { slot, mut target, done } => {
                let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
                if self.abandoned.load(Ordering::Relaxed) {
                    return None;
                }
                let result = self.engine().read(slot, &mut target);
                Some(Box::new(move || done(result)))
            }
            Job::Sync { done } => {
                let unread = self.engine().take_unread();
                Some(Box::new(move || done(unread.map_or(Ok(()), Err))))
            }
            Job::Close { done } => {
                let unread = self.engine().close();
                Some(Box::new(move || done(unread.map_or(Ok(()), Err))))
            }
        }
    }

    fn finish(&self) {
        // Under the lock, so that a waiter between its look and its sleep does not miss the bell.
        let jobs = self.jobs();
        self.pending.fetch_sub(1, Ordering::AcqRel);
        drop(jobs);
        self.progress.notify_all();
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
