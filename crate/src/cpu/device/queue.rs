//! The thread of a device and its queue. The JavaScript thread only puts jobs in; the device thread runs them in order
//! on the [`Engine`]. When nothing is queued or running, and the work is short, the caller runs it itself: a thread hop
//! costs more than a small model. Order stays, because a device has one caller and it does this only while idle.
//!
//! Nothing here knows Node: results go to callbacks, which `napi/` turns into promises.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::engine::{Engine, Lookup, Statistics};
use super::failure::Failure;
use super::memory::Memory;
use super::slots::Value;
use super::transfer::{Source, Target};
use crate::cpu::Cpu;
use crate::error::{Error, Result};

/// Queued jobs beyond which a caller is asked to wait.
const QUEUED_JOBS: usize = 64;
/// Bytes of queued uploads beyond which a caller is asked to wait.
const STAGED_BYTES: u64 = 256 << 20;
/// Work estimated above this goes to the device thread: about the price of a thread hop and a promise, times four.
const INLINE_NS: u64 = 100_000;
/// Time that inline work may take from one turn of the event loop.
const INLINE_TURN_NS: u64 = 200_000;
/// Longest code that is planned on the caller's thread: planning takes about 20 ns per word.
const INLINE_CODE_WORDS: usize = 2048;
/// Elements that a read copies on the caller's thread: about 50 µs with page faults.
const INLINE_READ: usize = 1 << 16;
/// After this long without work, memory that was kept for reuse goes back to the system.
const IDLE: Duration = Duration::from_secs(1);
/// Epochs of the memory pool are this many jobs long.
const EPOCH_JOBS: u32 = 256;

/// Called once with how a job ended, on whatever thread that happens.
pub type Done = Box<dyn FnOnce(std::result::Result<(), Arc<Failure>>) + Send>;

enum Job {
    Submit { stream: Vec<u32>, lookup: Option<Lookup> },
    Write { slot: u32, upload: Upload },
    Read { slot: u32, target: Target, done: Done },
    Sync { done: Done },
    Close { done: Done },
}

/// Host data on its way to a slot.
enum Upload {
    /// Already in device memory.
    Placed(Value),
    /// Device memory was short: it will be tried again in order, when earlier jobs have freed theirs.
    Staged(Source<'static>),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Stream buffers for the next submissions.
    spare: Vec<Vec<u32>>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Rung when a job has been queued.
    work: Condvar,
    /// Rung when a job has been finished.
    progress: Condvar,
    engine: Mutex<Engine>,
    /// Jobs queued or running. Only the caller raises it, so a zero it reads stays one until it submits.
    pending: AtomicUsize,
    staged: AtomicU64,
    /// Set when nobody waits for results any more: what is queued is dropped, what runs ends after its current kernel.
    abandoned: Arc<AtomicBool>,
    /// Held while a read writes to the host, so that giving up can wait for its end.
    gate: Mutex<()>,
    epoch: AtomicU32,
}

/// A running device.
pub struct Device {
    shared: Arc<Shared>,
    memory: Arc<Memory>,
    cpu: Arc<Cpu>,
    turn: AtomicU32,
    /// Nanoseconds of inline work in this turn of the event loop.
    spent: AtomicU64,
    statistics: Mutex<Statistics>,
    thread: ThreadId,
}

/// Whether a caller should let the device catch up before it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// Go on.
    None,
    /// Call [`Device::wait`] until it says otherwise.
    Wait,
}

