//! What is done with rows: sums over a row, one after the other, of terms that may hang on the sums before; then an element
//! of a result from each element. What is computed comes as a [`Work`]; here is who does it, and in which order sums are
//! taken: by position, as `kernels/rows.rs` says, or where an invocation has a row for itself, block by block.

use std::fmt::Write as _;

use super::super::Target;
use super::super::rows::{BLOCK, INSIDE, LANES, LINE, LONGEST, Layout, SIZE, quad};
use super::super::shader::{Builder, Call, Memory, Type, Word};
use super::super::softmax::form::{MOST_ALONE, loners};
use crate::error::Result;
use crate::gpu::Class;
use crate::plan::Operand;
use crate::program::op::NormRows;

/// One pass over a row.
#[derive(Clone, Copy)]
pub(super) struct Phase<'a> {
    /// What is summed, one or two things at once, of `a`, `b` and `w`.
    pub(super) terms: &'a [&'static str],
    /// Whether they need `w`.
    pub(super) is_weighted: bool,
    /// What is done with the sum `s`; of two things, a vector of two.
    pub(super) then: &'static str,
}

/// What is computed of every row. All texts see `mean`, `scale`, `centre` and `along`, which are theirs to use.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    /// For labels.
    pub(super) name: &'static str,
    /// Number of rows.
    pub(super) rows: usize,
    /// Elements of a row.
    pub(super) count: usize,
    /// The operands `a` and, for some, `b`, of the same shape.
    pub(super) a: &'a Operand,
    pub(super) b: Option<&'a Operand>,
    /// The result of the same shape, if there is one.
    pub(super) out: Option<&'a Operand>,
    /// Where channels lie in rows, if they matter.
    pub(super) layout: Option<NormRows>,
    /// By channel: `w`, or 1.
    pub(super) weight: Option<&'a Operand>,
    /// By channel: `c`, or 0.
    pub(super) bias: Option<&'a Operand>,
    /// What is done first, for row `here`.
    pub(super) before: &'static str,
    /// The sums, in order.
    pub(super) phases: &'a [Phase<'a>],
    /// An element of the result, of `a`, `b`, `w` and `c`.
    pub(super) result: &'static str,
    /// What is done once in the end, for row `row`.
    pub(super) last: &'static str,
}

/// Who does it.
#[derive(Clone, Copy)]
enum Form {
    /// An invocation has a row for itself, and goes over it several times.
    Alone,
    /// Invocations share a row; they hold it in registers, or go over it several times.
    Shared { layout: Layout, held: bool },
}

