//! The thread of a GPU. It owns the adapter, the device and everything on it, serves the queues of all logical devices in
//! turn, and waits for the GPU when there is nothing else to do. Nobody else touches wgpu.
//!
//! It never ends: at the end of a process nothing is destroyed, because drivers have exit handlers of their own. A GPU that
//! is lost leaves its thread to reject what is still asked of it; who opens a device then gets a new one. Here is how a thread
//! comes to be, who may use it and what it may be asked; what it does then is in `service`.

mod service;

use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::adapter::{Description, Found, enumerate};
use super::block::{Maker, Memory};
use super::health::Health;
use super::physical::Gpu;
use super::planned::Planned;
use crate::device::queue::{Bell, Queue};
use crate::device::{Done, Profiler, Source, Statistics, Target};
use crate::error::{Error, Result};
use service::Service;

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
        Service::new(gpu).serve(&weak, &bell);
    }
}
