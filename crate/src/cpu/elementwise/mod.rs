//! Elementwise work. A lone instruction and a fused chain are the same thing here: a [`Chain`] of steps over one
//! iteration shape, evaluated piece by piece in the first-level cache with one vector loop per step. So fused and unfused
//! results have the same bits.
//!
//! Broadcasting is strides; reductions, products and movement of data live in other files.

mod chain;
mod eval;
mod layout;
mod places;
mod spans;
#[cfg(test)]
mod tests;

pub use chain::Chain;
pub(crate) use eval::scalar;
pub(crate) use layout::{Layout, strides_over};
pub use spans::Feed;
pub(in crate::cpu) use spans::{Elements, Evaluation, Part, Source};
