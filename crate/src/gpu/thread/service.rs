//! What the thread of a GPU does all its life: takes a job of each logical device in turn, has the GPU begin, tells what has
//! arrived, and otherwise waits. It owns the engines; who asks for what, and how a thread comes to be, is in the module above.

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::{Client, Job, Thread};
use crate::device::queue::{Bell, Next};
use crate::error::Error;
use crate::gpu::engine::Engine;
use crate::gpu::physical::Gpu;
use crate::gpu::waiting::{Begun, Waiting};

/// After this long without work, memory that was kept for reuse goes back.
const IDLE: Duration = Duration::from_secs(1);

/// How long the thread waits for the GPU before it looks for new jobs.
const SLICE: Duration = Duration::from_millis(1);

/// A logical device and what it owes.
struct Served {
    client: Arc<Client>,
    engine: Engine,
    /// What waits for the GPU, oldest first.
    waiting: Vec<Waiting>,
    /// Set by the last job.
    closing: bool,
}

/// The GPU, and whom it serves.
pub(super) struct Service {
    gpu: Gpu,
    clients: Vec<Served>,
    /// Whether memory that was kept for reuse has gone back since there was work.
    rested: bool,
}

impl Service {
    /// A GPU that serves nobody yet.
    pub(super) fn new(gpu: Gpu) -> Self {
        Self { gpu, clients: Vec::new(), rested: false }
    }

    /// Works for ever. A panic is our own mistake, or a driver's: the GPU counts as lost, which rejects what is pending,
    /// but nobody waits for a thread that has gone.
    pub(super) fn serve(mut self, thread: &Weak<Thread>, bell: &Bell) {
        loop {
            let was_lost = self.gpu.health.is_lost();
            if let Err(error) = Error::catch(|| {
                self.pass(thread, bell);
                Ok(())
            }) {
                self.gpu.health.lose(error.message());
                if was_lost {
                    // Whatever fails even now is not tried again at once.
                    bell.wait(bell.rings(), Some(IDLE));
                }
            }
        }
    }

    /// Does what there is to do, or waits for more.
    fn pass(&mut self, thread: &Weak<Thread>, bell: &Bell) {
        let heard = bell.rings();
        self.welcome(thread);
        let clients = self.clients.len();
        let worked = self.jobs();
        if !worked && (!self.gpu.recorder.is_empty() || self.gpu.maker.has_gone()) {
            // Nothing more to add: the GPU may begin. A failure is the device's loss, which `settle` tells.
            let _ = self.gpu.submit();
        }
        self.settle();
        // Who goes leaves memory behind, too.
        if worked || self.clients.len() < clients {
            self.rested = false;
            return;
        }
        if self.gpu.health.is_lost() {
            self.clients.iter_mut().for_each(|served| served.engine.clear());
            // There is nothing left to wait for but jobs to be refused, and what a GPU that hangs may still let go of.
            let is_over = self.gpu.bury();
            bell.wait(heard, (!is_over).then_some(IDLE));
        } else if !self.gpu.recorder.is_idle() {
            // Polling is also what frees memory that the GPU has finished with.
            let _ = self.gpu.recorder.wait(SLICE);
        } else if self.clients.iter().any(|served| !served.waiting.is_empty()) {
            bell.wait(heard, Some(SLICE));
        } else if !bell.wait(heard, (!self.rested).then_some(IDLE)) {
            self.rested = true;
            for served in &mut self.clients {
                served.client.queue.trim();
                served.engine.trim();
            }
            self.gpu.trim();
        }
    }

    /// Takes new clients in.
    fn welcome(&mut self, thread: &Weak<Thread>) {
        let Some(thread) = thread.upgrade() else { return };
        for client in thread.arrivals.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.clients.push(Served::new(client));
        }
    }

    /// One job of every client; false when none has any.
    fn jobs(&mut self) -> bool {
        let mut worked = false;
        let gpu = &mut self.gpu;
        self.clients.retain_mut(|served| match served.client.queue.try_next() {
            Next::Job(job) => {
                worked = true;
                let bytes = job.bytes();
                if let Err(error) = Error::catch(|| {
                    served.run(gpu, job);
                    Ok(())
                }) {
                    // Its callback is gone, of which whoever waits for it is told.
                    gpu.health.lose(error.message());
                    served.client.queue.finish(bytes);
                }
                true
            }
            Next::Nothing => true,
            // Dropping it frees its memory. Nobody is told anything, but somebody may wait for it to be idle.
            Next::Abandoned => {
                let jobs = served.waiting.iter().filter(|waiting| waiting.is_job()).count();
                (0..jobs).for_each(|_| served.client.queue.finish(0));
                false
            }
        });
        worked
    }

    /// Tells what has arrived.
    fn settle(&mut self) {
        let gpu = &mut self.gpu;
        let mut waits = false;
        for waiting in self.clients.iter_mut().flat_map(|served| &mut served.waiting) {
            Engine::request(gpu, waiting);
            waits = true;
        }
        if waits || !gpu.recorder.is_idle() {
            let _ = gpu.recorder.poll();
        }
        self.clients.retain_mut(|served| served.settle(gpu));
    }
}

