//! Decoding and planning allocate no more than a multiple of the words they are given, however much the words announce.
//! A test binary of its own, because it counts allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tilegrad::plan::{Options, Plan};
use tilegrad::program::{MAGIC, Program, Stream};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator; the counters change nothing about it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were in use above what was before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    PEAK.load(Relaxed) - before
}

fn head(code: u32, words: u32) -> u32 {
    code | words << 16
}

#[test]
fn memory_is_a_multiple_of_the_words() {
    let input = [head(0, 3), 1, 0];
    // What costs the most memory per word: declarations of rank 0, outputs, wide operand lists, chains.
    let inputs = input.repeat(100_000);
    let outputs = [&input[..], &[head(1, 3), 1 << 8, 0].repeat(100_000)].concat();
    let mut wide = [head(0, 4), 1, 1 << 8, 1].to_vec();
    for shown in 1..=10 {
        let count: u32 = 60_000;
        wide.extend([head(137, count + 5), 1 | count << 8, 1 << 8, count]);
        wide.extend(vec![0; count as usize]);
        wide.push(0);
        wide.extend([head(1, 3), 1 << 8, shown]);
    }
    let mut chain = input.to_vec();
    for i in 0..100_000 {
        chain.extend([head(16, 4), 1 | 1 << 8, 0, i]);
    }
    chain.extend([head(1, 3), 1 << 8, 100_000]);
    let all: [(&str, &[u32]); 4] = [("inputs", &inputs), ("outputs", &outputs), ("wide", &wide), ("chain", &chain)];
    for (name, code) in all {
        let peak = peak_of(|| {
            let program = Program::decode(code).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(Plan::new(&program, Options::ALL).is_ok());
        });
        assert!(peak < 40 * 4 * code.len(), "{name}: {peak} bytes for {} of code", 4 * code.len());
    }

    // Announcements without words behind them cost nothing.
    let lies: [&[u32]; 5] = [
        &[MAGIC, u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX],
        &[MAGIC, 0, 0, 0, 0, 2, head(152, 2), 1 | 0xff_ffff << 8],
        &[MAGIC, 0, 0, 0, 0, 3, head(0, 3), 1, 0xff << 8],
        &[MAGIC, 0, 0, 0, 0, 9, head(0, 3), 1, 0, head(136, 6), 1 | 1 << 8, 0, 0, u32::MAX, 0],
        &[MAGIC, 0, 0, 0, 0, 3, head(0, 0xffff), 1, 0],
    ];
    for words in lies {
        let peak = peak_of(|| {
            let decoded = Stream::parse(words).and_then(|stream| Program::decode(stream.code));
            assert!(decoded.is_err());
        });
        assert!(peak < 4096, "{peak} bytes for {words:?}");
    }
}
