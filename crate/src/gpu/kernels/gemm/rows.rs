//! Products with few rows: nothing of B is used twice, so it is read once, straight through, and workgroup memory holds
//! only sums. Invocations stand side by side along N, four columns each, and in the second direction each works on a
//! block of K of its own; the blocks' sums are then added in their order.

use std::fmt::Write as _;

use super::super::Target;
use super::super::shader::Call;
use super::product::{BLOCK, Part, Product};
use crate::error::Result;

/// The most rows that it is for; they are computed whether they are there or not.
pub(super) const ROWS: usize = 8;

/// The most blocks of K that are worked on at a time.
const MOST: usize = 8;

const NAMES: [&str; 4] = ["x", "y", "z", "w"];

/// How many blocks of K are worked on at a time.
pub(super) fn workers(k: usize) -> usize {
    k.div_ceil(BLOCK).next_power_of_two().min(MOST)
}

/// Invocations along N: together with the workers at least a subgroup, and whole cache lines.
const fn lanes(workers: usize) -> usize {
    if workers < 4 { 32 / workers } else { 8 }
}

/// Rows and columns that a workgroup computes.
pub(super) const fn tile(workers: usize) -> (usize, usize) {
    (ROWS, lanes(workers) * 4)
}

/// The dispatch of a part.
pub(super) fn call(product: &Product, workers: usize, part: Part, target: Target) -> Result<Call> {
    let (lanes, columns) = (lanes(workers), tile(workers).1);
    let mut b = product.builder("gemm of few rows", part, target)?;
    if workers > 1 {
        b.item(&format!("var<workgroup> sums: array<vec4<f32>, {}>;", ROWS * workers * lanes));
    }
    let main = Writer { product, workers, text: product.head(columns) }.write();
    b.finish((lanes * workers) as u32, product.grid(part, columns), &main)
}

struct Writer<'a> {
    product: &'a Product<'a>,
    workers: usize,
    text: String,
}

macro_rules! line {
    ($to:expr, $($arg:tt)*) => { { let _ = writeln!($to.text, $($arg)*); } };
}

