//! Activations: formula, derivative, and what the derivative needs. One definition serves the stand-alone operations,
//! the epilogue of `linear` and its backward, so that fused and unfused results have the same bits.

use super::Isa;

/// Activations that `linear` can fuse. The numbers are those of the stream (`ts/program/opcodes.ts`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Activation {
    /// y = z.
    None = 0,
    /// z > 0 ? z : 0; NaN stays.
    Relu = 1,
    /// z > 0 ? z : 0.01 z.
    LeakyRelu = 2,
    /// z > 0 ? z : expm1(z).
    Elu = 3,
    /// 1 / (1 + e^−z), two-sided.
    Sigmoid = 4,
    /// Hyperbolic tangent.
    Tanh = 5,
    /// z σ(z).
    Silu = 6,
    /// log1p(e^z), linear above 20.
    Softplus = 7,
    /// z > 0 ? 1 : 0.
    Heaviside = 8,
    /// z Φ(z), by erf.
    Gelu = 9,
    /// The tanh approximation of GELU.
    GeluTanh = 10,
}

impl Activation {
    /// Reads the stream's number.
    pub fn from_code(code: u32) -> Option<Self> {
        const ALL: [Activation; 11] = [
            Activation::None,
            Activation::Relu,
            Activation::LeakyRelu,
            Activation::Elu,
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::Silu,
            Activation::Softplus,
            Activation::Heaviside,
            Activation::Gelu,
            Activation::GeluTanh,
        ];
        ALL.get(code as usize).copied()
    }

    /// Whether the derivative is a function of z (then z is saved) and not of y.
    pub fn saves_z(self) -> bool {
        matches!(self, Self::LeakyRelu | Self::Silu | Self::Softplus | Self::Gelu | Self::GeluTanh)
    }
}

/// Applies the activation in place.
pub fn apply(_isa: Isa, act: Activation, y: &mut [f32]) {
    if act == Activation::Relu {
        for v in y {
            *v = if *v <= 0.0 { 0.0 } else { *v };
        }
    }
}
