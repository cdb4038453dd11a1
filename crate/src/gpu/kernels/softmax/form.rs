//! How rows that are normalised are laid over invocations, for softmax and for the losses made of it. What is computed
//! comes as a [`Work`]; here is only who does it, and in which order sums are taken: by position (`rows.rs`), so −∞
//! appended to a row changes no bit of it.

use std::fmt::Write as _;

use super::super::Target;
use super::super::rows::{BLOCK, INSIDE, LANES, LINE, LONGEST, Layout, SIZE, quad};
use super::super::shader::{Builder, Call, Memory, Type, Word};
use crate::error::Result;
use crate::gpu::Class;
use crate::plan::Operand;
use crate::program::op::Middle;

/// Elements of a row up to which a processor that plays the GPU is better off without workgroups.
const MOST_ALONE: usize = 1024;

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
    /// What is summed over the row, of `a` and `b`; `decay` is eˣ for x ≤ 0.
    pub(in super::super) term: &'static str,
    /// Whether `result` takes the term in the place of `a`.
    pub(in super::super) of_term: bool,
    /// Makes `scale` of the sum `s`.
    pub(in super::super) scale: &'static str,
    /// An element of the result, of `a` and `b`.
    pub(in super::super) result: &'static str,
    /// What is done once in the end, for row `row`, which begins at `base`.
    pub(in super::super) last: &'static str,
}

/// Who does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// An invocation has a row for itself; it holds it in registers, or goes over it several times.
    Alone { vectors: bool, held: bool },
    /// Invocations share a row; they hold it in registers, or go over it several times.
    Shared { layout: Layout, vectors: bool, held: bool },
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
        let (Self::Alone { vectors, .. } | Self::Shared { vectors, .. } | Self::Columns { vectors }) = self;
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
        Form::Alone { vectors, held: true } => alone_held(&mut b, work, axes, vectors),
        Form::Alone { vectors, held: false } => alone(&mut b, work, axes, vectors),
        Form::Shared { layout, vectors, held } => shared(&mut b, work, axes, layout, vectors, held),
        Form::Columns { vectors } => columns(&mut b, work, axes, vectors),
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
fn log_of(v: S) -> S {{ return {}; }}
fn higher(a: V, b: V) -> V {{ return select(a, b, b > a); }}
fn term(a: V, b: V) -> V {{ return {term}; }}
",
            each("math_decay", "V"),
            each("math_log", "S")
        );
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
fn loners(b: &Builder) -> usize {
    if b.traits().class == Class::Software { 32 } else { 64 }
}

/// The sum of what up to eight invocations would have, as those would take it: see [`Layout::joined`].
fn sum_of_lanes(lanes: usize, lane: impl Fn(usize) -> String) -> String {
    let one = |k: usize| (k < lanes).then(|| lane(k));
    let both = |a: Option<String>, b: Option<String>| match (a, b) {
        (Some(a), Some(b)) => Some(format!("({a} + {b})")),
        (a, b) => a.or(b),
    };
    let pair = |k: usize| both(one(k), one(k + 4));
    both(both(pair(0), pair(2)), both(pair(1), pair(3))).unwrap_or_default()
}

