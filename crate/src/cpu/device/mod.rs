//! The `cpu` device: slots, memory, a queue with its thread, and the walk over plans.
//!
//! `handle` is what the JavaScript thread calls, `worker` the thread that does the rest, `engine` what both do, one job at a
//! time. A stream goes through the plan cache (`prepare` is the device's part of a plan), is bound to slots and `memory` in
//! a `frame`, and `run` calls the kernels by `dispatch`, with `products` and their packed `weights` apart. What does not
//! depend on where it computes stands in [`crate::device`]. Nothing here knows Node.

mod block;
mod dispatch;
mod engine;
mod frame;
mod fused;
mod handle;
mod machine;
mod memory;
mod operands;
mod prepare;
mod products;
mod run;
mod shells;
mod transfer;
mod weights;
mod worker;

#[cfg(test)]
mod tests;

pub use handle::Device;
pub use machine::{default_threads, logical_processors, machine};
