//! Products on hardware: a workgroup computes a tile of C; slices of A and B pass through workgroup memory, both laid out
//! by K, and every invocation keeps a 4 × 4 block of sums, or two or four of them, in named vectors. While a slice is
//! worked on, the next one is on its way into registers. Half of the invocations fetch A, the other half B.

use std::fmt::Write as _;

use super::super::Target;
use super::super::shader::Call;
use super::product::{BLOCK, Part, Product, Side};
use crate::error::Result;
use crate::gpu::Traits;

/// Rows and columns of a tile: 32 by 32, or any of 64 and 128.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

/// All there are.
pub(super) const TILES: [Tile; 5] = [
    Tile { rows: 32, cols: 32 },
    Tile { rows: 64, cols: 64 },
    Tile { rows: 64, cols: 128 },
    Tile { rows: 128, cols: 64 },
    Tile { rows: 128, cols: 128 },
];

const NAMES: [&str; 4] = ["x", "y", "z", "w"];

impl Tile {
    /// Whether an adapter has the workgroups for it.
    pub(super) fn fits(self, traits: &Traits) -> bool {
        self.threads() <= traits.workgroup_size as usize
    }

    /// Blocks of four that an invocation has along an extent: they lie 64 apart, so that neighbours read neighbours.
    const fn quads(extent: usize) -> usize {
        extent.div_ceil(64)
    }

    /// Invocations along an extent.
    const fn spread(extent: usize) -> usize {
        extent / 4 / Self::quads(extent)
    }

    const fn threads(self) -> usize {
        Self::spread(self.rows) * Self::spread(self.cols)
    }

    /// Vectors from one K to the next in workgroup memory: one more than there are, against bank conflicts.
    const fn pitch(extent: usize) -> usize {
        extent / 4 + 1
    }

    /// Depth of a slice: as deep as workgroup memory allows.
    fn depth(self, traits: &Traits) -> usize {
        let bytes = |depth: usize| depth * (Self::pitch(self.rows) + Self::pitch(self.cols)) * 16;
        if bytes(16) <= traits.workgroup_bytes as usize { 16 } else { 8 }
    }
}

/// The dispatch of a part.
pub(super) fn call(product: &Product, tile: Tile, part: Part, target: Target) -> Result<Call> {
    let depth = tile.depth(target.traits);
    let mut b = product.builder("gemm", part, target)?;
    for (name, extent) in [("a", tile.rows), ("b", tile.cols)] {
        let size = depth * Tile::pitch(extent);
        b.item(&format!("var<workgroup> {name}_tile: array<vec4<f32>, {size}>;"));
    }
    let main = Writer { product, tile, depth, text: product.head(tile.cols) }.write();
    b.finish(tile.threads() as u32, product.grid(part, tile.cols), &main)
}

struct Writer<'a> {
    product: &'a Product<'a>,
    tile: Tile,
    depth: usize,
    text: String,
}

/// How one half of the invocations stages one operand.
struct Stage {
    /// `a` or `b`.
    name: &'static str,
    /// The operand.
    side: Side,
    /// Whether it is read by vectors.
    vectors: bool,
    /// Rows or columns of the tile.
    extent: usize,
    /// The number of rows or columns there are, in the text.
    count: &'static str,
}

macro_rules! line {
    ($to:expr, $($arg:tt)*) => { { let _ = writeln!($to.text, $($arg)*); } };
}