impl Writer<'_> {
    fn write(mut self) -> String {
        let (workers, lanes) = (self.workers, lanes(self.workers));
        line!(self, "let row = p.row + tile_m * {ROWS}u;");
        line!(self, "let lane = local % {lanes}u;\nlet worker = local / {lanes}u;");
        line!(self, "let col = tile_n * {}u + lane * 4u;", lanes * 4);
        self.places();
        if workers == 1 {
            line!(self, "let block = 0u;");
            self.block();
            self.store(|i| format!("c{i}"));
            return self.text;
        }
        for own in 0..ROWS / workers {
            line!(self, "var t{own} = vec4<f32>();");
        }
        line!(self, "for (var first = 0u; first < p.k; first += {}u) {{", workers * BLOCK);
        line!(self, "let block = first + worker * {BLOCK}u;");
        self.block();
        line!(self, "workgroupBarrier();");
        for row in 0..ROWS {
            line!(self, "sums[{}u + local] = c{row};", row * workers * lanes);
        }
        line!(self, "workgroupBarrier();");
        // Each worker adds up rows of its own.
        for other in 0..workers {
            line!(self, "if (first + {}u < p.k) {{", other * BLOCK);
            for own in 0..ROWS / workers {
                let at = own * workers * workers * lanes + other * lanes;
                line!(self, "t{own} += sums[worker * {}u + {at}u + lane];", workers * lanes);
            }
            line!(self, "}}");
        }
        line!(self, "}}");
        self.store(|i| format!("t{i}"));
        self.text
    }

    fn places(&mut self) {
        let (a, b, flags) = (self.product.a, self.product.b, self.product.flags());
        if a.along_k {
            for row in 0..ROWS {
                line!(self, "let a_at{row} = a_base + min(row + {row}u, p.m - 1u) * p.k;");
            }
        } else {
            let last = Product::last(flags.a, "p.m");
            for quad in 0..ROWS / 4 {
                line!(self, "let a_at{quad} = a_base + min(row + {}u, {last});", quad * 4);
            }
        }
        if b.along_k {
            for i in 0..4 {
                line!(self, "let b_at{i} = b_base + min(col + {i}u, p.n - 1u) * p.k;");
            }
        } else {
            line!(self, "let b_at = b_base + min(col, {});", Product::last(flags.b, "p.n"));
        }
    }

    /// The sums of one block: `c0` and on.
    fn block(&mut self) {
        for row in 0..ROWS {
            line!(self, "var c{row} = vec4<f32>();");
        }
        line!(self, "let end = min(block + {BLOCK}u, p.k);\nvar k = block;");
        line!(self, "for (; k + 4u <= end; k += 4u) {{");
        self.quad();
        line!(self, "}}");
        if !self.product.k.is_multiple_of(4) {
            line!(self, "for (; k < end; k++) {{");
            self.single();
            line!(self, "}}");
        }
    }

    fn quad(&mut self) {
        let (a, b) = (self.product.a, self.product.b);
        if b.along_k {
            for i in 0..4 {
                line!(self, "let q{i} = b4(b_at{i} + k, b_at{i} + p.k - 1u);");
            }
        }
        for (step, name) in NAMES.into_iter().enumerate() {
            let value = if b.along_k {
                format!("vec4<f32>(q0.{name}, q1.{name}, q2.{name}, q3.{name})")
            } else {
                format!("b4(b_at + (k + {step}u) * p.n, b_base + (k + {step}u) * p.n + p.n - 1u)")
            };
            line!(self, "let y{step} = {value};");
        }
        if a.along_k {
            for row in 0..ROWS {
                line!(self, "let x{row} = a4(a_at{row} + k, a_at{row} + p.k - 1u);");
            }
        }
        for (step, name) in NAMES.into_iter().enumerate() {
            if !a.along_k {
                self.column_of_a(&format!("(k + {step}u)"), &format!("{step}_"));
            }
            for row in 0..ROWS {
                let value = if a.along_k {
                    format!("x{row}.{name}")
                } else {
                    format!("x{step}_{}.{}", row / 4, NAMES[row % 4])
                };
                line!(self, "c{row} = fma(vec4<f32>({value}), y{step}, c{row});");
            }
        }
    }

    /// A of all rows at one K, where it lies along the rows.
    fn column_of_a(&mut self, k: &str, name: &str) {
        for quad in 0..ROWS / 4 {
            line!(self, "let x{name}{quad} = a4(a_at{quad} + {k} * p.m, a_base + {k} * p.m + p.m - 1u);");
        }
    }

    fn single(&mut self) {
        if self.product.b.along_k {
            line!(self, "let y = vec4<f32>(b(b_at0 + k), b(b_at1 + k), b(b_at2 + k), b(b_at3 + k));");
        } else {
            line!(self, "let y = b4(b_at + k * p.n, b_base + k * p.n + p.n - 1u);");
        }
        let along_k = self.product.a.along_k;
        if !along_k {
            self.column_of_a("k", "_");
        }
        for row in 0..ROWS {
            let value = if along_k { format!("a(a_at{row} + k)") } else { format!("x_{}.{}", row / 4, NAMES[row % 4]) };
            line!(self, "c{row} = fma(vec4<f32>({value}), y, c{row});");
        }
    }

    fn store(&mut self, sum: impl Fn(usize) -> String) {
        line!(self, "if (col < p.n) {{\nlet bias = bias4(col);");
        for own in 0..ROWS / self.workers {
            let row = format!("(row + worker + {}u)", own * self.workers);
            line!(self, "if ({row} < row_end) {{\nlet at = c_base + {row} * p.n + col;");
            line!(self, "store(at, col, {}, bias);", sum(own));
            if self.product.epilogue.in_two_passes() {
                line!(self, "finish(at, col);");
            }
            line!(self, "}}");
        }
        line!(self, "}}");
    }
}
