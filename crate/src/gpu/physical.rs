//! A GPU that has been opened: the device with everything that its thread keeps on it. Logical devices share it. Nothing
//! here is used from another thread: errors are caught in scopes that belong to the calling one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::adapter::{Description, Found, Opened};
use super::block::{Maker, Storage};
use super::fault::Faults;
use super::frame::Frame;
use super::health::Health;
use super::kernels::shader::{Call, Memory, Word};
use super::pipeline::{Pipelines, Range, first_byte, window};
use super::recorder::{HANG, Recorder};
use super::staging::{CHUNK, Reading, Staging, bytes_of};
use super::traits::{Class, Traits};
use crate::cpu::elementwise::scalar;
use crate::cpu::random::whole;
use crate::device::Source;
use crate::error::{Error, Result};

/// How long one wait for the GPU lasts before the thread looks around.
const SLICE: Duration = Duration::from_millis(100);

/// An opened GPU.
pub struct Gpu {
    /// What it is.
    pub description: Description,
    /// Whether it still lives.
    pub health: Arc<Health>,
    /// Where buffers come from.
    pub maker: Arc<Maker>,
    /// What has been created on it.
    pub pipelines: Pipelines,
    /// What is on its way to it.
    pub recorder: Recorder,
    /// The cells of checks of data.
    pub faults: Faults,
    pub(super) staging: Staging,
    lists: Lists,
    #[cfg(debug_assertions)]
    device: wgpu::Device,
}

/// What a call of a step needs besides its operands.
pub struct Run<'a> {
    /// The operands.
    pub frame: &'a Frame,
    /// First word of the cell that the step writes.
    pub cell: u32,
    /// First word of the cell that says whether the step must not be applied.
    pub gate: u32,
}

impl<'a> Run<'a> {
    /// Where memory of a call lies: the number of the buffer, the buffer, and the first word.
    fn place(&self, memory: &Memory, faults: &'a Faults) -> Result<(u64, &'a wgpu::Buffer, usize)> {
        let (storage, start): (&Storage, usize) = match memory {
            // Nothing is read of what has no elements, but something has to be bound.
            Memory::Operand(operand) if operand.numel == 0 => return Ok((faults.number, &faults.buffer, 0)),
            Memory::Operand(operand) => self.frame.place(operand)?,
            Memory::Scratch { offset, words } => (self.frame.scratch(offset + words)?, *offset),
            Memory::Faults => return Ok((faults.number, &faults.buffer, 0)),
        };
        let block = storage.block().ok_or_else(|| Error::Internal("a block is gone".into()))?;
        Ok((block.number, &block.buffer, start))
    }
}

/// Memory of a call, as it is bound.
struct Place {
    /// The number of the buffer, and its bytes.
    number: u64,
    size: u64,
    /// First byte of the first window.
    begin: u64,
    /// First word.
    start: usize,
}

/// Lists of the call that is being recorded, kept for their memory.
#[derive(Default)]
struct Lists {
    places: Vec<Place>,
    words: Vec<u32>,
    ranges: Vec<Range>,
}

