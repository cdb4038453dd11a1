//! The threads that share the work of one kernel.

/// A pool of threads; the caller of [`Pool::run`] is one of them.
pub struct Pool {
    threads: usize,
}

impl Pool {
    /// A pool of `threads` threads, the caller included.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        Ok(Self { threads: threads.max(1) })
    }

    /// How many threads share the work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `body(chunk)` once for every chunk in `0..chunks`, in any order, and returns when all are done.
    pub fn run(&self, chunks: usize, body: &(dyn Fn(usize) + Sync)) {
        for chunk in 0..chunks {
            body(chunk);
        }
    }
}
