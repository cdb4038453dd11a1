//! Sections of columns: an invocation walks down an axis, its neighbours beside it. Where invocations of a workgroup may
//! talk cheaply and the section has several blocks, they share them; the order of a sum is the same.

use super::super::Target;
use super::super::shader::{Builder, Call};
use super::Stage;
use crate::error::Result;
use crate::gpu::Class;
use crate::program::op::Middle;

/// Elements of a section.
pub(super) const SECTION: usize = BLOCK * BLOCKS;

/// Elements that are joined one by one before they join the rest.
const BLOCK: usize = 16;

/// Blocks of a section.
const BLOCKS: usize = 16;

/// Most invocations of a workgroup that shares sections.
const SHARED: usize = 256;

/// The call of a stage.
pub(super) fn call(stage: &Stage, target: Target) -> Result<Call> {
    let blocks = stage.axes.count.min(SECTION).div_ceil(BLOCK);
    if target.traits.class == Class::Software || blocks == 1 {
        alone(stage, target)
    } else {
        shared(stage, blocks.next_power_of_two(), target)
    }
}

/// `block_at`: the state of the block that begins at `begin`, in a section that ends at `end`. Whole blocks need no
/// comparisons.
fn block_item(stage: &Stage) -> String {
    if stage.is_computed() {
        return format!(
            "{}
fn block_at(base: u32, begin: u32, end: u32) -> State {{
  var s = none;
  for (var i = begin; i < min(begin + {BLOCK}u, end); i++) {{ s = join(s, value(base + i * p.inner, i)); }}
  return s;
}}",
            stage.fold.value()
        );
    }
    let steps: String = (0..BLOCK).fold(String::new(), |steps, k| {
        steps + &format!("s = join(s, value(base + (begin + {k}u) * p.inner, begin + {k}u));\n")
    });
    format!(
        "{}
fn block_at(base: u32, begin: u32, end: u32) -> State {{
  var s = none;
  if (begin + {BLOCK}u <= end) {{
{steps}  }} else {{
    for (var i = begin; i < end; i++) {{ s = join(s, value(base + i * p.inner, i)); }}
  }}
  return s;
}}",
        stage.fold.value()
    )
}

fn centre(stage: &Stage) -> &'static str {
    if stage.centres.is_some() { "centre = centres(o * p.inner + column);" } else { "" }
}

fn alone(stage: &Stage, target: Target) -> Result<Call> {
    let Middle { outer, count, inner } = stage.axes;
    // Memory accesses are dear where a processor plays the GPU, and take four words about as fast as one.
    let is_software = target.traits.class == Class::Software;
    let columns = is_software && stage.source.is_aligned && inner.is_multiple_of(4) && stage.fold.has_vectors();
    let size = if is_software { 32 } else { 64 };
    let sections = count.div_ceil(SECTION);
    let cells = outer * sections * inner / if columns { 4 } else { 1 };
    let mut b = Builder::new(target.traits, "reduce_columns").masked();
    stage.declare(&mut b, columns, columns)?;
    b.value("cells", cells);
    b.value("sections", sections);
    b.item(&block_item(stage));
    let centre = centre(stage);
    let main = format!(
        "let cell = group() * {size}u + local;
if (cell >= p.cells) {{ return; }}
let column = cell % p.inner;
let rest = cell / p.inner;
let o = rest / p.sections;
let first = (rest % p.sections) * {SECTION}u;
let end = min(first + {SECTION}u, p.count);
let base = o * p.count * p.inner + column;
{centre}
var s = none;
for (var begin = first; begin < end; begin += {BLOCK}u) {{ s = join(s, block_at(base, begin, end)); }}
put(cell, base, s);"
    );
    b.finish(size as u32, [cells.div_ceil(size), 1, 1], &main)
}

/// A workgroup has a tile of neighbouring columns, and several invocations for each.
fn shared(stage: &Stage, blocks: usize, target: Target) -> Result<Call> {
    let width = stage.axes.inner.next_power_of_two().min(64);
    let slots = blocks.min(SHARED / width);
    let size = width * slots;
    let sections = stage.axes.count.div_ceil(SECTION);
    let tiles = stage.axes.inner.div_ceil(width);
    let mut b = Builder::new(target.traits, "reduce_columns_shared").masked();
    stage.declare(&mut b, false, false)?;
    b.value("sections", sections);
    b.value("tiles", tiles);
    b.value("groups", stage.axes.outer * sections * tiles);
    b.item(&block_item(stage));
    b.item(&format!("var<workgroup> parts: array<State, {}>;", blocks * width));
    let centre = centre(stage);
    let main = format!(
        "let column = (group() % p.tiles) * {width}u + local % {width}u;
let rest = group() / p.tiles;
let o = rest / p.sections;
let first = (rest % p.sections) * {SECTION}u;
let end = min(first + {SECTION}u, p.count);
let base = o * p.count * p.inner + column;
let is_there = group() < p.groups && column < p.inner;
if (is_there) {{
  {centre}
  for (var block = local / {width}u; block < {blocks}u; block += {slots}u) {{
    parts[block * {width}u + local % {width}u] = block_at(base, first + block * {BLOCK}u, end);
  }}
}}
workgroupBarrier();
if (is_there && local < {width}u) {{
  var s = none;
  for (var block = 0u; block < {blocks}u; block++) {{ s = join(s, parts[block * {width}u + local]); }}
  put(rest * p.inner + column, base, s);
}}"
    );
    b.finish(size as u32, [stage.axes.outer * sections * tiles, 1, 1], &main)
}
