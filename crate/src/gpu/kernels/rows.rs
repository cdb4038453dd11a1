//! Rows of neighbouring elements, shared by the invocations of a workgroup: who has which elements, and how what they found
//! is joined. Reductions, softmax and losses use it.
//!
//! A *line* is four neighbours for each of eight invocations; a *block* is eight lines, kept by eight invocations in
//! registers; blocks lie side by side. Sums go over the lines of a block, over the four neighbours, over blocks and at last
//! over the eight invocations: an order by position, so that nothing appended to a row changes a bit.

use std::fmt::Write as _;

/// Invocations of a block.
pub(super) const LANES: usize = 8;

/// Elements of a line.
pub(super) const LINE: usize = 4 * LANES;

/// Elements of a block.
pub(super) const BLOCK: usize = 8 * LINE;

/// Invocations of a workgroup that shares rows.
pub(super) const SIZE: usize = 256;

/// Elements that a workgroup holds at once.
pub(super) const LONGEST: usize = SIZE / LANES * BLOCK;

/// How rows lie over a workgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    /// Lines of a block that rows reach: 1, 2, 4 or 8.
    pub(super) lines: usize,
    /// Blocks side by side, a power of two.
    pub(super) blocks: usize,
    /// Rows per workgroup.
    pub(super) rows: usize,
}

impl Layout {
    /// For rows of `count` elements, or parts of [`LONGEST`] elements of longer ones; `size` invocations at least.
    pub(super) fn new(count: usize, size: usize) -> Self {
        let lines = count.min(BLOCK).div_ceil(LINE).next_power_of_two();
        let blocks = count.min(LONGEST).div_ceil(BLOCK).next_power_of_two();
        Self { lines, blocks, rows: (size / (blocks * LANES)).max(1) }
    }

    /// Invocations of a row.
    pub(super) fn width(self) -> usize {
        self.blocks * LANES
    }

    /// Invocations of a workgroup.
    pub(super) fn size(self) -> usize {
        self.rows * self.width()
    }

    /// `name(local, mine)`: joins the `type`s of a row's invocations by `join`; each of them gets the result. It has
    /// barriers: all invocations have to call it. Two calls of the same function need another barrier between them.
    pub(super) fn joined(self, name: &str, ty: &str, join: &str) -> String {
        let (width, size) = (self.width(), self.size());
        let mut parts = "parts";
        let mut text = format!("var<workgroup> {name}_parts: array<{ty}, {size}>;\n");
        if self.blocks > 1 {
            let _ = writeln!(text, "var<workgroup> {name}_lanes: array<{ty}, {}>;", self.rows * LANES);
        }
        let _ = write!(
            text,
            "fn {name}(local: u32, mine: {ty}) -> {ty} {{\n{name}_parts[local] = mine;\nworkgroupBarrier();\n\
             let row = local / {width}u;\n"
        );
        if self.blocks > 1 {
            let _ = writeln!(
                text,
                "let lane = local % {width}u;
if (lane < {LANES}u) {{
  var s = {name}_parts[local];
  for (var block = 1u; block < {}u; block++) {{ s = {join}(s, {name}_parts[local + block * {LANES}u]); }}
  {name}_lanes[row * {LANES}u + lane] = s;
}}
workgroupBarrier();",
                self.blocks
            );
            parts = "lanes";
        }
        let part = |k: usize| format!("{name}_{parts}[at + {k}u]");
        let pair = |k: usize| format!("{join}({}, {})", part(k), part(k + 4));
        let _ = write!(
            text,
            "let at = row * {LANES}u;\nreturn {join}({join}({}, {}), {join}({}, {}));\n}}",
            pair(0),
            pair(2),
            pair(1),
            pair(3)
        );
        text
    }

    /// Where an invocation stands: `row`, counted over all workgroups, and `begin`, its first element in that row; the
    /// next ones follow a [`LINE`] apart.
    pub(super) fn place(self) -> String {
        let (rows, width) = (self.rows, self.width());
        format!(
            "let row = group() * {rows}u + local / {width}u;
let begin = (local % {width}u) / {LANES}u * {BLOCK}u + local % {LANES}u * 4u;"
        )
    }
}

/// `inside(i, end)`: which of four neighbours from `i` on lie before `end`; and `name_quad(at, i, end)`: four neighbours
/// of the buffer `name`, with elements of type `ty`, from `at` on, of which the first has position `i` on an axis that
/// ends at `end`, behind `i`. Behind the end it reads the last one again.
pub(super) fn quad(name: &str, ty: &str, vectors: bool) -> String {
    if vectors {
        return format!("fn {name}_quad(at: u32, i: u32, end: u32) -> vec4<{ty}> {{ return {name}(at >> 2u); }}");
    }
    format!(
        "fn {name}_quad(at: u32, i: u32, end: u32) -> vec4<{ty}> {{
  let last = end - i - 1u;
  return vec4<{ty}>({name}(at), {name}(at + min(1u, last)), {name}(at + min(2u, last)), {name}(at + min(3u, last)));
}}"
    )
}

/// See [`quad`].
pub(super) const INSIDE: &str = "fn inside(i: u32, end: u32) -> vec4<bool> {
  return vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(end);
}";
