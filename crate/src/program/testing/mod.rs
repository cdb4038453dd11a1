//! What the tests of programs and plans share: numbers from a seed, a [`Writer`] of words, and [`random_program`]s, which are
//! valid. Nothing here checks anything: a test that wants a broken program breaks the words itself.

mod draw;
mod writer;

pub(crate) use draw::random_program;
pub(crate) use writer::{A, BOOL, F32, I32, Writer};

/// `SplitMix64`: the same numbers from the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        if bound == 0 { 0 } else { (self.next() % u64::from(bound)) as u32 }
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}
