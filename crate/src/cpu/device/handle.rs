//! What the JavaScript thread holds of a device. It puts jobs into the [`Queue`]; but when nothing is queued or running,
//! and the work is short, it does the work itself: a thread hop costs more than a small model. Order stays, because a
//! device has one caller, which does this only while the device is idle.
//!
//! Nothing here knows Node: results go to callbacks, which `napi/` turns into promises.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::memory::Memory;
use super::prepare::Planned;
use super::transfer::place;
use super::worker::{Job, Upload, Worker};
use crate::cpu::{Cpu, idle};
use crate::device::queue::Queue;
use crate::device::{self, Done, Pressure, Profiler, ProgramInfo, Source, Statistics, Target, Told};
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
    worker: Arc<Worker>,
    memory: Arc<Memory>,
    fuse: bool,
    profiler: Arc<Profiler>,
    /// The turn of the event loop in which the caller last submitted.
    turn: AtomicU32,
    /// Nanoseconds of inline work in that turn.
    spent: AtomicU64,
    statistics: Mutex<Statistics>,
}

impl Device {
    /// Starts a device.
    ///
    /// # Errors
    /// [`Error::NoDevice`] when the system refuses a thread.
    pub fn open(cpu: Arc<Cpu>, memory_limit: Option<u64>, fuse: bool) -> Result<Self> {
        let memory = Memory::new((), memory_limit);
        let queue = Queue::new(Arc::default());
        let engine = Engine::new(cpu, Arc::clone(&memory), fuse, Arc::clone(queue.abandoned()));
        let profiler = Arc::clone(&engine.profiler);
        let worker = Arc::new(Worker::new(queue, engine));
        let thread = Arc::clone(&worker);
        // Never joined: an idle thread sleeps and holds up no exit; a closed device's thread ends by itself.
        thread::Builder::new()
            .name("tilegrad-cpu".into())
            .spawn(move || thread.work())
            .map_err(|error| Error::NoDevice(format!("cannot start the device thread: {error}")))?;
        let (turn, spent) = (AtomicU32::new(0), AtomicU64::new(0));
        Ok(Self { worker, memory, fuse, profiler, turn, spent, statistics: Mutex::default() })
    }

    fn queue(&self) -> &Queue<Job> {
        &self.worker.queue
    }

    /// Queues a job that tells how it ended, or tells at once why it cannot be queued.
    fn promise(&self, done: Done, job: impl FnOnce(Done) -> Job) {
        match self.queue().reserve() {
            Ok(()) => self.queue().push(job(done), 0),
            Err(error) => done(Err(error.into())),
        }
    }

    fn pressure(&self) -> Pressure {
        if self.queue().is_full() { Pressure::Wait } else { Pressure::None }
    }

    fn may_run_inline(&self, turn: u32) -> bool {
        if self.turn.swap(turn, Ordering::Relaxed) != turn {
            self.spent.store(0, Ordering::Relaxed);
        }
        self.spent.load(Ordering::Relaxed) < INLINE_TURN_NS
    }
}

impl device::Device for Device {
    fn submit(&self, stream: &[u32], turn: u32) -> Result<Pressure> {
        self.queue().reserve()?;
        let mut lookup = None;
        if self.queue().is_idle() && stream.len() <= INLINE_WORDS && self.may_run_inline(turn) {
            let started = Instant::now();
            let mut engine = self.worker.engine_inline();
            let found = engine.look_up(stream);
            if found.nanoseconds() <= INLINE_NS {
                self.worker.submit(stream, Some(found), &mut engine);
            } else {
                lookup = Some(found);
            }
            self.spent.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
            if lookup.is_none() {
                return Ok(Pressure::None);
            }
        }
        let stream = self.queue().copy(stream)?;
        self.queue().push(Job::Submit { stream, lookup }, 0);
        Ok(self.pressure())
    }

