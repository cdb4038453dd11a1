//! The `cpu` device: slots, memory, a queue with its thread, and the walk over plans.
//!
//! `handle` is what the JavaScript thread calls, `queue` the thread that does the rest, `engine` what both do, one job at a
//! time. A stream goes through the plan cache (`prepare` is the device's part of a plan), is bound to `slots` and `memory`
//! in a `frame`, and `run` calls the kernels by `dispatch`, with `products` and their packed `weights` apart. What fails
//! becomes a `failure` in a slot. Nothing here knows Node.

mod block;
mod dispatch;
mod engine;
mod failure;
mod frame;
mod handle;
mod machine;
mod memory;
mod operands;
mod prepare;
mod products;
mod queue;
mod run;
mod slots;
mod transfer;
mod weights;

#[cfg(test)]
mod tests;

pub use engine::Statistics;
pub use failure::{Failure, Place};
pub use handle::{Device, Pressure};
pub use machine::{default_threads, logical_processors, machine};
pub use queue::Done;
pub use transfer::{Source, Target};