fn alone_held(b: &mut Builder, work: &Work, axes: Middle, vectors: bool) -> (usize, usize, String) {
    const COMPONENTS: [&str; 4] = ["x", "y", "z", "w"];
    let (count, size) = (axes.count, loners(b));
    let quads = count.div_ceil(4);
    b.item(&work.items(true, false));
    let mut main =
        format!("let row = group() * {size}u + local;\nif (row >= p.rows) {{ return; }}\nlet base = row * {count}u;\n");
    let load = |name: &str, quad: usize| {
        if vectors {
            return format!("{name}((base >> 2u) + {quad}u)");
        }
        let parts = (4 * quad..4 * quad + 4)
            .map(|i| if i < count { format!("{name}(base + {i}u)") } else { work.fill().to_owned() });
        format!("V({})", parts.collect::<Vec<_>>().join(", "))
    };
    for k in 0..quads {
        let _ = writeln!(main, "var a{k} = {};", load("a", k));
        let _ = writeln!(main, "let b{k} = {};", work.second(&load("b", k)));
    }
    if work.has_top {
        let top = (1..quads).fold("a0".to_owned(), |top, k| format!("higher({top}, a{k})"));
        let _ = writeln!(main, "top = highest({top});");
    }
    for k in 0..quads {
        let _ = writeln!(main, "let t{k} = term(a{k}, b{k});");
        if work.of_term {
            let _ = writeln!(main, "a{k} = t{k};");
        }
    }
    let sum = sum_of_lanes(quads, |k| format!("narrow(t{k})"));
    let _ = writeln!(main, "let s = 0.0 + {sum};\n{};", work.scale);
    for k in 0..quads {
        if work.out.is_none() {
            break;
        }
        let _ = writeln!(main, "let r{k} = result(a{k}, b{k});");
        if vectors {
            let _ = writeln!(main, "out_set((base >> 2u) + {k}u, r{k});");
            continue;
        }
        for (component, i) in COMPONENTS.iter().zip(4 * k..count) {
            let _ = writeln!(main, "out_set(base + {i}u, r{k}.{component});");
        }
    }
    (size, axes.outer.div_ceil(size), main + work.last)
}

fn alone(b: &mut Builder, work: &Work, axes: Middle, vectors: bool) -> (usize, usize, String) {
    let size = loners(b);
    b.item(&work.items(true, false));
    b.item(&access(work, vectors));
    let mut main = format!(
        "let row = group() * {size}u + local;
if (row >= p.rows) {{ return; }}
let base = row * p.count;
let end = p.count;
"
    );
    let second = work.second("load_b(base + i, i, end)");
    if work.has_top {
        let _ = writeln!(
            main,
            "var t = V({});
for (var i = 0u; i < end; i += 4u) {{ t = higher(t, load_a(base + i, i, end)); }}
top = highest(t);",
            work.fill()
        );
    }
    let lanes = |text: &dyn Fn(usize) -> String| (0..LANES).map(text).collect::<Vec<_>>().join("\n");
    let _ = writeln!(
        main,
        "{}
for (var first = 0u; first < end; first += {BLOCK}u) {{
{}
for (var line = first; line < min(first + {BLOCK}u, end); line += {LINE}u) {{
{}
}}
{}
}}
let s = {};
{};",
        lanes(&|k| format!("var mine{k} = 0.0;")),
        lanes(&|k| format!("var sums{k} = V(0.0);")),
        lanes(&|k| format!(
            "{{ let i = line + {}u; if (i < end) {{ sums{k} += term(load_a(base + i, i, end), {second}); }} }}",
            4 * k
        )),
        lanes(&|k| format!("mine{k} += narrow(sums{k});")),
        sum_of_lanes(LANES, |k| format!("mine{k}")),
        work.scale
    );
    if work.out.is_some() {
        let element = work.element("a_here", "b_here");
        let _ = writeln!(
            main,
            "for (var i = 0u; i < end; i += 4u) {{
  let a_here = load_a(base + i, i, end);
  let b_here = {second};
  store(base + i, i, end, {element});
}}"
        );
    }
    (size, axes.outer.div_ceil(size), main + work.last)
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

fn shared(
    b: &mut Builder,
    work: &Work,
    axes: Middle,
    layout: Layout,
    vectors: bool,
    held: bool,
) -> (usize, usize, String) {
    b.item(&work.items(true, false));
    b.item(&access(work, vectors));
    if work.has_top {
        b.item(&layout.joined("highest_of_row", "f32", "higher_of"));
    }
    b.item(&layout.joined("sum_of_row", "f32", "sum_of"));
    let mut main =
        format!("{}\nlet end = select(0u, p.count, row < p.rows);\nlet base = row * p.count;\n", layout.place());
    main += &if held { held_row(work, layout) } else { long_row(work, layout) };
    if !work.last.is_empty() {
        let _ = write!(main, "if (row < p.rows && local % {}u == 0u) {{ {} }}", layout.width(), work.last);
    }
    (layout.size(), axes.outer.div_ceil(layout.rows), main)
}

