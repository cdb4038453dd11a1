//! General matrix multiplication in f32: C = act(op(A) op(B) + bias), where op may transpose.
//!
//! The contract of the sum over K: blocks of 256, inside a block one chain of fused multiply-adds from zero (a product and
//! a sum where the instruction set has none), block sums added in ascending order. An element's bits depend on its row
//! of op(A), its column of op(B) and K, and on nothing else: not on the number of rows, the threads, the tiling, the
//! packing, or on how the operands lie in memory. (Only which NaN comes out of several is left open.) K = 0 gives zeros
//! (plus bias, through the activation).
//!
//! `kernels` holds the instances per instruction set of `tile` (the microkernel over `simd`) and `pack`; `driver` cuts a
//! product into slabs and packs them, `compute` works through them. No general α and β, no other dtypes.

mod batched;
mod buffer;
mod compute;
mod driver;
mod kernels;
mod pack;
mod packed;
mod simd;
mod split;
mod tile;

#[cfg(test)]
mod tests;

pub use batched::{Items, gemm_batched};
pub(super) use buffer::Scratch;
pub use packed::PackedB;

use super::Cpu;
use super::activation::Activation;
use crate::error::Result;
use driver::{Problem, Right};
use kernels::Kernels;
use pack::Source;

/// A matrix operand op(X) of `rows × cols`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Row-major elements: of X, which is op(X), or of its transpose if `transposed`.
    pub data: &'a [f32],
    /// Rows of op(X).
    pub rows: usize,
    /// Columns of op(X).
    pub cols: usize,
    /// Whether the memory holds `cols × rows`.
    pub transposed: bool,
}

impl<'a> Matrix<'a> {
    /// The matrix that lies in memory as `rows × cols`, row-major.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, transposed: false }
    }

    /// Its transpose, without moving anything.
    #[must_use]
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }

    /// Whether `data` holds all elements from `offset` on.
    fn fits(&self, offset: usize) -> bool {
        let end = self.rows.checked_mul(self.cols).and_then(|len| len.checked_add(offset));
        end.is_some_and(|end| end <= self.data.len())
    }

    /// This matrix as A, from `offset` on: k runs along its columns.
    fn left(&self, offset: usize) -> Source {
        let (stride, k_stride) = if self.transposed { (1, self.rows) } else { (self.cols, 1) };
        self.source(offset, stride, k_stride)
    }

    /// This matrix as B, from `offset` on: k runs along its rows.
    fn right(&self, offset: usize) -> Source {
        let (stride, k_stride) = if self.transposed { (self.rows, 1) } else { (1, self.cols) };
        self.source(offset, stride, k_stride)
    }

    fn source(&self, offset: usize, stride: usize, k_stride: usize) -> Source {
        let data = &self.data[offset..];
        Source { data: data.as_ptr(), room: data.len(), k_stride, stride }
    }
}

/// The right operand: a matrix used this once, or panels prepared for many products.
#[derive(Clone, Copy)]
pub enum Operand<'a> {
    /// As it lies in memory.
    Matrix(Matrix<'a>),
    /// Packed before.
    Packed(&'a PackedB),
}

impl<'a> From<Matrix<'a>> for Operand<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        Self::Matrix(matrix)
    }
}

impl<'a> From<&'a PackedB> for Operand<'a> {
    fn from(packed: &'a PackedB) -> Self {
        Self::Packed(packed)
    }
}

/// What is done with a finished part of C: `(first, part)` are the position in C of its first element, and its elements.
/// Every element comes once.
pub type Then<'a> = dyn Fn(usize, &mut [f32]) + Sync + 'a;

/// What happens to the product while it is still in registers or near. The bits are those of the separate steps.
pub struct Epilogue<'a> {
    /// Added to every row: one float per column of C.
    pub bias: Option<&'a [f32]>,
    /// Applied to z.
    pub activation: Activation,
    /// Receives the pre-activation z = op(A) op(B) + bias, which some derivatives need; laid out as C.
    pub z: Option<&'a mut [f32]>,
    /// What else is done with C, last.
    pub then: Option<&'a Then<'a>>,
}

impl Epilogue<'_> {
    /// The plain product.
    pub const NONE: Self = Self { bias: None, activation: Activation::None, z: None, then: None };
}

/// C = act(op(A) op(B) + bias) with op(A) of M × K, op(B) of K × N and C of M × N, row-major. C is only written.
///
/// ```
/// use tilegrad::cpu::gemm::{Epilogue, Matrix, gemm};
/// use tilegrad::cpu::{Cpu, Isa, Pool};
/// let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(2)? };
/// let x = Matrix::new(&[1.0, 2.0, 3.0, 4.0], 2, 2);
/// let mut c = [0.0; 4];
/// gemm(&cpu, x, x.t(), &mut c, Epilogue { bias: Some(&[0.5, 0.0]), ..Epilogue::NONE })?;
/// assert_eq!(c, [5.5, 11.0, 11.5, 25.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// No memory for packed operands.
///
/// # Panics
/// If the inner sizes differ, a slice is shorter than its matrix, or B was packed for another instruction set.
pub fn gemm<'b>(cpu: &Cpu, a: Matrix, b: impl Into<Operand<'b>>, c: &mut [f32], epilogue: Epilogue) -> Result<()> {
    let (inner, n, right) = match b.into() {
        Operand::Matrix(b) => {
            assert!(b.fits(0), "gemm: B is shorter than {} × {}", b.rows, b.cols);
            (b.rows, b.cols, Right::Memory(b.right(0)))
        }
        Operand::Packed(b) => {
            assert!(b.panel() == Kernels::of(cpu.isa).panel, "gemm: B was packed for another instruction set");
            (b.rows(), b.cols(), Right::Panels(b.as_ptr()))
        }
    };
    let (m, k) = (a.rows, a.cols);
    assert!(a.fits(0), "gemm: A is shorter than {m} × {k}");
    assert!(k == inner, "gemm: op(A) has {k} columns, op(B) {inner} rows");
    let len = m.checked_mul(n);
    assert!(len.is_some_and(|len| len <= c.len()), "gemm: C is shorter than {m} × {n}");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() >= n), "gemm: the bias is shorter than {n}");
    assert!(epilogue.z.as_ref().is_none_or(|z| Some(z.len()) >= len), "gemm: z is shorter than {m} × {n}");
    if m == 0 || n == 0 {
        return Ok(());
    }
    let problem = Problem {
        isa: cpu.isa,
        m,
        n,
        k,
        a: a.left(0),
        b: right,
        c: c.as_mut_ptr(),
        bias: epilogue.bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
        activation: epilogue.activation,
        z: epilogue.z.map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr),
        then: epilogue.then,
        first: 0,
        turned: false,
    };
    problem.run(Some(&cpu.pool))
}
