//! Memory of the GPU: [`device::memory`](crate::device::memory) over buffers, one per block. Buffers have numbers that are
//! never used twice, by which bind groups are found and, when a buffer goes, forgotten.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::fault::Taint;
use super::staging::create;
use crate::device::class::words_of;
use crate::device::{memory, slots};

/// Where the buffers of one device come from.
pub struct Maker {
    device: wgpu::Device,
    most_bytes: u64,
    next: AtomicU64,
    gone: Mutex<Vec<u64>>,
}

impl Maker {
    /// A maker of buffers of at most `most_bytes`.
    pub fn new(device: wgpu::Device, most_bytes: u64) -> Arc<Self> {
        Arc::new(Self { device, most_bytes, next: AtomicU64::new(0), gone: Mutex::default() })
    }

    /// A number for a buffer that is made elsewhere.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The numbers of buffers that have gone since this was last asked.
    pub fn take_gone(&self) -> Vec<u64> {
        std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A buffer.
pub struct Block {
    /// Its number.
    pub number: u64,
    /// The buffer, for storage and copies.
    pub buffer: wgpu::Buffer,
    class: usize,
    maker: Arc<Maker>,
}

impl memory::Block for Block {
    type Origin = Arc<Maker>;

    fn fresh(maker: &Arc<Maker>, class: usize) -> Option<Self> {
        let size = words_of(class) as u64 * 4;
        if size > maker.most_bytes {
            return None;
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = create(&maker.device, size, usage, false).ok()?;
        Some(Self { number: maker.number(), buffer, class, maker: Arc::clone(maker) })
    }

    fn class(&self) -> usize {
        self.class
    }

    fn free(self) {
        // The library keeps the memory until the GPU has finished with it, and bind groups until they are forgotten.
        self.maker.gone.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}

/// The memory of one logical device.
pub type Memory = memory::Memory<Block>;

/// A block in use.
pub type Storage = memory::Storage<Block>;

/// A block that slots show, with the data errors that its content may suffer from.
pub struct Tensor {
    /// The block.
    pub storage: Storage,
    /// What only the GPU knows yet.
    pub taint: Taint,
}

/// Elements of a tensor.
pub type Value = slots::Value<Tensor>;

/// What a slot holds.
pub type Content = slots::Content<Tensor>;
