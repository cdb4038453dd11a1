//! Activations: formula, derivative, and what the derivative needs. One definition serves the stand-alone operations,
//! fused chains, the epilogue of `linear` and its backward, so that fused and unfused results have the same bits.

#[cfg(test)]
mod tests;

use super::{Isa, math};

/// Activations that `linear` can fuse. The numbers are those of the stream (`ts/program/words.ts`).
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

    /// Whether it costs no more than a comparison.
    pub(super) fn is_piecewise_linear(self) -> bool {
        matches!(self, Self::None | Self::Relu | Self::LeakyRelu | Self::Heaviside)
    }

    /// The parameters that `linear` uses: the defaults of the stand-alone operations.
    pub fn default_parameters(self) -> [f64; 2] {
        match self {
            Self::LeakyRelu => [0.01, 0.0],
            Self::Elu => [1.0, 0.0],
            Self::Softplus => [1.0, 20.0],
            _ => [0.0; 2],
        }
    }

    /// The function with its default parameters; `None` for the identity.
    pub fn function(self) -> Option<Function> {
        self.with_parameters(self.default_parameters())
    }

    /// The function with the given parameters, in the order of its opcode's attributes; `None` for the identity.
    #[inline]
    pub fn with_parameters(self, parameters: [f64; 2]) -> Option<Function> {
        let [p, q] = parameters.map(|p| p as f32);
        Some(match self {
            Self::None => return None,
            Self::Relu => Function::Relu,
            Self::LeakyRelu => Function::LeakyRelu { slope: p },
            Self::Elu => Function::Elu { alpha: p },
            Self::Sigmoid => Function::Sigmoid,
            Self::Tanh => Function::Tanh,
            Self::Silu => Function::Silu,
            Self::Softplus => Function::Softplus { beta: p, threshold: q },
            Self::Heaviside => Function::Heaviside,
            Self::Gelu => Function::Gelu,
            Self::GeluTanh => Function::GeluTanh,
        })
    }
}

/// An activation with its parameters, as the stand-alone operations have it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Function {
    /// z > 0 ? z : 0; NaN stays. Derivative: y > 0.
    Relu,
    /// z > 0 ? z : slope·z.
    LeakyRelu {
        /// The slope on the left.
        slope: f32,
    },
    /// z > 0 ? z : α·expm1(z). Derivative: y > 0 ? 1 : y + α.
    Elu {
        /// The distance of the left asymptote from 0.
        alpha: f32,
    },
    /// 1 / (1 + e^−z). Derivative: y(1 − y).
    Sigmoid,
    /// Derivative: 1 − y².
    Tanh,
    /// z σ(z).
    Silu,
    /// βz > threshold ? z : log1p(e^βz)/β.
    Softplus {
        /// Sharpness of the bend.
        beta: f32,
        /// Where the function becomes the identity.
        threshold: f32,
    },
    /// z > 0 ? 1 : 0. Derivative: 0.
    Heaviside,
    /// z Φ(z).
    Gelu,
    /// z σ(2u) with u = √(2/π)(z + 0.044715z³): the tanh form without its cancellation.
    GeluTanh,
}

/// Applies the activation in place.
pub fn apply(isa: Isa, act: Activation, y: &mut [f32]) {
    if let Some(function) = act.function() {
        crate::dispatch!(isa, apply_function(function: Function = function, y: &mut [f32] = y));
    }
}

/// dz ← dy ⊙ f′. `saved` is z or y, as [`Activation::saves_z`] says; it may be empty for [`Activation::None`]. The slices
/// are of equal length.
pub fn grad(isa: Isa, act: Activation, dy: &[f32], saved: &[f32], dz: &mut [f32]) {
    match act.function() {
        None => dz.copy_from_slice(dy),
        Some(function) => crate::dispatch!(
            isa,
            grad_function(function: Function = function, dy: &[f32] = dy, saved: &[f32] = saved, dz: &mut [f32] = dz)
        ),
    }
}

/// √(2/π), and the cubic coefficient of the tanh form of GELU.
pub(crate) const GELU_TANH: (f32, f32) = (0.797_884_6, 0.044_715);

/// 1/√(2π).
pub(crate) const INV_SQRT_2PI: f32 = 0.398_942_3;

/// Beyond it σ(2u) of the tanh form is 0 or 1 and its derivative vanishes.
pub(crate) const GELU_TANH_FLAT: f32 = 12.0;

#[inline(always)]
fn elu<const FMA: bool>(z: f32, alpha: f32) -> f32 {
    if z > 0.0 { z } else { alpha * math::expm1::<FMA>(z) }
}

#[inline(always)]
fn silu_slope<const FMA: bool>(z: f32) -> f32 {
    let (s, complement) = math::sigmoid_pair::<FMA>(z);
    // σ + zσ(1 − σ)
    math::madd::<FMA>(z * s, complement, s)
}

#[inline(always)]
fn softplus<const FMA: bool>(z: f32, beta: f32, threshold: f32, inverse: f32) -> f32 {
    let scaled = beta * z;
    // ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|)
    let linear = if scaled < 0.0 { 0.0 } else { scaled };
    let y = (linear + math::log1p::<FMA>(math::decay::<FMA>(-scaled.abs()))) * inverse;
    if scaled > threshold { z } else { y }
}

