//! Device memory: blocks of 32-bit words, recycled by size class, counted, and bounded by a limit.
//!
//! Fresh memory is expensive (systems and drivers zero it), so a freed block waits for the next allocation of its class;
//! blocks that a whole epoch of work did not need go back. A recycled block holds the words of its former owner: nothing
//! here clears it, the rule that every kernel writes its outputs whole does.
//!
//! This file knows nothing of slots or plans, and not where blocks come from ([`Block`]). Evicting what others cache (packed weights) is their part: they see
//! [`Error::OutOfMemory`] and try again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Usage;
use super::class::{class_of, words_of};
use crate::error::{Error, Result};

/// Memory of a size class, as the system or a driver gives it.
pub trait Block: Send + Sized {
    /// Where fresh blocks come from.
    type Origin: Send + Sync;

    /// A block of this class, zeroed, if it can be had.
    fn fresh(origin: &Self::Origin, class: usize) -> Option<Self>;

    /// Its class.
    fn class(&self) -> usize;

    /// Words in it: fewer than its class has where the origin has no more in one piece, but enough for every request that
    /// the device makes.
    fn capacity(&self) -> usize {
        words_of(self.class())
    }

    /// Called when a block is used again, whose words are its former owner's.
    fn recycle(&mut self) {}

    /// Gives it back.
    fn free(self);
}

fn bytes_of(class: usize) -> u64 {
    words_of(class) as u64 * 4
}

/// What memory is used for; each is counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Values that slots name.
    Slot,
    /// Intermediates and scratch of a running program.
    Arena,
}

/// Blocks of one class that wait for reuse, newest last: it is the likeliest to be in a cache.
struct Shelf<B> {
    blocks: Vec<B>,
    /// The fewest blocks here since the last epoch: as many were not needed.
    idle: usize,
}

struct State<B> {
    shelves: Vec<Shelf<B>>,
    usage: Usage,
}

impl<B: Block> State<B> {
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
                freed += bytes_of(block.class());
                self.usage.pool -= bytes_of(block.class());
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
pub struct Memory<B: Block> {
    origin: B::Origin,
    limit: u64,
    state: Mutex<State<B>>,
    /// A copy of `usage.live` that the JavaScript thread reads without waiting for an allocation.
    live: AtomicU64,
    /// How many blocks slots hold, for [`Memory::pressure`].
    blocks: AtomicU64,
}

impl<B: Block> Memory<B> {
    /// Memory of at most `limit` bytes; `None` leaves it to the system.
    pub fn new(origin: B::Origin, limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            origin,
            limit: limit.unwrap_or(u64::MAX),
            state: Mutex::new(State { shelves: Vec::new(), usage: Usage::default() }),
            live: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
        })
    }

    /// Memory for `words` words, recycled or zeroed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the limit or the system does not allow it, also after giving the pool back.
    pub fn allocate(self: &Arc<Self>, words: usize, purpose: Purpose) -> Result<Storage<B>> {
        let (class, capacity) = class_of(words);
        let bytes = capacity as u64 * 4;
        let mut state = self.state();
        let recycled = state.shelves.get_mut(class).and_then(|shelf| {
            let block = shelf.blocks.pop()?;
            shelf.idle = shelf.idle.min(shelf.blocks.len());
            Some(block)
        });
        let block = if let Some(mut block) = recycled {
            state.usage.pool -= bytes;
            block.recycle();
            block
        } else {
            if state.held().saturating_add(bytes) > self.limit {
                let excess = state.held().saturating_add(bytes) - self.limit;
                state.trim(excess);
                if state.held().saturating_add(bytes) > self.limit {
                    return Err(self.refusal(words, &state));
                }
            }
            if let Some(block) = B::fresh(&self.origin, class) {
                block
            } else {
                state.trim(u64::MAX);
                B::fresh(&self.origin, class).ok_or_else(|| self.refusal(words, &state))?
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
                freed += bytes_of(block.class());
                block.free();
            }
            shelf.idle = shelf.blocks.len();
        }
        state.usage.pool -= freed;
    }

    /// Gives all blocks that wait for reuse back to the system.
    pub fn empty_pool(&self) {
        self.state().trim(u64::MAX);
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

    fn refusal(&self, words: usize, state: &State<B>) -> Error {
        let asked = words as u64 * 4;
        let limit = if self.limit == u64::MAX {
            "without a limit; the system has no more".to_owned()
        } else {
            format!("of {} allowed", self.limit)
        };
        Error::OutOfMemory(format!("cannot allocate {asked} bytes: {} bytes are in use, {limit}", state.in_use()))
    }

    fn recycle(&self, block: B, purpose: Purpose) {
        let bytes = bytes_of(block.class());
        let mut state = self.state();
        *state.counter(purpose) -= bytes;
        self.live.store(state.usage.live, Ordering::Relaxed);
        self.blocks.fetch_sub(u64::from(purpose == Purpose::Slot), Ordering::Relaxed);
        let class = block.class();
        if state.shelves.len() <= class {
            state.shelves.resize_with(class + 1, || Shelf { blocks: Vec::new(), idle: 0 });
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

    fn state(&self) -> MutexGuard<'_, State<B>> {
        // Nothing between lock and unlock can leave the counters half changed, so a poisoned lock is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Block> Drop for Memory<B> {
    fn drop(&mut self) {
        self.state().trim(u64::MAX);
    }
}

/// A block in use, with the number of times it has been written in place. Slots and views share it by `Arc`.
pub struct Storage<B: Block> {
    block: Option<B>,
    purpose: Purpose,
    version: AtomicU64,
    memory: Arc<Memory<B>>,
}

impl<B: Block> Storage<B> {
    /// The block; `None` once it has been given back.
    pub fn block(&self) -> Option<&B> {
        self.block.as_ref()
    }

    /// How many words there are: at least as many as were asked for.
    pub fn words(&self) -> usize {
        self.block.as_ref().map_or(0, Block::capacity)
    }

    /// Changes with every write in place.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Notes a write in place.
    pub fn touch(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives the block back: there are no words any more.
    pub fn give_back(&mut self) {
        if let Some(block) = self.block.take() {
            self.memory.recycle(block, self.purpose);
        }
    }
}

impl<B: Block> Drop for Storage<B> {
    fn drop(&mut self) {
        self.give_back();
    }
}
