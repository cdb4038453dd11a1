//! What happens to the sums of a product before they are stored: z = sum + bias, y = f(z). Stored are y and, where the
//! backward pass needs it, z. A chain behind the product turns y into what is stored in its place, and may have more results.

use std::fmt::Write as _;

use super::super::chain::inline;
use super::super::math::activation;
use super::super::shader::{Aligned, Builder, Memory, Type};
use crate::cpu::activation::Activation;
use crate::error::{Error, Result};
use crate::plan::{After, Operand};

/// The end of a product.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a> {
    /// Where y goes.
    pub to: Memory,
    /// A row that is added to every row.
    pub bias: Option<Operand>,
    /// The activation.
    pub activation: Activation,
    /// Where z goes, if anywhere.
    pub z: Option<Operand>,
    /// A chain that y goes through, and which slots allow vectors for it. Results have to be vectors.
    pub after: Option<(&'a After, Aligned)>,
}

impl Epilogue<'_> {
    /// Sums stored as they are.
    pub fn plain(to: Memory) -> Self {
        Self { to, bias: None, activation: Activation::None, z: None, after: None }
    }

    /// Whether there is a second pass over what was stored, for the activation or a chain. Stores stand unrolled in a text,
    /// once for every row of a tile: formulas of any length there would be compiled a hundred times.
    pub fn in_two_passes(&self) -> bool {
        self.after.is_some() || self.is_long()
    }

    /// Whether the activation is a formula of some length.
    fn is_long(&self) -> bool {
        !matches!(self.activation, Activation::None | Activation::Relu | Activation::LeakyRelu | Activation::Heaviside)
    }

    /// Declares the memory of results, and the functions
    /// - `bias4(col)`: the bias of four columns,
    /// - `store(at, col, sum, bias)`: stores four sums of one row from element `at`, column `col` on,
    /// - `finish(at, col)`: the second pass over the same.
    ///
    /// # Errors
    /// [`Error::Internal`] for a chain that is none.
    pub fn declare(&self, b: &mut Builder, vectors: bool) -> Result<()> {
        let ty = if vectors { Type::Vec4F32 } else { Type::F32 };
        // What a chain leaves there may be of any dtype.
        b.buffer("c", self.to, if self.after.is_some() { Type::Vec4U32 } else { ty });
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
        let y = if self.is_long() { "z".to_owned() } else { self.activated("z") };
        let stored = if self.after.is_some() { "bitcast<vec4<u32>>(y)" } else { "y" };
        let to_c = write_four("c", "stored", vectors);
        let mut store = format!("let z = {z};\nlet y = {y};\nlet stored = {stored};\n{to_c}");
        if self.z.is_some() {
            store.push_str(&write_four("z", "z", vectors));
        }
        b.item(&format!("fn store(at: u32, col: u32, sum: vec4<f32>, bias: vec4<f32>) {{\n{store}}}"));
        if self.in_two_passes() {
            let y = match (self.is_long(), vectors) {
                (false, _) => "z".to_owned(),
                (true, true) => self.activated("z"),
                (true, false) => self.lane("z"),
            };
            let (read, finish) = match self.after {
                Some((after, aligned)) if vectors => {
                    ("bitcast<vec4<f32>>(c(i))".to_owned(), Self::follow(after, aligned, b)?)
                }
                Some(_) => return Err(Error::Internal("a chain behind a product of single columns".into())),
                None => ("c(i)".to_owned(), "c_set(i, y);".to_owned()),
            };
            b.item(&if vectors {
                format!(
                    "fn finish(at: u32, col: u32) {{\nlet i = at >> 2u;\nlet z = {read};\nlet y = {y};\n{finish}\n}}"
                )
            } else {
                format!(
                    "fn finish(at: u32, col: u32) {{\nfor (var i = at; i < at + min(4u, p.n - col); i++) {{\n\
                     let z = {read};\nlet y = {y};\n{finish}\n}}\n}}"
                )
            });
        }
        Ok(())
    }

    /// Declares a chain; the statements that store what it makes of `y` at `i`.
    fn follow(after: &After, aligned: Aligned, b: &mut Builder) -> Result<String> {
        inline(&after.chain, Some(after.input), true, aligned, b)?;
        // As if it came from memory: nothing of the chain is computed together with what made it.
        let mut text = "let made = chain_four(i, bitcast<vec4<u32>>(y) | vec4<u32>(math_zero()));\n".to_owned();
        for (position, output) in after.chain.outputs.iter().enumerate() {
            if output.in_place_of == Some(after.input) {
                let _ = writeln!(text, "c_set(i, made.o{position});");
            } else if output.in_place_of.is_some() {
                return Err(Error::Internal("a chain behind a product that takes another place".into()));
            } else {
                b.buffer(&format!("out{position}"), Memory::Operand(output.operand), Type::Vec4U32);
                let _ = writeln!(text, "out{position}_set(i, made.o{position});");
            }
        }
        Ok(text)
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
