//! What the JavaScript thread holds of a logical device on a GPU: its queue. All work is done on the GPU's thread.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::adapter::Description;
use super::planned::Planned;
use super::thread::{Client, Job, Thread, connect};
use crate::device::{self, Done, Pressure, Profiler, ProgramInfo, Source, Statistics, Target, Told};
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// Which adapters a device may be opened on.
#[derive(Clone, Default, Debug)]
pub struct Choice {
    /// Also those that are the processor in disguise.
    pub software: bool,
    /// Only those with this in their name, in any case of letters.
    pub adapter: Option<String>,
}

impl Choice {
    /// Why an adapter is not taken, if so.
    pub fn refusal(&self, description: &Description) -> Option<String> {
        if let Some(refusal) = &description.refusal {
            return Some(refusal.clone());
        }
        if let Some(adapter) = &self.adapter
            && !description.name.to_lowercase().contains(&adapter.to_lowercase())
        {
            return Some(format!("its name does not contain {adapter}"));
        }
        (description.is_software() && !self.software)
            .then(|| "it is a software adapter; allowSoftware: true takes it".to_owned())
    }
}

/// The most memory that a device may take, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Limit {
    /// On any adapter; `None` leaves it to `of_machine` and the driver.
    pub asked: Option<u64>,
    /// On an adapter whose memory is the machine's, if nothing was asked for.
    pub of_machine: Option<u64>,
}

impl Limit {
    fn on(self, description: &Description) -> Option<u64> {
        self.asked.or_else(|| self.of_machine.filter(|_| description.shares_memory()))
    }
}

/// A running device.
pub struct Device {
    thread: Arc<Thread>,
    client: Arc<Client>,
    /// The read that a caller is waiting for in slices.
    read: Mutex<Option<Arc<Slice>>>,
}

/// A read into memory of its own.
struct Slice {
    slot: u32,
    words: *mut [u32],
    result: Mutex<Option<Told<()>>>,
}

// SAFETY: the words are the GPU thread's until it has set the result, and the caller's from then on.
unsafe impl Send for Slice {}
// SAFETY: as above.
unsafe impl Sync for Slice {}

impl Slice {
    fn new(slot: u32, len: usize) -> Result<Arc<Self>> {
        let mut words = Vec::new();
        words
            .try_reserve_exact(len)
            .map_err(|_| Error::OutOfMemory(format!("no room on the host to read {len} elements")))?;
        words.resize(len, 0);
        let words = Box::into_raw(words.into_boxed_slice());
        Ok(Arc::new(Self { slot, words, result: Mutex::default() }))
    }

