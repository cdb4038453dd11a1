//! The `gpu` device: the same plans as `cpu`'s, run on Vulkan, Metal or DX12 through wgpu.
//!
//! `kernels` turns each step of a plan into dispatches of generated WGSL, without touching a GPU; the rest runs them.

pub mod adapter;
mod health;
pub mod kernels;
pub mod pipeline;
mod recorder;
mod staging;
pub mod traits;

pub use traits::{Class, Traits};
