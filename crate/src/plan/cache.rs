//! Plans by the code they were made from. A training loop records the same words again and again: the second time costs a
//! hash and a comparison. Bounded: the plan that has not been asked for the longest makes room.

use super::{Options, Plan};
use crate::error::Result;
use crate::program::{Program, Stream};
use std::collections::HashMap;
use std::sync::Arc;

/// A program and its plan.
#[derive(Debug)]
pub struct Planned {
    /// What the words said; texts of errors come from it.
    pub program: Program,
    /// How to run it.
    pub plan: Plan,
}

impl Planned {
    /// Decodes, validates and plans code words.
    pub fn new(code: &[u32], options: Options) -> Result<Self> {
        let program = Program::decode(code)?;
        let plan = Plan::new(&program, options)?;
        Ok(Self { program, plan })
    }
}

/// How a cache has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Streams whose plan was there.
    pub hits: u64,
    /// Streams that had to be decoded and planned, valid or not.
    pub misses: u64,
    /// Plans kept now.
    pub entries: usize,
}

struct Entry {
    code: Box<[u32]>,
    planned: Arc<Planned>,
    /// The clock when it was last asked for.
    used: u64,
}

/// The plans of one device.
pub struct PlanCache {
    options: Options,
    capacity: usize,
    /// By hash of the code: almost always lists of one.
    entries: HashMap<u64, Vec<Entry>>,
    clock: u64,
    counters: Counters,
}

impl PlanCache {
    /// A cache of at most `capacity` plans.
    pub fn new(options: Options, capacity: usize) -> Self {
        Self { options, capacity, entries: HashMap::new(), clock: 0, counters: Counters::default() }
    }

    /// The plan of a stream's code, made if it is not there, once the stream binds what the code needs.
    pub fn get(&mut self, stream: &Stream) -> Result<Arc<Planned>> {
        self.clock += 1;
        let key = hash(stream.code);
        let found = self.entries.get_mut(&key).and_then(|list| list.iter_mut().find(|e| *e.code == *stream.code));
        if let Some(entry) = found {
            entry.used = self.clock;
            self.counters.hits += 1;
            entry.planned.plan.interface.check(stream)?;
            return Ok(Arc::clone(&entry.planned));
        }
        self.counters.misses += 1;
        let planned = Arc::new(Planned::new(stream.code, self.options)?);
        planned.plan.interface.check(stream)?;
        if self.capacity > 0 {
            if self.counters.entries >= self.capacity {
                self.evict();
            }
            let entry = Entry { code: stream.code.into(), planned: Arc::clone(&planned), used: self.clock };
            self.entries.entry(key).or_default().push(entry);
            self.counters.entries += 1;
        }
        Ok(planned)
    }

    /// How the cache has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Forgets the entry that was not asked for the longest. Looking through all is cheap beside planning.
    fn evict(&mut self) {
        let uses = self.entries.iter().flat_map(|(&key, list)| list.iter().map(move |entry| (entry.used, key)));
        let Some((used, key)) = uses.min() else { return };
        if let Some(list) = self.entries.get_mut(&key) {
            list.retain(|entry| entry.used != used);
            if list.is_empty() {
                self.entries.remove(&key);
            }
        }
        self.counters.entries -= 1;
    }
}

/// FNV-1a with words for bytes: the full comparison behind it forgives collisions.
fn hash(code: &[u32]) -> u64 {
    code.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &word| (hash ^ u64::from(word)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::testing::{F32, Writer};

    const OPTIONS: Options = Options { fuse: true, in_place: true };

    fn relu_of(rows: u32) -> Vec<u32> {
        let mut writer = Writer::default();
        let x = writer.input(F32, &[rows, 2]);
        let y = writer.like("relu", &[x], &[]);
        writer.output(y);
        writer.stream()
    }

    #[test]
    fn the_same_code_gives_the_same_plan() {
        let mut cache = PlanCache::new(OPTIONS, 4);
        let words = relu_of(3);
        let stream = Stream::parse(&words).unwrap();
        let first = cache.get(&stream).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.get(&stream).unwrap()));
        assert_eq!(cache.counters(), Counters { hits: 1, misses: 1, entries: 1 });
    }

    #[test]
    fn the_plan_that_waited_longest_makes_room() {
        let mut cache = PlanCache::new(OPTIONS, 2);
        let streams: Vec<_> = (1..4).map(relu_of).collect();
        let get = |cache: &mut PlanCache, i: usize| cache.get(&Stream::parse(&streams[i]).unwrap()).unwrap();
        let (first, second) = (get(&mut cache, 0), get(&mut cache, 1));
        get(&mut cache, 0);
        get(&mut cache, 2);
        assert_eq!(cache.counters().entries, 2);
        assert!(Arc::ptr_eq(&first, &get(&mut cache, 0)));
        assert!(!Arc::ptr_eq(&second, &get(&mut cache, 1)));
    }

    #[test]
    fn a_hit_still_checks_what_the_stream_binds() {
        let mut cache = PlanCache::new(OPTIONS, 2);
        let words = relu_of(3);
        cache.get(&Stream::parse(&words).unwrap()).unwrap();
        // The freed slot becomes a second input: the code is the same, what it is bound to is not.
        let mut wrong = words;
        wrong[1] += 1;
        wrong[3] -= 1;
        assert!(cache.get(&Stream::parse(&wrong).unwrap()).is_err());
    }

    #[test]
    fn bad_code_is_not_kept() {
        let mut cache = PlanCache::new(OPTIONS, 2);
        assert!(cache.get(&Stream::parse(&[0x5447_4c31, 0, 0, 0, 0, 1, 99]).unwrap()).is_err());
        assert_eq!(cache.counters(), Counters { hits: 0, misses: 1, entries: 0 });
    }
}
