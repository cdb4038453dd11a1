//! The threads that share the work of one kernel. A job is a number of chunks; whoever is free claims the next one, the
//! caller from the front, workers from the back, so a worker that the operating system has put aside delays nobody: the
//! caller waits only for workers that have already entered the job. From two ends because neighbouring chunks share data,
//! and the same kernel comes again: with two threads each finds its half in its own cache. Results must not depend on who
//! runs which chunk.
//!
//! Workers spin for a short while after a job, because kernels follow each other within microseconds, and then sleep.
//! This is not a task scheduler: one job at a time, no futures, no stealing. A second caller, or a chunk that calls
//! [`Pool::run`] itself, runs its chunks on its own thread. Callers take turns, chunk by chunk: who has to begin alone shares
//! what is left as soon as the pool is free, and who comes back meanwhile begins alone too. Else the fastest caller, whose
//! jobs are short because all threads share them, would nearly always be the next as well.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an idle worker stays awake: longer than the gaps between the kernels of one training step, shorter than
/// anything a person or a power meter notices.
const SPIN: Duration = Duration::from_micros(400);
/// Spins between two looks at the clock; each look also offers the core to whoever waits for it.
const SPINS_PER_YIELD: u32 = 128;
/// Waking a sleeping worker costs the caller a system call and the job the worker's start: shorter work stays alone.
const WORTH_WAKING_NS: u64 = 60_000;
/// Work below this gains nothing from a second thread, even a spinning one.
const WORTH_SHARING_NS: u64 = 3_000;

/// One step of the generation in [`Shared::state`]; the bits below count the workers inside the job.
const STEP: u64 = 1 << 16;
/// A chunk claimed from the back, in [`Shared::claimed`].
const BACK: u64 = 1 << 32;
/// Jobs of more chunks stay alone: the counters of both ends hold them, and the claims of all threads that come too late.
const MAX_CHUNKS: usize = 1 << 31;

/// A value on a cache line of its own: the state and the counter are written by different threads at the same time.
#[repr(align(128))]
struct Line<T>(T);

/// What the workers of an open job call. The lifetime of the body is erased; see the SAFETY comments of `run`.
struct Job {
    body: *const (dyn Fn(usize) + Sync),
    chunks: usize,
}

struct Shared {
    /// Generation (odd while a job is open) and, in the low 16 bits, the workers inside it.
    state: Line<AtomicU64>,
    /// How many chunks have been claimed from the front, and, in steps of [`BACK`], from the back.
    claimed: Line<AtomicU64>,
    /// Written by the caller while the job is closed and no worker is inside; read by workers that have entered.
    job: UnsafeCell<Option<Job>>,
    /// The first panic of the job.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Set while a caller owns the pool.
    busy: AtomicBool,
    /// Callers that had to begin alone.
    waiting: AtomicUsize,
    stop: AtomicBool,
    sleeping: AtomicUsize,
    /// Counts calls to wake up, so that a worker about to sleep does not miss one.
    rings: AtomicUsize,
    gate: Mutex<()>,
    bell: Condvar,
}

// SAFETY: everything but `job` is Sync by itself. `job` is written only by the owner of `busy` while no worker is inside
// the job, and read only by workers inside; `state` orders the two. The body it points to is Sync.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is only followed while the caller of `run` keeps its target alive.
unsafe impl Send for Shared {}

/// A pool of threads; the caller of [`Pool::run`] is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` threads, the caller included: `threads - 1` are started, none for 0 or 1.
    ///
    /// # Errors
    /// The operating system refuses a thread; those already started are stopped.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Line(AtomicU64::new(0)),
            claimed: Line(AtomicU64::new(0)),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            busy: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            sleeping: AtomicUsize::new(0),
            rings: AtomicUsize::new(0),
            gate: Mutex::new(()),
            bell: Condvar::new(),
        });
        let mut pool = Self { shared, workers: Vec::new() };
        // The count of workers inside a job has 16 bits.
        for index in 1..threads.min(usize::from(u16::MAX)) {
            let shared = Arc::clone(&pool.shared);
            pool.workers.push(thread::Builder::new().name(format!("tilegrad-{index}")).spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// How many threads share the work.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// How many threads are worth using for work that takes one thread `nanoseconds`: 1 when sharing it would cost more
    /// than it saves, which also depends on whether the workers sleep (see [`Pool::wake`]).
    pub fn threads_for(&self, nanoseconds: u64) -> usize {
        let asleep = self.shared.sleeping.load(Ordering::Relaxed) == self.workers.len();
        if nanoseconds < if asleep { WORTH_WAKING_NS } else { WORTH_SHARING_NS } {
            return 1;
        }
        self.threads().min(usize::try_from(nanoseconds / (WORTH_SHARING_NS / 2)).unwrap_or(usize::MAX))
    }

    /// Wakes sleeping workers before a series of kernels, so that even its short ones find them awake.
    pub fn wake(&self) {
        self.shared.ring(self.workers.len());
    }

    /// Calls `body(chunk)` once for every chunk in `0..chunks`, in any order, and returns when all are done.
    ///
    /// # Panics
    /// If a chunk panics, no further chunk is started; the first panic goes on in the caller once all running chunks
    /// have ended.
    pub fn run(&self, chunks: usize, body: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        if chunks <= 1 || chunks > MAX_CHUNKS || self.workers.is_empty() {
            (0..chunks).for_each(body);
            return;
        }
        let first = shared.alone(chunks, body);
        if first == chunks {
            return;
        }
        // SAFETY: only the lifetime changes. The pointer is followed only by workers inside the job, and this function
        // does not return before it has closed the job and the last of them has left it.
        let body = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(body) };
        // SAFETY: `busy` makes this thread the only writer; the previous job was closed and left by all workers.
        unsafe { *shared.job.get() = Some(Job { body, chunks }) };
        shared.claimed.0.store(first as u64, Ordering::Relaxed);
        // Sequentially consistent with the sleeper's own increment and look: one of the two sees the other.
        shared.state.0.fetch_add(STEP, Ordering::SeqCst);
        shared.ring(chunks - 1);
        // SAFETY: the job is open and `body` lives for all of this call.
        unsafe { shared.drain(1) };
        shared.state.0.fetch_add(STEP, Ordering::AcqRel);
        let mut spins = 0;
        while !shared.state.0.load(Ordering::Acquire).is_multiple_of(STEP) {
            pause(&mut spins);
        }
        let panic = lock(&shared.panic).take();
        shared.busy.store(false, Ordering::Release);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        for worker in self.workers.drain(..) {
            // A worker's own panics are impossible: every chunk is caught.
            let _ = worker.join();
        }
    }
}