impl Device {
    /// Starts a device.
    ///
    /// # Errors
    /// [`Error::NoDevice`] when the system refuses a thread.
    pub fn open(cpu: Arc<Cpu>, memory_limit: Option<u64>, fuse: bool) -> Result<Self> {
        let memory = Memory::new(memory_limit);
        let abandoned = Arc::new(AtomicBool::new(false));
        let engine = Engine::new(Arc::clone(&cpu), Arc::clone(&memory), fuse, Arc::clone(&abandoned));
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
            engine: Mutex::new(engine),
            pending: AtomicUsize::new(0),
            staged: AtomicU64::new(0),
            abandoned,
            gate: Mutex::new(()),
            epoch: AtomicU32::new(0),
        });
        let worker = Arc::clone(&shared);
        // Never joined: an idle thread sleeps and holds up no exit; a closed device's thread ends by itself.
        let thread = thread::Builder::new()
            .name("tilegrad-cpu".into())
            .spawn(move || worker.work())
            .map_err(|error| Error::NoDevice(format!("cannot start the device thread: {error}")))?
            .thread()
            .id();
        Ok(Self {
            shared,
            memory,
            cpu,
            turn: AtomicU32::new(0),
            spent: AtomicU64::new(0),
            statistics: Mutex::default(),
            thread,
        })
    }

    /// The machine this device computes on.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Runs a stream after everything submitted before it. `turn` changes with every turn of the event loop.
    ///
    /// # Errors
    /// [`Error::Lost`] when closed, [`Error::OutOfMemory`] when the stream cannot be copied. What goes wrong inside the
    /// program poisons its outputs instead.
    pub fn submit(&self, stream: &[u32], turn: u32) -> Result<Pressure> {
        self.check_open()?;
        let mut lookup = None;
        if self.is_idle() && stream.len() <= INLINE_CODE_WORDS && self.may_run_inline(turn) {
            let started = Instant::now();
            let mut engine = self.shared.engine();
            let found = engine.look_up(stream);
            if found.nanoseconds() <= INLINE_NS {
                self.shared.submit(stream, Some(found), &mut engine);
            } else {
                lookup = Some(found);
            }
            self.spent.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
            if lookup.is_none() {
                return Ok(Pressure::None);
            }
        }
        let mut copy = self.shared.queue().spare.pop().unwrap_or_default();
        copy.clear();
        copy.try_reserve(stream.len())
            .map_err(|_| Error::OutOfMemory(format!("no room for a program of {} words", stream.len())))?;
        copy.extend_from_slice(stream);
        self.shared.reserve()?;
        self.push(Job::Submit { stream: copy, lookup });
        Ok(self.pressure())
    }

    /// Creates a slot from host data, which is copied before this returns.
    ///
    /// # Errors
    /// [`Error::Lost`] when closed, [`Error::OutOfMemory`] when not even the host has room for a copy. A device without
    /// room poisons the slot instead.
    pub fn write(&self, slot: u32, source: &Source) -> Result<Pressure> {
        self.check_open()?;
        let upload = match source.place(&self.memory) {
            Ok(value) => Upload::Placed(value),
            Err(_) => Upload::Staged(source.to_owned()?),
        };
        if self.is_idle() {
            self.shared.engine().write_upload(slot, upload);
            return Ok(Pressure::None);
        }
        self.shared.reserve()?;
        self.shared.staged.fetch_add(upload.bytes(), Ordering::Relaxed);
        self.push(Job::Write { slot, upload });
        Ok(self.pressure())
    }

    /// Copies a slot to the host now, if all work before is done and the copy is short or `any_size` is wanted; else
    /// does nothing and returns false.
    ///
    /// # Errors
    /// The slot's failure.
    pub fn read_now(&self, slot: u32, target: &mut Target, any_size: bool) -> std::result::Result<bool, Arc<Failure>> {
        self.check_open().map_err(|error| Failure::new(error, None))?;
        if !self.is_idle() || (target.len() > INLINE_READ && !any_size) {
            return Ok(false);
        }
        self.shared.engine().read(slot, target).map(|()| true)
    }

    /// Copies a slot to the host once all work before it is done, then calls `done`.
    pub fn read(&self, slot: u32, target: Target, done: Done) {
        self.promise(done, |done| Job::Read { slot, target, done });
    }

    /// Calls `done` when all work so far is done, with the first failure nobody has been told about.
    pub fn sync(&self, done: Done) {
        self.promise(done, |done| Job::Sync { done });
    }

    /// Does what [`Device::sync`] does now, if all work is done; else does nothing and returns false.
    ///
    /// # Errors
    /// The first failure nobody has been told about.
    pub fn sync_now(&self) -> std::result::Result<bool, Arc<Failure>> {
        self.check_open()?;
        if !self.is_idle() {
            return Ok(false);
        }
        self.shared.engine().take_unread().map_or(Ok(true), Err)
    }

    /// Finishes all work, frees everything, then calls `done` with the first failure nobody has been told about. Every
    /// later call is [`Error::Lost`].
    pub fn close(&self, done: Done) {
        self.promise(done, |done| Job::Close { done });
        self.shared.queue().closed = true;
    }

    /// Queues a job that tells how it ended, or tells at once why it cannot be queued.
    fn promise(&self, done: Done, job: impl FnOnce(Done) -> Job) {
        match self.check_open().and_then(|()| self.shared.reserve()) {
            Ok(()) => self.push(job(done)),
            Err(error) => done(Err(error.into())),
        }
    }

    /// Waits until the device is idle or `at_most` has passed; true when it is idle.
    pub fn wait_idle(&self, at_most: Duration) -> bool {
        self.wait_until(at_most, Shared::is_idle)
    }

    /// Waits until there is room for more work or `at_most` has passed.
    pub fn wait(&self, at_most: Duration) -> Pressure {
        if self.wait_until(at_most, |shared| shared.pressure() == Pressure::None) {
            Pressure::None
        } else {
            Pressure::Wait
        }
    }

    /// Gives up: queued work is dropped with its callbacks, running work stops after its current kernel, for which this
    /// waits at most `patience`. For the end of an environment, where no result can be told any more.
    pub fn abandon(&self, patience: Duration) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
        let dropped = {
            let mut queue = self.shared.queue();
            queue.closed = true;
            std::mem::take(&mut queue.jobs)
        };
        let count = dropped.len();
        drop(dropped);
        self.shared.pending.fetch_sub(count, Ordering::AcqRel);
        self.shared.work.notify_all();
        // A read that has begun writes memory that is about to go: however long it is, it must end.
        drop(self.shared.gate.lock());
        self.wait_idle(patience);
    }

    /// Bytes of live slots.
    pub fn live_bytes(&self) -> u64 {
        self.memory.live_bytes()
    }

    /// Counters. While a program runs, all but those of memory are as they were when this was last asked.
    pub fn statistics(&self) -> Statistics {
        let mut last = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        match self.shared.engine.try_lock() {
            Ok(engine) => *last = engine.statistics(),
            Err(_) => last.memory = self.memory.usage(),
        }
        *last
    }

    fn check_open(&self) -> Result<()> {
        debug_assert_ne!(thread::current().id(), self.thread, "a job must not submit jobs");
        if self.shared.queue().closed { Err(Error::Lost("the device has been closed".into())) } else { Ok(()) }
    }

    fn is_idle(&self) -> bool {
        self.shared.is_idle()
    }

    fn pressure(&self) -> Pressure {
        self.shared.pressure()
    }

    fn may_run_inline(&self, turn: u32) -> bool {
        if self.turn.swap(turn, Ordering::Relaxed) != turn {
            self.spent.store(0, Ordering::Relaxed);
        }
        self.spent.load(Ordering::Relaxed) < INLINE_TURN_NS
    }

    /// Queues a job; room for it has been reserved.
    fn push(&self, job: Job) {
        let mut queue = self.shared.queue();
        self.shared.pending.fetch_add(1, Ordering::AcqRel);
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.work.notify_one();
    }

    fn wait_until(&self, at_most: Duration, reached: impl Fn(&Shared) -> bool) -> bool {
        let deadline = Instant::now() + at_most;
        let mut queue = self.shared.queue();
        loop {
            if reached(&self.shared) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.shared.progress.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.abandon(Duration::ZERO);
    }
}

