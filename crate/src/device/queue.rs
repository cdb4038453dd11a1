//! The queue of one device: jobs of any type, in order, from one caller to the thread that works them off. A thread may
//! serve several queues: they share its [`Bell`], and it asks each for its next job without waiting. What a job is, and how
//! its result is told, is the device's own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Queued jobs beyond which a caller is asked to wait.
const QUEUED_JOBS: usize = 64;
/// Bytes of queued uploads beyond which a caller is asked to wait.
const STAGED_BYTES: u64 = 256 << 20;
/// Stream buffers kept for the next submissions, whatever their size.
const SPARE_BUFFERS: usize = 8;
/// Stream buffers of at most so many words are kept for as many streams as can wait: those of compiled programs are short.
const SHORT_WORDS: usize = 1024;

/// Wakes the thread that serves one or several queues.
#[derive(Default)]
pub struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    /// How often it has been rung. Asked before the queues are looked at, so that no ring after that is missed.
    pub fn rings(&self) -> u64 {
        *self.lock()
    }

    /// Wakes whoever waits, and whoever is about to.
    pub fn ring(&self) {
        *self.lock() += 1;
        self.rung.notify_all();
    }

    /// Waits until it has been rung more often than `heard`; false when `at_most` has passed first.
    pub fn wait(&self, heard: u64, at_most: Option<Duration>) -> bool {
        let silent = |rings: &mut u64| *rings == heard;
        let Some(at_most) = at_most else {
            drop(self.rung.wait_while(self.lock(), silent).unwrap_or_else(PoisonError::into_inner));
            return true;
        };
        let waited = self.rung.wait_timeout_while(self.lock(), at_most, silent);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a queue has to offer the thread that serves it.
pub enum Next<J> {
    /// The next job. [`Queue::finish`] must be called when it is done.
    Job(J),
    /// Nothing at the moment.
    Nothing,
    /// Nothing ever again: nobody waits for results any more.
    Abandoned,
}

struct Jobs<J> {
    waiting: VecDeque<J>,
    spare: Vec<Vec<u32>>,
    closed: bool,
}

/// What a caller and a device thread share.
pub struct Queue<J> {
    jobs: Mutex<Jobs<J>>,
    /// Rung when a job has been queued.
    bell: Arc<Bell>,
    /// Rung when a job has been finished.
    progress: Condvar,
    /// Jobs queued or running. Only the caller raises it, so a zero it reads stays one until it queues another.
    pending: AtomicUsize,
    staged: AtomicU64,
    /// Set when nobody waits for results any more: what is queued is dropped, what runs ends as soon as it can.
    abandoned: Arc<AtomicBool>,
    /// Held while a read writes to the host, so that giving up can wait for its end.
    gate: Mutex<()>,
}

impl<J> Queue<J> {
    /// An empty queue, served by whoever listens to `bell`.
    pub fn new(bell: Arc<Bell>) -> Self {
        Self {
            jobs: Mutex::new(Jobs { waiting: VecDeque::new(), spare: Vec::new(), closed: false }),
            bell,
            progress: Condvar::new(),
            pending: AtomicUsize::new(0),
            staged: AtomicU64::new(0),
            abandoned: Arc::default(),
            gate: Mutex::new(()),
        }
    }

    /// What is rung when a job has been queued, or the queue abandoned.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Set when nobody waits for results any more, so that what runs can end early.
    pub fn abandoned(&self) -> &Arc<AtomicBool> {
        &self.abandoned
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

    /// Queues a job for which room has been reserved, and which holds `bytes` of an upload until it is finished.
    pub fn push(&self, job: J, bytes: u64) {
        self.staged.fetch_add(bytes, Ordering::Relaxed);
        self.put(job, false);
    }

    /// Queues the last job: there is no more room after it.
    pub fn push_last(&self, job: J) {
        self.put(job, true);
    }

    fn put(&self, job: J, last: bool) {
        let mut jobs = self.jobs();
        self.pending.fetch_add(1, Ordering::AcqRel);
        jobs.closed |= last;
        jobs.waiting.push_back(job);
        drop(jobs);
        self.bell.ring();
    }

    /// A copy of a stream, in a buffer that has been used before if there is one.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is no room for it.
    pub fn copy(&self, stream: &[u32]) -> Result<Vec<u32>> {
        let mut copy = self.jobs().spare.pop().unwrap_or_default();
        copy.try_reserve(stream.len())
            .map_err(|_| Error::OutOfMemory(format!("no room for a program of {} words", stream.len())))?;
        copy.extend_from_slice(stream);
        Ok(copy)
    }

    /// Takes the buffer of a stream back.
    pub fn recycle(&self, mut stream: Vec<u32>) {
        stream.clear();
        let mut jobs = self.jobs();
        let short = stream.capacity() <= SHORT_WORDS && jobs.spare.len() <= QUEUED_JOBS + 1;
        if short || jobs.spare.len() < SPARE_BUFFERS {
            jobs.spare.push(stream);
        }
    }

    /// Lets go of the buffers of earlier streams.
    pub fn trim(&self) {
        let spare = std::mem::take(&mut self.jobs().spare);
        drop(spare);
    }

    /// Jobs that are queued or running, and the bytes of uploads among them.
    pub fn load(&self) -> (usize, u64) {
        (self.pending.load(Ordering::Acquire), self.staged.load(Ordering::Relaxed))
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
        self.bell.ring();
        drop(self.gate.lock());
    }

    /// The next job, without waiting for one.
    pub fn try_next(&self) -> Next<J> {
        let mut jobs = self.jobs();
        if self.abandoned.load(Ordering::Relaxed) {
            return Next::Abandoned;
        }
        jobs.waiting.pop_front().map_or(Next::Nothing, Next::Job)
    }

    /// Permission to write to the target of a read, as long as it is held; `None` when the target may have gone.
    pub fn gate(&self) -> Option<MutexGuard<'_, ()>> {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.abandoned.load(Ordering::Relaxed)).then_some(gate)
    }

    /// Notes that a job from [`Queue::try_next`], which was queued with so many `bytes`, is done.
    pub fn finish(&self, bytes: u64) {
        self.staged.fetch_sub(bytes, Ordering::Relaxed);
        // Under the lock, so that a waiter between its look and its sleep does not miss the bell.
        let jobs = self.jobs();
        self.pending.fetch_sub(1, Ordering::AcqRel);
        drop(jobs);
        self.progress.notify_all();
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs<J>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_thread_serves_several_queues_in_their_order() {
        let bell = Arc::new(Bell::default());
        let queues = [Queue::new(Arc::clone(&bell)), Queue::new(Arc::clone(&bell))];
        thread::scope(|scope| {
            let served = scope.spawn(|| {
                let mut seen = [vec![], vec![]];
                while seen.iter().any(|jobs| jobs.len() < 100) {
                    let heard = bell.rings();
                    let mut found = false;
                    for (queue, seen) in queues.iter().zip(&mut seen) {
                        if let Next::Job(job) = queue.try_next() {
                            seen.push(job);
                            queue.finish(4);
                            found = true;
                        }
                    }
                    if !found {
                        bell.wait(heard, None);
                    }
                }
                seen
            });
            for job in 0..100 {
                for queue in &queues {
                    queue.reserve().unwrap();
                    queue.push(job, 4);
                }
            }
            assert_eq!(served.join().unwrap(), [(0..100).collect::<Vec<_>>(), (0..100).collect()]);
        });
        assert!(queues.iter().all(Queue::is_idle));
        assert!(queues.iter().all(|queue| queue.staged.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_ring_before_the_wait_is_heard() {
        let bell = Bell::default();
        let heard = bell.rings();
        assert!(!bell.wait(heard, Some(Duration::ZERO)));
        bell.ring();
        assert!(bell.wait(heard, Some(Duration::ZERO)));
    }

    #[test]
    fn bytes_fill_a_queue_as_jobs_do() {
        let queue = Queue::new(Arc::default());
        queue.push((), STAGED_BYTES + 1);
        assert!(queue.is_full());
        assert_eq!(queue.load(), (1, STAGED_BYTES + 1));
        assert!(matches!(queue.try_next(), Next::Job(())));
        queue.finish(STAGED_BYTES + 1);
        assert!(!queue.is_full() && queue.is_idle());
    }

    #[test]
    fn buffers_of_streams_are_kept_until_they_are_trimmed() {
        let queue = Queue::<()>::new(Arc::default());
        queue.recycle(Vec::with_capacity(1000));
        let copy = queue.copy(&[1, 2]).unwrap();
        assert_eq!((copy.as_slice(), copy.capacity()), ([1, 2].as_slice(), 1000));
        queue.recycle(copy);
        queue.trim();
        assert!(queue.copy(&[1, 2]).unwrap().capacity() < 1000);
    }

    #[test]
    fn an_abandoned_queue_drops_its_jobs_and_takes_no_more() {
        let queue = Queue::new(Arc::default());
        let job = Arc::new(());
        queue.push(Arc::clone(&job), 0);
        assert!(queue.gate().is_some());
        queue.abandon();
        assert_eq!(Arc::strong_count(&job), 1);
        assert!(queue.is_idle() && queue.gate().is_none());
        assert!(matches!(queue.try_next(), Next::Abandoned));
        assert_eq!(queue.reserve().unwrap_err().code(), "ERR_DEVICE_LOST");
    }

    #[test]
    fn nothing_follows_the_last_job() {
        let queue = Queue::new(Arc::default());
        queue.reserve().unwrap();
        queue.push_last(());
        assert_eq!(queue.reserve().unwrap_err().code(), "ERR_DEVICE_LOST");
        assert!(matches!(queue.try_next(), Next::Job(())));
        assert!(matches!(queue.try_next(), Next::Nothing));
    }
}
