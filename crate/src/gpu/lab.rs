//! Prepared steps on an adapter without the device around them: no slots, no plans, no poison, all operands in one arena.
//! The tests of kernels run on it, and `gpu-bench` measures on it. Whoever comes here waits for the GPU on his own thread.

use std::time::Instant;

use super::adapter::{Found, Opened};
use super::kernels::Prepared;
use super::kernels::shader::{Call, Memory, Word};
use super::pipeline::{Pipelines, Range, first_byte, window};
use super::staging::{bytes_of, create};
use super::traits::{Class, Traits};
use crate::cpu::elementwise::scalar;
use crate::cpu::random::whole;
use crate::error::{Error, Result};

/// Words of the fault cell that [`Word::Cell`] means, and of the one that [`Word::Gate`] looks at.
const CELL: usize = 4;
const GATE: usize = 0;

/// The buffers of a [`Loaded`], by position.
const ARENA: usize = 0;
const SCRATCH: usize = 1;
const FAULTS: usize = 2;

/// A device to run steps on.
pub struct Lab {
    opened: Opened,
    /// What the adapter is.
    pub traits: Traits,
    /// With bounds checks, and without them where kernels mask their accesses.
    pipelines: [Pipelines; 2],
    clock: Option<Clock>,
    /// Numbers of buffers are never used twice, or a bind group of a former run would be found.
    next: u64,
}

/// How steps are run.
#[derive(Clone, Copy, Default)]
pub struct Settings<'a> {
    /// Scalars of the run.
    pub scalars: &'a [f64],
    /// Whether masked shaders run without bounds checks.
    pub unchecked: bool,
    /// Whether the gate is closed, so that in-place steps do nothing.
    pub closed: bool,
}

/// Memory of the device for one step.
pub struct Loaded {
    buffers: [wgpu::Buffer; 3],
    first: u64,
}

/// The GPU's own clock: when the first dispatch of a pass began and the last one ended.
struct Clock {
    queries: wgpu::QuerySet,
    ticks: wgpu::Buffer,
    seconds: f64,
}

impl Lab {
    /// Opens an adapter.
    ///
    /// # Errors
    /// [`Error::NoDevice`] with the reason.
    pub fn new(found: &Found) -> Result<Self> {
        let opened = found.open()?;
        let traits = found.description.limits.clone();
        let pipelines = [false, true].map(|unchecked| Pipelines::new(opened.device.clone(), unchecked));
        // Where the processor plays the GPU, its own clock is as good and asks nothing of the driver.
        let has_clock = opened.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let clock = (has_clock && traits.class != Class::Software).then(|| Clock::new(&opened)).transpose()?;
        Ok(Self { opened, traits, pipelines, clock, next: 0 })
    }

    /// Whether times come from the GPU's own clock.
    pub fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// Memory with this arena. Scratch memory begins as NaN, the step's fault cell as set.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn load(&mut self, arena: &[u32], scratch: usize, settings: Settings) -> Result<Loaded> {
        let mut faults = [0, 0, 0, 0, 7, 7, 7, 7];
        faults[GATE] = u32::from(settings.closed);
        let scratch = vec![f32::NAN.to_bits(); scratch];
        let buffers = [self.buffer(arena)?, self.buffer(&scratch)?, self.buffer(&faults)?];
        let first = self.next;
        self.next += buffers.len() as u64;
        Ok(Loaded { buffers, first })
    }

    fn buffer(&self, words: &[u32]) -> Result<wgpu::Buffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let bytes = bytes_of(words);
        let size = (bytes.len() as u64).next_multiple_of(64).max(64);
        let buffer = create(&self.opened.device, size, usage, true)?;
        buffer.get_mapped_range_mut(..bytes.len() as u64).map_err(refused)?.copy_from_slice(bytes);
        buffer.unmap();
        Ok(buffer)
    }

    /// Runs a step, `times` times in one submission, and waits for it. Returns the seconds that one run took.
    ///
    /// # Errors
    /// [`Error::Internal`] for shaders that are refused and operands outside their memory; [`Error::Lost`].
    pub fn run(&mut self, step: &Prepared, on: &Loaded, settings: Settings, times: usize) -> Result<f64> {
        let Self { opened, traits, pipelines, clock, .. } = self;
        let [checked, unchecked] = pipelines;
        let pipelines = if settings.unchecked { unchecked } else { checked };
        let mut bound = Vec::with_capacity(step.calls.len());
        for call in &step.calls {
            pipelines.pipeline(&call.shader)?;
            bound.push(on.bind(traits, call, settings.scalars)?);
        }
        let mut encoder = opened.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let timestamps = clock.as_ref().map(Clock::writes);
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: timestamps });
        for _ in 0..times {
            for (call, (ranges, words)) in step.calls.iter().zip(&bound) {
                pass.set_pipeline(pipelines.pipeline(&call.shader)?);
                pass.set_bind_group(0, pipelines.group(ranges, |number| on.find(number))?, &[]);
                pass.set_immediates(0, bytes_of(words));
                let [x, y, z] = call.grid;
                pass.dispatch_workgroups(x, y, z);
            }
        }
        drop(pass);
        if let Some(clock) = clock {
            encoder.resolve_query_set(&clock.queries, 0..2, &clock.ticks, 0);
        }
        let commands = encoder.finish();
        let started = Instant::now();
        opened.queue.submit([commands]);
        self.wait()?;
        let seconds = match &self.clock {
            Some(clock) => clock.between(&self.read(&clock.ticks, 0, 4)?),
            None => started.elapsed().as_secs_f64(),
        };
        Ok(seconds / times as f64)
    }

    fn wait(&self) -> Result<()> {
        self.opened.device.poll(wgpu::PollType::wait_indefinitely()).map_err(refused)?;
        self.opened.health.check()
    }

    /// Words of the arena.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn arena(&self, loaded: &Loaded, start: usize, words: usize) -> Result<Vec<u32>> {
        self.read(&loaded.buffers[ARENA], start, words)
    }

    /// The fault cell of the step: `[1 if there is a fault, position, index]`.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn cell(&self, loaded: &Loaded) -> Result<[u32; 3]> {
        let words = self.read(&loaded.buffers[FAULTS], CELL, 3)?;
        <[u32; 3]>::try_from(words).map_err(|_| Error::Internal("a read of three words".into()))
    }

    fn read(&self, from: &wgpu::Buffer, start: usize, words: usize) -> Result<Vec<u32>> {
        if words == 0 {
            return Ok(Vec::new());
        }
        let device = &self.opened.device;
        let size = words as u64 * 4;
        let to = create(device, size, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST, false)?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(from, start as u64 * 4, &to, 0, size);
        self.opened.queue.submit([encoder.finish()]);
        to.map_async(wgpu::MapMode::Read, .., |_| ());
        self.wait()?;
        let view = to.get_mapped_range(..).map_err(refused)?;
        Ok(view.as_chunks().0.iter().map(|&word| u32::from_ne_bytes(word)).collect())
    }

    /// Lets go of memory.
    pub fn unload(&mut self, loaded: Loaded) {
        for pipelines in &mut self.pipelines {
            pipelines.forget(|number| loaded.position(number).is_some());
        }
        drop(loaded);
        // Polling is what frees it.
        let _ = self.wait();
    }
}

