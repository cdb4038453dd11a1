//! The thread of a GPU. It owns the adapter, the device and everything on it, serves the queues of all logical devices in
//! turn, and waits for the GPU when there is nothing else to do. Nobody else touches wgpu.
//!
//! It never ends: at the end of a process nothing is destroyed, because drivers have exit handlers of their own. A GPU that
//! is lost leaves its thread to reject what is still asked of it; who opens a device then gets a new one.

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::adapter::{Description, Found, enumerate};
use super::block::{Maker, Memory};
use super::engine::{Begun, Engine, Waiting};
use super::health::Health;
use super::physical::Gpu;
use super::planned::Planned;
use crate::device::queue::{Bell, Next, Queue};
use crate::device::{Done, Profiler, Source, Statistics, Target};
use crate::error::{Error, Result};

/// After this long without work, memory that was kept for reuse goes back.
const IDLE: Duration = Duration::from_secs(1);

/// How long the thread waits for the GPU before it looks for new jobs.
const SLICE: Duration = Duration::from_millis(1);

/// Something to do for the thread.
pub enum Job {
    /// Run a stream.
    Submit { stream: Vec<u32> },
    /// Keep a compiled program.
    Keep { program: u32, planned: Box<Planned> },
    /// Run a compiled program.
    Run { program: u32, stream: Vec<u32> },
    /// Forget a compiled program.
    Release { program: u32 },
    /// Give a slot host data.
    Write { slot: u32, source: Source<'static> },
    /// Copy a slot to the host.
    Read { slot: u32, target: Target, done: Done },
    /// Tell the first failure nobody has been told about.
    Sync { done: Done },
    /// Give back what only makes later work faster.
    Trim { done: Done },
    /// Tell the first failure nobody has been told about, after freeing everything. The last job.
    Close { done: Done },
    /// Destroy the device, which has been lost.
    #[cfg(debug_assertions)]
    Destroy,
    /// Panic, as no job should.
    #[cfg(test)]
    Panic,
}

impl Job {
    /// Bytes of an upload that it holds until it is finished.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Write { source, .. } => source.len() as u64 * 4,
            _ => 0,
        }
    }
}

/// What a logical device and the thread share.
pub struct Client {
    /// What is to be done.
    pub queue: Queue<Job>,
    /// The device's memory.
    pub memory: Arc<Memory>,
    /// Counters, as of the last job.
    pub statistics: Mutex<Statistics>,
    /// Whether its plans fuse.
    pub fuse: bool,
    /// Notes what is done, if anybody wants to know.
    pub profiler: Arc<Profiler>,
}

impl Client {
    fn new(bell: &Arc<Bell>, maker: &Arc<Maker>, limit: Option<u64>, fuse: bool) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::new(Arc::clone(bell)),
            memory: Memory::new(Arc::clone(maker), limit),
            statistics: Mutex::default(),
            fuse,
            profiler: Arc::default(),
        })
    }
}

/// A GPU that runs.
pub struct Thread {
    /// What it is.
    pub description: Description,
    /// Bytes of its staging buffers.
    pub staged: Arc<AtomicU64>,
    health: Arc<Health>,
    maker: Arc<Maker>,
    bell: Arc<Bell>,
    arrivals: Mutex<Vec<Arc<Client>>>,
}

impl Thread {
    /// A new logical device, of at most `limit` bytes.
    pub fn client(&self, limit: Option<u64>, fuse: bool) -> Arc<Client> {
        let client = Client::new(&self.bell, &self.maker, limit, fuse);
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&client));
        self.bell.ring();
        client
    }

    /// Notes that the GPU is lost, as the callback of a failing driver does.
    #[cfg(debug_assertions)]
    pub fn lose(&self) {
        self.health.lose("it was taken away");
    }
}

/// The threads of this process.
static THREADS: Mutex<Vec<Arc<Thread>>> = Mutex::new(Vec::new());

/// The first GPU that `wanted` takes; the reasons why others were not taken are in the error. It is the same one whatever
/// has been opened before.
///
/// # Errors
/// [`Error::NoDevice`].
pub fn connect(wanted: impl Fn(&Description) -> std::result::Result<(), String>) -> Result<Arc<Thread>> {
    choose(&mut THREADS.lock().unwrap_or_else(PoisonError::into_inner), wanted)
}

/// See [`connect`]; `threads` are those that run.
fn choose(
    threads: &mut Vec<Arc<Thread>>,
    wanted: impl Fn(&Description) -> std::result::Result<(), String>,
) -> Result<Arc<Thread>> {
    // A lost GPU serves nobody new.
    threads.retain(|thread| !thread.health.is_lost());
    let mut reasons = Vec::new();
    for found in enumerate()? {
        let description = found.description.clone();
        let opened = match description.refusal.clone().or_else(|| wanted(&description).err()) {
            Some(refusal) => Err(refusal),
            None => match threads.iter().find(|thread| thread.description == description) {
                Some(running) => return Ok(Arc::clone(running)),
                None => start(found).map_err(|error| error.message().to_owned()),
            },
        };
        match opened {
            Ok(thread) => {
                threads.push(Arc::clone(&thread));
                return Ok(thread);
            }
            Err(reason) => reasons.push(format!("{} ({}): {reason}", description.name, description.backend)),
        }
    }
    if reasons.is_empty() {
        reasons.push("there is no Vulkan, Metal or DX12 adapter; install a driver".into());
    }
    Err(Error::NoDevice(reasons.join("; ")))
}

/// Opens an adapter on a thread of its own.
fn start(found: Found) -> Result<Arc<Thread>> {
    let (send, receive) = sync_channel(1);
    thread::Builder::new()
        .name("tilegrad-gpu".into())
        .spawn(move || match Error::catch(|| Gpu::open(&found)) {
            Ok(gpu) => live(gpu, &send),
            Err(error) => drop(send.send(Err(error))),
        })
        .map_err(|error| Error::Internal(format!("its thread did not start: {error}")))?;
    receive.recv().unwrap_or_else(|_| Err(Error::Internal("its thread ended".into())))
}

/// Tells that the GPU is there, then serves it for ever.
fn live(gpu: Gpu, send: &SyncSender<Result<Arc<Thread>>>) {
    let thread = Arc::new(Thread {
        description: gpu.description.clone(),
        staged: Arc::clone(gpu.staged()),
        health: Arc::clone(&gpu.health),
        maker: Arc::clone(&gpu.maker),
        bell: Arc::clone(gpu.maker.bell()),
        arrivals: Mutex::default(),
    });
    let weak = Arc::downgrade(&thread);
    let bell = Arc::clone(&thread.bell);
    if send.send(Ok(thread)).is_ok() {
        Service { gpu, clients: Vec::new(), rested: false }.serve(&weak, &bell);
    }
}

/// A logical device and what it owes.
struct Served {
    client: Arc<Client>,
    engine: Engine,
    /// What waits for the GPU, oldest first.
    waiting: Vec<Waiting>,
    /// Set by the last job.
    closing: bool,
}

struct Service {
    gpu: Gpu,
    clients: Vec<Served>,
    /// Whether memory that was kept for reuse has gone back since there was work.
    rested: bool,
}

impl Service {
    /// Works for ever. A panic is our own mistake, or a driver's: the GPU counts as lost, which rejects what is pending,
    /// but nobody waits for a thread that has gone.
    fn serve(mut self, thread: &Weak<Thread>, bell: &Bell) {
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
