//! The `gpu` device: the same plans as `cpu`'s, run on Vulkan, Metal or DX12 through wgpu.
//!
//! `kernels` turns each step of a plan into dispatches of generated WGSL, without touching a GPU; the rest runs them.

pub mod adapter;
mod block;
mod engine;
mod fault;
mod frame;
mod handle;
mod health;
pub mod kernels;
pub mod lab;
mod physical;
pub mod pipeline;
mod planned;
mod recorder;
mod staging;
#[cfg(test)]
mod tests;
mod thread;
pub mod traits;
pub mod unthreaded;
mod waiting;
mod walk;

pub use adapter::{Description, enumerate};
pub use handle::{Choice, Device, Limit};
pub use traits::{Class, Traits};
