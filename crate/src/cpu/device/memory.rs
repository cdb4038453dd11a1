//! Device memory: aligned blocks of 32-bit words, recycled by size class, counted, and bounded by a limit.
//!
//! Fresh pages are expensive (the kernel zeroes each on first touch), so a freed block waits for the next allocation
//! of its class; blocks that a whole epoch of work did not need go back to the system. A recycled block holds the
//! words of its former owner: nothing here clears it, the rule that every kernel writes its outputs whole does. Debug
//! builds fill it with a pattern that shows up in any result that breaks the rule.
//!
//! This file knows nothing of slots or plans. Evicting what others cache (packed weights) is their part: they see
//! [`Error::OutOfMemory`] and try again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::block::Block;
use crate::device::Usage;
use crate::device::class::{class_of, words_of};
use crate::device::slots;
use crate::error::{Error, Result};

/// What memory is used for; each is counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Values that slots name.
    Slot,
    /// Intermediates and scratch of a running program.
    Arena,
}

/// Blocks of one class that wait for reuse, newest last: it is the likeliest to be in a cache.
#[derive(Default)]
struct Shelf {
    blocks: Vec<Block>,
    /// The fewest blocks here since the last epoch: as many were not needed.
    idle: usize,
}

#[derive(Default)]
struct State {
    shelves: Vec<Shelf>,
    usage: Usage,
}

impl State {
    fn in_use(&self) -> u64 {
        self.usage.live + self.usage.arena + self.usage.packed
    }

    fn held(&self) -> u64 {
        self.in_use() + self.usage.pool
    }

    fn counter(&mut self, purpose: Purpose) -> &mut u64 {
        match purpose {
            Purpose::Slot => &mut self.usage.live,
            Purpose::Arena => &mut self.usage.arena,
        }
    }

    /// Gives pooled blocks back to the system, largest classes first, until `bytes` are free or none is left.
    fn trim(&mut self, bytes: u64) {
        let mut freed = 0;
        for shelf in self.shelves.iter_mut().rev() {
            while freed < bytes {
                let Some(block) = shelf.blocks.pop() else { break };
                freed += block.bytes();
                self.usage.pool -= block.bytes();
                block.free();
            }
            shelf.idle = shelf.idle.min(shelf.blocks.len());
        }
    }
}

/// Weight of one block with a garbage collector. A handle that nobody holds keeps objects of the SDK alive, and its
/// finaliser can only run after a full collection, which small tensors alone would not bring about for tens of megabytes
/// of them: 16 KiB makes one due after some thousands.
const BLOCK_PRESSURE: u64 = 16 << 10;

/// The memory of one device.
pub struct Memory {
    limit: u64,
    state: Mutex<State>,
    /// A copy of `usage.live` that the JavaScript thread reads without waiting for an allocation.
    live: AtomicU64,
    /// How many blocks slots hold, for [`Memory::pressure`].
    blocks: AtomicU64,
}

