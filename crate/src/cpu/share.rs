//! How kernels hand out work: how many tasks a piece of work deserves, disjoint parts of one output for concurrent
//! tasks, and scratch memory that outlives the call. The answers never change a result: kernels fix the order of their
//! sums by position, not by task.

use std::marker::PhantomData;
use std::ops::Range;
use std::panic::resume_unwind;

use super::{Cpu, idle};
use crate::error::Error;

/// No task gets less than this, so that claiming it stays negligible.
const TASK_PS: u64 = 2_000_000;

/// Tasks per thread: enough for a thread that starts late to be helped, few enough to stay cheap.
const TASKS_PER_THREAD: usize = 4;

impl Cpu {
    /// Into how many tasks to cut work that would take one thread `picoseconds`; at most `most`, 1 if it is small.
    pub(super) fn tasks(&self, picoseconds: u64, most: usize) -> usize {
        let threads = self.pool.threads_for(picoseconds / 1000);
        if threads == 1 {
            return 1;
        }
        let worthwhile = usize::try_from(picoseconds / TASK_PS).unwrap_or(usize::MAX);
        (threads * TASKS_PER_THREAD).min(worthwhile).min(most).max(1)
    }

    /// Cuts `0..items` into `tasks` ranges of almost equal length and calls `body` with each; alone if there is one.
    pub(super) fn ranges(&self, tasks: usize, items: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
        if tasks <= 1 {
            body(0..items);
        } else {
            self.pool.run(tasks, &|task| body(items * task / tasks..items * (task + 1) / tasks));
        }
    }
}

/// A slice whose disjoint parts several tasks write at once.
pub(super) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]`, which may go to another thread when T may.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: the only access is `part`, whose callers promise disjoint ranges: no element is reached from two threads.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

/// Copies stand for the same slice: whoever asks for a part promises that no other is alive in any of them.
impl<T> Copy for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// The elements of `range`; panics if they do not all exist.
    ///
    /// # Safety
    /// No other part that overlaps it may be alive.
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {}", self.len);
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise, alive for 'a by `borrow`.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// The elements of `range`, to read; panics if they do not all exist.
    ///
    /// # Safety
    /// No part that overlaps it may be alive, and its elements must have been written before by this task or before the
    /// tasks began.
    pub(super) unsafe fn read(&self, range: Range<usize>) -> &'a [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {}", self.len);
        // SAFETY: in bounds by the assertion, not being written by the caller's promise, alive for 'a by `borrow`.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }
}

/// Buffers of more words than this, 4 MiB, go back to the system after use.
const KEPT: usize = 1 << 20;

/// Calls `body` with `words` words of scratch memory, aligned to a cache line and with arbitrary content. Buffers are kept
/// by the thread unless they are large: a repeated call allocates nothing.
///
/// # Panics
/// With [`Error::OutOfMemory`] when the system has no more: kernels return no errors, and whoever guards them makes it one.
pub(super) fn with_scratch<R>(words: usize, body: impl FnOnce(&mut [u32]) -> R) -> R {
    const LINE: usize = 16;
    let mut buffer = idle::take_words();
    let wanted = words.saturating_add(LINE);
    if buffer.len() < wanted {
        if buffer.try_reserve_exact(wanted - buffer.len()).is_err() {
            let bytes = words.saturating_mul(size_of::<u32>());
            resume_unwind(Box::new(Error::OutOfMemory(format!("no memory for {bytes} bytes of scratch"))));
        }
        buffer.resize(wanted, 0);
    }
    let skip = buffer.as_ptr().align_offset(LINE * size_of::<u32>()).min(LINE);
    let result = body(&mut buffer[skip..skip + words]);
    if buffer.len() <= KEPT {
        idle::keep_words(buffer);
    }
    result
}

/// The same for floats.
pub(super) fn with_floats<R>(count: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    with_scratch(count, |words| {
        // SAFETY: every word is a float and every float a word, of the same size and alignment.
        body(unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) })
    })
}

/// Words as the numbers whose bits they are.
pub(super) fn floats(words: &[u32]) -> &[f32] {
    // SAFETY: equal in size and alignment, and any bits are a float.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
}

/// The bits of numbers.
pub(super) fn words(floats: &[f32]) -> &[u32] {
    // SAFETY: equal in size and alignment, and any float is a word.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), floats.len()) }
}

/// The same for pairs of words.
pub(super) fn with_longs<R>(count: usize, body: impl FnOnce(&mut [u64]) -> R) -> R {
    with_scratch(count.saturating_mul(2), |words| {
        // SAFETY: two words are as good as one number of twice the size, and they begin at a cache line.
        body(unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() / 2) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, Pool};

    #[test]
    fn small_work_stays_on_the_caller() {
        let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(2).unwrap() };
        assert_eq!(cpu.tasks(1_000, 100), 1);
        assert_eq!(cpu.tasks(u64::MAX, 100), 8);
        assert_eq!(cpu.tasks(u64::MAX, 3), 3);
        assert_eq!(cpu.tasks(u64::MAX, 0), 1);
    }

    #[test]
    fn ranges_cover_everything_once() {
        let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(2).unwrap() };
        for (tasks, items) in [(1, 0), (1, 5), (3, 2), (8, 1009)] {
            let mut hits = vec![0u32; items];
            let shared = Shared::new(&mut hits);
            cpu.ranges(tasks, items, &|range| {
                // SAFETY: `ranges` gives disjoint ranges; that is what is tested.
                for hit in unsafe { shared.part(range) } {
                    *hit += 1;
                }
            });
            assert!(hits.iter().all(|&h| h == 1));
        }
    }

    #[test]
    fn nested_scratch_is_disjoint_and_aligned() {
        with_scratch(100, |outer| {
            outer.fill(1);
            with_scratch(200, |inner| {
                inner.fill(2);
                assert_eq!(inner.as_ptr() as usize % 64, 0);
            });
            assert!(outer.iter().all(|&w| w == 1));
        });
    }

    #[test]
    fn scratch_beyond_the_machine_is_an_error_and_large_scratch_is_not_kept() {
        for words in [1 << 60, usize::MAX] {
            let payload = std::panic::catch_unwind(|| with_scratch(words, |_| ())).unwrap_err();
            assert_eq!(Error::from_panic(&*payload).code(), "ERR_OUT_OF_MEMORY");
        }
        with_scratch(KEPT + 1, |_| with_scratch(10, |_| ()));
        assert!(idle::take_words().capacity() <= KEPT);
    }
}
