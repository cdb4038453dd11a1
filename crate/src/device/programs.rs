//! Programs that have been compiled: kept by the number that the caller gave them until he releases it, whatever else
//! happens. What is prepared of one is each device's own. Nobody counts their memory: callers who keep many pay for many.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::plan::Plan;

/// What is known of a program once it has been compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgramInfo {
    /// Steps of its plan: kernels and fused chains.
    pub steps: usize,
    /// Bytes of all intermediates together, as the plan lays them out.
    pub arena_bytes: u64,
    /// The most bytes of intermediates alive at one step: no layout needs less.
    pub live_bytes: u64,
    /// How long decoding and planning took.
    pub planning: Duration,
}

impl ProgramInfo {
    /// What is known of a plan that took so long to make.
    pub fn new(plan: &Plan, planning: Duration) -> Self {
        let bytes = |words: usize| words as u64 * 4;
        Self { steps: plan.steps.len(), arena_bytes: bytes(plan.arena), live_bytes: bytes(plan.live), planning }
    }
}

/// The compiled programs of one device.
pub struct Programs<P> {
    by_number: HashMap<u32, Arc<P>>,
}

impl<P> Default for Programs<P> {
    fn default() -> Self {
        Self { by_number: HashMap::new() }
    }
}

impl<P> Programs<P> {
    /// Keeps a program, in place of any that had its number.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the table cannot grow; then there is no program with this number.
    pub fn insert(&mut self, number: u32, program: P) -> Result<()> {
        self.by_number.remove(&number);
        self.by_number.try_reserve(1).map_err(|_| Error::OutOfMemory("no room for another compiled program".into()))?;
        self.by_number.insert(number, Arc::new(program));
        Ok(())
    }

    /// The program with this number.
    ///
    /// # Errors
    /// [`Error::Program`] when there is none.
    pub fn get(&self, number: u32) -> Result<Arc<P>> {
        let found = self.by_number.get(&number).map(Arc::clone);
        found.ok_or_else(|| Error::Program(format!("program {number} has not been compiled on this device")))
    }

    /// Forgets a program, if it is there.
    pub fn remove(&mut self, number: u32) {
        self.by_number.remove(&number);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.by_number.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_the_last_program_that_got_it_until_it_is_released() {
        let mut programs = Programs::default();
        assert_eq!(programs.get(1).unwrap_err().code(), "ERR_PROGRAM");
        programs.insert(1, "first").unwrap();
        programs.insert(2, "second").unwrap();
        let first = programs.get(1).unwrap();
        programs.insert(1, "third").unwrap();
        assert_eq!((*first, *programs.get(1).unwrap()), ("first", "third"));
        programs.remove(1);
        programs.remove(1);
        assert!(programs.get(1).is_err());
        assert_eq!(*programs.get(2).unwrap(), "second");
        programs.clear();
        assert!(programs.get(2).is_err());
    }
}
