//! What happens to the sums of a product before they are stored: z = sum + bias, y = f(z). Stored are y and, where the
//! backward pass needs it, z.

use super::super::math::activation;
use super::super::shader::{Builder, Memory, Type};
use crate::cpu::activation::Activation;
use crate::plan::Operand;

/// The end of a product.
#[derive(Clone, Copy)]
pub(super) struct Epilogue {
    /// Where y goes.
    pub to: Memory,
    /// A row that is added to every row.
    pub bias: Option<Operand>,
    /// The activation.
    pub activation: Activation,
    /// Where z goes, if anywhere.
    pub z: Option<Operand>,
}

impl Epilogue {
    /// Sums stored as they are.
    pub fn plain(to: Memory) -> Self {
        Self { to, bias: None, activation: Activation::None, z: None }
    }

    /// Whether the activation runs in a second pass over what was stored. Stores stand unrolled in a text, once for every
    /// row of a tile: formulas of any length there would be compiled a hundred times.
    pub fn in_two_passes(&self) -> bool {
        !matches!(self.activation, Activation::None | Activation::Relu | Activation::LeakyRelu | Activation::Heaviside)
    }

    /// Declares the memory of results, and the functions
    /// - `bias4(col)`: the bias of four columns,
    /// - `store(at, col, sum, bias)`: stores four sums of one row from element `at`, column `col` on,
    /// - `finish(at, col)`: the second pass over the same.
    pub fn declare(&self, b: &mut Builder, vectors: bool) {
        let ty = if vectors { Type::Vec4F32 } else { Type::F32 };
        b.buffer("c", self.to, ty);
        if let Some(z) = self.z {
            b.buffer("z", Memory::Operand(z), ty);
        }
        if let Some(bias) = self.bias {
            b.operand("bias", &bias);
            let at = |lane: u32| format!("bias(min(col + {lane}u, p.n - 1u))");
            b.item(&format!(
                "fn bias4(col: u32) -> vec4<f32> {{ return vec4<f32>({}, {}, {}, {}); }}",
                at(0),
                at(1),
                at(2),
                at(3)
            ));
        } else {
            b.item("fn bias4(col: u32) -> vec4<f32> { return vec4<f32>(); }");
        }
        let z = if self.bias.is_some() { "sum + bias" } else { "sum" };
        let y = if self.in_two_passes() { "z".to_owned() } else { self.activated("z") };
        let mut store = format!("let z = {z};\nlet y = {y};\n{}", write_four("c", "y", vectors));
        if self.z.is_some() {
            store.push_str(&write_four("z", "z", vectors));
        }
        b.item(&format!("fn store(at: u32, col: u32, sum: vec4<f32>, bias: vec4<f32>) {{\n{store}}}"));
        if self.in_two_passes() {
            let finish = if vectors {
                format!("let z = c(at >> 2u);\nc_set(at >> 2u, {});\n", self.activated("z"))
            } else {
                format!("for (var i = at; i < at + min(4u, p.n - col); i++) {{ c_set(i, {}); }}\n", self.lane("c(i)"))
            };
            b.item(&format!("fn finish(at: u32, col: u32) {{\n{finish}}}"));
        }
    }

    fn activated(&self, z: &str) -> String {
        if self.activation == Activation::None {
            return z.to_owned();
        }
        let lane = |lane| self.lane(&format!("{z}.{lane}"));
        format!("vec4<f32>({}, {}, {}, {})", lane("x"), lane("y"), lane("z"), lane("w"))
    }

    fn lane(&self, z: &str) -> String {
        activation(self.activation.function(), z)
    }
}

/// Writes four columns of a row, or those that there are.
fn write_four(to: &str, value: &str, vectors: bool) -> String {
    if vectors {
        return format!("{to}_set(at >> 2u, {value});\n");
    }
    let lane = |(i, name)| format!("if (col + {i}u < p.n) {{ {to}_set(at + {i}u, {value}.{name}); }}\n");
    ["x", "y", "z", "w"].into_iter().enumerate().map(lane).collect()
}
