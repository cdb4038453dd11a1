//! Matrix products: `matmul`, `linear` and the gradients of `linear`, in terms of GEMM. No transpose is ever
//! materialised. A right operand that lies in a slot may have a packed copy (see [`Weights`]); the bits are the same.

use std::sync::Arc;

use super::fused::{Behind, finished};
use super::memory::Storage;
use super::operands::Operands;
use super::prepare::Prepared;
use super::weights::Weights;
use crate::cpu::Cpu;
use crate::cpu::activation::Activation;
use crate::cpu::gemm::{self, Epilogue, Items, Matrix, Then, gemm_batched};
use crate::cpu::reduce::reduce;
use crate::cpu::share::floats;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::plan::{Base, Operand};
use crate::program::op::{Middle, ReduceOp, Wanted};

/// What products need.
pub struct Products<'a> {
    /// The machine.
    pub cpu: &'a Cpu,
    /// Packed copies.
    pub weights: &'a mut Weights,
    /// The operands.
    pub on: Operands<'a>,
    /// The chain behind a product.
    pub behind: Option<&'a Behind<'a>>,
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
    pub fn matmul(&mut self, prepared: &Prepared, transpose_a: bool, transpose_b: bool) -> Result<()> {
        let (a, b) = (self.on.operand(0)?, self.on.operand(1)?);
        let mut left = matrix(self.on.input(0)?, &a.dims, transpose_a);
        let right = matrix(self.on.input(1)?, &b.dims, transpose_b);
        let to = self.on.output(0)?;
        if to.is_empty() {
            return Ok(());
        }
        if let Prepared::Batches { a, b } = prepared {
            let items = |matrix, offsets| Items { matrix, offsets };
            return self.finished(0, |cpu, then| gemm_batched(cpu, items(left, a), items(right, b), to, then));
        }
        if !transpose_a {
            // One b for all of a's batch, whose rows follow each other.
            left.rows = outer(&a.dims, 1);
        }
        self.gemm(left, right, b, 0, to, Epilogue::NONE)
    }

    /// `[x, weight, bias?]` → y, z?.
    pub fn linear(&mut self, activation: Activation, save_z: bool) -> Result<()> {
        let (x, weight) = (self.on.operand(0)?, self.on.operand(1)?);
        let left = Matrix::new(self.on.input(0)?, outer(&x.dims, 1), last(&x.dims));
        let right = matrix(self.on.input(1)?, &weight.dims, false);
        let z = if save_z { Some(self.on.output(1)?) } else { None };
        let epilogue = Epilogue { bias: self.on.optional(2)?, activation, z, then: None };
        self.gemm(left, right, weight, 0, self.on.output(0)?, epilogue)
    }

    /// `[dy, saved?, x?, weight?]` → dx?, dweight?, dbias?: dz = dy ⊙ act′(saved), dx = dz·Wᵀ, dW = xᵀ·dz, db = Σ dz.
    pub fn linear_grad(&mut self, prepared: &Prepared, wanted: Wanted) -> Result<()> {
        let dy = self.on.operand(0)?;
        let (m, n) = (outer(&dy.dims, 1), last(&dy.dims));
        let dz: &[u32] = match prepared {
            Prepared::Derivative { dz, words } => {
                let scratch = self.on.scratch(*words)?;
                dz.run(self.cpu, &[self.on.input(0)?, self.on.input(1)?], &mut [scratch], &[]);
                scratch
            }
            _ => self.on.input(0)?,
        };
        let gradient = Matrix::new(floats(dz), m, n);
        let mut results = 0..;
        let mut next = || results.next().unwrap_or(usize::MAX);
        if wanted.dx {
            let weight = self.on.operand(3)?;
            let right = matrix(self.on.input(3)?, &weight.dims, true);
            let result = next();
            self.gemm(gradient, right, weight, result, self.on.output(result)?, Epilogue::NONE)?;
        }
        if wanted.dweight {
            let x = Matrix::new(self.on.input(2)?, m, last(&self.on.operand(2)?.dims));
            let result = next();
            let to = self.on.output(result)?;
            self.finished(result, |cpu, then| {
                gemm::gemm(cpu, x.t(), gradient, to, Epilogue { then, ..Epilogue::NONE })
            })?;
        }
        if wanted.dbias {
            let columns = Middle { outer: 1, count: m, inner: n };
            reduce(self.cpu, ReduceOp::Sum, columns, Dtype::F32, dz, self.on.output(next())?);
        }
        Ok(())
    }

    /// A product whose right operand lies where `right` says: the result at position `result`.
    fn gemm(
        &mut self,
        a: Matrix,
        b: Matrix,
        right: &Operand,
        result: usize,
        to: &mut [f32],
        epilogue: Epilogue,
    ) -> Result<()> {
        // Only what outlives the run comes again.
        let home: Option<(&Arc<Storage>, usize)> = match right.location.base {
            Base::Input(_) => self.on.frame().home(right),
            _ => None,
        };
        let packed = match home {
            Some((storage, offset)) => self.weights.packed(self.cpu, storage, offset, b),
            None => None,
        };
        let b = packed.map_or(b.into(), gemm::Operand::from);
        finished(self.cpu, self.behind, result, |cpu, then| gemm::gemm(cpu, a, b, to, Epilogue { then, ..epilogue }))
    }

    fn finished(&self, result: usize, product: impl FnOnce(&Cpu, Option<&Then>) -> Result<()>) -> Result<()> {
        finished(self.cpu, self.behind, result, product)
    }
}
