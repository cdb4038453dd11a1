//! Buffers through which data goes in and out. Device memory is never written by the library's own staging: where memory
//! is short there, the whole device would be lost. A buffer is used again once the GPU has finished with it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::adapter::ready;
use super::recorder::Recorder;
use crate::error::{Error, Result};

/// The smallest and the largest staging buffer, as powers of two: 64 KiB and 64 MiB.
const LEAST: u32 = 16;
const MOST: u32 = 26;

/// The most bytes that go through one buffer.
pub const CHUNK: u64 = 1 << MOST;

/// Bytes of idle buffers that are kept.
const KEPT: u64 = 128 << 20;

/// Uploads begin at multiples of this in their buffer.
const ALIGNMENT: u64 = 16;

const WAITING: u8 = 0;
const MAPPED: u8 = 1;
const FAILED: u8 = 2;

/// Set by the callback of a mapping.
type Flag = Arc<AtomicU8>;

/// Which way data goes through a buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

impl Direction {
    fn usage(self) -> wgpu::BufferUsages {
        match self {
            Self::In => wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            Self::Out => wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        }
    }
}

/// A staging buffer, counted as long as it lives.
struct Staged {
    buffer: wgpu::Buffer,
    total: Arc<AtomicU64>,
}

impl Staged {
    fn new(buffer: wgpu::Buffer, total: &Arc<AtomicU64>) -> Self {
        total.fetch_add(buffer.size(), Ordering::Relaxed);
        Self { buffer, total: Arc::clone(total) }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        self.total.fetch_sub(self.buffer.size(), Ordering::Relaxed);
    }
}

impl Deref for Staged {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

/// A buffer that the GPU may still use.
struct Busy {
    buffer: Staged,
    flag: Flag,
}

/// The buffer that uploads are put into until the next submission.
struct Open {
    buffer: Staged,
    used: u64,
}

/// A read that waits for its data.
pub struct Reading {
    parts: Vec<(Staged, u64, Flag)>,
    mapped: bool,
}

/// All staging of one device.
pub struct Staging {
    device: wgpu::Device,
    /// Mapped buffers for uploads, and unmapped ones for reads.
    idle: [Vec<Staged>; 2],
    open: Vec<Open>,
    /// Upload buffers of earlier submissions, on their way to be mapped again.
    busy: Vec<Busy>,
    /// Bytes of all buffers, in use or idle.
    total: Arc<AtomicU64>,
    /// How many buffers more cannot be had.
    #[cfg(test)]
    pub refusals: u32,
}

impl Staging {
    /// Nothing yet.
    pub fn new(device: wgpu::Device) -> Self {
        Self {
            device,
            idle: [Vec::new(), Vec::new()],
            open: Vec::new(),
            busy: Vec::new(),
            total: Arc::default(),
            #[cfg(test)]
            refusals: 0,
        }
    }

    /// Bytes of all buffers, in use or idle.
    pub fn bytes(&self) -> &Arc<AtomicU64> {
        &self.total
    }

    /// Copies words, [`CHUNK`] bytes of them at most, into a buffer of the device, by way of the next submission. `words`
    /// gives those from an index on.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Internal`] when the library refuses.
    pub fn upload(
        &mut self,
        recorder: &mut Recorder,
        to: &wgpu::Buffer,
        at: u64,
        count: usize,
        mut words: impl FnMut(usize, &mut [u32]) -> Result<()>,
    ) -> Result<()> {
        let mut piece = [0_u32; 4096];
        let size = count as u64 * 4;
        let (buffer, offset) = self.room(size)?;
        let mut view = buffer.get_mapped_range_mut(offset..offset + size).map_err(refused)?;
        let mut done = 0;
        while done < count {
            let few = (count - done).min(piece.len());
            let piece = &mut piece[..few];
            words(done, piece)?;
            view.slice(done * 4..(done + few) * 4).copy_from_slice(bytes_of(piece));
            done += few;
        }
        drop(view);
        recorder.copy(&buffer, offset, to, at, size);
        Ok(())
    }

    /// Room for `size` bytes in a mapped buffer.
    fn room(&mut self, size: u64) -> Result<(wgpu::Buffer, u64)> {
        if let Some(open) = self.open.iter_mut().find(|open| open.used + size <= open.buffer.size()) {
            let offset = open.used;
            open.used = (offset + size).next_multiple_of(ALIGNMENT);
            return Ok((open.buffer.buffer.clone(), offset));
        }
        let buffer = self.take(Direction::In, size)?;
        let room = buffer.buffer.clone();
        self.open.push(Open { buffer, used: size.next_multiple_of(ALIGNMENT) });
        Ok((room, 0))
    }

    /// An idle buffer of at least `size` bytes, or a new one.
    fn take(&mut self, direction: Direction, size: u64) -> Result<Staged> {
        #[cfg(test)]
        if self.refusals > 0 {
            self.refusals -= 1;
            return Err(Error::OutOfMemory("as the test wants it".into()));
        }
        let wanted = size.next_power_of_two().clamp(1 << LEAST, CHUNK);
        let idle = &mut self.idle[direction as usize];
        if let Some(found) = idle.iter().position(|buffer| buffer.size() == wanted) {
            return Ok(idle.swap_remove(found));
        }
        let mapped_at_creation = direction == Direction::In;
        let made = create(&self.device, wanted, direction.usage(), mapped_at_creation).or_else(|_| {
            // What waits here for reuse may be just what is missing.
            self.trim();
            create(&self.device, wanted, direction.usage(), mapped_at_creation)
        });
        Ok(Staged::new(made?, &self.total))
    }

