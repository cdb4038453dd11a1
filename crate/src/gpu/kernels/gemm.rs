//! The gemm family.
use super::{Prepared, Target};
use crate::cpu::activation::Activation;
use crate::error::{Error, Result};
use crate::plan::Kernel;
use crate::program::op::Wanted;

pub(super) fn matmul(_: &Kernel, _: bool, _: bool, _: Target) -> Result<Prepared> {
    Err(Error::Internal("matmul is not there yet".into()))
}

pub(super) fn linear(_: &Kernel, _: Activation, _: bool, _: Target) -> Result<Prepared> {
    Err(Error::Internal("linear is not there yet".into()))
}

pub(super) fn linear_grad(_: &Kernel, _: Activation, _: Wanted, _: Target) -> Result<Prepared> {
    Err(Error::Internal("linear_grad is not there yet".into()))
}
