//! Memory of the GPU: [`device::memory`](crate::device::memory) over buffers, one per block. Buffers have numbers that are
//! never used twice, by which bind groups are found and, when a buffer goes, forgotten.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::Taint;
use super::staging::create;
use crate::device::class::words_of;
use crate::device::queue::Bell;
use crate::device::{memory, slots};

/// Where the buffers of one device come from.
pub struct Maker {
    device: wgpu::Device,
    most_bytes: u64,
    next: AtomicU64,
    gone: Mutex<Vec<(u64, wgpu::Buffer)>>,
    bell: Arc<Bell>,
}

impl Maker {
    /// A maker of buffers of at most `most_bytes`, a multiple of [`ALIGNMENT`](crate::device::class::ALIGNMENT).
    pub fn new(device: wgpu::Device, most_bytes: u64) -> Arc<Self> {
        Arc::new(Self { device, most_bytes, next: AtomicU64::new(0), gone: Mutex::default(), bell: Arc::default() })
    }

    /// A number for a buffer that is made elsewhere.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Rung when a buffer has gone.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Whether buffers have gone since they were last taken.
    pub fn has_gone(&self) -> bool {
        !self.gone().is_empty()
    }

    /// The buffers that have gone since this was last asked, with their numbers. They end with the last that holds them.
    pub fn take_gone(&self) -> Vec<(u64, wgpu::Buffer)> {
        std::mem::take(&mut *self.gone())
    }

    fn gone(&self) -> MutexGuard<'_, Vec<(u64, wgpu::Buffer)>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whoever asks has seen to it that his words fit into the largest buffer; their class may be larger than that.
    fn fresh(maker: &Arc<Maker>, class: usize) -> Option<Self> {
        let size = (words_of(class) as u64 * 4).min(maker.most_bytes);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = create(&maker.device, size, usage, false).ok()?;
        Some(Self { number: maker.number(), buffer, class, maker: Arc::clone(maker) })
    }

    fn class(&self) -> usize {
        self.class
    }

    fn capacity(&self) -> usize {
        (self.buffer.size() / 4) as usize
    }

    /// Leaves it to the GPU's thread, whichever this is: bind groups hold on to it, and drivers want one thread only.
    fn free(self) {
        let Self { number, buffer, maker, .. } = self;
        maker.gone().push((number, buffer));
        maker.bell.ring();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::memory::Purpose;
    use crate::gpu::adapter::enumerate;

    #[test]
    fn the_largest_buffer_can_be_had_whatever_its_class() {
        let found = enumerate().unwrap().into_iter().find(|found| found.description.refusal.is_none());
        let Some(opened) = found.map(|found| found.open().unwrap()) else { return };
        // The class of as many words is an eighth larger.
        let most = (1 << 20) + 64;
        let memory = Memory::new(Maker::new(opened.device, most as u64), None);
        for _ in 0..2 {
            let storage = memory.allocate(most / 4, Purpose::Slot).unwrap();
            assert_eq!((storage.words(), storage.block().unwrap().buffer.size()), (most / 4, most as u64));
        }
        assert_eq!(memory.allocate(100, Purpose::Slot).unwrap().words(), 112);
    }
}