impl Memory {
    /// Memory of at most `limit` bytes; `None` leaves it to the system.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.unwrap_or(u64::MAX),
            state: Mutex::default(),
            live: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
        })
    }

    /// Memory for `words` words, recycled or zeroed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the limit or the system does not allow it, also after giving the pool back.
    pub fn allocate(self: &Arc<Self>, words: usize, purpose: Purpose) -> Result<Storage> {
        let (class, capacity) = class_of(words);
        let bytes = capacity as u64 * 4;
        let mut state = self.state();
        let recycled = state.shelves.get_mut(class).and_then(|shelf| {
            let block = shelf.blocks.pop()?;
            shelf.idle = shelf.idle.min(shelf.blocks.len());
            Some(block)
        });
        let block = if let Some(block) = recycled {
            state.usage.pool -= bytes;
            if cfg!(debug_assertions) {
                // SAFETY: the block holds `capacity` words and nobody else knows it.
                unsafe { std::slice::from_raw_parts_mut(block.words(), capacity) }.fill(0xFFC0_DEAD);
            }
            block
        } else {
            if state.held().saturating_add(bytes) > self.limit {
                let excess = state.held().saturating_add(bytes) - self.limit;
                state.trim(excess);
                if state.held().saturating_add(bytes) > self.limit {
                    return Err(self.refusal(words, &state));
                }
            }
            if let Some(block) = Block::fresh(class) {
                block
            } else {
                state.trim(u64::MAX);
                Block::fresh(class).ok_or_else(|| self.refusal(words, &state))?
            }
        };
        *state.counter(purpose) += bytes;
        state.usage.peak = state.usage.peak.max(state.usage.live + state.usage.arena);
        self.live.store(state.usage.live, Ordering::Relaxed);
        self.blocks.fetch_add(u64::from(purpose == Purpose::Slot), Ordering::Relaxed);
        drop(state);
        Ok(Storage { block: Some(block), purpose, version: AtomicU64::new(0), memory: Arc::clone(self) })
    }

    /// Counts `bytes` of packed weights in place of what was counted before.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the limit does not allow more; then the count is as before.
    pub fn set_packed(&self, bytes: u64) -> Result<()> {
        let mut state = self.state();
        let before = state.usage.packed;
        state.usage.packed = bytes;
        if bytes > before && state.held() > self.limit {
            let excess = state.held() - self.limit;
            state.trim(excess);
            if state.held() > self.limit {
                state.usage.packed = before;
                return Err(Error::OutOfMemory("no room for packed weights".into()));
            }
        }
        Ok(())
    }

    /// Ends an epoch: blocks that it did not need go back to the system.
    pub fn end_epoch(&self) {
        let mut state = self.state();
        let mut freed = 0;
        for shelf in &mut state.shelves {
            for block in shelf.blocks.drain(..shelf.idle.min(shelf.blocks.len())) {
                freed += block.bytes();
                block.free();
            }
            shelf.idle = shelf.blocks.len();
        }
        state.usage.pool -= freed;
    }

    /// What is in use now.
    pub fn usage(&self) -> Usage {
        self.state().usage
    }

    /// What live slots should weigh with a garbage collector, in bytes: their memory and [`BLOCK_PRESSURE`] for each of
    /// their blocks.
    pub fn pressure(&self) -> u64 {
        self.live_bytes() + self.blocks.load(Ordering::Relaxed) * BLOCK_PRESSURE
    }

    /// Bytes of live slots, without waiting.
    pub fn live_bytes(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    fn refusal(&self, words: usize, state: &State) -> Error {
        let asked = words as u64 * 4;
        let limit = if self.limit == u64::MAX {
            "without a limit; the system has no more".to_owned()
        } else {
            format!("of {} allowed", self.limit)
        };
        Error::OutOfMemory(format!("cannot allocate {asked} bytes: {} bytes are in use, {limit}", state.in_use()))
    }

    fn recycle(&self, block: Block, purpose: Purpose) {
        let bytes = block.bytes();
        let mut state = self.state();
        *state.counter(purpose) -= bytes;
        self.live.store(state.usage.live, Ordering::Relaxed);
        self.blocks.fetch_sub(u64::from(purpose == Purpose::Slot), Ordering::Relaxed);
        let class = block.class();
        if state.shelves.len() <= class {
            state.shelves.resize_with(class + 1, Shelf::default);
        }
        let shelf = &mut state.shelves[class];
        // Growing a shelf must not abort when memory is short: that is when blocks come back.
        if shelf.blocks.try_reserve(1).is_err() {
            drop(state);
            block.free();
            return;
        }
        shelf.blocks.push(block);
        state.usage.pool += bytes;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can leave the counters half changed, so a poisoned lock is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.state().trim(u64::MAX);
    }
}

/// A block in use, with the number of times it has been written in place. Slots and views share it by `Arc`.
///
/// It hands out a raw pointer and no slices: two slots may view the same words, so only the executor, which runs one
/// instruction at a time and knows which operands overlap, can say when a reference is sound.
pub struct Storage {
    block: Option<Block>,
    purpose: Purpose,
    version: AtomicU64,
    memory: Arc<Memory>,
}

// SAFETY: the words are only touched by whoever holds the engine's lock, or before the storage is shared at all.
unsafe impl Sync for Storage {}

