//! The machine a device computes on: how many threads are worth having, and the pool that all devices of a process share.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::available_parallelism;

use crate::cpu::{Cpu, Isa, Pool};
use crate::error::{Error, Result};

/// More threads than any machine this could run on: a larger number is a mistake, not a wish.
const MOST_THREADS: usize = 1024;

/// Logical processors that this process may use.
pub fn logical_processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Physical cores that this process may use: two hardware threads of one core share its arithmetic units, so kernels gain
/// nothing from the second.
pub fn default_threads() -> usize {
    (logical_processors() / threads_per_core()).max(1)
}

#[cfg(target_arch = "x86_64")]
fn threads_per_core() -> usize {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// Extended topology: at level 0, EBX has the logical processors of one core.
    const TOPOLOGY: u32 = 0xB;
    if __cpuid(0).eax < TOPOLOGY {
        return 1;
    }
    ((__cpuid_count(TOPOLOGY, 0).ebx & 0xFFFF) as usize).max(1)
}

#[cfg(not(target_arch = "x86_64"))]
fn threads_per_core() -> usize {
    1
}

/// The machine with a pool of `threads` threads, the caller included. Devices with equal numbers share it: a pool that is
/// busy for one of them leaves the other its own thread.
///
/// # Errors
/// [`Error::NoDevice`] when the system refuses threads.
pub fn machine(threads: usize) -> Result<Arc<Cpu>> {
    static SHARED: Mutex<Weak<Cpu>> = Mutex::new(Weak::new());
    let threads = threads.clamp(1, MOST_THREADS);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cpu) = shared.upgrade()
        && cpu.pool.threads() == threads
    {
        return Ok(cpu);
    }
    let pool =
        Pool::new(threads).map_err(|error| Error::NoDevice(format!("cannot start {threads} threads: {error}")))?;
    let cpu = Arc::new(Cpu { isa: Isa::detect(), pool });
    *shared = Arc::downgrade(&cpu);
    Ok(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_fits_the_machine() {
        assert!((1..=logical_processors()).contains(&default_threads()));
    }

    #[test]
    fn devices_with_equal_threads_share_a_pool() {
        let a = machine(2).unwrap();
        assert!(Arc::ptr_eq(&a, &machine(2).unwrap()));
        assert_eq!(machine(0).unwrap().pool.threads(), 1);
    }
}
