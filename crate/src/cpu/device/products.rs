//! Matrix products: `matmul`, `linear` and the gradients of `linear`, in terms of GEMM. No transpose is ever
//! materialised. A right operand that lies in a slot may have a packed copy (see [`Weights`]); the bits are the same.

use std::sync::Arc;

use super::frame::Frame;
use super::memory::Storage;
use super::prepare::Prepared;
use super::weights::Weights;
use crate::cpu::Cpu;
use crate::cpu::activation::Activation;
use crate::cpu::gemm::{Epilogue, Items, Matrix, gemm, gemm_batched};
use crate::error::{Error, Result};
use crate::plan::{Base, Kernel, Operand};
use crate::program::op::Wanted;

/// What products need besides their operands.
pub struct Products<'a> {
    /// The machine.
    pub cpu: &'a Cpu,
    /// Packed copies.
    pub weights: &'a mut Weights,
    /// The operands.
    pub frame: &'a Frame,
}

/// Product of all dimensions but the last `inner`.
fn outer(dims: &[u32], inner: usize) -> usize {
    dims[..dims.len().saturating_sub(inner)].iter().map(|&size| size as usize).product()
}

fn last(dims: &[u32]) -> usize {
    dims.last().map_or(1, |&size| size as usize)
}

/// A matrix of the last two dimensions: op(X), X transposed in memory or not.
fn matrix<'a>(data: &'a [f32], dims: &[u32], transposed: bool) -> Matrix<'a> {
    let (rows, cols) = (last(&dims[..dims.len().saturating_sub(1)]), last(dims));
    let stored = Matrix::new(data, rows, cols);
    if transposed { stored.t() } else { stored }
}

impl Products<'_> {
    /// `[a, b]` → c.
    pub fn matmul(&mut self, kernel: &Kernel, prepared: &Prepared, transpose_a: bool, transpose_b: bool) -> Result<()> {
        let (a, b, c) = (operand(kernel, 0)?, operand(kernel, 1)?, result(kernel, 0)?);
        // SAFETY: a plan keeps results apart from operands; this kernel changes only its result.
        let (left, right, to) = unsafe { (self.frame.read(a)?, self.frame.read(b)?, self.frame.write(c)?) };
        let mut left = matrix(left, &a.dims, transpose_a);
        let right = matrix(right, &b.dims, transpose_b);
        if let Prepared::Batches { a, b } = prepared {
            let items = |matrix, offsets| Items { matrix, offsets };
            return gemm_batched(self.cpu, items(left, a), items(right, b), to);
        }
        if !transpose_a {
            // One b for all of a's batch: its rows follow each other.
            left.rows = outer(&a.dims, 1);
        }
        self.gemm(left, right, b, to, Epilogue::NONE)
    }

    /// `[x, weight, bias?]` → y, z?.
    pub fn linear(&mut self, kernel: &Kernel, activation: Activation, save_z: bool) -> Result<()> {
        let (x, weight, y) = (operand(kernel, 0)?, operand(kernel, 1)?, result(kernel, 0)?);
        // SAFETY: as in `matmul`.
        let (rows, panel, to) = unsafe { (self.frame.read(x)?, self.frame.read(weight)?, self.frame.write(y)?) };
        let bias = match kernel.inputs.get(2).and_then(Option::as_ref) {
            // SAFETY: as in `matmul`.
            Some(bias) => Some(unsafe { self.frame.read(bias) }?),
            None => None,
        };
        let z = if save_z {
            // SAFETY: as in `matmul`.
            Some(unsafe { self.frame.write(result(kernel, 1)?) }?)
        } else {
            None
        };
        let left = Matrix::new(rows, outer(&x.dims, 1), last(&x.dims));
        self.gemm(left, matrix(panel, &weight.dims, false), weight, to, Epilogue { bias, activation, z })
    }

    /// `[dy, saved?, x?, weight?]` → dx?, dweight?, dbias?: dz = dy ⊙ act′(saved), dx = dz·Wᵀ, dW = xᵀ·dz, db = Σ dz.
    pub fn linear_grad(
        &mut self,
        kernel: &Kernel,
        prepared: &Prepared,
        wanted: Wanted,
        column_sums: impl FnOnce(&Cpu, &[f32], usize, &mut [f32]),
    ) -> Result<()> {
        let dy = operand(kernel, 0)?;
        let (m, n) = (outer(&dy.dims, 1), last(&dy.dims));
        // SAFETY: as in `matmul`; the scratch is this step's alone.
        let dz: &[f32] = unsafe {
            match prepared {
                Prepared::Derivative { dz: chain, .. } => {
                    let saved = operand(kernel, 1)?;
                    let dz = self.frame.scratch(dy.numel)?;
                    let inputs = [self.frame.read(dy)?, self.frame.read(saved)?];
                    chain.run(self.cpu, &inputs, &mut [dz], &[]);
                    floats(dz)
                }
                _ => self.frame.read(dy)?,
            }
        };
        let gradient = Matrix::new(dz, m, n);
        let mut results = 0..;
        let mut next = || result(kernel, results.next().unwrap_or(usize::MAX));
        if wanted.dx {
            let (weight, dx) = (operand(kernel, 3)?, next()?);
            // SAFETY: as in `matmul`.
            let (panel, to) = unsafe { (self.frame.read(weight)?, self.frame.write(dx)?) };
            self.gemm(gradient, matrix(panel, &weight.dims, true), weight, to, Epilogue::NONE)?;
        }
        if wanted.dweight {
            let (x, dweight) = (operand(kernel, 2)?, next()?);
            // SAFETY: as in `matmul`.
            let (rows, to) = unsafe { (self.frame.read(x)?, self.frame.write(dweight)?) };
            gemm(self.cpu, Matrix::new(rows, m, last(&x.dims)).t(), gradient, to, Epilogue::NONE)?;
        }
        if wanted.dbias {
            // SAFETY: as in `matmul`.
            column_sums(self.cpu, dz, n, unsafe { self.frame.write(next()?) }?);
        }
        Ok(())
    }

    /// A product whose right operand lies where `right` says.
    fn gemm(&mut self, a: Matrix, b: Matrix, right: &Operand, to: &mut [f32], epilogue: Epilogue) -> Result<()> {
        // Only what outlives the run comes again.
        let home: Option<(&Arc<Storage>, usize)> = match right.location.base {
            Base::Input(_) => self.frame.home(right),
            _ => None,
        };
        if let Some((storage, offset)) = home
            && let Some(packed) = self.weights.packed(self.cpu, storage, offset, b)
        {
            return gemm(self.cpu, a, packed, to, epilogue);
        }
        gemm(self.cpu, a, b, to, epilogue)
    }
}

/// Words as the numbers whose bits they are.
fn floats(words: &[u32]) -> &[f32] {
    // SAFETY: equal in size and alignment, and any bits are a float.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
}

/// An operand that must be there.
pub(super) fn operand(kernel: &Kernel, position: usize) -> Result<&Operand> {
    kernel
        .inputs
        .get(position)
        .and_then(Option::as_ref)
        .ok_or_else(|| Error::Internal(format!("operand {position} is missing")))
}

/// A result that must be there.
pub(super) fn result(kernel: &Kernel, position: usize) -> Result<&Operand> {
    kernel.outputs.get(position).ok_or_else(|| Error::Internal(format!("result {position} is missing")))
}
