//! Host data on its way into and out of device memory, which the processor reaches like any other.

use std::slice;
use std::sync::Arc;

use super::memory::{Memory, Purpose, Value};
use crate::device::{Source, Target};
use crate::error::Result;

/// Copies host data into fresh device memory.
///
/// # Errors
/// [`Error::OutOfMemory`](crate::error::Error::OutOfMemory); [`Error::Program`](crate::error::Error::Program) for more
/// elements than a tensor may have.
pub fn place(source: &Source, memory: &Arc<Memory>) -> Result<Value> {
    let numel = source.numel()?;
    let storage = memory.allocate(numel, Purpose::Slot)?;
    // SAFETY: the storage has room for `numel` words, which are initialised, and is not shared yet.
    source.words_into(0, unsafe { slice::from_raw_parts_mut(storage.pointer(), numel) })?;
    Ok(Value { storage: Arc::new(storage), offset: 0, numel, dtype: source.dtype() })
}

/// Copies a value to the host.
///
/// # Errors
/// [`Error::Program`](crate::error::Error::Program) when type or size differ.
///
/// # Safety
/// Nothing writes to the value meanwhile: the caller holds the engine's lock.
pub unsafe fn fill(target: &mut Target, value: &Value) -> Result<()> {
    target.check(value.numel, value.dtype)?;
    // SAFETY: the value lies inside its storage, whose words are initialised; the caller promises the rest.
    target.fill_from(0, unsafe { slice::from_raw_parts(value.pointer(), value.numel) })
}