impl Writer<'_> {
    fn stages(&self) -> [Stage; 2] {
        let (product, flags) = (self.product, self.product.flags());
        [
            Stage { name: "a", side: product.a, vectors: flags.a, extent: self.tile.rows, count: "p.m" },
            Stage { name: "b", side: product.b, vectors: flags.b, extent: self.tile.cols, count: "p.n" },
        ]
    }

    fn has_tail(&self) -> bool {
        !self.product.k.is_multiple_of(self.depth)
    }

    fn half(&self) -> usize {
        self.tile.threads() / 2
    }

    /// Vectors that an invocation fetches of an operand that lies along K: one block of 4 × 4, or none.
    fn blocks(&self, stage: &Stage) -> usize {
        stage.extent / 4 * (self.depth / 4)
    }

    /// Vectors that every invocation fetches of an operand that does not.
    fn fetches(&self, stage: &Stage) -> usize {
        stage.extent / 4 * self.depth / self.half()
    }

    fn write(mut self) -> String {
        let (depth, blocks) = (self.depth, self.product.has_blocks());
        line!(self, "let row = p.row + tile_m * {}u;\nlet col = tile_n * {}u;", self.tile.rows, self.tile.cols);
        let spread = Tile::spread(self.tile.cols);
        line!(self, "let ty = local / {spread}u;\nlet tx = local % {spread}u;");
        line!(self, "let is_left = local < {half}u;\nlet turn = local % {half}u;", half = self.half());
        self.places();
        line!(self, "var f0 = vec4<f32>();\nvar f1 = vec4<f32>();\nvar f2 = vec4<f32>();\nvar f3 = vec4<f32>();");
        self.fetch("0u");
        self.zero("c", "var ");
        if blocks {
            self.zero("t", "var ");
        }
        let tail = if self.has_tail() { format!(" - p.k % {depth}u") } else { String::new() };
        line!(self, "let full = p.k{tail};");
        line!(self, "for (var k = 0u; k < full; k += {depth}u) {{");
        self.stow();
        line!(self, "if (k + {depth}u < p.k) {{\nlet next = k + {depth}u;");
        self.fetch("next");
        line!(self, "}}");
        for step in 0..depth {
            self.step(&format!("{step}u"));
        }
        if blocks {
            line!(self, "if ((k + {depth}u) % {BLOCK}u == 0u) {{");
            self.add_up();
            self.zero("c", "");
            line!(self, "}}");
        }
        line!(self, "}}");
        if self.has_tail() {
            self.stow();
            line!(self, "for (var step = 0u; step < p.k - full; step++) {{");
            self.step("step");
            line!(self, "}}");
        }
        if blocks {
            line!(self, "if (p.k % {BLOCK}u != 0u) {{");
            self.add_up();
            line!(self, "}}");
        }
        self.store(if blocks { "t" } else { "c" });
        self.text
    }

    /// Where each invocation fetches; rows and columns beyond the edge are the last ones again.
    fn places(&mut self) {
        line!(self, "var at0 = 0u;\nvar at1 = 0u;\nvar at2 = 0u;\nvar at3 = 0u;\nvar along = 0u;");
        for (stage, head) in self.stages().into_iter().zip(["if (is_left) {", "} else {"]) {
            let Stage { name, count, .. } = stage;
            let from = if name == "a" { "row" } else { "col" };
            line!(self, "{head}");
            if stage.side.along_k {
                let quads = self.depth / 4;
                line!(self, "along = turn % {quads}u * 4u;\nlet first = {from} + turn / {quads}u * 4u;");
                for i in 0..4 {
                    line!(self, "at{i} = {name}_base + min(first + {i}u, {count} - 1u) * p.k;");
                }
            } else {
                let (width, last) = (stage.extent / 4, Product::last(stage.vectors, count));
                line!(self, "along = turn / {width}u;\nat0 = {name}_base;");
                line!(self, "at1 = min({from} + turn % {width}u * 4u, {last});");
            }
        }
        line!(self, "}}");
    }

    /// Fetches the slice that begins at `k` into registers. Beyond the end of K it takes the last elements again; the
    /// tail's loop does not come to them.
    fn fetch(&mut self, k: &str) {
        let tail = self.has_tail();
        for (stage, head) in self.stages().into_iter().zip(["if (is_left) {", "} else {"]) {
            let name = stage.name;
            line!(self, "{head}");
            if stage.side.along_k {
                let last = Product::last(stage.vectors, "p.k");
                let place = if tail { format!("min({k} + along, {last})") } else { format!("{k} + along") };
                line!(self, "let place = {place};");
                let guard = self.blocks(&stage) < self.half();
                if guard {
                    line!(self, "if (turn < {}u) {{", self.blocks(&stage));
                }
                for i in 0..4 {
                    line!(self, "f{i} = {name}4(at{i} + place, at{i} + p.k - 1u);");
                }
                if guard {
                    line!(self, "}}");
                }
            } else {
                let rows = self.half() / (stage.extent / 4);
                for i in 0..self.fetches(&stage) {
                    let place = format!("{k} + along + {}u", i * rows);
                    let place = if tail { format!("min({place}, p.k - 1u)") } else { place };
                    let count = stage.count;
                    line!(self, "{{ let first = at0 + ({place}) * {count};");
                    line!(self, "f{i} = {name}4(first + at1, first + {count} - 1u); }}");
                }
            }
        }
        line!(self, "}}");
    }

    /// Puts the fetched slice into workgroup memory, once everybody is done with the last one.
    fn stow(&mut self) {
        line!(self, "workgroupBarrier();");
        for (stage, head) in self.stages().into_iter().zip(["if (is_left) {", "} else {"]) {
            let (name, pitch) = (stage.name, Tile::pitch(stage.extent));
            line!(self, "{head}");
            if stage.side.along_k {
                line!(self, "if (turn < {}u) {{", self.blocks(&stage));
                line!(self, "let to = along * {pitch}u + turn / {}u;", self.depth / 4);
                for (i, lane) in NAMES.into_iter().enumerate() {
                    let to = i * pitch;
                    line!(self, "{name}_tile[to + {to}u] = vec4<f32>(f0.{lane}, f1.{lane}, f2.{lane}, f3.{lane});");
                }
                line!(self, "}}");
            } else {
                let width = stage.extent / 4;
                let rows = self.half() / width;
                line!(self, "let to = along * {pitch}u + turn % {width}u;");
                for i in 0..self.fetches(&stage) {
                    line!(self, "{name}_tile[to + {}u] = f{i};", i * rows * pitch);
                }
            }
        }
        line!(self, "}}\nworkgroupBarrier();");
    }

    /// One term of every sum.
    fn step(&mut self, step: &str) {
        line!(self, "{{");
        for (stage, thread) in self.stages().into_iter().zip(["ty", "tx"]) {
            let (name, pitch) = (stage.name, Tile::pitch(stage.extent));
            for quad in 0..Tile::quads(stage.extent) {
                line!(self, "let {name}{quad} = {name}_tile[{step} * {pitch}u + {}u + {thread}];", quad * 16);
            }
        }
        for row in 0..4 * Tile::quads(self.tile.rows) {
            for quad in 0..Tile::quads(self.tile.cols) {
                let (block, lane) = (row / 4, NAMES[row % 4]);
                line!(self, "c{row}_{quad} = fma(vec4<f32>(a{block}.{lane}), b{quad}, c{row}_{quad});");
            }
        }
        line!(self, "}}");
    }

    fn each_sum(&mut self, statement: impl Fn(usize, usize) -> String) {
        for row in 0..4 * Tile::quads(self.tile.rows) {
            for quad in 0..Tile::quads(self.tile.cols) {
                line!(self, "{}", statement(row, quad));
            }
        }
    }

    fn zero(&mut self, name: &str, declare: &str) {
        self.each_sum(|row, quad| format!("{declare}{name}{row}_{quad} = vec4<f32>();"));
    }

    fn add_up(&mut self) {
        self.each_sum(|row, quad| format!("t{row}_{quad} += c{row}_{quad};"));
    }

    fn store(&mut self, sums: &str) {
        for quad in 0..Tile::quads(self.tile.cols) {
            line!(self, "{{ let col = col + {}u + tx * 4u;\nif (col < p.n) {{\nlet bias = bias4(col);", quad * 64);
            line!(self, "let at = c_base + col;");
            for block in 0..Tile::quads(self.tile.rows) {
                line!(self, "{{ let row = row + {}u + ty * 4u;", block * 64);
                for i in 0..4 {
                    let sum = format!("{sums}{}_{quad}", block * 4 + i);
                    line!(self, "if (row + {i}u < row_end) {{ store(at + (row + {i}u) * p.n, col, {sum}, bias); }}");
                }
                if self.product.epilogue.in_two_passes() {
                    line!(self, "for (var i = row; i < min(row + 4u, row_end); i++) {{ finish(at + i * p.n, col); }}");
                }
                line!(self, "}}");
            }
            line!(self, "}} }}");
        }
    }
}
