//! The slot table: what the numbers that TypeScript gives to device memory stand for.
//!
//! A slot number is 22 bits of index and, above them, 10 bits of generation. TypeScript hands the numbers out and raises
//! an index's generation whenever it uses it again, so a number that outlived its value finds an error, never another
//! tensor's data. The table holds views, not memory: reshapes and parameters inside a slab share one storage.

use std::sync::Arc;

use super::failure::Failure;
use crate::dtype::Dtype;
use crate::error::{Error, Result};

const INDEX_BITS: u32 = 22;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

/// Elements of a storage, which is whatever a device calls a piece of memory.
pub struct Value<S> {
    /// The memory, shared with other views of it.
    pub storage: Arc<S>,
    /// Where the elements start, in words.
    pub offset: usize,
    /// How many elements there are.
    pub numel: usize,
    /// Their type.
    pub dtype: Dtype,
}

// Not derived: the storage itself is shared, never copied.
impl<S> Clone for Value<S> {
    fn clone(&self) -> Self {
        Self { storage: Arc::clone(&self.storage), ..*self }
    }
}

/// What a live slot holds.
pub enum Content<S> {
    /// Data.
    Value(Value<S>),
    /// The reason why there is none.
    Failed(Arc<Failure>),
}

impl<S> Clone for Content<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Value(value) => Self::Value(value.clone()),
            Self::Failed(failure) => Self::Failed(Arc::clone(failure)),
        }
    }
}

struct Entry<S> {
    generation: u32,
    content: Option<Content<S>>,
}

/// All slots of one device.
pub struct Slots<S> {
    entries: Vec<Entry<S>>,
    live: usize,
}

impl<S> Default for Slots<S> {
    fn default() -> Self {
        Self { entries: Vec::new(), live: 0 }
    }
}

impl<S> Slots<S> {
    /// What the slot holds.
    ///
    /// # Errors
    /// [`Error::Disposed`] for a number that was never given a value or has been freed.
    pub fn get(&self, slot: u32) -> Result<&Content<S>> {
        self.entries
            .get((slot & INDEX_MASK) as usize)
            .filter(|entry| entry.generation == slot >> INDEX_BITS)
            .and_then(|entry| entry.content.as_ref())
            .ok_or_else(|| Error::Disposed(format!("slot {} has been freed or was never made", slot & INDEX_MASK)))
    }

    /// Makes room for `slot`, so that [`Slots::set`] cannot fail.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the table cannot grow.
    pub fn reserve(&mut self, slot: u32) -> Result<()> {
        let needed = (slot & INDEX_MASK) as usize + 1;
        if needed > self.entries.len() {
            let more = needed - self.entries.len();
            self.entries.try_reserve(more).map_err(|_| Error::OutOfMemory(format!("no room for {more} more slots")))?;
            self.entries.resize_with(needed, || Entry { generation: 0, content: None });
        }
        Ok(())
    }

    /// Gives a reserved slot its content, in place of any former generation's. A slot without room is dropped.
    pub fn set(&mut self, slot: u32, content: Content<S>) {
        if let Some(entry) = self.entries.get_mut((slot & INDEX_MASK) as usize) {
            self.live += usize::from(entry.content.is_none());
            *entry = Entry { generation: slot >> INDEX_BITS, content: Some(content) };
        }
    }

    /// Frees a slot; what it held. A number of a former generation frees nothing: its value went when the index was used
    /// again.
    pub fn free(&mut self, slot: u32) -> Option<Content<S>> {
        let entry = self.entries.get_mut((slot & INDEX_MASK) as usize)?;
        let content = entry.content.take_if(|_| entry.generation == slot >> INDEX_BITS)?;
        self.live -= 1;
        Some(content)
    }

    /// How many slots hold a value or a failure.
    pub fn live(&self) -> usize {
        self.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(index: u32, generation: u32) -> u32 {
        generation << INDEX_BITS | index
    }

    /// A view of a storage that is alive as long as somebody else holds it too.
    fn value(storage: &Arc<()>) -> Content<()> {
        Content::Value(Value { storage: Arc::clone(storage), offset: 0, numel: 3, dtype: Dtype::F32 })
    }

    #[test]
    fn a_stale_generation_is_disposed() {
        let storage = Arc::new(());
        let mut slots = Slots::default();
        assert_eq!(slots.get(7).err().unwrap().code(), "ERR_DISPOSED");
        slots.reserve(number(7, 0)).unwrap();
        slots.set(number(7, 0), value(&storage));
        assert!(slots.get(number(7, 0)).is_ok());
        assert!(slots.get(number(7, 1)).is_err());
        slots.set(number(7, 1), value(&storage));
        assert!(slots.get(number(7, 0)).is_err());
        slots.free(number(7, 0));
        assert!(slots.get(number(7, 1)).is_ok(), "a stale free must not touch the new value");
        assert_eq!(slots.live(), 1);
        slots.free(number(7, 1));
        slots.free(number(7, 1));
        assert_eq!(slots.live(), 0);
        assert_eq!(Arc::strong_count(&storage), 1);
    }

    #[test]
    fn views_share_memory_until_the_last_one_goes() {
        let storage = Arc::new(());
        let mut slots = Slots::default();
        for index in [0, 1] {
            slots.reserve(index).unwrap();
        }
        let content = value(&storage);
        slots.set(0, content.clone());
        slots.set(1, content);
        slots.free(0);
        assert_eq!(Arc::strong_count(&storage), 2);
        slots.free(1);
        assert_eq!(Arc::strong_count(&storage), 1);
    }

    #[test]
    fn the_largest_index_fits_and_costs_no_crash() {
        let mut slots = Slots::<()>::default();
        slots.reserve(u32::MAX).unwrap();
        slots.set(u32::MAX, Content::Failed(Failure::new(Error::Internal("x".into()), None)));
        assert!(slots.get(u32::MAX).is_ok());
        assert!(slots.get(INDEX_MASK).is_err());
    }
}
