//! What is on its way to the queue: one encoder with one open compute pass, and what has been submitted but not finished.
//! Dispatches follow each other in one pass; a copy ends it. Submissions are short, so that no watchdog and no other user
//! of the GPU waits long.

use std::collections::VecDeque;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::Health;
use crate::device::profile::{Profiler, Subject};
use crate::error::{Error, Result};

/// Dispatches after which a submission is closed.
const DISPATCHES: u32 = 64;

/// Dispatches submitted and not finished beyond which the thread waits: drivers grow or fail when flooded.
const IN_FLIGHT: u32 = 512;

/// Bytes of uploads after which a submission is closed, so that their staging memory is soon free again.
const COPIED: u64 = 64 << 20;

/// Bytes of copies submitted and not finished beyond which the thread waits: each of an upload holds staging memory.
const COPIES_IN_FLIGHT: u64 = 256 << 20;

/// How long a wait lasts before the thread looks around.
const SLICE: Duration = Duration::from_millis(250);

/// No submission lasts this long on a GPU that works: each is a few dispatches of at most a fraction of a second.
pub const HANG: Duration = Duration::from_mins(1);

struct Submission {
    index: wgpu::SubmissionIndex,
    number: u64,
    dispatches: u32,
    copied: u64,
    /// Who wants to know how long it took, and when it was submitted.
    watched: Option<(Vec<Arc<Profiler>>, Instant)>,
}

/// The encoder of a device and its submissions.
pub struct Recorder {
    device: wgpu::Device,
    queue: wgpu::Queue,
    health: Arc<Health>,
    // The pass is dropped before its encoder.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    dispatches: u32,
    /// Dispatches recorded so far.
    recorded: u64,
    work: u64,
    copied: u64,
    /// Estimated work after which a submission is closed.
    pub(super) most_work: u64,
    in_flight: VecDeque<Submission>,
    /// Submissions so far.
    submitted: u64,
    /// The last one known to be finished.
    finished: u64,
    /// When that was last seen to grow, or began to be waited for.
    progress: Instant,
    /// How long it may stand still.
    hang: Duration,
    /// Who wants to know how long what is being recorded takes.
    watchers: Vec<Arc<Profiler>>,
    /// When the GPU was last seen to finish something that is watched.
    seen: Option<Instant>,
    /// Set when nothing more comes back from a device that is lost.
    buried: bool,
    /// Time that the driver has taken for submissions and for waiting.
    blocked: Duration,
}

impl Recorder {
    /// Nothing recorded. `most_work` is in the planner's nanoseconds. After `hang` without progress the device is given up.
    pub fn new(device: wgpu::Device, queue: wgpu::Queue, health: Arc<Health>, most_work: u64, hang: Duration) -> Self {
        Self {
            device,
            queue,
            health,
            pass: None,
            encoder: None,
            dispatches: 0,
            recorded: 0,
            work: 0,
            copied: 0,
            most_work,
            in_flight: VecDeque::new(),
            submitted: 0,
            finished: 0,
            progress: Instant::now(),
            hang,
            watchers: Vec::new(),
            seen: None,
            blocked: Duration::ZERO,
            buried: false,
        }
    }

    /// Records a dispatch.
    pub fn dispatch(
        &mut self,
        pipeline: &wgpu::ComputePipeline,
        group: &wgpu::BindGroup,
        immediates: &[u8],
        [x, y, z]: [u32; 3],
    ) {
        let pass = match &mut self.pass {
            Some(pass) => pass,
            none => {
                let encoder = encoder(&mut self.encoder, &self.device);
                let descriptor = wgpu::ComputePassDescriptor::default();
                none.insert(encoder.begin_compute_pass(&descriptor).forget_lifetime())
            }
        };
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.set_immediates(0, immediates);
        pass.dispatch_workgroups(x, y, z);
        self.dispatches += 1;
        self.recorded += 1;
    }

    /// Records a copy between buffers; all numbers are bytes.
    pub fn copy(&mut self, from: &wgpu::Buffer, at: u64, to: &wgpu::Buffer, to_at: u64, size: u64) {
        self.pass = None;
        encoder(&mut self.encoder, &self.device).copy_buffer_to_buffer(from, at, to, to_at, size);
        self.copied += size;
    }

    /// Counts estimated work of what has been recorded.
    pub fn count(&mut self, nanoseconds: u64) {
        self.work = self.work.saturating_add(nanoseconds);
    }

