//! What is left of the gradient of `linear` besides products: dz = dy ⊙ f′(saved), and the sum of dz over its rows, taken
//! on the way. Sums run in two stages whose order is one of positions: chains of [`STRIP`] rows, then over the strips. A
//! single strip is its own sum: it begins at zero, so that adding it to zero would change no bit.
//! Rows of zeros appended change no bit of it, and no choice of tiles has a say.
//!
//! dz is kept in scratch memory: two products read it, each row as many times as there are tiles across, and would have
//! to compute it as often.

use super::super::math::activation_grad;
use super::super::shader::{Builder, Call, Memory, Type};
use super::super::{Prepared, Target};
use crate::cpu::activation::Activation;
use crate::error::Result;
use crate::plan::Operand;

/// Rows in one chain.
pub(super) const STRIP: usize = 64;

/// Invocations of a workgroup: a subgroup's worth, so that narrow results spread over many.
const SIZE: usize = 32;

/// What to compute.
pub(super) struct Columns<'a> {
    /// The gradient of y: `rows` by `cols`.
    pub dy: &'a Operand,
    /// What f′ needs; `None` for the identity, of which nothing is written.
    pub saved: Option<&'a Operand>,
    /// f.
    pub activation: Activation,
    /// Where dz goes, if it is not dy.
    pub dz: Option<Memory>,
    /// The sums of the columns, if they are wanted.
    pub sums: Option<Sums<'a>>,
    /// Shape of dy.
    pub rows: usize,
    pub cols: usize,
}

/// Where the sums of the columns go.
#[derive(Clone, Copy)]
pub(super) struct Sums<'a> {
    /// The results.
    pub to: &'a Operand,
    /// Those of the strips, on the way there; `None` for one strip.
    pub strips: Option<Memory>,
}

impl Columns<'_> {
    /// Strips of rows.
    pub fn strips(rows: usize) -> usize {
        rows.div_ceil(STRIP)
    }

    /// Adds the dispatches.
    pub fn prepare(&self, target: Target, to: &mut Prepared) -> Result<()> {
        if self.cols == 0 {
            return Ok(());
        }
        if self.rows > 0 {
            to.calls.push(self.strip(target)?);
        }
        if let Some(Sums { to: bias, strips }) = self.sums
            && (strips.is_some() || self.rows == 0)
        {
            to.calls.push(self.total(strips, bias, target)?);
        }
        Ok(())
    }

    /// Whether four columns can be had at once.
    fn vectors(&self, target: Target) -> bool {
        let aligned = |operand: &Operand| Builder::is_aligned(operand, target.aligned);
        self.cols.is_multiple_of(4) && aligned(self.dy) && self.saved.is_none_or(aligned)
    }

    fn strip(&self, target: Target) -> Result<Call> {
        let vectors = self.vectors(target);
        let (ty, lanes) = if vectors { (Type::Vec4F32, 4) } else { (Type::F32, 1) };
        let mut b = Builder::new(target.traits, "gradient of an activation").masked();
        b.buffer("dy", Memory::Operand(*self.dy), ty);
        if let Some(saved) = self.saved {
            b.buffer("saved", Memory::Operand(*saved), ty);
        }
        if let Some(dz) = self.dz {
            b.buffer("dz", dz, ty);
        }
        if let Some(Sums { to, strips }) = self.sums {
            b.buffer("sums", strips.unwrap_or(Memory::Operand(*to)), ty);
        }
        b.value("rows", self.rows);
        b.value("cols", self.cols / lanes);
        // Hidden: what is summed is what is stored, not a product that is fused with the sum.
        let derivative =
            |dy: &str, saved: &str| format!("math_hide({})", activation_grad(self.activation.function(), dy, saved));
        let value = match (self.saved, vectors) {
            (None, _) => "dy(at)".to_owned(),
            (Some(_), false) => derivative("dy(at)", "saved(at)"),
            (Some(_), true) => "four(dy(at), saved(at))".to_owned(),
        };
        if vectors && self.saved.is_some() {
            let lane = |lane: &str| derivative(&format!("dy.{lane}"), &format!("saved.{lane}"));
            b.item(&format!(
                "fn four(dy: vec4<f32>, saved: vec4<f32>) -> vec4<f32> {{ return vec4<f32>({}, {}, {}, {}); }}",
                lane("x"),
                lane("y"),
                lane("z"),
                lane("w")
            ));
        }
        let keep = if self.dz.is_some() { "dz_set(at, value);" } else { "" };
        let (zero, add) = (format!("var sum = {}();", ty.name()), "sum += value;");
        let (zero, add, end) = match self.sums {
            Some(_) => (zero.as_str(), add, "sums_set(strip * p.cols + col, sum);"),
            None => ("", "", ""),
        };
        let main = format!(
            "let index = group() * {SIZE}u + local;\nlet strip = index / p.cols;\nlet col = index % p.cols;\n\
             let row = strip * {STRIP}u;\n\
             if (row < p.rows) {{\n{zero}\n\
             for (var i = row; i < min(row + {STRIP}u, p.rows); i++) {{\n\
             let at = i * p.cols + col;\nlet value = {value};\n{keep}\n{add}\n}}\n{end}\n}}"
        );
        let count = Self::strips(self.rows) * (self.cols / lanes);
        b.finish(SIZE as u32, [count.div_ceil(SIZE), 1, 1], &main)
    }

    fn total(&self, strips: Option<Memory>, bias: &Operand, target: Target) -> Result<Call> {
        let mut b = Builder::new(target.traits, "gradient of a bias").masked();
        let count = strips.map_or(0, |_| Self::strips(self.rows));
        if let Some(strips) = strips {
            b.buffer("sums", strips, Type::F32);
        }
        b.operand("dbias", bias);
        b.value("strips", count);
        b.value("cols", self.cols);
        b.rounds(count);
        let add = if count > 0 { "sum += sums(strip * p.cols + col);" } else { "" };
        let main = format!(
            "let col = group() * {SIZE}u + local;\n\
             if (col < p.cols) {{\nvar sum = 0.0;\n\
             for (var strip = 0u; strip < p.strips; strip++) {{ {add} }}\n\
             dbias_set(col, sum);\n}}"
        );
        b.finish(SIZE as u32, [self.cols.div_ceil(SIZE), 1, 1], &main)
    }
}