    /// Closes the buffers that have been written, before they are submitted.
    pub fn before_submit(&mut self) {
        for Open { buffer, .. } in &self.open {
            buffer.unmap();
        }
    }

    /// Asks for them to be mapped again, after they have been.
    pub fn after_submit(&mut self) {
        for Open { buffer, .. } in self.open.drain(..) {
            let flag = map(&buffer, wgpu::MapMode::Write, buffer.size());
            self.busy.push(Busy { buffer, flag });
        }
    }

    /// Takes back what the GPU has finished with.
    pub fn collect(&mut self) {
        let mut position = 0;
        while let Some(busy) = self.busy.get(position) {
            match busy.flag.load(Ordering::Acquire) {
                WAITING => position += 1,
                state => {
                    let Busy { buffer, .. } = self.busy.swap_remove(position);
                    if state == MAPPED {
                        self.keep(Direction::In, buffer);
                    }
                }
            }
        }
    }

    fn keep(&mut self, direction: Direction, buffer: Staged) {
        let kept: u64 = self.idle.iter().flatten().map(|buffer| buffer.size()).sum();
        if kept + buffer.size() <= KEPT {
            self.idle[direction as usize].push(buffer);
        }
    }

    /// Gives idle buffers back.
    pub fn trim(&mut self) {
        self.idle.iter_mut().for_each(Vec::clear);
    }

    /// Gives everything back, on a device that is lost.
    pub fn clear(&mut self) {
        self.trim();
        self.open.clear();
        self.busy.clear();
    }

    /// Records copies of `size` bytes to where the host can read them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn download(
        &mut self,
        recorder: &mut Recorder,
        reading: &mut Reading,
        from: &wgpu::Buffer,
        at: u64,
        size: u64,
    ) -> Result<()> {
        let mut done = 0;
        while done < size {
            let part = (size - done).min(CHUNK);
            let buffer = self.take(Direction::Out, part)?;
            recorder.copy(from, at + done, &buffer, 0, part);
            reading.parts.push((buffer, part, Flag::default()));
            done += part;
        }
        Ok(())
    }

    /// Takes the buffers of a read back.
    pub fn release(&mut self, reading: Reading) {
        for (buffer, _, flag) in reading.parts {
            if reading.mapped && flag.load(Ordering::Acquire) == MAPPED {
                buffer.unmap();
                self.keep(Direction::Out, buffer);
            }
        }
    }
}

impl Reading {
    /// A read of nothing yet.
    pub fn new() -> Self {
        Self { parts: Vec::new(), mapped: false }
    }

    /// Asks for the data, once the copies have been submitted.
    pub fn request(&mut self) {
        self.mapped = true;
        for (buffer, size, flag) in &mut self.parts {
            *flag = map(buffer, wgpu::MapMode::Read, *size);
        }
    }

    /// Whether all data is there.
    ///
    /// # Errors
    /// [`Error::Internal`] when a mapping failed on a device that lives.
    pub fn is_ready(&self) -> Result<bool> {
        let mut ready = self.mapped;
        for (_, _, flag) in &self.parts {
            match flag.load(Ordering::Acquire) {
                MAPPED => {}
                FAILED => return Err(Error::Internal("a read was refused by the driver".into())),
                _ => ready = false,
            }
        }
        Ok(ready)
    }

    /// Hands the words over, in order, part by part.
    ///
    /// # Errors
    /// [`Error::Internal`] when the library refuses; what `take` returns.
    pub fn words(&self, mut take: impl FnMut(&[u32]) -> Result<()>) -> Result<()> {
        for (buffer, size, _) in &self.parts {
            let view = buffer.get_mapped_range(..*size).map_err(refused)?;
            // SAFETY: any four bytes are a word.
            let ([], words, []) = (unsafe { view.align_to::<u32>() }) else {
                return Err(Error::Internal("mapped memory is not aligned".into()));
            };
            take(words)?;
        }
        Ok(())
    }
}

/// A buffer, with out of memory as an error of its own.
///
/// # Errors
/// [`Error::OutOfMemory`]; [`Error::Internal`] for what the library refuses otherwise.
pub fn create(
    device: &wgpu::Device,
    size: u64,
    usage: wgpu::BufferUsages,
    mapped_at_creation: bool,
) -> Result<wgpu::Buffer> {
    let invalid = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation };
    let buffer = device.create_buffer(&descriptor);
    let (memory, invalid) = (ready(memory.pop())?, ready(invalid.pop())?);
    if memory.is_some() {
        return Err(Error::OutOfMemory(format!("the gpu has no room for {size} bytes")));
    }
    match invalid {
        Some(error) => Err(Error::Internal(format!("a buffer of {size} bytes was refused: {error}"))),
        None => Ok(buffer),
    }
}

fn map(buffer: &wgpu::Buffer, mode: wgpu::MapMode, size: u64) -> Flag {
    let flag = Flag::default();
    let set = Arc::clone(&flag);
    buffer.map_async(mode, ..size, move |result| {
        set.store(if result.is_ok() { MAPPED } else { FAILED }, Ordering::Release);
    });
    flag
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("staging memory was refused: {error}"))
}

/// Words as the bytes that they are in memory.
pub fn bytes_of(words: &[u32]) -> &[u8] {
    // SAFETY: bytes have no alignment and every word is four of them.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}
