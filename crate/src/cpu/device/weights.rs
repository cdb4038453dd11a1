//! Packed copies of right operands. A weight that serves many products before it changes is worth rearranging once; one
//! that changes after every product is not. So the first product that meets a matrix at a version reads it as it lies in
//! memory, the second packs it, and later ones read the copy. Copies count as memory and are the first to go.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::memory::{Memory, Storage};
use crate::cpu::Cpu;
use crate::cpu::gemm::{Matrix, PackedB};

/// Which part of a storage, seen how.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    storage: usize,
    offset: usize,
    rows: usize,
    cols: usize,
    transposed: bool,
}

struct Entry {
    /// Also keeps the address in the key from being used for another storage.
    storage: Weak<Storage>,
    version: u64,
    packed: Option<PackedB>,
    used: u64,
}

/// Packed weights of one device.
pub struct Weights {
    entries: HashMap<Key, Entry>,
    memory: Arc<Memory>,
    bytes: u64,
    clock: u64,
}

impl Weights {
    /// None yet.
    pub fn new(memory: Arc<Memory>) -> Self {
        Self { entries: HashMap::new(), memory, bytes: 0, clock: 0 }
    }

    /// The packed copy of a matrix that begins at `offset` in `storage`, if this is at least its second use at the
    /// storage's version and there is room for one.
    pub fn packed(&mut self, cpu: &Cpu, storage: &Arc<Storage>, offset: usize, matrix: Matrix) -> Option<&PackedB> {
        self.clock += 1;
        let clock = self.clock;
        let Matrix { rows, cols, transposed, .. } = matrix;
        let key = Key { storage: Arc::as_ptr(storage).addr(), offset, rows, cols, transposed };
        let version = storage.version();
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            storage: Arc::downgrade(storage),
            // No storage has this version yet: the use below counts as the first.
            version: u64::MAX,
            packed: None,
            used: clock,
        });
        entry.used = clock;
        if entry.version != version {
            entry.version = version;
            if let Some(stale) = entry.packed.take() {
                self.bytes -= stale.byte_length() as u64;
                // Less memory is always allowed.
                let _ = self.memory.set_packed(self.bytes);
            }
            return None;
        }
        if entry.packed.is_none() {
            // First the room, by the size of the matrix: packing in vain would cost every product anew.
            self.memory.set_packed(self.bytes + (rows * cols * 4) as u64).ok()?;
            let packed = PackedB::new(cpu, matrix).ok();
            let bytes = self.bytes + packed.as_ref().map_or(0, |packed| packed.byte_length() as u64);
            if self.memory.set_packed(bytes).is_ok() {
                self.bytes = bytes;
                entry.packed = packed;
            } else {
                // Padded to whole panels it is a little larger, and that was too much.
                let _ = self.memory.set_packed(self.bytes);
            }
        }
        entry.packed.as_ref()
    }

    /// Frees the copy that has not been used for the longest time; false when there is none.
    pub fn evict(&mut self) -> bool {
        let oldest = self.entries.iter_mut().filter(|(_, e)| e.packed.is_some()).min_by_key(|(_, e)| e.used);
        let Some(packed) = oldest.and_then(|(_, entry)| entry.packed.take()) else { return false };
        self.bytes -= packed.byte_length() as u64;
        drop(packed);
        // Less memory is always allowed.
        let _ = self.memory.set_packed(self.bytes);
        true
    }

    /// Forgets storages that are gone.
    pub fn sweep(&mut self) {
        let bytes = &mut self.bytes;
        self.entries.retain(|_, entry| {
            let lives = entry.storage.strong_count() > 0;
            if !lives && let Some(packed) = &entry.packed {
                *bytes -= packed.byte_length() as u64;
            }
            lives
        });
        let _ = self.memory.set_packed(self.bytes);
    }

    /// Frees all copies.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
        let _ = self.memory.set_packed(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Purpose;
    use super::*;
    use crate::cpu::{Isa, Pool};

    struct Case {
        cpu: Cpu,
        memory: Arc<Memory>,
        weights: Weights,
        storage: Arc<Storage>,
        data: Vec<f32>,
    }

    impl Case {
        fn new(limit: Option<u64>) -> Self {
            let memory = Memory::new((), limit);
            Self {
                cpu: Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() },
                weights: Weights::new(Arc::clone(&memory)),
                storage: Arc::new(memory.allocate(64, Purpose::Slot).unwrap()),
                memory,
                data: vec![1.0; 64],
            }
        }

        fn is_packed(&mut self, offset: usize, transposed: bool) -> bool {
            let matrix = Matrix { data: &self.data, rows: 4, cols: 8, transposed };
            self.weights.packed(&self.cpu, &self.storage, offset, matrix).is_some()
        }
    }

    #[test]
    fn the_second_use_at_a_version_packs() {
        let mut case = Case::new(None);
        assert!(!case.is_packed(0, false));
        assert!(!case.is_packed(0, true), "another layout is another matrix");
        assert!(!case.is_packed(8, false), "another offset too");
        assert!(case.is_packed(0, false));
        assert!(case.memory.usage().packed > 0);
        case.storage.touch();
        assert!(!case.is_packed(0, false), "a write makes the copy stale");
        assert_eq!(case.memory.usage().packed, 0);
        assert!(case.is_packed(0, false));
    }

    #[test]
    fn copies_die_with_their_storage_and_make_room_when_asked() {
        let mut case = Case::new(None);
        case.is_packed(0, false);
        case.is_packed(0, false);
        assert!(case.weights.evict());
        assert!(!case.weights.evict());
        assert_eq!(case.memory.usage().packed, 0);
        assert!(case.is_packed(0, false));
        case.storage = Arc::new(case.memory.allocate(64, Purpose::Slot).unwrap());
        case.weights.sweep();
        assert_eq!(case.memory.usage().packed, 0);
        assert!(case.weights.entries.is_empty());
    }

    #[test]
    fn no_room_means_no_copy() {
        let mut case = Case::new(Some(256));
        case.is_packed(0, false);
        assert!(!case.is_packed(0, false));
        assert_eq!(case.memory.usage().packed, 0);
    }
}
