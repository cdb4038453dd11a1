//! Reference counts without storages. Results are shared by `Arc`; when the last owner lets go of one, its block goes back
//! to the pool and the `Arc` comes here, so that a program that runs again and again allocates none.

use std::sync::Arc;

use super::memory::Storage;

/// The most that are kept: about as many results as a large step has.
const KEPT: usize = 1024;

/// Counts that wait for a storage.
#[derive(Default)]
pub struct Shells {
    empty: Vec<Arc<Storage>>,
}

impl Shells {
    /// A storage to be shared.
    pub fn share(&mut self, storage: Storage) -> Arc<Storage> {
        let Some(mut shell) = self.empty.pop() else { return Arc::new(storage) };
        match Arc::get_mut(&mut shell) {
            Some(place) => {
                *place = storage;
                shell
            }
            None => Arc::new(storage),
        }
    }

    /// Lets go of a storage. Its last owner gives its memory back, and keeps the count unless somebody still watches the
    /// storage, as packed weights do.
    pub fn release(&mut self, mut storage: Arc<Storage>) {
        if self.empty.len() < KEPT
            && let Some(last) = Arc::get_mut(&mut storage)
        {
            last.give_back();
            self.empty.push(storage);
        }
    }

    /// Gives the counts back to the system.
    pub fn clear(&mut self) {
        self.empty = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Memory, Purpose};
    use super::*;

    #[test]
    fn the_last_owner_gives_the_memory_back_and_the_count_is_used_again() {
        let memory = Memory::new((), None);
        let mut shells = Shells::default();
        let first = shells.share(memory.allocate(64, Purpose::Slot).unwrap());
        let address = Arc::as_ptr(&first);
        first.touch();
        shells.release(Arc::clone(&first));
        assert_eq!((memory.usage().live, shells.empty.len()), (256, 0), "it still has an owner");
        shells.release(first);
        assert_eq!((memory.usage().live, memory.usage().pool, shells.empty.len()), (0, 256, 1));
        let second = shells.share(memory.allocate(16, Purpose::Slot).unwrap());
        assert_eq!((Arc::as_ptr(&second), second.words(), second.version()), (address, 16, 0));
    }

    #[test]
    fn what_is_watched_is_not_used_again() {
        let memory = Memory::new((), None);
        let mut shells = Shells::default();
        let watched = shells.share(memory.allocate(64, Purpose::Slot).unwrap());
        let watcher = Arc::downgrade(&watched);
        shells.release(watched);
        assert!(watcher.upgrade().is_none() && shells.empty.is_empty());
        assert_eq!(memory.usage().live, 0);
    }
}