    /// Whether what has been recorded is enough for a submission.
    pub fn is_full(&self) -> bool {
        self.dispatches >= DISPATCHES || self.work > self.most_work || self.copied >= COPIED
    }

    /// Whether there is nothing to submit.
    pub fn is_empty(&self) -> bool {
        self.encoder.is_none()
    }

    /// Submits what has been recorded. Waits first when too much is in flight.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn submit(&mut self) -> Result<()> {
        self.pass = None;
        if let Some(encoder) = self.encoder.take() {
            while self.is_flooded() {
                self.wait(SLICE)?;
            }
            let began = Instant::now();
            // A submission may panic inside the library when the driver fails: that is a lost device too.
            let (queue, blocked) = (&self.queue, &mut self.blocked);
            let index = catch_unwind(AssertUnwindSafe(|| {
                let commands = encoder.finish();
                let began = Instant::now();
                let index = queue.submit([commands]);
                *blocked += began.elapsed();
                index
            }));
            let index = index.map_err(|payload| self.lose(&Error::from_panic(&*payload)))?;
            if self.in_flight.is_empty() {
                self.progress = Instant::now();
            }
            self.submitted += 1;
            let watched = (!self.watchers.is_empty()).then(|| (take(&mut self.watchers), began));
            let (number, dispatches, copied) = (self.submitted, self.dispatches, self.copied);
            self.in_flight.push_back(Submission { index, number, dispatches, copied, watched });
        }
        (self.dispatches, self.work, self.copied) = (0, 0, 0);
        self.poll()
    }

    /// Whether more is in flight than should be.
    fn is_flooded(&self) -> bool {
        let (mut dispatches, mut copied) = (0, 0);
        for submission in &self.in_flight {
            dispatches += submission.dispatches;
            copied += submission.copied;
        }
        dispatches > IN_FLIGHT || copied > COPIES_IN_FLIGHT
    }

    /// Time that the driver has taken so far for submissions and for waiting: what recording cannot help.
    pub fn blocked(&self) -> Duration {
        self.blocked
    }

    /// Dispatches recorded so far.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The number of the submission that what is recorded now will be part of.
    pub fn next_submission(&self) -> u64 {
        self.submitted + 1
    }

    /// Whether a submission is finished.
    pub fn is_finished(&self, submission: u64) -> bool {
        self.finished >= submission
    }

    /// Whether everything submitted is finished.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Runs callbacks of what is finished, without waiting.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn poll(&mut self) -> Result<()> {
        while let Some(first) = self.in_flight.front() {
            if !self.poll_for(first.index.clone(), Duration::ZERO)? {
                return self.health.check();
            }
        }
        self.poll_with(wgpu::PollType::Poll)?;
        self.health.check()
    }

    /// Waits until the oldest submission is finished, but no longer than `at_most`.
    ///
    /// # Errors
    /// [`Error::Lost`]; [`Error::Timeout`] when nothing has finished for too long, after which the device counts as lost.
    pub fn wait(&mut self, at_most: Duration) -> Result<()> {
        if let Some(first) = self.in_flight.front()
            && !self.poll_for(first.index.clone(), at_most)?
            && self.progress.elapsed() > self.hang
        {
            let seconds = self.hang.as_secs_f32();
            let text = format!("the gpu has finished nothing for {seconds} seconds; open another device, or use cpu");
            self.health.end(Error::Timeout(text));
        }
        self.health.check()
    }

    /// Waits for the oldest submission; true when it is finished.
    fn poll_for(&mut self, index: wgpu::SubmissionIndex, at_most: Duration) -> Result<bool> {
        let finished =
            self.poll_with(wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(at_most) })?;
        if finished && let Some(first) = self.in_flight.pop_front() {
            self.finished = first.number;
            self.tell(first);
            self.progress = Instant::now();
        }
        Ok(finished)
    }

    /// Tells a profiler how long what is being recorded takes, once that is known.
    pub fn watch(&mut self, profiler: &Arc<Profiler>) {
        if !self.watchers.iter().any(|watcher| Arc::ptr_eq(watcher, profiler)) {
            self.watchers.push(Arc::clone(profiler));
        }
    }

    /// Tells who has watched a submission that it is finished. The GPU began it when it had finished the one before.
    fn tell(&mut self, submission: Submission) {
        let Some((watchers, submitted)) = submission.watched else { return };
        let (start, end) = (self.seen.map_or(submitted, |seen| seen.max(submitted)), Instant::now());
        self.seen = Some(end);
        for profiler in watchers {
            profiler.note_span(Subject::Submission(submission.dispatches), start, end);
        }
    }

    /// Polls; false for a timeout. The library panics in here when the device is lost, and knows no other errors.
    fn poll_with(&mut self, how: wgpu::PollType) -> Result<bool> {
        self.health.check()?;
        let (device, began) = (&self.device, Instant::now());
        let polled = catch_unwind(AssertUnwindSafe(|| device.poll(how)));
        self.blocked += began.elapsed();
        match polled {
            Ok(result) => {
                self.health.check()?;
                Ok(result.is_ok())
            }
            Err(payload) => Err(self.lose(&Error::from_panic(&*payload))),
        }
    }

    /// Drops what has been recorded on a device that is lost, and lets the library free what the GPU has finished with.
    /// True when there is nothing more to come.
    pub fn bury(&mut self) -> bool {
        self.pass = None;
        self.encoder = None;
        self.in_flight.clear();
        if !self.buried {
            let device = &self.device;
            // A driver that knows of the loss refuses, which the library makes a panic.
            self.buried = match catch_unwind(AssertUnwindSafe(|| device.poll(wgpu::PollType::Poll))) {
                Ok(status) => matches!(status, Ok(wgpu::PollStatus::QueueEmpty)),
                Err(_) => true,
            };
        }
        self.buried
    }

    fn lose(&mut self, error: &Error) -> Error {
        self.health.lose(error.message());
        self.in_flight.clear();
        self.health.check().err().unwrap_or_else(|| Error::Lost(String::new()))
    }
}

