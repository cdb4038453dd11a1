//! Sections of rows, shared by the invocations of a workgroup.

use super::super::Target;
use super::super::rows::{INSIDE, LINE, LONGEST, Layout, quad};
use super::super::shader::{Builder, Call};
use super::{Stage, Type};
use crate::error::Result;

/// Elements of a section.
pub(super) const SECTION: usize = LONGEST;

/// Invocations of a workgroup.
const SIZE: usize = 256;

/// The call of a stage.
pub(super) fn call(stage: &Stage, target: Target) -> Result<Call> {
    let count = stage.axes.count;
    let layout = Layout::new(count, SIZE);
    let vectors = stage.source.is_aligned && count.is_multiple_of(4);
    let sections = count.div_ceil(SECTION);
    let tasks = stage.axes.outer * sections;
    let mut b = Builder::new(target.traits, "reduce_rows").masked();
    stage.declare(&mut b, vectors);
    b.value("tasks", tasks);
    b.value("sections", sections);
    let element = if stage.fold.state() == Type::F32 { "f32" } else { "u32" };
    b.item(INSIDE);
    b.item(&quad("x", element, vectors));
    b.item(stage.fold.wide());
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
  var a = wide(x_quad(base + i, i, end), i, end);
  {zero}
{steps}  mine = narrow(a);
}}
let s = all(local, mine);
if (task < p.tasks && local % {}u == 0u) {{ put(task, base, s); }}",
        layout.place(),
        layout.width()
    );
    b.finish(layout.size() as u32, [tasks.div_ceil(layout.rows), 1, 1], &main)
}
