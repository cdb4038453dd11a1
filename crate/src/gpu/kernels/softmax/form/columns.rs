//! An invocation has a column, or four neighbouring ones, for itself.

use std::fmt::Write as _;

use super::super::super::shader::Builder;
use super::{Work, loners};
use crate::program::op::Middle;

/// Rows of a column that are summed before their sum joins the rest.
const PART: usize = 32;

/// Invocations of a workgroup, workgroups, and what they run.
pub(super) fn body(b: &mut Builder, work: &Work, axes: Middle, vectors: bool) -> (usize, usize, String) {
    let size = loners(b);
    // Counted in what one access brings.
    let inner = axes.inner / if vectors { 4 } else { 1 };
    let cells = axes.outer * inner;
    b.value("inner", inner);
    b.value("cells", cells);
    b.rounds(3 * axes.count + axes.count.div_ceil(PART));
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
