//! Products on software adapters whose subgroups have eight lanes. There, arithmetic is vectorised over the lanes but
//! every lane loads its elements by itself, so loads are what counts: no shared memory, no barrier; a workgroup is one
//! subgroup, every lane holds whole vectors of columns for all rows of the tile, and reads only its share of A, which
//! `subgroupBroadcast` spreads. Unrolled with named registers: indexed private arrays spill.

use std::fmt::Write as _;

use super::super::Target;
use super::super::shader::Call;
use super::product::{BLOCK, Part, Product};
use crate::error::Result;

/// Rows of a tile (a multiple of 8), and vectors of columns per lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    /// Rows.
    pub rows: usize,
    /// Vectors of four columns in each lane.
    pub vectors: usize,
}

/// All there are.
pub(super) const TILES: [Tile; 4] = [
    Tile { rows: 8, vectors: 1 },
    Tile { rows: 8, vectors: 2 },
    Tile { rows: 16, vectors: 1 },
    Tile { rows: 16, vectors: 2 },
];

/// Lanes of the subgroup.
const LANES: usize = 8;

/// Terms that one turn of the inner loop takes in.
const STEP: usize = 4;

const NAMES: [&str; 4] = ["x", "y", "z", "w"];

impl Tile {
    /// Rows and columns of the result.
    pub const fn size(self) -> (usize, usize) {
        (self.rows, self.vectors * 4 * LANES)
    }
}

/// The dispatch of a part.
pub(super) fn call(product: &Product, tile: Tile, part: Part, target: Target) -> Result<Call> {
    let (_, columns) = tile.size();
    let b = product.builder("gemm for software", part, target)?;
    let main = Writer { product, tile, text: product.head(columns) }.write();
    b.finish(LANES as u32, product.grid(part, columns), &main)
}

struct Writer<'a> {
    product: &'a Product<'a>,
    tile: Tile,
    text: String,
}

macro_rules! line {
    ($to:expr, $($arg:tt)*) => { { let _ = writeln!($to.text, $($arg)*); } };
}

