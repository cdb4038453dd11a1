//! What the JavaScript thread holds of a device. It puts jobs into the [`Queue`]; but when nothing is queued or running,
//! and the work is short, it does the work itself: a thread hop costs more than a small model. Order stays, because a
//! device has one caller, which does this only while the device is idle.
//!
//! Nothing here knows Node: results go to callbacks, which `napi/` turns into promises.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::engine::{Engine, Statistics};
use super::failure::Failure;
use super::memory::Memory;
use super::queue::{Done, Job, Queue, Upload};
use super::transfer::{Source, Target};
use crate::cpu::Cpu;
use crate::error::{Error, Result};

/// Work estimated above this goes to the device thread, where it costs a hop and a promise more: about 15 µs.
const INLINE_NS: u64 = 100_000;
/// Time that inline work may take from one turn of the event loop.
const INLINE_TURN_NS: u64 = 200_000;
/// Longest stream that is planned on the caller's thread: planning takes about 20 ns per word.
const INLINE_WORDS: usize = 2048;
/// Elements that a read copies on the caller's thread: about 50 µs with page faults.
const INLINE_READ: usize = 1 << 16;

/// A running device.
pub struct Device {
    queue: Arc<Queue>,
    memory: Arc<Memory>,
    /// The turn of the event loop in which the caller last submitted.
    turn: AtomicU32,
    /// Nanoseconds of inline work in that turn.
    spent: AtomicU64,
    statistics: Mutex<Statistics>,
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
        let engine = Engine::new(cpu, Arc::clone(&memory), fuse, Arc::clone(&abandoned));
        let queue = Arc::new(Queue::new(engine, abandoned));
        let worker = Arc::clone(&queue);
        // Never joined: an idle thread sleeps and holds up no exit; a closed device's thread ends by itself.
        thread::Builder::new()
            .name("tilegrad-cpu".into())
            .spawn(move || worker.work())
            .map_err(|error| Error::NoDevice(format!("cannot start the device thread: {error}")))?;
        let (turn, spent) = (AtomicU32::new(0), AtomicU64::new(0));
        Ok(Self { queue, memory, turn, spent, statistics: Mutex::default() })
    }

    /// Runs a stream after everything submitted before it. `turn` changes with every turn of the event loop.
    ///
    /// # Errors
    /// [`Error::Lost`] when closed, [`Error::OutOfMemory`] when the stream cannot be copied. What goes wrong inside the
    /// program poisons its outputs instead.
    pub fn submit(&self, stream: &[u32], turn: u32) -> Result<Pressure> {
        self.queue.reserve()?;
        let mut lookup = None;
        if self.queue.is_idle() && stream.len() <= INLINE_WORDS && self.may_run_inline(turn) {
            let started = Instant::now();
            let mut engine = self.queue.engine();
            let found = engine.look_up(stream);
            if found.nanoseconds() <= INLINE_NS {
                self.queue.submit(stream, Some(found), &mut engine);
            } else {
                lookup = Some(found);
            }
            self.spent.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
            if lookup.is_none() {
                return Ok(Pressure::None);
            }
        }
        let mut copy = self.queue.buffer();
        copy.try_reserve(stream.len())
            .map_err(|_| Error::OutOfMemory(format!("no room for a program of {} words", stream.len())))?;
        copy.extend_from_slice(stream);
        self.queue.push(Job::Submit { stream: copy, lookup });
        Ok(self.pressure())
    }

    /// Creates a slot from host data, which is copied before this returns.
    ///
    /// # Errors
    /// [`Error::Lost`] when closed, [`Error::OutOfMemory`] when not even the host has room for a copy. A device without
    /// room poisons the slot instead.
    pub fn write(&self, slot: u32, source: &Source) -> Result<Pressure> {
        self.queue.reserve()?;
        let upload = match source.place(&self.memory) {
            Ok(value) => Upload::Placed(value),
            Err(_) => Upload::Staged(source.to_owned()?),
        };
        if self.queue.is_idle() {
            upload.finish(slot, &mut self.queue.engine());
            return Ok(Pressure::None);
        }
        self.queue.push(Job::Write { slot, upload });
        Ok(self.pressure())
    }

    /// Copies a slot to the host now, if all work before is done and the copy is short or `any_size` is wanted; else
    /// does nothing and returns false.
    ///
    /// # Errors
    /// The slot's failure.
    pub fn read_now(&self, slot: u32, target: &mut Target, any_size: bool) -> std::result::Result<bool, Arc<Failure>> {
        self.queue.reserve()?;
        if !self.queue.is_idle() || (target.len() > INLINE_READ && !any_size) {
            return Ok(false);
        }
        self.queue.engine().read(slot, target).map(|()| true)
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
        self.queue.reserve()?;
        if !self.queue.is_idle() {
            return Ok(false);
        }
        self.queue.engine().take_unread().map_or(Ok(true), Err)
    }

    /// Finishes all work, frees everything, then calls `done` with the first failure nobody has been told about. Every
    /// later call is [`Error::Lost`].
    pub fn close(&self, done: Done) {
        self.promise(done, |done| Job::Close { done });
    }

    /// Waits until the device is idle or `at_most` has passed; true when it is idle.
    pub fn wait_idle(&self, at_most: Duration) -> bool {
        self.queue.wait_until(at_most, Queue::is_idle)
    }

    /// Waits until there is room for more work or `at_most` has passed.
    pub fn wait(&self, at_most: Duration) -> Pressure {
        self.queue.wait_until(at_most, |queue| !queue.is_full());
        self.pressure()
    }

    /// Gives up: queued work is dropped with its callbacks, running work stops after its current kernel, for which this
    /// waits at most `patience`. For the end of an environment, where no result can be told any more.
    pub fn abandon(&self, patience: Duration) {
        self.queue.abandon();
        self.wait_idle(patience);
    }

    /// What live slots should weigh with a garbage collector, in bytes.
    pub fn memory_pressure(&self) -> u64 {
        self.memory.pressure()
    }

    /// Counters. While a program runs, all but those of memory are as they were when this was last asked.
    pub fn statistics(&self) -> Statistics {
        let mut last = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        match self.queue.engine_at_rest() {
            Some(engine) => *last = engine.statistics(),
            None => last.memory = self.memory.usage(),
        }
        *last
    }

    /// Queues a job that tells how it ended, or tells at once why it cannot be queued.
    fn promise(&self, done: Done, job: impl FnOnce(Done) -> Job) {
        match self.queue.reserve() {
            Ok(()) => self.queue.push(job(done)),
            Err(error) => done(Err(error.into())),
        }
    }

    fn pressure(&self) -> Pressure {
        if self.queue.is_full() { Pressure::Wait } else { Pressure::None }
    }

    fn may_run_inline(&self, turn: u32) -> bool {
        if self.turn.swap(turn, Ordering::Relaxed) != turn {
            self.spent.store(0, Ordering::Relaxed);
        }
        self.spent.load(Ordering::Relaxed) < INLINE_TURN_NS
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.abandon(Duration::ZERO);
    }
}
