//! Activations as WGSL expressions, and the names under which epilogues know them.

use std::fmt::Write as _;

use super::literal;
use crate::cpu::activation::{Activation, Function};

/// What is appended to `act_` and stands before `_grad`: an activation with its default parameters is
/// `act_<name>(z: f32) -> f32`, its derivative `act_<name>_grad(dy: f32, saved: f32) -> f32`.
pub(in super::super) fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::None => "none",
        Activation::Relu => "relu",
        Activation::LeakyRelu => "leaky_relu",
        Activation::Elu => "elu",
        Activation::Sigmoid => "sigmoid",
        Activation::Tanh => "tanh",
        Activation::Silu => "silu",
        Activation::Softplus => "softplus",
        Activation::Heaviside => "heaviside",
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_tanh",
    }
}

/// All activations.
pub(super) const ALL: [Activation; 11] = [
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

/// The functions `act_…` of all activations.
pub(super) fn fused() -> String {
    let mut text = String::new();
    for act in ALL {
        let (name, function) = (activation_name(act), act.function());
        let (forward, backward) = (activation(function, "z"), activation_grad(function, "dy", "saved"));
        let _ = writeln!(text, "fn act_{name}(z: f32) -> f32 {{ return {forward}; }}");
        let _ = writeln!(text, "fn act_{name}_grad(dy: f32, saved: f32) -> f32 {{ return {backward}; }}");
    }
    text
}

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