impl Upload {
    fn bytes(&self) -> u64 {
        match self {
            Self::Placed(value) => value.numel as u64 * 4,
            Self::Staged(source) => source.len() as u64 * 4,
        }
    }
}

impl Engine {
    fn write_upload(&mut self, slot: u32, upload: Upload) {
        match upload {
            Upload::Placed(value) => self.write(slot, Ok(value)),
            Upload::Staged(source) => {
                let value = self.place(&source);
                self.write(slot, value);
            }
        }
    }
}

impl Shared {
    /// The life of the device thread.
    fn work(&self) {
        while let Some(job) = self.next() {
            // A caught panic is our bug; the engine's own guards have already turned those of kernels into failures.
            let last = matches!(job, Job::Close { .. });
            let tell = catch_unwind(AssertUnwindSafe(|| self.run(job))).unwrap_or(None);
            // First idle, then told: whoever is waiting for the result finds an idle device.
            self.finish();
            if let Some(tell) = tell {
                tell();
            }
            if last {
                return;
            }
        }
    }

    /// Waits for the next job; `None` when the device has been abandoned.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        let mut rested = false;
        loop {
            if self.abandoned.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if rested {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (guard, timeout) = self.work.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            if timeout.timed_out() && queue.jobs.is_empty() {
                rested = true;
                drop(queue);
                self.engine().trim();
                queue = self.queue();
            }
        }
    }

