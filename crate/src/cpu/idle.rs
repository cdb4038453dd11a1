//! Memory that threads keep between kernels: packed slabs of products and scratch for partial results, so that a call that
//! repeats allocates nothing. It belongs to the threads of the process (callers, device threads, the pool), not to a device;
//! any thread can count it and free it. What a kernel is using at the moment is with the kernel, and neither counted nor
//! freed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::gemm::Scratch;

/// What one thread keeps. The locks are there for [`bytes`] and [`free`]: nobody else contends.
#[derive(Default)]
pub(super) struct Idle {
    packing: Mutex<Scratch>,
    words: Mutex<Vec<Vec<u32>>>,
}

/// What the threads keep that have ever kept something; those that have ended leave an empty entry.
static THREADS: Mutex<Vec<Weak<Idle>>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: Arc<Idle> = Idle::enter();
}

impl Idle {
    fn enter() -> Arc<Self> {
        let idle = Arc::new(Self::default());
        let mut threads = lock(&THREADS);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(&idle));
        idle
    }

    fn bytes(&self) -> usize {
        let words: usize = lock(&self.words).iter().map(Vec::capacity).sum();
        lock(&self.packing).byte_length() + words * size_of::<u32>()
    }
}

/// Lends the calling thread's packing buffers, which stay allocated for the next call.
pub(super) fn with_packing<R>(body: impl FnOnce(&mut Scratch) -> R) -> R {
    // Taken out, not borrowed: a nested call gets fresh ones instead of waiting for itself.
    let mut scratch = HERE.with(|idle| std::mem::take(&mut *lock(&idle.packing)));
    let result = body(&mut scratch);
    HERE.with(|idle| *lock(&idle.packing) = scratch);
    result
}

/// A buffer of words that the calling thread has kept, or an empty one.
pub(super) fn take_words() -> Vec<u32> {
    HERE.with(|idle| lock(&idle.words).pop()).unwrap_or_default()
}

/// Keeps a buffer for the calling thread. They are a stack, because a kernel may run tasks of another call while it waits.
pub(super) fn keep_words(buffer: Vec<u32>) {
    HERE.with(|idle| lock(&idle.words).push(buffer));
}

/// Bytes that the threads of this process keep.
pub(super) fn bytes() -> u64 {
    all().map(|idle| idle.bytes() as u64).sum()
}

/// Frees what the threads of this process keep.
pub(super) fn free() {
    for idle in all() {
        // Outside the locks: a thread that comes for its buffers does not wait for the system.
        let packing = std::mem::take(&mut *lock(&idle.packing));
        let words = std::mem::take(&mut *lock(&idle.words));
        drop((packing, words));
    }
}

fn all() -> impl Iterator<Item = Arc<Idle>> {
    let threads: Vec<_> = lock(&THREADS).iter().filter_map(Weak::upgrade).collect();
    threads.into_iter()
}

/// None of these locks guards anything that a panic could leave half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn what_another_thread_keeps_is_counted_and_freed_while_it_lives() {
        let (kept, wait) = (channel(), channel::<()>());
        let worker = thread::spawn(move || {
            keep_words(vec![0; 1 << 20]);
            let here = HERE.with(Arc::clone);
            kept.0.send(Arc::downgrade(&here)).unwrap();
            drop(here);
            wait.1.recv().unwrap();
            take_words().capacity()
        });
        let idle: Weak<Idle> = kept.1.recv().unwrap();
        assert_eq!(idle.upgrade().unwrap().bytes(), 4 << 20);
        assert!(bytes() >= 4 << 20);
        free();
        assert_eq!(idle.upgrade().unwrap().bytes(), 0);
        wait.0.send(()).unwrap();
        assert_eq!(worker.join().unwrap(), 0, "the thread begins anew");
        assert!(idle.upgrade().is_none(), "a thread that ends keeps nothing");
    }
}