fn held_row(work: &Work, layout: Layout) -> String {
    let mut text = String::new();
    let lines = layout.lines;
    for k in 0..lines {
        let i = k * LINE;
        let _ = writeln!(text, "let i{k} = begin + {i}u;\nvar a{k} = V({});\nvar b{k} = V(0.0);", work.fill());
        let second = if work.b.is_some() { format!(" b{k} = load_b(base + i{k}, i{k}, end);") } else { String::new() };
        let _ = writeln!(text, "if (i{k} < end) {{ a{k} = load_a(base + i{k}, i{k}, end);{second} }}");
    }
    if work.has_top {
        let top = (1..lines).fold("a0".to_owned(), |top, k| format!("higher({top}, a{k})"));
        let _ = writeln!(text, "top = highest_of_row(local, highest({top}));");
    }
    let mut sum = "V(0.0)".to_owned();
    for k in 0..lines {
        let _ = writeln!(text, "let t{k} = term(a{k}, b{k});");
        if work.of_term {
            let _ = writeln!(text, "a{k} = t{k};");
        }
        sum = format!("({sum} + t{k})");
    }
    let _ = writeln!(text, "let s = sum_of_row(local, 0.0 + narrow({sum}));\n{};", work.scale);
    if work.out.is_some() {
        for k in 0..lines {
            let _ = writeln!(text, "if (i{k} < end) {{ store(base + i{k}, i{k}, end, result(a{k}, b{k})); }}");
        }
    }
    text
}

fn long_row(work: &Work, layout: Layout) -> String {
    let step = layout.blocks * BLOCK;
    let over = |before: &str, body: &str, after: &str| {
        let lines: String = (0..layout.lines).fold(String::new(), |lines, k| {
            lines + &format!("{{ let i = begin + first + {}u; if (i < end) {{ {body} }} }}\n", k * LINE)
        });
        format!("for (var first = 0u; first < p.count; first += {step}u) {{ {before}\n{lines}{after} }}\n")
    };
    let second = work.second("load_b(base + i, i, end)");
    let mut text = String::new();
    if work.has_top {
        let _ = writeln!(text, "var t = V({});", work.fill());
        text += &over("", "t = higher(t, load_a(base + i, i, end));", "");
        text += "top = highest_of_row(local, highest(t));\n";
    }
    text += "var mine = 0.0;\n";
    let term = format!("sums += term(load_a(base + i, i, end), {second});");
    text += &over("var sums = V(0.0);", &term, "mine += narrow(sums);");
    let _ = writeln!(text, "let s = sum_of_row(local, mine);\n{};", work.scale);
    if work.out.is_some() {
        let element = work.element("a", "b");
        let store = format!("let a = load_a(base + i, i, end); let b = {second}; store(base + i, i, end, {element});");
        text += &over("", &store, "");
    }
    text
}

/// Rows of a column that are summed before their sum joins the rest.
const PART: usize = 32;

fn columns(b: &mut Builder, work: &Work, axes: Middle, vectors: bool) -> (usize, usize, String) {
    let size = loners(b);
    // Counted in what one access brings.
    let inner = axes.inner / if vectors { 4 } else { 1 };
    let cells = axes.outer * inner;
    b.value("inner", inner);
    b.value("cells", cells);
    b.item(&work.items(vectors, true));
    let mut main = format!(
        "let row = group() * {size}u + local;
if (row >= p.cells) {{ return; }}
let base = row / p.inner * p.count * p.inner + row % p.inner;
let end = base + p.count * p.inner;
"
    );
    if work.has_top {
        main += "top = S(p.lowest);
for (var at = base; at < end; at += p.inner) { top = higher(top, a(at)); }
";
    }
    let second = work.second("b(at)");
    let _ = writeln!(
        main,
        "var s = S(0.0);
for (var first = 0u; first < p.count; first += {PART}u) {{
  var part = S(0.0);
  for (var i = first; i < min(first + {PART}u, p.count); i++) {{
    let at = base + i * p.inner;
    part += term(a(at), {second});
  }}
  s += part;
}}
{};",
        work.scale
    );
    if work.out.is_some() {
        let element = work.element("a_here", "b_here");
        let _ = writeln!(
            main,
            "for (var at = base; at < end; at += p.inner) {{
  let a_here = a(at);
  let b_here = {second};
  out_set(at, {element});
}}"
        );
    }
    (size, cells.div_ceil(size), main + work.last)
}
