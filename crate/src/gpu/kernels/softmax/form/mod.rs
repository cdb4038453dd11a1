//! How rows that are normalised are laid over invocations, for softmax and for the losses made of it. What is computed
//! comes as a [`Work`]; here is only who does it, and in which order sums are taken: by position (`rows.rs`), so −∞
//! appended to a row changes no bit of it.

mod alone;
mod columns;
mod lanes;
mod shared;

use std::fmt::Write as _;

use super::super::Target;
use super::super::rows::{BLOCK, INSIDE, LANES, LINE, LONGEST, Layout, SIZE, quad};
use super::super::shader::{Builder, Call, Memory, Type, Word};
use crate::error::Result;
use crate::gpu::Class;
use crate::plan::Operand;
use crate::program::op::Middle;

/// Elements of a row up to which a processor that plays the GPU is better off without workgroups.
pub(in super::super) const MOST_ALONE: usize = 1024;

/// What is computed of every row.
pub(in super::super) struct Work<'a> {
    /// For labels.
    pub(in super::super) name: &'static str,
    /// The operands `a` and, for some, `b`, of the same shape.
    pub(in super::super) a: &'a Operand,
    pub(in super::super) b: Option<&'a Operand>,
    /// The result of the same shape, if there is one.
    pub(in super::super) out: Option<&'a Operand>,
    /// Whether the largest of `a` is needed, as `top`. Then rows are filled up with −∞, otherwise with 0.
    pub(in super::super) has_top: bool,
    /// What is summed over the row, of `a` and `b`; `decay` is eˣ for x ≤ 0, and `hidden` is for products that are added to
    /// something, which some forms would fuse with it.
    pub(in super::super) term: &'static str,
    /// What is summed beside it, as `also_sum`, of `a`, its position `i` and the `end` of the row, rows being whole; empty for
    /// nothing. It may use `top`.
    pub(in super::super) also: &'a str,
    /// Whether `result` takes the term in the place of `a`.
    pub(in super::super) of_term: bool,
    /// Makes `scale` of the sum `s`.
    pub(in super::super) scale: &'static str,
    /// An element of the result, of `a` and `b`.
    pub(in super::super) result: &'static str,
    /// What is done once in the end, for row `row`, which begins at `base`.
    pub(in super::super) last: &'a str,
}

/// Who does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// An invocation has a row for itself; it holds it in registers, or goes over it several times.
    Alone { vectors: bool, held: bool },
    /// Invocations share a row; they hold it in registers, or go over it several times.
    Shared { layout: Layout, vectors: bool, held: bool },
    /// Where a processor plays the GPU, eight invocations in step share a row, and hold it in registers.
    Lanes { vectors: bool },
    /// An invocation has a column, or four of them, for itself, and goes over it several times.
    Columns { vectors: bool },
}

impl Form {
    fn new(work: &Work, axes: Middle, target: Target) -> Self {
        let is_software = target.traits.class == Class::Software;
        let operands = [Some(work.a), work.b, work.out];
        let aligned = operands.into_iter().flatten().all(|x| Builder::is_aligned(x, target.aligned));
        if axes.inner > 1 {
            // Invocations are not scarce where a processor plays the GPU; memory accesses are dear.
            return Self::Columns { vectors: is_software && aligned && axes.inner.is_multiple_of(4) };
        }
        let vectors = aligned && axes.count.is_multiple_of(4);
        if is_software && target.traits.subgroup == Some(8) && lanes::takes(work, axes.count) {
            return Self::Lanes { vectors };
        }
        // Of rows as short as that, a memory transaction of a GPU has several.
        let shortest = if is_software { MOST_ALONE } else { LANES };
        if axes.count <= shortest {
            return Self::Alone { vectors, held: axes.count <= LINE };
        }
        // Where a processor plays the GPU, one vector of it has a row, so that its barriers wait for nobody.
        let (longest, size) = if is_software { (BLOCK, LANES) } else { (LONGEST, SIZE) };
        let layout = Layout::new(axes.count.min(longest), size);
        Self::Shared { layout, vectors, held: axes.count <= longest }
    }

    fn vectors(self) -> bool {
        let (Self::Alone { vectors, .. }
        | Self::Shared { vectors, .. }
        | Self::Lanes { vectors }
        | Self::Columns { vectors }) = self;
        vectors
    }
}