    fn result(&self) -> MutexGuard<'_, Option<Told<()>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies what has been read.
    fn copy_to(&self, target: &mut Target) -> Result<()> {
        // SAFETY: the result is set, so nobody writes any more.
        let words = unsafe { &*self.words };
        if target.dtype() != Dtype::Bool {
            return target.fill_from(0, words);
        }
        // SAFETY: a word is four bytes.
        let (_, bytes, _) = unsafe { words.align_to::<u8>() };
        let mut at = 0;
        for bytes in bytes.get(..target.len()).unwrap_or_default().chunks(1024) {
            let words: Vec<u32> = bytes.iter().map(|&byte| byte.into()).collect();
            target.fill_from(at, &words)?;
            at += words.len();
        }
        Ok(())
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::into_raw`, and the last owner is going.
        drop(unsafe { Box::from_raw(self.words) });
    }
}

impl Device {
    /// Opens a device on the first GPU that may be used, which others may share.
    ///
    /// # Errors
    /// [`Error::NoDevice`](crate::error::Error::NoDevice) with what was tried.
    pub fn open(choice: &Choice, limit: Limit, fuse: bool) -> Result<Self> {
        let wanted = |description: &Description| choice.refusal(description).map_or(Ok(()), Err);
        let thread = connect(wanted)?;
        let limit = limit.on(&thread.description);
        Ok(Self::new(thread, limit, fuse))
    }

    /// A device on a GPU that runs.
    pub(super) fn new(thread: Arc<Thread>, memory_limit: Option<u64>, fuse: bool) -> Self {
        let client = thread.client(memory_limit, fuse);
        Self { thread, client, read: Mutex::default() }
    }

    /// What it computes on.
    pub fn description(&self) -> &Description {
        &self.thread.description
    }

    fn push(&self, job: Job) {
        let bytes = job.bytes();
        self.client.queue.push(job, bytes);
    }

    /// Forgets a read that its caller has stopped waiting for: what comes now may change the slot.
    fn forget_read(&self) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn pressure(&self) -> Pressure {
        if self.client.queue.is_full() { Pressure::Wait } else { Pressure::None }
    }

    /// Queues a job that tells how it ended, or tells at once why it cannot be queued.
    fn promise(&self, done: Done, job: impl FnOnce(Done) -> Job) {
        match self.client.queue.reserve() {
            Ok(()) => match job(done) {
                last @ Job::Close { .. } => self.client.queue.push_last(last),
                job => self.push(job),
            },
            Err(error) => done(Err(error.into())),
        }
    }
}

impl device::Device for Device {
    fn submit(&self, stream: &[u32], _turn: u32) -> Result<Pressure> {
        self.client.queue.reserve()?;
        self.forget_read();
        let stream = self.client.queue.copy(stream)?;
        self.push(Job::Submit { stream });
        Ok(self.pressure())
    }

    fn compile(&self, program: u32, code: &[u32]) -> Result<ProgramInfo> {
        self.client.queue.reserve()?;
        let started = Instant::now();
        let planned = Error::catch(|| Planned::new(code, self.client.fuse, &self.thread.description.limits))?;
        let info = ProgramInfo::new(&planned.plan, started.elapsed());
        self.push(Job::Keep { program, planned: Box::new(planned) });
        Ok(info)
    }

    fn run(&self, program: u32, stream: &[u32], _turn: u32) -> Result<Pressure> {
        self.client.queue.reserve()?;
        self.forget_read();
        let stream = self.client.queue.copy(stream)?;
        self.push(Job::Run { program, stream });
        Ok(self.pressure())
    }

    fn release(&self, program: u32) {
        if self.client.queue.reserve().is_ok() {
            self.push(Job::Release { program });
        }
    }

    fn write(&self, slot: u32, source: &Source) -> Result<Pressure> {
        self.client.queue.reserve()?;
        self.forget_read();
        let source = source.to_owned()?;
        self.push(Job::Write { slot, source });
        Ok(self.pressure())
    }

    /// Nothing is read without the GPU's thread, so this begins a read, and says how it ended when it is asked again.
    fn read_now(&self, slot: u32, target: &mut Target, any_size: bool) -> Told<bool> {
        if !any_size {
            return Ok(false);
        }
        let mut begun = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |slice: &Arc<Slice>| slice.slot == slot && slice.words.len() == target.len();
        let mut slice = if let Some(slice) = begun.take_if(|slice| fits(slice)) {
            slice
        } else {
            self.client.queue.reserve()?;
            let slice = Slice::new(slot, target.len())?;
            // SAFETY: `done` keeps the slice, and nobody looks at its words before it has been called.
            let into = unsafe { Target::new(slice.words.cast(), target.len(), target.dtype()) };
            let kept = Arc::clone(&slice);
            let done: Done = Box::new(move |result| *kept.result() = Some(result));
            self.push(Job::Read { slot, target: into, done });
            slice
        };
        // Asked before the result, which the last but one owner sets.
        let is_alone = Arc::get_mut(&mut slice).is_some();
        let result = slice.result().take();
        let Some(result) = result else {
            if is_alone {
                return Err(Error::Lost("the read was dropped; open another device".into()).into());
            }
            *begun = Some(slice);
            return Ok(false);
        };
        result?;
        slice.copy_to(target)?;
        Ok(true)
    }

    fn read(&self, slot: u32, target: Target, done: Done) {
        self.promise(done, |done| Job::Read { slot, target, done });
    }

    fn sync(&self, done: Done) {
        self.promise(done, |done| Job::Sync { done });
    }

    /// Never known here: the GPU has to be asked.
    fn sync_now(&self) -> Told<bool> {
        self.client.queue.reserve()?;
        Ok(false)
    }

    fn trim(&self, done: Done) {
        self.promise(done, |done| Job::Trim { done });
    }

    fn close(&self, done: Done) {
        self.promise(done, |done| Job::Close { done });
    }

    fn wait_idle(&self, at_most: Duration) -> bool {
        self.client.queue.wait_until(at_most, device::queue::Queue::is_idle)
    }

    fn wait(&self, at_most: Duration) -> Pressure {
        self.client.queue.wait_until(at_most, |queue| !queue.is_full());
        self.pressure()
    }

    fn abandon(&self, patience: Duration) {
        self.client.queue.abandon();
        self.wait_idle(patience);
    }

    fn memory_pressure(&self) -> u64 {
        self.client.memory.pressure()
    }

    fn print_plan(&self, code: &[u32]) -> Result<String> {
        let limits = &self.thread.description.limits;
        Error::catch(|| Ok(Planned::new(code, self.client.fuse, limits)?.plan.to_string()))
    }

    fn profiler(&self) -> &Profiler {
        &self.client.profiler
    }

    fn statistics(&self) -> Statistics {
        let last = *self.client.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        let (queued_jobs, queued_bytes) = self.client.queue.load();
        let scratch = self.thread.staged.load(Ordering::Relaxed);
        Statistics { memory: self.client.memory.usage(), scratch, queued_jobs, queued_bytes, ..last }
    }

    #[cfg(debug_assertions)]
    fn lose(&self) {
        // A driver says so while work is under way, not behind it.
        self.thread.lose();
        if self.client.queue.reserve().is_ok() {
            self.push(Job::Destroy);
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        device::Device::abandon(self, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Class, Traits};

    #[test]
    fn only_adapters_without_memory_of_their_own_are_bound_by_the_machine_s() {
        let on = |kind, limit: Limit| {
            let limits = Traits::least(Class::Integrated);
            let (name, driver, features) = (String::new(), String::new(), Vec::new());
            limit.on(&Description { name, kind, backend: "vulkan", driver, features, limits, refusal: None })
        };
        let of_machine = Limit { asked: None, of_machine: Some(7) };
        assert_eq!(["software", "integrated"].map(|kind| on(kind, of_machine)), [Some(7); 2]);
        assert_eq!(["discrete", "virtual", "other"].map(|kind| on(kind, of_machine)), [None; 3]);
        let asked = Limit { asked: Some(9), ..of_machine };
        assert_eq!(["software", "discrete"].map(|kind| on(kind, asked)), [Some(9); 2]);
    }
}
