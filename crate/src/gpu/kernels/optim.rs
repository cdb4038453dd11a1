//! The optim family.
use super::{Prepared, Target};
use crate::error::{Error, Result};
use crate::plan::Kernel;
use crate::program::op::{AdamW, Sgd};

pub(super) fn squared_norm(_: &Kernel, _: Target) -> Result<Prepared> {
    Err(Error::Internal("squared_norm is not there yet".into()))
}

pub(super) fn sgd(_: &Kernel, _: &Sgd, _: Target) -> Result<Prepared> {
    Err(Error::Internal("sgd is not there yet".into()))
}

pub(super) fn adamw(_: &Kernel, _: &AdamW, _: Target) -> Result<Prepared> {
    Err(Error::Internal("adamw is not there yet".into()))
}
