//! Blocks of memory as the system gives them: aligned, zeroed, of a size class. Who owns one, and when it is used again,
//! is [`memory`](crate::device::memory)'s to say; a block that is dropped instead of freed leaks.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::device::class::{ALIGNMENT, words_of};
use crate::device::memory;

/// One aligned allocation. Its words are always initialised: fresh ones come zeroed from the system.
pub struct Block {
    words: NonNull<u32>,
    base: NonNull<u8>,
    class: usize,
}

// SAFETY: a block owns its memory and has no tie to the thread that allocated it.
unsafe impl Send for Block {}

/// A block's layout: system allocators zero lazily (whole pages, untouched) only below their own alignment, so the
/// block asks for 16 bytes and aligns itself inside a little more.
fn layout_of(words: usize) -> Option<Layout> {
    let bytes = words.checked_mul(4)?.checked_add(ALIGNMENT - 16)?;
    Layout::from_size_align(bytes, 16).ok()
}

// SAFETY: the words are only touched by whoever holds the engine's lock, or before the block is shared at all.
unsafe impl Sync for Block {}

impl Block {
    /// The first word, aligned to [`ALIGNMENT`].
    pub fn words(&self) -> *mut u32 {
        self.words.as_ptr()
    }
}

/// Asks the allocator for what has been freed: glibc keeps blocks of up to 32 MiB for itself, others do not.
pub fn give_back_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: it may be called at any time, from any thread; what is allocated stays where it is.
        unsafe { malloc_trim(0) };
    }
}

impl memory::Block for Block {
    type Origin = ();

    fn fresh((): &(), class: usize) -> Option<Self> {
        let layout = layout_of(words_of(class))?;
        // SAFETY: the layout is never of size zero, the smallest class has one unit.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let skip = base.align_offset(ALIGNMENT);
        // SAFETY: `base` is aligned to 16, so at most ALIGNMENT − 16 bytes are skipped, which the layout added.
        let words = unsafe { base.add(skip) }.cast();
        Some(Self { words, base, class })
    }

    fn class(&self) -> usize {
        self.class
    }

    /// Debug builds fill it with a pattern that shows up in any result of a kernel that does not write all of it.
    fn recycle(&mut self) {
        if cfg!(debug_assertions) {
            // SAFETY: the block holds that many words and nobody else knows it.
            unsafe { std::slice::from_raw_parts_mut(self.words(), words_of(self.class)) }.fill(0xFFC0_DEAD);
        }
    }

    fn free(self) {
        if let Some(layout) = layout_of(words_of(self.class)) {
            // SAFETY: `base` came from `alloc_zeroed` with the layout of the same class; `self` is consumed.
            unsafe { dealloc(self.base.as_ptr(), layout) };
        }
    }
}
