//! Activations as WGSL expressions, for chains and for epilogues.

use super::literal;
use crate::cpu::activation::Function;

/// An activation of the expression `z`; `None` is the identity.
pub(in super::super) fn activation(function: Option<Function>, z: &str) -> String {
    match function {
        None => z.to_owned(),
        Some(Function::Relu) => format!("math_relu({z})"),
        Some(Function::LeakyRelu { slope }) => format!("math_leaky_relu({z}, {})", literal(slope)),
        Some(Function::Elu { alpha }) => format!("math_elu({z}, {})", literal(alpha)),
        Some(Function::Sigmoid) => format!("math_sigmoid({z})"),
        Some(Function::Tanh) => format!("math_tanh({z})"),
        Some(Function::Silu) => format!("math_silu({z})"),
        Some(Function::Softplus { beta, threshold }) => {
            let [beta, threshold, inverse] = [beta, threshold, 1.0 / beta].map(literal);
            format!("math_softplus({z}, {beta}, {threshold}, {inverse})")
        }
        Some(Function::Heaviside) => format!("math_heaviside({z})"),
        Some(Function::Gelu) => format!("math_gelu({z})"),
        Some(Function::GeluTanh) => format!("math_gelu_tanh({z})"),
    }
}

/// dy ⊙ f′, given the expressions of dy and of what was saved; `None` is the identity.
pub(in super::super) fn activation_grad(function: Option<Function>, dy: &str, saved: &str) -> String {
    match function {
        None => dy.to_owned(),
        Some(Function::Relu) => format!("math_relu_grad({dy}, {saved})"),
        Some(Function::LeakyRelu { slope }) => format!("math_leaky_relu_grad({dy}, {saved}, {})", literal(slope)),
        Some(Function::Elu { alpha }) => format!("math_elu_grad({dy}, {saved}, {})", literal(alpha)),
        Some(Function::Sigmoid) => format!("math_sigmoid_grad({dy}, {saved})"),
        Some(Function::Tanh) => format!("math_tanh_grad({dy}, {saved})"),
        Some(Function::Silu) => format!("math_silu_grad({dy}, {saved})"),
        Some(Function::Softplus { beta, threshold }) => {
            format!("math_softplus_grad({dy}, {saved}, {}, {})", literal(beta), literal(threshold))
        }
        Some(Function::Heaviside) => format!("math_heaviside_grad({dy}, {saved})"),
        Some(Function::Gelu) => format!("math_gelu_grad({dy}, {saved})"),
        Some(Function::GeluTanh) => format!("math_gelu_tanh_grad({dy}, {saved})"),
    }
}