impl Writer<'_> {
    fn write(mut self) -> String {
        let Tile { rows, vectors } = self.tile;
        line!(self, "let row = p.row + tile_m * {rows}u;");
        line!(self, "let col = tile_n * {}u + local * 4u;", self.tile.size().1);
        self.places();
        let sums = if self.product.has_blocks() { "t" } else { "c" };
        self.zero(sums);
        if self.product.has_blocks() {
            line!(self, "for (var block = 0u; block < p.k; block += {BLOCK}u) {{");
            self.zero("c");
        } else {
            line!(self, "let block = 0u;");
        }
        line!(self, "let end = min(block + {BLOCK}u, p.k);");
        line!(self, "var k = block;");
        line!(self, "for (; k + {}u <= end; k += {STEP}u) {{", STEP);
        self.quad();
        line!(self, "}}");
        if !self.product.k.is_multiple_of(STEP) {
            line!(self, "for (; k < end; k++) {{");
            self.single();
            line!(self, "}}");
        }
        if self.product.has_blocks() {
            for row in 0..rows {
                for vector in 0..vectors {
                    line!(self, "t{row}_{vector} += c{row}_{vector};");
                }
            }
            line!(self, "}}");
        }
        self.store(sums);
        self.text
    }

    /// Where each lane reads; rows and columns beyond the edge are the last ones again.
    fn places(&mut self) {
        let (a, b, flags) = (self.product.a, self.product.b, self.product.flags());
        for group in 0..self.tile.rows / LANES {
            if a.along_k {
                let row = group * LANES;
                line!(self, "let a_at{group} = a_base + min(row + {row}u + local, p.m - 1u) * p.k;");
            } else {
                // Four lanes for as many k, two quads of rows.
                let (row, last) = (group * LANES, Product::last(flags.a, "p.m"));
                line!(
                    self,
                    "let a_at{group} = a_base + (local & 3u) * p.m + min(row + {row}u + (local >> 2u) * 4u, {last});"
                );
            }
        }
        for vector in 0..self.tile.vectors {
            let col = vector * 4 * LANES;
            if b.along_k {
                for i in 0..4 {
                    line!(self, "let b_at{vector}_{i} = b_base + min(col + {}u, p.n - 1u) * p.k;", col + i);
                }
            } else {
                let last = Product::last(flags.b, "p.n");
                line!(self, "let b_at{vector} = b_base + min(col + {col}u, {last});");
            }
        }
    }

    fn zero(&mut self, name: &str) {
        for row in 0..self.tile.rows {
            for vector in 0..self.tile.vectors {
                line!(self, "var {name}{row}_{vector} = vec4<f32>();");
            }
        }
    }

    /// Four terms. All that is loaded stands in front: every load is a loop over the lanes there, around which sums
    /// would be spilled.
    fn quad(&mut self) {
        let (a, b) = (self.product.a, self.product.b);
        for group in 0..self.tile.rows / LANES {
            if a.along_k {
                line!(self, "let x{group} = a4(a_at{group} + k, a_at{group} + p.k - 1u);");
            } else {
                line!(self, "let x{group} = a4(a_at{group} + k * p.m, a_base + (k + (local & 3u)) * p.m + p.m - 1u);");
            }
        }
        if b.along_k {
            for vector in 0..self.tile.vectors {
                for i in 0..4 {
                    line!(self, "let q{vector}_{i} = b4(b_at{vector}_{i} + k, b_at{vector}_{i} + p.k - 1u);");
                }
            }
        }
        for (step, name) in NAMES.into_iter().enumerate() {
            for vector in 0..self.tile.vectors {
                if b.along_k {
                    let of = |i: usize| format!("q{vector}_{i}.{name}");
                    line!(self, "let y{step}_{vector} = vec4<f32>({}, {}, {}, {});", of(0), of(1), of(2), of(3));
                } else {
                    line!(
                        self,
                        "let y{step}_{vector} = b4(b_at{vector} + (k + {step}u) * p.n, \
                         b_base + (k + {step}u) * p.n + p.n - 1u);"
                    );
                }
            }
        }
        for row in 0..self.tile.rows {
            let (group, inside) = (row / LANES, row % LANES);
            for (step, name) in NAMES.into_iter().enumerate() {
                let value = if a.along_k {
                    format!("subgroupBroadcast(x{group}.{name}, {inside}u)")
                } else {
                    format!("subgroupBroadcast(x{group}.{}, {}u)", NAMES[row % 4], inside / 4 * 4 + step)
                };
                self.row(&format!("{step}_"), row, &value);
            }
        }
    }

    /// One term.
    fn single(&mut self) {
        let (a, b, flags) = (self.product.a, self.product.b, self.product.flags());
        // Loads of A: of one element of every lane's own row, or of a quad of rows per lane.
        let per_load = if a.along_k { LANES } else { 4 * LANES };
        for load in 0..self.tile.rows.div_ceil(per_load) {
            if a.along_k {
                line!(self, "let x{load} = a(a_at{load} + k);");
            } else {
                let (row, last) = (load * per_load, Product::last(flags.a, "p.m"));
                line!(
                    self,
                    "let x{load} = a4(a_base + k * p.m + min(row + {row}u + local * 4u, {last}), \
                     a_base + k * p.m + p.m - 1u);"
                );
            }
        }
        for vector in 0..self.tile.vectors {
            if b.along_k {
                let of = |i: usize| format!("b(b_at{vector}_{i} + k)");
                line!(self, "let y_{vector} = vec4<f32>({}, {}, {}, {});", of(0), of(1), of(2), of(3));
            } else {
                line!(self, "let y_{vector} = b4(b_at{vector} + k * p.n, b_base + k * p.n + p.n - 1u);");
            }
        }
        for row in 0..self.tile.rows {
            let (load, inside) = (row / per_load, row % per_load);
            let value = if a.along_k {
                format!("subgroupBroadcast(x{load}, {inside}u)")
            } else {
                format!("subgroupBroadcast(x{load}.{}, {}u)", NAMES[row % 4], inside / 4)
            };
            self.row("_", row, &value);
        }
    }

    /// One term of a row's sums.
    fn row(&mut self, b: &str, row: usize, value: &str) {
        line!(self, "let s{b}{row} = vec4<f32>({value});");
        for vector in 0..self.tile.vectors {
            line!(self, "c{row}_{vector} = fma(s{b}{row}, y{b}{vector}, c{row}_{vector});");
        }
    }

    fn store(&mut self, sums: &str) {
        for vector in 0..self.tile.vectors {
            let col = vector * 4 * LANES;
            line!(self, "{{ let col = col + {col}u;\nif (col < p.n) {{\nlet bias = bias4(col);");
            line!(self, "let at = c_base + row * p.n + col;");
            for row in 0..self.tile.rows {
                line!(
                    self,
                    "if (row + {row}u < row_end) {{ store(at + {row}u * p.n, col, {sums}{row}_{vector}, bias); }}"
                );
            }
            if self.product.epilogue.in_two_passes() {
                let rows = self.tile.rows;
                line!(
                    self,
                    "for (var i = 0u; i < {rows}u; i++) {{ if (row + i < row_end) {{ finish(at + i * p.n, col); }} }}"
                );
            }
            line!(self, "}} }}");
        }
    }
}