/// Counts a caller that waits, also when a chunk of his panics.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Runs chunks on the calling thread until it owns the pool, and returns the first that is left to be shared: all of
    /// them where nobody else has or wants it.
    fn alone(&self, chunks: usize, body: &(dyn Fn(usize) + Sync)) -> usize {
        if self.waiting.load(Ordering::Relaxed) == 0 && self.take() {
            return 0;
        }
        let _waiting = Waiting::new(&self.waiting);
        for chunk in 0..chunks {
            body(chunk);
            // The last one needs no company.
            if chunk + 2 < chunks && self.take() {
                return chunk + 1;
            }
        }
        chunks
    }

    /// Whether the caller owns the pool from now on.
    fn take(&self) -> bool {
        !self.busy.load(Ordering::Relaxed) && !self.busy.swap(true, Ordering::Acquire)
    }

    /// The life of a worker.
    fn work(&self) {
        let mut done = 0;
        while let Some(generation) = self.enter(done) {
            // SAFETY: `enter` has counted this thread into an open job, whose caller waits until it is counted out.
            unsafe { self.drain(BACK) };
            self.state.0.fetch_sub(1, Ordering::Release);
            done = generation;
        }
    }

    /// Waits for a job other than the one called `done` and enters it; `None` when the pool is dropped.
    fn enter(&self, done: u64) -> Option<u64> {
        let mut spins = 0;
        let mut since = Instant::now();
        loop {
            let state = self.state.0.load(Ordering::Relaxed);
            if is_open(state, done) {
                let entered = self.state.0.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
                if entered.is_ok() {
                    return Some(state / STEP);
                }
                continue;
            }
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if pause(&mut spins) && since.elapsed() > SPIN {
                self.sleep(done);
                since = Instant::now();
            }
        }
    }

    /// Sleeps until somebody rings, unless a job has been opened or the pool stopped meanwhile.
    fn sleep(&self, done: u64) {
        let mut gate = lock(&self.gate);
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        let rings = self.rings.load(Ordering::SeqCst);
        while rings == self.rings.load(Ordering::SeqCst)
            && !is_open(self.state.0.load(Ordering::SeqCst), done)
            && !self.stop.load(Ordering::SeqCst)
        {
            gate = self.bell.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes up to `workers` sleeping workers.
    fn ring(&self, workers: usize) {
        let sleeping = self.sleeping.load(Ordering::SeqCst);
        if sleeping == 0 {
            return;
        }
        self.rings.fetch_add(1, Ordering::SeqCst);
        // Whoever has counted itself as sleeping holds the gate until it waits: after this it hears the bell.
        drop(lock(&self.gate));
        if workers < sleeping {
            (0..workers).for_each(|_| self.bell.notify_one());
        } else {
            self.bell.notify_all();
        }
    }

    /// Claims chunks, from the front by 1 or from the back by [`BACK`], and runs them until none is left.
    ///
    /// # Safety
    /// The calling thread owns the open job or has entered it.
    unsafe fn drain(&self, claim: u64) {
        // SAFETY: nobody writes the job while it is open.
        let Some(job) = (unsafe { &*self.job.get() }) else { return };
        // SAFETY: the owner of the job keeps the body alive until every worker has left.
        let body = unsafe { &*job.body };
        loop {
            let claimed = self.claimed.0.fetch_add(claim, Ordering::Relaxed);
            let (front, back) = ((claimed % BACK) as usize, (claimed / BACK) as usize);
            if front + back >= job.chunks {
                return;
            }
            let chunk = if claim == BACK { job.chunks - 1 - back } else { front };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(chunk))) {
                self.claimed.0.store(job.chunks as u64, Ordering::Relaxed);
                lock(&self.panic).get_or_insert(payload);
            }
        }
    }
}

/// Whether a job is open that the worker has not yet finished with.
fn is_open(state: u64, done: u64) -> bool {
    let generation = state / STEP;
    generation % 2 == 1 && generation != done
}

/// Spends a moment; true when it has also offered the core to other threads, a good time to look at the clock.
fn pause(spins: &mut u32) -> bool {
    *spins += 1;
    if *spins < SPINS_PER_YIELD {
        std::hint::spin_loop();
        return false;
    }
    *spins = 0;
    thread::yield_now();
    true
}

/// None of the locks here guards anything that a panic could leave half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
