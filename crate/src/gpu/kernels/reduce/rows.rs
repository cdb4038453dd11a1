//! Sections of rows: shared by the invocations of a workgroup, or one to each invocation.

use super::super::Target;
use super::super::rows::{INSIDE, LINE, LONGEST, Layout, SIZE, quad};
use super::super::shader::{Builder, Call};
use super::{Stage, Type};
use crate::error::Result;

/// Elements of a section.
pub(super) const SECTION: usize = LONGEST;

/// Elements of a section where an invocation has it for itself.
pub(super) const SECTION_ALONE: usize = 256;

/// Elements of a block there: they are joined four by four before they join the rest.
const BLOCK_ALONE: usize = 16;

/// The call of a stage where a processor plays the GPU. A memory access costs about as much for four words as for one.
pub(super) fn call_alone(stage: &Stage, target: Target) -> Result<Call> {
    const WIDTH: usize = 32;
    let count = stage.axes.count;
    let sections = count.div_ceil(SECTION_ALONE);
    let tasks = stage.axes.outer * sections;
    let b = begin(stage, target, tasks, sections)?;
    let zero = if stage.fold.starts_at_zero() { "a = vec4<f32>(0.0) + a;" } else { "" };
    let later = |inside: bool| {
        (4..BLOCK_ALONE).step_by(4).fold(String::new(), |steps, k| {
            let step = format!("a = widen(a, wide(x_quad(base + i + {k}u, i + {k}u, end), i + {k}u, end));");
            steps + &if inside { format!("    {step}\n") } else { format!("    if (i + {k}u < end) {{ {step} }}\n") }
        })
    };
    let centre = if stage.centres.is_some() { "centre = centres(task / p.sections);" } else { "" };
    let (first, rest) = if stage.is_computed() {
        let step = format!(
            "for (var k = 0u; k < {BLOCK_ALONE}u && i + k < end; k += 4u) {{
    let w = wide(x_quad(base + i + k, i + k, end), i + k, end);
    if (k == 0u) {{ a = w; {zero} }} else {{ a = widen(a, w); }}
  }}"
        );
        ("var a: Wide;".to_owned(), step)
    } else {
        let whole = format!("  if (i + {BLOCK_ALONE}u <= end) {{\n{}  }} else {{\n{}  }}", later(true), later(false));
        (format!("var a = wide(x_quad(base + i, i, end), i, end);\n  {zero}"), whole)
    };
    let main = format!(
        "let task = group() * {WIDTH}u + local;
if (task >= p.tasks) {{ return; }}
let first = (task % p.sections) * {SECTION_ALONE}u;
let end = min(first + {SECTION_ALONE}u, p.count);
let base = task / p.sections * p.count;
{centre}
var s = none;
for (var i = first; i < end; i += {BLOCK_ALONE}u) {{
  {first}
{rest}
  s = join(s, narrow(a));
}}
put(task, base, s);"
    );
    b.finish(WIDTH as u32, [tasks.div_ceil(WIDTH), 1, 1], &main)
}

/// What both ways of working declare.
fn begin<'a>(stage: &Stage, target: Target<'a>, tasks: usize, sections: usize) -> Result<Builder<'a>> {
    let vectors = stage.source.is_aligned && stage.axes.count.is_multiple_of(4);
    let mut b = Builder::new(target.traits, "reduce_rows").masked();
    stage.declare(&mut b, vectors, false)?;
    b.value("tasks", tasks);
    b.value("sections", sections);
    let element = if stage.fold.element(false) == Type::F32 { "f32" } else { "u32" };
    b.item(INSIDE);
    b.item(&quad("x", element, vectors));
    b.item(stage.fold.wide());
    Ok(b)
}

/// The call of a stage.
pub(super) fn call(stage: &Stage, target: Target) -> Result<Call> {
    let count = stage.axes.count;
    let layout = Layout::new(count, SIZE);
    let sections = count.div_ceil(SECTION);
    let tasks = stage.axes.outer * sections;
    let mut b = begin(stage, target, tasks, sections)?;
    b.item(&layout.joined("all", "State", "join"));
    let centre = if stage.centres.is_some() { "centre = centres(task / p.sections);" } else { "" };
    let zero = if stage.fold.starts_at_zero() { "a = vec4<f32>(0.0) + a;" } else { "" };
    let steps: String = (1..layout.lines).fold(String::new(), |steps, line| {
        let i = line * LINE;
        steps
            + &format!(
                "  if (i + {i}u < end) {{ a = widen(a, wide(x_quad(base + i + {i}u, i + {i}u, end), i + {i}u, end)); }}\n"
            )
    });
    let steps = if stage.is_computed() {
        format!(
            "  var a: Wide;
  for (var k = 0u; k < {}u && i + k < end; k += {LINE}u) {{
    let w = wide(x_quad(base + i + k, i + k, end), i + k, end);
    if (k == 0u) {{ a = w; {zero} }} else {{ a = widen(a, w); }}
  }}\n",
            layout.lines * LINE
        )
    } else {
        format!("  var a = wide(x_quad(base + i, i, end), i, end);\n  {zero}\n{steps}")
    };
    let main = format!(
        "{}
let task = row;
let first = (task % p.sections) * {SECTION}u;
let end = select(0u, min(first + {SECTION}u, p.count), task < p.tasks);
let base = task / p.sections * p.count;
let i = first + begin;
var mine = none;
if (i < end) {{
  {centre}
{steps}  mine = narrow(a);
}}
let s = all(local, mine);
if (task < p.tasks && local % {}u == 0u) {{ put(task, base, s); }}",
        layout.place(),
        layout.width()
    );
    b.finish(layout.size() as u32, [tasks.div_ceil(layout.rows), 1, 1], &main)
}
