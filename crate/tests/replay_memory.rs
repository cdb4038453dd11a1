//! A compiled training step that runs again and again allocates nothing on the heap, on no thread. A test binary of its
//! own, because it counts the allocations of the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tilegrad::cpu;

mod training;

use training::{Step, run, wait};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator; the counter changes nothing about it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WARM_UP: u32 = 100;
const RUNS: u32 = 1000;
/// The scratch memory of a thread grows with the largest share of a kernel that it has ever taken, which is up to the
/// operating system: the warm-up may have left some of it to the first thousand runs. What a run itself allocated, or an
/// epoch of the memory pool, would be seen in all of them.
const ATTEMPTS: usize = 3;

#[test]
fn a_replay_allocates_nothing() {
    // Through the device's thread, on one thread of the pool and on two; and on the caller's thread.
    for (threads, rows, layers) in [(1, 32, &[784, 512, 256, 10]), (2, 32, &[784, 512, 256, 10]), (1, 2, &[4, 5, 6, 3])]
    {
        let machine = cpu::device::machine(threads).unwrap();
        let device = cpu::device::Device::open(machine, None, true).unwrap();
        let mut step = Step::new(rows, layers);
        step.load(&device);
        let mut turn = 0;
        let mut count = |runs: u32| {
            let before = COUNT.load(Relaxed);
            for _ in 0..runs {
                turn += 1;
                run(&device, step.next(), turn);
            }
            wait(&device);
            COUNT.load(Relaxed) - before
        };
        assert!(count(WARM_UP) > 0, "allocations are counted");
        let mut left = [usize::MAX; ATTEMPTS];
        let _ = left.iter_mut().any(|left| {
            *left = count(RUNS);
            *left == 0
        });
        assert!(left.contains(&0), "{threads} threads, {rows} rows: {left:?} allocations in {RUNS} runs");
        let loss = step.loss(&device);
        assert!(loss < 0.1, "it has learned: {loss}");
    }
}
