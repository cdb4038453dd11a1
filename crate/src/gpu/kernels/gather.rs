//! The gather family.
use super::{Prepared, Target};
use crate::error::{Error, Result};
use crate::plan::Kernel;

pub(super) fn gather(_: &Kernel, _: usize, _: Target) -> Result<Prepared> {
    Err(Error::Internal("gather is not there yet".into()))
}

pub(super) fn scatter_add(_: &Kernel, _: usize, _: Target) -> Result<Prepared> {
    Err(Error::Internal("scatter_add is not there yet".into()))
}