impl Work<'_> {
    /// Whether four neighbours of every operand, and what goes with them by channel, are had at once.
    fn has_vectors(&self, target: Target) -> bool {
        let affine = if self.by_element() { [self.weight, self.bias] } else { [None, None] };
        let mut all = [Some(self.a), self.b, self.out].into_iter().chain(affine).flatten();
        self.count.is_multiple_of(4) && all.all(|x| Builder::is_aligned(x, target.aligned))
    }

    /// Whether a channel has one element.
    fn by_element(&self) -> bool {
        self.layout.is_some_and(|layout| layout.inner == 1)
    }

    fn form(&self, target: Target) -> Form {
        let is_software = target.traits.class == Class::Software;
        // As for softmax: a memory transaction of a GPU has several short rows, and a processor that plays one is better
        // off without barriers.
        if self.count <= if is_software { MOST_ALONE } else { LANES } {
            return Form::Alone;
        }
        let (longest, size) = if is_software { (BLOCK, LANES) } else { (LONGEST, SIZE) };
        Form::Shared { layout: Layout::new(self.count.min(longest), size), held: self.count <= longest }
    }

    /// The call that does the work; `declare` adds what its texts need.
    pub(super) fn call(&self, target: Target, declare: impl FnOnce(&mut Builder)) -> Result<Call> {
        let vectors = self.has_vectors(target);
        let mut b = Builder::new(target.traits, self.name).masked();
        let element = if vectors { Type::Vec4F32 } else { Type::F32 };
        for (name, operand) in [("a", Some(self.a)), ("b", self.b), ("out", self.out)] {
            if let Some(operand) = operand {
                b.buffer(name, Memory::Operand(*operand), element);
            }
        }
        let by_channel = if vectors && self.by_element() { Type::Vec4F32 } else { Type::F32 };
        for (name, operand) in [("weight", self.weight), ("bias", self.bias)] {
            if let Some(operand) = operand {
                b.buffer(name, Memory::Operand(*operand), by_channel);
            }
        }
        b.value("rows", self.rows);
        b.value("count", self.count);
        b.word("size", "f32", Word::Value((self.count as f32).to_bits()));
        if let Some(layout) = self.layout {
            b.value("groups", layout.groups);
            b.value("channels", layout.channels);
            b.value("inner", layout.inner);
        }
        declare(&mut b);
        self.items(&mut b, vectors);
        let (size, groups, main) = match self.form(target) {
            Form::Alone => self.alone(&mut b),
            Form::Shared { layout, held } => self.shared(&mut b, layout, held),
        };
        b.finish(size as u32, [groups, 1, 1], &main)
    }

    /// Texts that both forms share: access to operands, terms and the result.
    fn items(&self, b: &mut Builder, vectors: bool) {
        let mut text = format!(
            "alias V = vec4<f32>;
var<private> first_channel: u32;
var<private> mean: f32;
var<private> scale: f32;
var<private> centre: f32;
var<private> along: f32;
{INSIDE}
fn narrow(v: V) -> f32 {{ return (v.x + v.y) + (v.z + v.w); }}
fn f32_of(a: f32, b: f32) -> f32 {{ return a + b; }}
fn two_of(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {{ return a + b; }}
{}
",
            quad("a", "f32", vectors)
        );
        if self.b.is_some() {
            text += &quad("b", "f32", vectors);
        }
        text += "\n";
        let pairs = [("weight", self.weight, "1.0"), ("bias", self.bias, "0.0")];
        for (name, operand, absent) in pairs {
            let quad = self.by_channel(name, operand.is_some(), vectors, absent);
            let _ = writeln!(text, "{quad}");
        }
        for (i, phase) in self.phases.iter().enumerate() {
            for (j, term) in phase.terms.iter().enumerate() {
                // Behind the end there may be anything.
                let _ = writeln!(
                    text,
                    "fn term{i}{j}(a: V, b: V, w: V, i: u32, end: u32) -> V {{ return select(V(0.0), {term}, inside(i, end)); }}"
                );
            }
        }
        if self.out.is_some() {
            let _ = writeln!(text, "fn result(a: V, b: V, w: V, c: V) -> V {{ return {}; }}", self.result);
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
        }
        b.item(&text);
    }

    /// `weight_of` or `bias_of`: what goes with the elements from `i` on, of a row that ends at `end`.
    fn by_channel(&self, name: &str, is_there: bool, vectors: bool, absent: &str) -> String {
        let head = format!("fn {name}_of(i: u32, end: u32) -> V");
        let Some(layout) = self.layout.filter(|_| is_there) else {
            return format!("{head} {{ return V({absent}); }}");
        };
        if layout.inner == 1 {
            let quad = quad(name, "f32", vectors);
            return format!("{quad}\n{head} {{ return {name}_quad(first_channel + i, i, end); }}");
        }
        if vectors && layout.inner.is_multiple_of(4) {
            return format!("{head} {{ return V({name}(first_channel + i / p.inner)); }}");
        }
        let one = |k: usize| format!("{name}(first_channel + min(i + {k}u, end - 1u) / p.inner)");
        format!("{head} {{ return V({}, {}, {}, {}); }}", one(0), one(1), one(2), one(3))
    }

    fn is_weighted(&self, phase: &Phase) -> bool {
        phase.is_weighted && self.weight.is_some()
    }

    /// What is done before the first sum.
    fn begin(&self) -> String {
        // With one group it is 0 for all, and what goes by channel is then loaded once for all rows.
        let has_groups = self.layout.is_some_and(|layout| layout.groups > 1);
        let first = if has_groups { "first_channel = here % p.groups * p.channels;" } else { "" };
        format!("let here = min(row, p.rows - 1u);\n{first}\n{}\n", self.before)
    }

    /// What goes over a row several times does for the elements at `i`: the terms of a phase added to `sums`.
    fn added(&self, number: usize, phase: &Phase) -> String {
        let w = if self.is_weighted(phase) { "weight_of(i, end)" } else { "V(1.0)" };
        let mut text = format!("let a_here = a_quad(base + i, i, end); let b_here = {}; let w = {w};", self.second());
        for j in 0..phase.terms.len() {
            let _ = write!(text, " sums{j} += term{number}{j}(a_here, b_here, w, i, end);");
        }
        text
    }

    /// The same for the result.
    fn stored(&self) -> String {
        format!(
            "let a_here = a_quad(base + i, i, end); let b_here = {};
store(base + i, i, end, result(a_here, b_here, weight_of(i, end), bias_of(i, end)));",
            self.second()
        )
    }

    fn second(&self) -> &'static str {
        if self.b.is_some() { "b_quad(base + i, i, end)" } else { "V(0.0)" }
    }

    fn alone(&self, b: &mut Builder) -> (usize, usize, String) {
        let size = loners(b);
        let sweeps = self.phases.len() + usize::from(self.out.is_some());
        b.rounds(sweeps * (self.count.div_ceil(4) + self.count.div_ceil(BLOCK)));
        let mut main = format!(
            "let row = group() * {size}u + local;
if (row >= p.rows) {{ return; }}
let base = row * p.count;
let end = p.count;
{}",
            self.begin()
        );
        for (number, phase) in self.phases.iter().enumerate() {
            let Sum { zero, sums, narrow, .. } = Sum::of(phase);
            let added = self.added(number, phase);
            let _ = writeln!(
                main,
                "{{
  var s = {zero};
  for (var first = 0u; first < end; first += {BLOCK}u) {{
    {sums}
    for (var i = first; i < min(first + {BLOCK}u, end); i += 4u) {{ {added} }}
    s += {narrow};
  }}
  {}
}}",
                phase.then
            );
        }
        if self.out.is_some() {
            let _ = writeln!(main, "for (var i = 0u; i < end; i += 4u) {{ {} }}", self.stored());
        }
        (size, self.rows.div_ceil(size), main + self.last)
    }

    fn shared(&self, b: &mut Builder, layout: Layout, held: bool) -> (usize, usize, String) {
        if !held {
            let sweeps = self.phases.len() + usize::from(self.out.is_some());
            b.rounds(sweeps * self.count.div_ceil(layout.blocks * BLOCK));
        }
        for (number, phase) in self.phases.iter().enumerate() {
            // One for each: a second call of the same would have to wait for the first.
            let Sum { ty, join, .. } = Sum::of(phase);
            b.item(&layout.joined(&format!("sum{number}"), ty, join));
        }
        let mut main = format!(
            "{}\nlet end = select(0u, p.count, row < p.rows);\nlet base = row * p.count;\n{}",
            layout.place(),
            self.begin()
        );
        main += &if held { self.held(layout) } else { self.swept(layout) };
        if !self.last.is_empty() {
            let _ = write!(main, "if (row < p.rows && local % {}u == 0u) {{ {} }}", layout.width(), self.last);
        }
        (layout.size(), self.rows.div_ceil(layout.rows), main)
    }

    fn held(&self, layout: Layout) -> String {
        let mut text = String::new();
        let lines = layout.lines;
        for k in 0..lines {
            let second =
                if self.b.is_some() { format!(" b{k} = b_quad(base + i{k}, i{k}, end);") } else { String::new() };
            let _ = writeln!(
                text,
                "let i{k} = begin + {}u;\nvar a{k} = V(0.0);\nvar b{k} = V(0.0);
if (i{k} < end) {{ a{k} = a_quad(base + i{k}, i{k}, end);{second} }}",
                k * LINE
            );
        }
        let is_weighted = self.weight.is_some();
        for k in 0..if is_weighted { lines } else { 0 } {
            let _ = writeln!(text, "var w{k} = V(1.0);\nif (i{k} < end) {{ w{k} = weight_of(i{k}, end); }}");
        }
        let w = |k: usize| if is_weighted { format!("w{k}") } else { "V(1.0)".to_owned() };
        for (number, phase) in self.phases.iter().enumerate() {
            let Sum { sums, narrow, .. } = Sum::of(phase);
            let _ = writeln!(text, "{{\n{sums}");
            for k in 0..lines {
                for j in 0..phase.terms.len() {
                    let _ = writeln!(text, "sums{j} += term{number}{j}(a{k}, b{k}, {}, i{k}, end);", w(k));
                }
            }
            let _ = writeln!(text, "let s = sum{number}(local, {narrow});\n{}\n}}", phase.then);
        }
        for k in 0..if self.out.is_some() { lines } else { 0 } {
            let value = format!("result(a{k}, b{k}, {}, bias_of(i{k}, end))", w(k));
            let _ = writeln!(text, "if (i{k} < end) {{ store(base + i{k}, i{k}, end, {value}); }}");
        }
        text
    }

    fn swept(&self, layout: Layout) -> String {
        let step = layout.blocks * BLOCK;
        let over = |before: &str, body: &str, after: &str| {
            let lines: String = (0..layout.lines).fold(String::new(), |lines, k| {
                lines + &format!("{{ let i = begin + first + {}u; if (i < end) {{ {body} }} }}\n", k * LINE)
            });
            format!("for (var first = 0u; first < p.count; first += {step}u) {{ {before}\n{lines}{after} }}\n")
        };
        let mut text = String::new();
        for (number, phase) in self.phases.iter().enumerate() {
            let Sum { zero, sums, narrow, .. } = Sum::of(phase);
            let pass = over(&sums, &self.added(number, phase), &format!("mine += {narrow};"));
            let _ =
                writeln!(text, "{{\nvar mine = {zero};\n{pass}let s = sum{number}(local, mine);\n{}\n}}", phase.then);
        }
        if self.out.is_some() {
            text += &over("", &self.stored(), "");
        }
        text
    }
}

/// How the sum of a phase is written: its type, its zero, the sums of four neighbours, their sum, what joins two sums.
struct Sum {
    ty: &'static str,
    zero: &'static str,
    sums: String,
    narrow: &'static str,
    join: &'static str,
}

impl Sum {
    fn of(phase: &Phase) -> Self {
        let sums = (0..phase.terms.len()).fold(String::new(), |text, j| text + &format!("var sums{j} = V(0.0); "));
        if phase.terms.len() == 1 {
            Self { ty: "f32", zero: "0.0", sums, narrow: "narrow(sums0)", join: "f32_of" }
        } else {
            let narrow = "vec2<f32>(narrow(sums0), narrow(sums1))";
            Self { ty: "vec2<f32>", zero: "vec2<f32>(0.0)", sums, narrow, join: "two_of" }
        }
    }
}