fn encoder<'e>(encoder: &'e mut Option<wgpu::CommandEncoder>, device: &wgpu::Device) -> &'e mut wgpu::CommandEncoder {
    encoder.get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::adapter::{Opened, enumerate};
    use crate::gpu::kernels::shader::Shader;
    use crate::gpu::pipeline::{Pipelines, Range};
    use crate::gpu::staging::create;

    /// A recorder on a device of its own, or nothing without an adapter, which other tests say aloud.
    fn open(hang: Duration) -> Option<(Recorder, Pipelines, wgpu::Device)> {
        let found = enumerate().unwrap().into_iter().find(|found| found.description.refusal.is_none())?;
        let Opened { device, queue, health } = found.open().unwrap();
        let pipelines = Pipelines::new(device.clone(), false);
        Some((Recorder::new(device.clone(), queue, health, u64::MAX, hang), pipelines, device))
    }

    #[test]
    fn a_gpu_that_does_not_answer_is_given_up() {
        let Some((mut recorder, mut pipelines, device)) = open(Duration::from_millis(50)) else { return };
        // Long, but not for ever: nothing can stop it. Many workgroups, because lavapipe ends loops after 65,535 rounds.
        let text = "struct Params { rounds: u32 } var<immediate> p: Params;
            @group(0) @binding(0) var<storage, read_write> x: array<u32>;
            @compute @workgroup_size(1) fn main() {
              var sum = x[0];
              for (var i = 0u; i < p.rounds; i += 1u) { sum = sum * 1664525u + x[i & 15u]; }
              x[0] = sum;
            }";
        let shader = Arc::new(Shader { name: "slow", text: text.into(), bindings: 1, masked: false });
        let usage = wgpu::BufferUsages::STORAGE;
        let buffer = create(&device, 64, usage, false).unwrap();
        let pipeline = pipelines.pipeline(&shader).unwrap().clone();
        let range = Range { buffer: 0, offset: 0, size: 64 };
        let group = pipelines.group(&[range], |_| Some(&buffer)).unwrap();
        recorder.dispatch(&pipeline, group, &20_000_u32.to_ne_bytes(), [60_000, 1, 1]);
        recorder.submit().unwrap();
        let started = Instant::now();
        let error = loop {
            assert!(!recorder.is_idle(), "it was not slow enough");
            if let Err(error) = recorder.wait(Duration::from_millis(5)) {
                break error;
            }
        };
        assert_eq!(error.code(), "ERR_TIMEOUT");
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!(recorder.submit().unwrap_err().code(), "ERR_TIMEOUT");
        // The driver still works on it: its memory must not go before.
        std::mem::forget((recorder, pipelines, device, buffer));
    }
}
