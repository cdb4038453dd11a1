//! What is on its way to the queue: one encoder with one open compute pass, and what has been submitted but not finished.
//! Dispatches follow each other in one pass; a copy ends it. Submissions are short, so that no watchdog and no other user
//! of the GPU waits long.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::Health;
use crate::error::{Error, Result};

/// Dispatches after which a submission is closed.
const DISPATCHES: u32 = 64;

/// Dispatches submitted and not finished beyond which the thread waits: drivers grow or fail when flooded.
const IN_FLIGHT: u32 = 512;

/// Bytes of uploads after which a submission is closed, so that their staging memory is soon free again.
const COPIED: u64 = 64 << 20;

/// How long a wait lasts before the thread looks around.
const SLICE: Duration = Duration::from_millis(250);

/// No submission lasts this long on a GPU that works: each is a few dispatches of at most a fraction of a second.
const HANG: Duration = Duration::from_secs(60);

struct Submission {
    index: wgpu::SubmissionIndex,
    number: u64,
    dispatches: u32,
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
    work: u64,
    copied: u64,
    /// Estimated work after which a submission is closed.
    most_work: u64,
    in_flight: VecDeque<Submission>,
    /// Submissions so far.
    submitted: u64,
    /// The last one known to be finished.
    finished: u64,
    /// When that was last seen to grow, or began to be waited for.
    progress: Instant,
}

impl Recorder {
    /// Nothing recorded. `most_work` is in the planner's nanoseconds.
    pub fn new(device: wgpu::Device, queue: wgpu::Queue, health: Arc<Health>, most_work: u64) -> Self {
        Self {
            device,
            queue,
            health,
            pass: None,
            encoder: None,
            dispatches: 0,
            work: 0,
            copied: 0,
            most_work,
            in_flight: VecDeque::new(),
            submitted: 0,
            finished: 0,
            progress: Instant::now(),
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
            while self.in_flight.iter().map(|submission| submission.dispatches).sum::<u32>() > IN_FLIGHT {
                self.wait(SLICE)?;
            }
            // A submission may panic inside the library when the driver fails: that is a lost device too.
            let queue = &self.queue;
            let index = catch_unwind(AssertUnwindSafe(|| queue.submit([encoder.finish()])));
            let index = index.map_err(|payload| self.lose(&Error::from_panic(&*payload)))?;
            if self.in_flight.is_empty() {
                self.progress = Instant::now();
            }
            self.submitted += 1;
            self.in_flight.push_back(Submission { index, number: self.submitted, dispatches: self.dispatches });
        }
        (self.dispatches, self.work, self.copied) = (0, 0, 0);
        self.poll()
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
    /// [`Error::Lost`]; [`Error::Timeout`] when nothing has finished for a minute, after which the device counts as lost.
    pub fn wait(&mut self, at_most: Duration) -> Result<()> {
        if let Some(first) = self.in_flight.front()
            && !self.poll_for(first.index.clone(), at_most)?
            && self.progress.elapsed() > HANG
        {
            let text = format!("the gpu has finished nothing for {} seconds", HANG.as_secs());
            self.health.lose(&text);
            return Err(Error::Timeout(text));
        }
        self.health.check()
    }

    /// Waits for the oldest submission; true when it is finished.
    fn poll_for(&mut self, index: wgpu::SubmissionIndex, at_most: Duration) -> Result<bool> {
        let finished =
            self.poll_with(wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(at_most) })?;
        if finished && let Some(first) = self.in_flight.pop_front() {
            self.finished = first.number;
            self.progress = Instant::now();
        }
        Ok(finished)
    }

    /// Polls; false for a timeout. The library panics in here when the device is lost, and knows no other errors.
    fn poll_with(&mut self, how: wgpu::PollType) -> Result<bool> {
        self.health.check()?;
        let device = &self.device;
        match catch_unwind(AssertUnwindSafe(|| device.poll(how))) {
            Ok(result) => {
                self.health.check()?;
                Ok(result.is_ok())
            }
            Err(payload) => Err(self.lose(&Error::from_panic(&*payload))),
        }
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
