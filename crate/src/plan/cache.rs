//! Whatever a device prepares from code words, kept by those words. A training loop records the same words again and
//! again: the second time costs a hash and a comparison. Bounded, in entries and in words of code: what has not been asked
//! for the longest makes room.
//!
//! The key is the code alone. Slots and scalars stand before the code in a stream, so whoever takes something from here
//! still has to compare them with what the program needs ([`Interface::check`](crate::program::Interface::check)).

use crate::error::Result;
use std::collections::HashMap;
use std::sync::Arc;

/// How a cache has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Code that was there.
    pub hits: u64,
    /// Code that had to be decoded and planned, valid or not.
    pub misses: u64,
    /// Entries kept now.
    pub entries: usize,
}

struct Entry<P> {
    code: Box<[u32]>,
    value: Arc<P>,
    /// The clock when it was last asked for.
    used: u64,
}

/// Values by code words.
pub struct PlanCache<P> {
    capacity: usize,
    /// The most words of code that entries may have together, and how many they have.
    word_capacity: usize,
    words: usize,
    /// By hash of the code: almost always lists of one.
    entries: HashMap<u64, Vec<Entry<P>>>,
    clock: u64,
    counters: Counters,
}

impl<P> PlanCache<P> {
    /// A cache of at most `capacity` entries with at most `words` words of code together.
    pub fn new(capacity: usize, words: usize) -> Self {
        Self {
            capacity,
            word_capacity: words,
            words: 0,
            entries: HashMap::new(),
            clock: 0,
            counters: Counters::default(),
        }
    }

    /// What belongs to these words, made now if it is not there. Failures are not kept, nor
    /// is code that alone is more than the cache may hold.
    pub fn get(&mut self, code: &[u32], make: impl FnOnce(&[u32]) -> Result<P>) -> Result<Arc<P>> {
        self.clock += 1;
        let key = hash(code);
        let found = self.entries.get_mut(&key).and_then(|list| list.iter_mut().find(|entry| *entry.code == *code));
        if let Some(entry) = found {
            entry.used = self.clock;
            self.counters.hits += 1;
            return Ok(Arc::clone(&entry.value));
        }
        self.counters.misses += 1;
        let value = Arc::new(make(code)?);
        if self.capacity > 0 && code.len() <= self.word_capacity {
            let room = self.word_capacity - code.len();
            while (self.counters.entries >= self.capacity || self.words > room) && self.evict() {}
            self.words += code.len();
            let entry = Entry { code: code.into(), value: Arc::clone(&value), used: self.clock };
            self.entries.entry(key).or_default().push(entry);
            self.counters.entries += 1;
        }
        Ok(value)
    }

    /// Forgets everything but the counts.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.words = 0;
        self.counters.entries = 0;
    }

    /// How the cache has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Forgets the entry that was not asked for the longest; false when there is none. Looking through all is cheap beside
    /// planning.
    fn evict(&mut self) -> bool {
        let uses = self.entries.iter().flat_map(|(&key, list)| list.iter().map(move |entry| (entry.used, key)));
        let Some((used, key)) = uses.min() else { return false };
        if let Some(list) = self.entries.get_mut(&key) {
            let words = &mut self.words;
            list.retain(|entry| {
                let kept = entry.used != used;
                *words -= if kept { 0 } else { entry.code.len() };
                kept
            });
            if list.is_empty() {
                self.entries.remove(&key);
            }
        }
        self.counters.entries -= 1;
        true
    }
}

/// FNV-1a with words for bytes: the full comparison behind it forgives collisions.
fn hash(code: &[u32]) -> u64 {
    code.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &word| (hash ^ u64::from(word)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// The entry of a code is its last word.
    fn last(code: &[u32]) -> Result<u32> {
        code.last().copied().ok_or_else(|| Error::Program("no code".into()))
    }

    #[test]
    fn the_same_code_gives_the_same_entry() {
        let mut cache = PlanCache::new(4, 100);
        let first = cache.get(&[1, 2], last).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.get(&[1, 2], last).unwrap()));
        assert_eq!(*cache.get(&[2, 1], last).unwrap(), 1);
        assert_eq!(cache.counters(), Counters { hits: 1, misses: 2, entries: 2 });
    }

    #[test]
    fn what_waited_longest_makes_room() {
        let mut cache = PlanCache::new(2, 100);
        let (first, second) = (cache.get(&[0], last).unwrap(), cache.get(&[1], last).unwrap());
        cache.get(&[0], last).unwrap();
        cache.get(&[2], last).unwrap();
        assert_eq!(cache.counters().entries, 2);
        assert!(Arc::ptr_eq(&first, &cache.get(&[0], last).unwrap()));
        assert!(!Arc::ptr_eq(&second, &cache.get(&[1], last).unwrap()));
        cache.clear();
        assert_eq!(cache.counters(), Counters { hits: 2, misses: 4, entries: 0 });
    }

    #[test]
    fn thousands_of_codes_stay_within_the_bound() {
        let mut cache = PlanCache::new(16, 100);
        for i in 0..5000 {
            assert_eq!(*cache.get(&[i % 40], last).unwrap(), i % 40);
        }
        assert_eq!(cache.counters().entries, 16);
        assert_eq!(cache.entries.values().map(Vec::len).sum::<usize>(), 16);
    }

    #[test]
    fn long_code_makes_room_by_its_words() {
        let mut cache = PlanCache::new(16, 10);
        for i in 0..5 {
            cache.get(&[0, i], last).unwrap();
        }
        assert_eq!((cache.counters().entries, cache.words), (5, 10));
        cache.get(&[5; 3], last).unwrap();
        assert_eq!((cache.counters().entries, cache.words), (4, 9), "two of two words went for three");
        cache.get(&[6; 11], last).unwrap();
        assert_eq!((cache.counters().entries, cache.words), (4, 9), "too long to be kept");
        cache.get(&[7; 10], last).unwrap();
        assert_eq!((cache.counters().entries, cache.words), (1, 10));
        cache.get(&[7; 10], last).unwrap();
        assert_eq!(cache.counters().hits, 1);
        cache.clear();
        assert_eq!(cache.words, 0);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let mut cache = PlanCache::new(2, 100);
        assert!(cache.get(&[], last).is_err());
        assert_eq!(cache.counters(), Counters { hits: 0, misses: 1, entries: 0 });
    }
}
