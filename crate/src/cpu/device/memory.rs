//! Memory of the `cpu` device: [`device::memory`](crate::device::memory) over blocks of the system.

use crate::device::memory;
use crate::device::slots;

use super::block::Block;

pub use crate::device::memory::Purpose;

/// The memory of one device.
pub type Memory = memory::Memory<Block>;

/// A block in use. It hands out a raw pointer and no slices: two slots may view the same words, so only the executor,
/// which runs one instruction at a time and knows which operands overlap, can say when a reference is sound.
pub type Storage = memory::Storage<Block>;

impl Storage {
    /// The first word, aligned to a cache line.
    pub fn pointer(&self) -> *mut u32 {
        self.block().map_or(std::ptr::dangling_mut(), Block::words)
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
    use crate::device::Usage;
    use crate::device::class::ALIGNMENT;

    #[test]
    fn blocks_are_aligned_and_come_zeroed_or_recycled() {
        let memory = Memory::new((), None);
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
        let memory = Memory::new((), None);
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
        let memory = Memory::new((), None);
        drop((memory.allocate(64, Purpose::Slot).unwrap(), memory.allocate(64, Purpose::Slot).unwrap()));
        memory.end_epoch();
        drop(memory.allocate(64, Purpose::Slot).unwrap());
        memory.end_epoch();
        assert_eq!(memory.usage().pool, 256, "one of two blocks was in use during the epoch");
    }

    #[test]
    fn the_limit_takes_the_pool_first_and_names_the_numbers() {
        let memory = Memory::new((), Some(8192));
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
        let memory = Memory::new((), None);
        let error = memory.allocate(1 << 60, Purpose::Slot).err().unwrap();
        assert_eq!(error.code(), "ERR_OUT_OF_MEMORY");
    }

    #[test]
    fn packed_weights_count_against_the_limit() {
        let memory = Memory::new((), Some(4096));
        memory.set_packed(4096).unwrap();
        assert!(memory.allocate(1, Purpose::Slot).is_err());
        assert!(memory.set_packed(8192).is_err());
        assert_eq!(memory.usage().packed, 4096);
        memory.set_packed(0).unwrap();
        assert!(memory.allocate(1, Purpose::Slot).is_ok());
    }
}
