//! The few vector operations that the tile and the packing need, once per instruction set. The methods are
//! `#[inline(always)]` wrappers around intrinsics: they become instructions only inside the `#[target_feature]` functions
//! of [`super::kernels`], which are the only callers. Elementwise kernels do not use this trait: the compiler vectorises
//! plain loops well enough for them.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod scalar;

/// An instruction set, seen by the GEMM kernels.
///
/// # Safety
/// Every method requires that the CPU has the instruction set. Pointers must be valid for `LANES` floats, unless said
/// otherwise; no alignment is assumed.
pub(super) trait Simd {
    /// A register of `LANES` floats.
    type V: Copy;
    /// Floats per register.
    const LANES: usize;
    /// Rows of the tallest tile. With `PANEL` vectors per row, the accumulators, one row of B and a broadcast element
    /// of A fit the register file.
    const ROWS: usize;
    /// Vectors per row of a tile, which is the width of a panel of B.
    const PANEL: usize;

    /// Asks for a cache line to be brought near, if the instruction set can ask.
    #[inline(always)]
    unsafe fn prefetch(_line: *const f32) {}

    /// All lanes zero.
    unsafe fn zero() -> Self::V;
    /// Reads a vector.
    unsafe fn load(from: *const f32) -> Self::V;
    /// Writes a vector.
    unsafe fn store(to: *mut f32, v: Self::V);
    /// Reads one float into all lanes.
    unsafe fn splat(from: *const f32) -> Self::V;
    /// a + b.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a b + c, rounded once where the instruction set has it.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// z ≤ 0 ? +0 : z, so that NaN stays and −0 becomes +0: the bits of `activation::apply`.
    unsafe fn relu(z: Self::V) -> Self::V;
    /// Transposes a square block: lane `j` of the row at `from + i * stride` goes to `to + j * to_stride + i`. Rows from
    /// `rows` (at least 1) on are not read; what they leave behind is unspecified. Writes `LANES` whole vectors in ascending `j`, so with
    /// `to_stride < LANES` each overwrites the surplus of the one before it.
    unsafe fn transpose(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize);
}