impl Loaded {
    fn position(&self, number: u64) -> Option<usize> {
        let position = number.checked_sub(self.first)? as usize;
        (position < self.buffers.len()).then_some(position)
    }

    fn find(&self, number: u64) -> Option<&wgpu::Buffer> {
        self.buffers.get(self.position(number)?)
    }

    /// The bindings and immediates of a call.
    fn bind(&self, traits: &Traits, call: &Call, scalars: &[f64]) -> Result<(Vec<Range>, Vec<u32>)> {
        let outside = || Error::Internal(format!("{}: memory that is not there", call.shader.name));
        // By memory: which buffer, where its first window begins, and the first element counted from there.
        let mut places = Vec::with_capacity(call.memory.len());
        for memory in &call.memory {
            let (buffer, start, words) = match *memory {
                Memory::Operand(operand) => (ARENA, operand.location.offset, operand.numel),
                Memory::Scratch { offset, words } => (SCRATCH, offset, words),
                Memory::Faults => (FAULTS, 0, 0),
            };
            let size = self.buffers[buffer].size();
            if (start + words) as u64 * 4 > size {
                return Err(outside());
            }
            let begin = first_byte(traits, size, start);
            places.push((buffer, size, begin, start as u32 - (begin / 4) as u32));
        }
        let mut ranges = Vec::with_capacity(call.windows.len());
        for bound in &call.windows {
            let &(buffer, size, begin, _) = places.get(bound.memory).ok_or_else(outside)?;
            ranges.push(window(traits, self.first + buffer as u64, size, begin, bound.index));
        }
        let mut words = Vec::with_capacity(call.words.len());
        for word in &call.words {
            words.push(match *word {
                Word::Value(value) => value,
                Word::Offset(memory) => places.get(memory).ok_or_else(outside)?.3,
                Word::Scalar(index, dtype) => scalar(scalars, index, dtype),
                Word::Whole(index) => whole(scalars, index),
                Word::Cell => CELL as u32,
                Word::Gate => GATE as u32,
            });
        }
        Ok((ranges, words))
    }
}

impl Clock {
    fn new(opened: &Opened) -> Result<Self> {
        let queries = opened.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let ticks = create(&opened.device, 256, usage, false)?;
        Ok(Self { queries, ticks, seconds: f64::from(opened.queue.get_timestamp_period()) * 1e-9 })
    }

    fn writes(&self) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }
    }

    /// Seconds between the two counters, each of two words.
    fn between(&self, words: &[u32]) -> f64 {
        let [low, high, end_low, end_high] = *words else { return f64::NAN };
        let count = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        count(end_low, end_high).wrapping_sub(count(low, high)) as f64 * self.seconds
    }
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("the graphics library refused: {error}"))
}