impl Storage {
    /// The first word, aligned to a cache line.
    pub fn pointer(&self) -> *mut u32 {
        self.block.as_ref().map_or(std::ptr::dangling_mut(), Block::words)
    }

    /// How many words there are: at least as many as were asked for.
    pub fn words(&self) -> usize {
        self.block.as_ref().map_or(0, |block| words_of(block.class()))
    }

    /// Changes with every write in place.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Notes a write in place.
    pub fn touch(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.memory.recycle(block, self.purpose);
        }
    }
}

/// Elements of a block of memory.
pub type Value = slots::Value<Storage>;

impl Value {
    /// The first element.
    pub fn pointer(&self) -> *mut u32 {
        // A value lies inside its storage (whoever makes one checks that), so the offset stays inside the block.
        self.storage.pointer().wrapping_add(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::class::ALIGNMENT;

    #[test]
    fn blocks_are_aligned_and_come_zeroed_or_recycled() {
        let memory = Memory::new(None);
        for words in [0, 1, 15, 16, 17, 1000, 100_003] {
            let storage = memory.allocate(words, Purpose::Slot).unwrap();
            assert_eq!(storage.pointer() as usize % ALIGNMENT, 0);
            assert!(storage.words() >= words);
        }
        let pointer = memory.allocate(1000, Purpose::Slot).unwrap().pointer();
        assert_eq!(memory.allocate(1001, Purpose::Arena).unwrap().pointer(), pointer);
    }

    #[test]
    fn every_byte_is_counted_once_and_given_back() {
        let memory = Memory::new(None);
        let a = memory.allocate(1024, Purpose::Slot).unwrap();
        let b = memory.allocate(1024, Purpose::Arena).unwrap();
        assert_eq!(memory.usage(), Usage { live: 4096, arena: 4096, pool: 0, packed: 0, peak: 8192 });
        drop(a);
        assert_eq!(memory.usage(), Usage { live: 0, arena: 4096, pool: 4096, packed: 0, peak: 8192 });
        assert_eq!(memory.live_bytes(), 0);
        drop(b);
        memory.end_epoch();
        memory.end_epoch();
        assert_eq!(memory.usage().pool, 0);
    }

    #[test]
    fn an_epoch_keeps_what_it_used() {
        let memory = Memory::new(None);
        drop((memory.allocate(64, Purpose::Slot).unwrap(), memory.allocate(64, Purpose::Slot).unwrap()));
        memory.end_epoch();
        drop(memory.allocate(64, Purpose::Slot).unwrap());
        memory.end_epoch();
        assert_eq!(memory.usage().pool, 256, "one of two blocks was in use during the epoch");
    }

    #[test]
    fn the_limit_takes_the_pool_first_and_names_the_numbers() {
        let memory = Memory::new(Some(8192));
        drop(memory.allocate(1024, Purpose::Slot).unwrap());
        let kept = memory.allocate(2048, Purpose::Slot).unwrap();
        let error = memory.allocate(1, Purpose::Slot).err().unwrap();
        assert_eq!(error.code(), "ERR_OUT_OF_MEMORY");
        assert_eq!(error.message(), "cannot allocate 4 bytes: 8192 bytes are in use, of 8192 allowed");
        drop(kept);
        assert!(memory.allocate(1024, Purpose::Slot).is_ok());
    }

    #[test]
    fn a_request_beyond_the_machine_is_an_error() {
        let memory = Memory::new(None);
        let error = memory.allocate(1 << 60, Purpose::Slot).err().unwrap();
        assert_eq!(error.code(), "ERR_OUT_OF_MEMORY");
    }

    #[test]
    fn packed_weights_count_against_the_limit() {
        let memory = Memory::new(Some(4096));
        memory.set_packed(4096).unwrap();
        assert!(memory.allocate(1, Purpose::Slot).is_err());
        assert!(memory.set_packed(8192).is_err());
        assert_eq!(memory.usage().packed, 4096);
        memory.set_packed(0).unwrap();
        assert!(memory.allocate(1, Purpose::Slot).is_ok());
    }
}
