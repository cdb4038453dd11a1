//! The native devices of tilegrad. This file is a map of the crate and the module list, nothing else.
//!
//! A *program* (a list of words written by the TypeScript SDK) comes in through [`napi`], is decoded and validated in
//! [`program`], planned in [`plan`] (fusion, buffer reuse) and run by the kernels of [`cpu`] or [`gpu`];
//! what these two have in common as devices stands in [`device`].

pub mod cpu;
pub mod device;
pub mod dtype;
pub mod error;
pub mod gpu;
#[cfg(feature = "napi")]
pub mod napi;
pub mod plan;
pub mod program;
pub mod shape;
