//! The shape family.
use super::{Prepared, Target};
use crate::error::{Error, Result};
use crate::plan::Kernel;

pub(super) fn assign(_: &Kernel, _: Target) -> Result<Prepared> {
    Err(Error::Internal("assign is not there yet".into()))
}

pub(super) fn add_into(_: &Kernel, _: Target) -> Result<Prepared> {
    Err(Error::Internal("add_into is not there yet".into()))
}

pub(super) fn transpose(_: &Kernel, _: &[u32], _: Target) -> Result<Prepared> {
    Err(Error::Internal("transpose is not there yet".into()))
}

pub(super) fn concat(_: &Kernel, _: usize, _: Target) -> Result<Prepared> {
    Err(Error::Internal("concat is not there yet".into()))
}

pub(super) fn slice(_: &Kernel, _: &[u32], _: Target) -> Result<Prepared> {
    Err(Error::Internal("slice is not there yet".into()))
}

pub(super) fn pad(_: &Kernel, _: &[u32], _: u32, _: Target) -> Result<Prepared> {
    Err(Error::Internal("pad is not there yet".into()))
}