    /// Runs one job; what is left to do is telling its result.
    fn run(&self, job: Job) -> Option<Box<dyn FnOnce()>> {
        match job {
            Job::Submit { stream, lookup } => {
                self.submit(&stream, lookup, &mut self.engine());
                let mut queue = self.queue();
                if queue.spare.len() < 8 {
                    queue.spare.push(stream);
                }
            }
            Job::Write { slot, upload } => {
                let bytes = upload.bytes();
                self.engine().write_upload(slot, upload);
                self.staged.fetch_sub(bytes, Ordering::Relaxed);
            }
            Job::Read { slot, mut target, done } => {
                let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
                if self.abandoned.load(Ordering::Relaxed) {
                    return None;
                }
                let result = self.engine().read(slot, &mut target);
                return Some(Box::new(move || done(result)));
            }
            Job::Sync { done } => {
                let unread = self.engine().take_unread();
                return Some(Box::new(move || done(unread.map_or(Ok(()), Err))));
            }
            Job::Close { done } => {
                let unread = self.engine().close();
                return Some(Box::new(move || done(unread.map_or(Ok(()), Err))));
            }
        }
        None
    }

    fn finish(&self) {
        // Under the lock, so that a waiter between its look and its sleep does not miss the bell.
        let queue = self.queue();
        self.pending.fetch_sub(1, Ordering::AcqRel);
        drop(queue);
        self.progress.notify_all();
    }

    fn is_idle(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    fn pressure(&self) -> Pressure {
        let busy =
            self.pending.load(Ordering::Acquire) > QUEUED_JOBS || self.staged.load(Ordering::Relaxed) > STAGED_BYTES;
        if busy { Pressure::Wait } else { Pressure::None }
    }

    /// Makes room for one more job.
    fn reserve(&self) -> Result<()> {
        self.queue().jobs.try_reserve(1).map_err(|_| Error::OutOfMemory("no room for another job".into()))
    }

    fn submit(&self, stream: &[u32], lookup: Option<Lookup>, engine: &mut Engine) {
        engine.submit(stream, lookup);
        if self.epoch.fetch_add(1, Ordering::Relaxed) % EPOCH_JOBS == EPOCH_JOBS - 1 {
            engine.end_epoch();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        // Kernels run under their own guard; a panic elsewhere leaves slots and counters whole, at worst a lost output.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
