//! Random numbers from a counter, and dropout that draws by them: which seed, who draws, and from which row on. The
//! numbers are made in `cpu::random` and `gpu::kernels::random`.

/// Rows of random numbers. The scalars carry whole numbers of 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uniform {
    /// Elements of a row; the result is whole rows.
    pub inner: u32,
    /// Scalars: the words of the seed, low first.
    pub seed: [u32; 2],
    /// Scalar: who draws.
    pub site: u32,
    /// Scalar: how often they have drawn before.
    pub draw: u32,
    /// Scalar: number of the first row.
    pub row_base: u32,
}

/// What is left of rows of elements. Applied to dy it is its own gradient.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dropout {
    /// The random numbers, one for each element.
    pub of: Uniform,
    /// An element stays if its number is at least this times 2⁻²⁴; at most 2²⁴.
    pub threshold: u32,
    /// What is left is multiplied by this.
    pub scale: f64,
}