/// The call that does the work; `declare` adds what `last` needs.
pub(in super::super) fn call(
    work: &Work,
    axes: Middle,
    target: Target,
    declare: impl FnOnce(&mut Builder),
) -> Result<Call> {
    let form = Form::new(work, axes, target);
    let mut b = Builder::new(target.traits, work.name).masked();
    let element = if form.vectors() { Type::Vec4F32 } else { Type::F32 };
    let mut buffer = |name, operand: Option<&Operand>| {
        if let Some(operand) = operand {
            b.buffer(name, Memory::Operand(*operand), element);
        }
    };
    buffer("a", Some(work.a));
    buffer("b", work.b);
    buffer("out", work.out);
    b.value("count", axes.count);
    if work.has_top {
        b.word("lowest", "f32", Word::Value(f32::NEG_INFINITY.to_bits()));
    }
    declare(&mut b);
    if axes.inner == 1 {
        b.value("rows", axes.outer);
    }
    let (size, groups, main) = match form {
        Form::Alone { vectors, held: true } => alone::held(&mut b, work, axes, vectors),
        Form::Alone { vectors, held: false } => alone::swept(&mut b, work, axes, vectors),
        Form::Shared { layout, vectors, held } => shared::body(&mut b, work, axes, layout, vectors, held),
        Form::Lanes { vectors } => lanes::body(&mut b, work, axes, vectors),
        Form::Columns { vectors } => columns::body(&mut b, work, axes, vectors),
    };
    b.finish(size as u32, [groups, 1, 1], &main)
}

/// Texts that all forms share; elements are seen as `V`.
impl Work<'_> {
    /// `V` is what one memory access brings, `S` what is known of a row or a column, of each of the `V`'s where they are
    /// columns.
    fn items(&self, vectors: bool, columns: bool) -> String {
        let each = |f: &str, ty| {
            if vectors && (ty == "V" || columns) {
                format!("{ty}({f}(v.x), {f}(v.y), {f}(v.z), {f}(v.w))")
            } else {
                format!("{f}(v)")
            }
        };
        let vector = if vectors { "vec4<f32>" } else { "f32" };
        let known = if columns { vector } else { "f32" };
        let Self { term, result, .. } = self;
        let mut text = format!(
            "alias V = {vector};
alias S = {known};
var<private> top: S;
var<private> scale: S;
fn decay(v: V) -> V {{ return {}; }}
fn hidden(v: V) -> V {{ return {}; }}
fn log_of(v: S) -> S {{ return {}; }}
fn higher(a: V, b: V) -> V {{ return select(a, b, b > a); }}
fn term(a: V, b: V) -> V {{ return {term}; }}
",
            each("math_decay", "V"),
            each("math_hide", "V"),
            each("math_log", "S")
        );
        if !self.also.is_empty() {
            let also = self.also;
            let _ = writeln!(
                text,
                "fn also(a: V, i: u32, end: u32) -> V {{ return select(V(0.0), {also}, inside(i, end)); }}"
            );
        }
        if self.out.is_some() {
            let _ = writeln!(text, "fn result(a: V, b: V) -> V {{ return {result}; }}");
        }
        if !columns {
            text += "fn higher_of(a: f32, b: f32) -> f32 { return select(a, b, b > a); }
fn sum_of(a: f32, b: f32) -> f32 { return a + b; }
fn highest(v: V) -> f32 { return higher_of(higher_of(v.x, v.y), higher_of(v.z, v.w)); }
fn narrow(v: V) -> f32 { return (v.x + v.y) + (v.z + v.w); }
";
        }
        text
    }

    fn fill(&self) -> &'static str {
        if self.has_top { "p.lowest" } else { "0.0" }
    }

    /// The second operand, by its expression.
    fn second(&self, b: &str) -> String {
        if self.b.is_some() { b.to_owned() } else { "V(0.0)".to_owned() }
    }

    /// An element of the result from the operands at hand.
    fn element(&self, a: &str, b: &str) -> String {
        if self.of_term { format!("result(term({a}, {b}), {b})") } else { format!("result({a}, {b})") }
    }
}

/// Invocations of a workgroup whose invocations do not know of each other.
pub(in super::super) fn loners(b: &Builder) -> usize {
    if b.traits().class == Class::Software { 32 } else { 64 }
}

/// `load_a` and `load_b`: four neighbours, filled up at the end; `store`: the opposite.
fn access(work: &Work, vectors: bool) -> String {
    let mut text = format!("{INSIDE}\n");
    for (name, operand) in [("a", Some(work.a)), ("b", work.b)] {
        if operand.is_none() {
            continue;
        }
        let read = format!("{name}_quad(at, i, end)");
        let read = if vectors { read } else { format!("select(V({}), {read}, inside(i, end))", work.fill()) };
        let _ = writeln!(
            text,
            "{}\nfn load_{name}(at: u32, i: u32, end: u32) -> V {{ return {read}; }}",
            quad(name, "f32", vectors)
        );
    }
    if work.out.is_none() {
        return text;
    }
    text += if vectors {
        "fn store(at: u32, i: u32, end: u32, v: V) { out_set(at >> 2u, v); }"
    } else {
        "fn store(at: u32, i: u32, end: u32, v: V) {
  out_set(at, v.x);
  if (i + 1u < end) { out_set(at + 1u, v.y); }
  if (i + 2u < end) { out_set(at + 2u, v.z); }
  if (i + 3u < end) { out_set(at + 3u, v.w); }
}"
    };
    text
}