impl Served {
    fn new(client: Arc<Client>) -> Self {
        let abandoned = Arc::clone(client.queue.abandoned());
        let mut engine = Engine::new(Arc::clone(&client.memory), client.fuse, abandoned);
        engine.profiler = Arc::clone(&client.profiler);
        Self { client, engine, waiting: Vec::new(), closing: false }
    }

    fn run(&mut self, gpu: &mut Gpu, job: Job) {
        let queue = &self.client.queue;
        match job {
            Job::Submit { stream } => {
                self.engine.submit(gpu, &stream);
                self.ran(gpu, stream);
            }
            Job::Keep { program, planned } => {
                self.engine.keep(program, *planned);
                queue.finish(0);
            }
            Job::Run { program, stream } => {
                self.engine.run(gpu, program, &stream);
                self.ran(gpu, stream);
            }
            Job::Release { program } => {
                self.engine.release(program);
                queue.finish(0);
            }
            Job::Write { slot, source } => {
                self.engine.write(gpu, slot, &source);
                self.count();
                queue.finish(source.len() as u64 * 4);
            }
            Job::Read { slot, target, done } => {
                let begun = self.engine.read(gpu, slot, target, done);
                self.begin(begun);
            }
            Job::Sync { done } => {
                let begun = self.engine.sync(gpu, done);
                self.begin(begun);
            }
            Job::Trim { done } => {
                queue.trim();
                let begun = Engine::trim_later(gpu, done);
                self.begin(begun);
            }
            Job::Close { done } => {
                self.closing = true;
                let begun = self.engine.sync(gpu, done);
                self.begin(begun);
            }
            #[cfg(debug_assertions)]
            Job::Destroy => {
                gpu.destroy();
                queue.finish(0);
            }
            #[cfg(test)]
            Job::Panic => panic!("as the test wants it"),
        }
    }

    /// Ends the job of a stream that has been run.
    fn ran(&mut self, gpu: &mut Gpu, stream: Vec<u32>) {
        self.client.queue.recycle(stream);
        if let Some(waiting) = self.engine.curiosity(gpu) {
            self.waiting.push(waiting);
        }
        self.count();
        self.client.queue.finish(0);
    }

    /// Shows the counters as they are now.
    fn count(&self) {
        *self.client.statistics.lock().unwrap_or_else(PoisonError::into_inner) = self.engine.statistics();
    }

    fn begin(&mut self, begun: Begun) {
        match begun {
            Begun::Waits(waiting) => self.waiting.push(waiting),
            Begun::Told(tell) => self.tell(tell),
        }
    }

    /// Ends what has arrived; false when that was the last there will ever be.
    fn settle(&mut self, gpu: &mut Gpu) -> bool {
        let mut position = 0;
        while let Some(waiting) = self.waiting.get(position) {
            if waiting.is_sync() && position > 0 {
                break;
            }
            let result = match Engine::is_ready(gpu, waiting) {
                Ok(false) => {
                    position += 1;
                    continue;
                }
                Ok(true) => Ok(()),
                Err(error) => Err(error),
            };
            let waiting = self.waiting.remove(position);
            let is_job = waiting.is_job();
            let client = Arc::clone(&self.client);
            // Held while the target is written: it may go as soon as the queue is abandoned.
            let gate = client.queue.gate();
            let tell = Error::catch(|| Ok(self.engine.settle(gpu, waiting, result, gate.is_some())));
            drop(gate);
            match tell {
                Ok(Some(tell)) => self.tell(tell),
                Ok(None) => {}
                Err(error) => {
                    gpu.health.lose(error.message());
                    if is_job {
                        client.queue.finish(0);
                    }
                }
            }
        }
        !(self.closing && self.waiting.is_empty())
    }

    /// First idle, then told: whoever is waiting for the result finds an idle device.
    fn tell(&mut self, tell: Box<dyn FnOnce()>) {
        if self.closing && self.waiting.is_empty() {
            self.engine.clear();
            self.count();
        }
        self.client.queue.finish(0);
        // A listener that panics is no reason to give the GPU up.
        let _ = catch_unwind(AssertUnwindSafe(tell));
    }
}