impl Lists {
    fn clear(&mut self) {
        self.places.clear();
        self.words.clear();
        self.ranges.clear();
    }
}

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// [`Error::NoDevice`] with the reason.
    pub fn open(found: &Found) -> Result<Self> {
        let Opened { device, queue, health } = found.open()?;
        let description = found.description.clone();
        let traits = &description.limits;
        let maker = Maker::new(device.clone(), traits.buffer_bytes);
        // The planner's nanoseconds are those of one thread of a modest processor; a submission is to last about 5 ms.
        let most_work = match traits.class {
            Class::Software => 10_000_000,
            Class::Integrated => 100_000_000,
            Class::Discrete => 1_000_000_000,
        };
        // Software adapters compile a shader at its first dispatch: seconds, on a processor that others use too.
        let hang = if traits.class == Class::Software { HANG * 5 } else { HANG };
        Ok(Self {
            pipelines: Pipelines::new(device.clone(), traits.unchecked),
            recorder: Recorder::new(device.clone(), queue, Arc::clone(&health), most_work, hang),
            faults: Faults::new(&device, maker.number())?,
            staging: Staging::new(device.clone()),
            lists: Lists::default(),
            maker,
            health,
            description,
            #[cfg(debug_assertions)]
            device,
        })
    }

    /// What kernels choose by.
    pub fn traits(&self) -> &Traits {
        &self.description.limits
    }

    /// Records a call, by its pipeline where that has been looked up.
    ///
    /// # Errors
    /// [`Error::Internal`] for a plan that does not fit its program or a shader that the driver refuses.
    pub fn record(&mut self, call: &Call, pipeline: Option<&wgpu::ComputePipeline>, run: &Run) -> Result<()> {
        let mut lists = std::mem::take(&mut self.lists);
        lists.clear();
        let result = self.record_with(call, pipeline, run, &mut lists);
        self.lists = lists;
        result
    }

    fn record_with(
        &mut self,
        call: &Call,
        pipeline: Option<&wgpu::ComputePipeline>,
        run: &Run,
        Lists { places, words, ranges }: &mut Lists,
    ) -> Result<()> {
        let (traits, faults) = (&self.description.limits, &self.faults);
        for memory in &call.memory {
            let (number, buffer, start) = run.place(memory, faults)?;
            let size = buffer.size();
            places.push(Place { number, size, begin: first_byte(traits, size, start), start });
        }
        words.extend(call.words.iter().map(|word| match *word {
            Word::Value(value) => value,
            Word::Offset(memory) => places.get(memory).map_or(0, |place| place.start as u32 - (place.begin / 4) as u32),
            Word::Scalar(index, dtype) => scalar(&run.frame.scalars, index, dtype),
            Word::Whole(index) => whole(&run.frame.scalars, index),
            Word::Cell => run.cell,
            Word::Gate => run.gate,
        }));
        ranges.extend(call.windows.iter().filter_map(|bound| {
            let place = places.get(bound.memory)?;
            Some(window(traits, place.number, place.size, place.begin, bound.index))
        }));
        // Cloning is counting a reference.
        let pipeline = match pipeline {
            Some(pipeline) => pipeline.clone(),
            None => self.pipelines.pipeline(&call.shader)?.clone(),
        };
        let find = |number| {
            let mut all = call.memory.iter().filter_map(|memory| run.place(memory, faults).ok());
            all.find(|(other, ..)| *other == number).map(|(_, buffer, _)| buffer)
        };
        let group = self.pipelines.group(ranges, find)?;
        self.recorder.dispatch(&pipeline, group, bytes_of(words), call.grid);
        Ok(())
    }

    /// Copies host data into memory, by way of the next submissions: every full one is on its way before more staging
    /// memory is asked for, so that large data is bounded in flight as many small ones are.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is no staging memory; [`Error::Lost`].
    pub fn upload(&mut self, source: &Source, storage: &Storage) -> Result<()> {
        let block = storage.block().ok_or_else(|| Error::Internal("a block is gone".into()))?;
        let mut done = 0;
        while done < source.len() {
            let count = (source.len() - done).min((CHUNK / 4) as usize);
            let words = |from, to: &mut [u32]| source.words_into(done + from, to);
            self.staging.upload(&mut self.recorder, &block.buffer, done as u64 * 4, count, words)?;
            done += count;
            self.submit_when_full()?;
        }
        Ok(())
    }

    /// Records copies of `words` words to where the host can read them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is no staging memory.
    pub fn download(&mut self, reading: &mut Reading, from: &wgpu::Buffer, start: u64, bytes: u64) -> Result<()> {
        self.staging.download(&mut self.recorder, reading, from, start, bytes)
    }

    /// Records copies of the cells between two words of the buffer of faults.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is no staging memory.
    pub fn download_cells(&mut self, reading: &mut Reading, (start, bytes): (u64, u64)) -> Result<()> {
        self.staging.download(&mut self.recorder, reading, &self.faults.buffer, start, bytes)
    }

    /// Takes the buffers of a read back.
    pub fn release(&mut self, reading: Reading) {
        self.staging.release(reading);
    }

    /// Submits what has been recorded.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn submit(&mut self) -> Result<()> {
        self.staging.before_submit();
        let result = self.recorder.submit();
        self.staging.after_submit();
        self.staging.collect();
        let gone: HashMap<_, _> = self.maker.take_gone().into_iter().collect();
        if !gone.is_empty() {
            self.pipelines.forget(|number| gone.contains_key(&number));
        }
        result
    }

    /// Submits, if enough has been recorded.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn submit_when_full(&mut self) -> Result<()> {
        if self.recorder.is_full() { self.submit() } else { Ok(()) }
    }

    /// Gives back all memory that only waits for the GPU to finish or for reuse.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn reclaim(&mut self) -> Result<()> {
        self.submit()?;
        while !self.recorder.is_idle() {
            self.recorder.wait(SLICE)?;
        }
        self.staging.collect();
        self.staging.trim();
        self.submit()?;
        self.recorder.poll()
    }

    /// Gives idle staging memory back, and lets the driver free what has gone.
    pub fn trim(&mut self) {
        self.staging.collect();
        self.staging.trim();
        // A failure is the device's loss, which whoever waits is told.
        let _ = self.submit();
    }

    /// Bytes of staging buffers, in use or idle.
    pub fn staged(&self) -> &Arc<AtomicU64> {
        self.staging.bytes()
    }

    /// Gives back all memory of a device that is lost. False while the GPU may still work on some of it.
    pub fn bury(&mut self) -> bool {
        self.staging.clear();
        self.pipelines.clear();
        drop(self.maker.take_gone());
        self.recorder.bury()
    }

    /// Ends the device, as a driver that fails would: for tests of what happens then.
    #[cfg(debug_assertions)]
    pub fn destroy(&self) {
        self.device.destroy();
        self.health.lose("it was destroyed");
    }
}
