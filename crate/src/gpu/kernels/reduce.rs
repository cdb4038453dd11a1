//! The reduce family.
use super::{Prepared, Target};
use crate::error::{Error, Result};
use crate::plan::Kernel;
use crate::program::op::{Middle, ReduceOp};

pub(super) fn prepare(_: &Kernel, _: ReduceOp, _: Middle, _: Target) -> Result<Prepared> {
    Err(Error::Internal("prepare is not there yet".into()))
}