/// σ(2u), 1 − σ(2u).
#[inline(always)]
fn gelu_tanh_gate<const FMA: bool>(z: f32) -> (f32, f32) {
    let (scale, cubic) = GELU_TANH;
    math::sigmoid_pair::<FMA>(2.0 * scale * z * math::madd::<FMA>(cubic * z, z, 1.0))
}

#[inline(always)]
fn gelu_tanh_slope<const FMA: bool>(z: f32) -> f32 {
    let (scale, cubic) = GELU_TANH;
    let (gate, complement) = gelu_tanh_gate::<FMA>(z);
    let near = math::maximum(math::minimum(z, GELU_TANH_FLAT), -GELU_TANH_FLAT);
    let inner = 2.0 * scale * math::madd::<FMA>(3.0 * cubic * near, near, 1.0);
    math::madd::<FMA>(near * gate * complement, inner, gate)
}

#[inline(always)]
fn gelu_slope<const FMA: bool>(z: f32) -> f32 {
    let (cdf, density) = math::normal_cdf_and_density::<FMA>(z);
    let near = math::maximum(math::minimum(z, math::TAIL_HIGHEST), -math::TAIL_HIGHEST);
    math::madd::<FMA>(near * INV_SQRT_2PI, density, cdf)
}

/// Runs the loop `$each!(z => y)` with the formula of the function: the one table of them.
macro_rules! formulas {
    ($function:expr, $each:ident) => {
        match $function {
            Function::Relu => $each!(z => if z <= 0.0 { 0.0 } else { z }),
            Function::LeakyRelu { slope } => $each!(z => if z > 0.0 { z } else { slope * z }),
            Function::Elu { alpha } => $each!(z => elu::<FMA>(z, alpha)),
            Function::Sigmoid => $each!(z => math::sigmoid::<FMA>(z)),
            Function::Tanh => $each!(z => math::tanh::<FMA>(z)),
            Function::Silu => $each!(z => z * math::sigmoid::<FMA>(z)),
            Function::Softplus { beta, threshold } => {
                let inverse = 1.0 / beta;
                $each!(z => softplus::<FMA>(z, beta, threshold, inverse));
            }
            Function::Heaviside => $each!(z => if z > 0.0 { 1.0 } else { 0.0 }),
            Function::Gelu => $each!(z => z * math::normal_cdf::<FMA>(z)),
            Function::GeluTanh => $each!(z => z * gelu_tanh_gate::<FMA>(z).0),
        }
    };
}

/// Runs the loop `$each!(dy, saved => dz)` with the derivative of the function.
macro_rules! derivatives {
    ($function:expr, $each:ident) => {
        match $function {
            Function::Relu => $each!(dy, y => if y > 0.0 { dy } else { 0.0 }),
            Function::LeakyRelu { slope } => $each!(dy, z => if z > 0.0 { dy } else { slope * dy }),
            Function::Elu { alpha } => $each!(dy, y => if y > 0.0 { dy } else { dy * (y + alpha) }),
            Function::Sigmoid => $each!(dy, y => dy * (y * (1.0 - y))),
            Function::Tanh => $each!(dy, y => dy * math::madd::<FMA>(-y, y, 1.0)),
            Function::Silu => $each!(dy, z => dy * silu_slope::<FMA>(z)),
            Function::Softplus { beta, threshold } => $each!(dy, z => {
                let scaled = beta * z;
                dy * if scaled > threshold { 1.0 } else { math::sigmoid::<FMA>(scaled) }
            }),
            Function::Heaviside => $each!(_dy, _z => 0.0),
            Function::Gelu => $each!(dy, z => dy * gelu_slope::<FMA>(z)),
            Function::GeluTanh => $each!(dy, z => dy * gelu_tanh_slope::<FMA>(z)),
        }
    };
}

#[inline(always)]
fn apply_function<const FMA: bool>(function: Function, y: &mut [f32]) {
    macro_rules! each {
        ($z:ident => $y:expr) => {
            for value in y.iter_mut() {
                let $z = *value;
                *value = $y;
            }
        };
    }
    formulas!(function, each);
}

#[inline(always)]
fn grad_function<const FMA: bool>(function: Function, dy: &[f32], saved: &[f32], dz: &mut [f32]) {
    macro_rules! each {
        ($dy:ident, $saved:ident => $dz:expr) => {
            for ((out, &$dy), &$saved) in dz.iter_mut().zip(dy).zip(saved) {
                *out = $dz;
            }
        };
    }
    derivatives!(function, each);
}

/// y ← f(z) over words that hold f32 bits.
#[inline(always)]
pub(super) fn map_words<const FMA: bool>(function: Function, y: &mut [u32], z: &[u32]) {
    macro_rules! each {
        ($z:ident => $y:expr) => {
            for (out, &word) in y.iter_mut().zip(z) {
                let $z = f32::from_bits(word);
                let y: f32 = $y;
                *out = y.to_bits();
            }
        };
    }
    formulas!(function, each);
}

/// dz ← dy ⊙ f′ over words that hold f32 bits.
#[inline(always)]
pub(super) fn grad_words<const FMA: bool>(function: Function, dz: &mut [u32], dy: &[u32], saved: &[u32]) {
    macro_rules! each {
        ($dy:ident, $saved:ident => $dz:expr) => {
            for ((out, &dy), &saved) in dz.iter_mut().zip(dy).zip(saved) {
                let ($dy, $saved) = (f32::from_bits(dy), f32::from_bits(saved));
                let dz: f32 = $dz;
                *out = dz.to_bits();
            }
        };
    }
    derivatives!(function, each);
}
