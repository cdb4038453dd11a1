//! The only files that know Node: free functions over `u32` ids, no object per tensor. They convert and delegate; what a
//! device is stands in [`crate::device`]. TypeScript (`ts/backend/native.ts`) has checked every argument before it
//! calls; what is checked here again is what memory safety and the process depend on.
//!
//! Every export runs under [`failure::guard`]: a panic becomes `ERR_INTERNAL`, never the end of the process. No call
//! blocks longer than 20 ms, so that a worker can be terminated between calls.

// Node calls the exports; a test executable has nobody who does.
#![cfg_attr(test, allow(dead_code))]

mod device;
mod failure;
mod gpu;
mod info;
mod profile;
mod promise;
mod registry;