    fn compile(&self, program: u32, code: &[u32]) -> Result<ProgramInfo> {
        self.queue().reserve()?;
        let started = Instant::now();
        let planned = Error::catch(|| Planned::new(code, self.fuse))?;
        let info = ProgramInfo::new(&planned.plan, started.elapsed());
        if self.queue().is_idle() {
            self.worker.engine_inline().keep(program, planned)?;
        } else {
            self.queue().push(Job::Keep { program, planned: Box::new(planned) }, 0);
        }
        Ok(info)
    }

    fn run(&self, program: u32, stream: &[u32], turn: u32) -> Result<Pressure> {
        self.queue().reserve()?;
        if self.queue().is_idle() && self.may_run_inline(turn) {
            let mut engine = self.worker.engine_inline();
            let found = engine.compiled(program);
            if found.nanoseconds() <= INLINE_NS {
                let started = Instant::now();
                self.worker.run(stream, found, &mut engine);
                self.spent.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
                return Ok(Pressure::None);
            }
        }
        let stream = self.queue().copy(stream)?;
        self.queue().push(Job::Run { program, stream }, 0);
        Ok(self.pressure())
    }

    fn release(&self, program: u32) {
        if self.queue().is_idle() {
            self.worker.engine_inline().release(program);
        } else if self.queue().reserve().is_ok() {
            self.queue().push(Job::Release { program }, 0);
        }
    }

    fn write(&self, slot: u32, source: &Source) -> Result<Pressure> {
        self.queue().reserve()?;
        let upload = match place(source, &self.memory) {
            Ok(value) => Upload::Placed(value),
            Err(_) => Upload::Staged(source.to_owned()?),
        };
        if self.queue().is_idle() {
            upload.finish(slot, &mut self.worker.engine_inline());
            return Ok(Pressure::None);
        }
        let bytes = upload.bytes();
        self.queue().push(Job::Write { slot, upload }, bytes);
        Ok(self.pressure())
    }

    fn read_now(&self, slot: u32, target: &mut Target, any_size: bool) -> Told<bool> {
        self.queue().reserve()?;
        if !self.queue().is_idle() || (target.len() > INLINE_READ && !any_size) {
            return Ok(false);
        }
        self.worker.engine().read(slot, target).map(|()| true)
    }

    fn read(&self, slot: u32, target: Target, done: Done) {
        self.promise(done, |done| Job::Read { slot, target, done });
    }

    fn sync(&self, done: Done) {
        self.promise(done, |done| Job::Sync { done });
    }

    fn sync_now(&self) -> Told<bool> {
        self.queue().reserve()?;
        if !self.queue().is_idle() {
            return Ok(false);
        }
        self.worker.engine().take_unread().map_or(Ok(true), Err)
    }

    fn trim(&self, done: Done) {
        self.promise(done, |done| Job::Trim { done });
    }

    fn close(&self, done: Done) {
        match self.queue().reserve() {
            Ok(()) => self.queue().push_last(Job::Close { done }),
            Err(error) => done(Err(error.into())),
        }
    }

    fn wait_idle(&self, at_most: Duration) -> bool {
        self.queue().wait_until(at_most, Queue::is_idle)
    }

    fn wait(&self, at_most: Duration) -> Pressure {
        self.queue().wait_until(at_most, |queue| !queue.is_full());
        self.pressure()
    }

    fn abandon(&self, patience: Duration) {
        self.queue().abandon();
        self.wait_idle(patience);
    }

    fn memory_pressure(&self) -> u64 {
        self.memory.pressure()
    }

    fn print_plan(&self, code: &[u32]) -> Result<String> {
        Error::catch(|| Ok(Planned::new(code, self.fuse)?.plan.to_string()))
    }

    fn profiler(&self) -> &Profiler {
        &self.profiler
    }

    fn statistics(&self) -> Statistics {
        let mut last = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        match self.worker.engine_at_rest() {
            Some(engine) => *last = engine.statistics(),
            None => last.memory = self.memory.usage(),
        }
        let (queued_jobs, queued_bytes) = self.queue().load();
        Statistics { scratch: idle::bytes(), queued_jobs, queued_bytes, ..*last }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        device::Device::abandon(self, Duration::ZERO);
    }
}
