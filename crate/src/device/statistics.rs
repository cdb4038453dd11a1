//! What a device counts.

/// Bytes in use, by purpose.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Held by slots, memory shared by views once.
    pub live: u64,
    /// Held by the arena and the scratch memory of programs, which are kept for the next run.
    pub arena: u64,
    /// Kept for reuse.
    pub pool: u64,
    /// Copies of weights in the order in which products read them.
    pub packed: u64,
    /// The highest sum of `live` and `arena` so far.
    pub peak: u64,
}

/// Counters of a device.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Statistics {
    /// Bytes by purpose.
    pub memory: Usage,
    /// Bytes outside of that which make kernels and transfers faster, and which devices of a process share: packing buffers
    /// of threads, staging buffers of a GPU.
    pub scratch: u64,
    /// Jobs that wait or run.
    pub queued_jobs: usize,
    /// Bytes of uploads among them.
    pub queued_bytes: u64,
    /// Slots that hold a value or a failure.
    pub live_slots: usize,
    /// Plans in the cache.
    pub plans: usize,
    /// Streams that found their plan.
    pub plan_hits: u64,
    /// Streams that had to be planned.
    pub plan_misses: u64,
}
