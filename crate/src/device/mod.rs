//! What the devices of this crate have in common: what the rest of the addon asks of one ([`Device`]), and the parts that
//! do not depend on where it computes. [`queue`] orders the jobs of one caller, [`slots`] says what slot numbers stand for,
//! [`programs`] keeps what has been compiled, [`transfer`] takes host data in and out, [`memory`] recycles and counts blocks of the sizes in [`class`], [`bound`] is
//! what runs of plans have in common, [`profile`] notes when what was done, and [`failure`] keeps errors with the values they prevented. Nothing here allocates
//! device memory, runs a program or knows Node.

pub mod bound;
pub mod class;
pub mod failure;
pub mod memory;
pub mod profile;
pub mod programs;
pub mod queue;
pub mod slots;
mod statistics;
#[cfg(test)]
pub(crate) mod testing;
pub mod transfer;

use std::sync::Arc;
use std::time::Duration;

pub use failure::{Failure, Place};
pub use profile::Profiler;
pub use programs::ProgramInfo;
pub use statistics::{Statistics, Usage};
pub use transfer::{Source, Target};

use crate::error::Result;

/// Called once with how a job ended, on whatever thread that happens.
pub type Done = Box<dyn FnOnce(Told<()>) + Send>;

/// A result whose error may be shared by several values.
pub type Told<T> = std::result::Result<T, Arc<Failure>>;

/// Whether a caller should let the device catch up before it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// Go on.
    None,
    /// Call [`Device::wait`] until it says otherwise.
    Wait,
}

/// A running device as its caller sees it. It does everything in the order in which it is asked, and has one caller at a
/// time. Nothing blocks but the calls that say for how long. Dropping it abandons what it has not done.
pub trait Device: Send + Sync {
    /// Runs a stream after everything submitted before it. `turn` changes with every turn of the event loop.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::error::Error::Lost) when closed, [`Error::OutOfMemory`](crate::error::Error::OutOfMemory)
    /// when the stream cannot be copied. What goes wrong inside the program poisons its outputs instead.
    fn submit(&self, stream: &[u32], turn: u32) -> Result<Pressure>;

    /// Decodes and plans code words on the caller's thread, for any number of runs, and keeps the plan under a number. A
    /// program that had the number is forgotten, after what has been submitted.
    ///
    /// # Errors
    /// [`Error::Program`](crate::error::Error::Program) for words that are no program,
    /// [`Error::OutOfMemory`](crate::error::Error::OutOfMemory) when there is no room to plan them,
    /// [`Error::Lost`](crate::error::Error::Lost) when closed.
    fn compile(&self, program: u32, code: &[u32]) -> Result<ProgramInfo>;

    /// Runs a compiled program as [`Device::submit`] runs a stream. `stream` brings everything but code. Without such a
    /// program its outputs are poisoned.
    ///
    /// # Errors
    /// As for [`Device::submit`].
    fn run(&self, program: u32, stream: &[u32], turn: u32) -> Result<Pressure>;

    /// Forgets a compiled program, after what has been submitted. Does nothing without one, or on a closed device.
    fn release(&self, program: u32);

    /// Creates a slot from host data, which is copied before this returns.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::error::Error::Lost) when closed, [`Error::OutOfMemory`](crate::error::Error::OutOfMemory)
    /// when not even the host has room for a copy. A device without room poisons the slot instead.
    fn write(&self, slot: u32, source: &Source) -> Result<Pressure>;

    /// Copies a slot to the host now, if all work before is done and the copy is short or `any_size` is wanted; else
    /// does nothing and returns false.
    ///
    /// # Errors
    /// The slot's failure.
    fn read_now(&self, slot: u32, target: &mut Target, any_size: bool) -> Told<bool>;

    /// Copies a slot to the host once all work before it is done, then calls `done`.
    fn read(&self, slot: u32, target: Target, done: Done);

    /// Calls `done` when all work so far is done, with the first failure nobody has been told about.
    fn sync(&self, done: Done);

    /// Does what [`Device::sync`] does now, if all work is done; else does nothing and returns false.
    ///
    /// # Errors
    /// The first failure nobody has been told about.
    fn sync_now(&self) -> Told<bool>;

    /// Gives back all memory that only makes later work faster, once all work so far is done, then calls `done`.
    fn trim(&self, done: Done);

    /// Finishes all work, frees everything, then calls `done` with the first failure nobody has been told about. Every
    /// later call is [`Error::Lost`](crate::error::Error::Lost).
    fn close(&self, done: Done);

    /// Waits until the device is idle or `at_most` has passed; true when it is idle.
    fn wait_idle(&self, at_most: Duration) -> bool;

    /// Waits until there is room for more work or `at_most` has passed.
    fn wait(&self, at_most: Duration) -> Pressure;

    /// Gives up: queued work is dropped with its callbacks, running work stops as soon as it can, for which this waits at
    /// most `patience`. For the end of an environment, where no result can be told any more.
    fn abandon(&self, patience: Duration);

    /// What live slots should weigh with a garbage collector, in bytes.
    fn memory_pressure(&self) -> u64;

    /// The plan of code words as text, for people.
    ///
    /// # Errors
    /// As for [`Device::compile`].
    fn print_plan(&self, code: &[u32]) -> Result<String>;

    /// Where what the device does is noted while somebody wants to know.
    fn profiler(&self) -> &Profiler;

    /// Counters. While a program runs, all but those of memory may be older.
    fn statistics(&self) -> Statistics;

    /// Loses the device as a failing driver would, where there is a driver: for tests of what happens then.
    #[cfg(debug_assertions)]
    fn lose(&self) {}
}
