//! The `cpu` device: SIMD kernels, one file per operation family, over a pool of threads.

pub mod activation;
pub mod batch_norm;
pub mod device;
pub mod elementwise;
pub mod gather;
pub mod gemm;
mod idle;
pub mod isa;
pub mod lanes;
pub mod loss;
pub mod math;
pub mod norm;
pub mod optim;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod scan;
pub mod shape;
mod share;
pub mod softmax;
pub mod top_k;

pub use isa::Isa;
pub use pool::Pool;

/// What every kernel needs to know about the machine: which instructions it may use and whom it may ask for help.
pub struct Cpu {
    /// The instruction set chosen at start-up.
    pub isa: Isa,
    /// The threads that share the work; the caller is one of them.
    pub pool: Pool,
}
