//! A product C = f(op(A)·op(B) + bias) as every family of kernels sees it: its two sides, its batch, its epilogue, and the
//! text that families share. It is not a kernel; [`super::simt`], [`super::rows`] and [`super::software`] are.
//!
//! # The order of the K-sum
//! K is cut into blocks of [`BLOCK`]; a block is one chain of `fma` from 0 on; blocks are added in order. All families
//! keep to it, so a row has the same bits whichever computes it. Nothing in a text depends on M or on the batch.
//!
//! # Edges
//! Indices are clamped where operands are read, so what lies outside a result is computed from anybody's elements and
//! then not stored. Chains never take in an element that is not theirs.

use std::fmt::Write as _;

use super::super::shader::{Builder, Memory, Type, Word};
use super::super::{Prepared, Target};
use super::choose::{self, Family};
use super::epilogue::Epilogue;
use super::{empty, rows, simt, software};
use crate::error::{Error, Result};
use crate::gpu::{Class, Traits};

/// Elements of K in one chain.
pub(super) const BLOCK: usize = 256;

/// Tiles of one row band are neighbours in time: what they read of B is still near when the next row of tiles wants it.
const BAND: usize = 8;

/// An operand of a product: a matrix stored by rows.
#[derive(Clone, Copy)]
pub(super) struct Side {
    /// Where it is.
    pub memory: Memory,
    /// Whether neighbours in memory are neighbours in K (and not in M or N).
    pub along_k: bool,
    /// Whether it begins at a multiple of four elements.
    pub aligned: bool,
}

/// One dimension of a batch: its size and how far apart in A and B its items are; 0 where an operand is stretched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BatchDim {
    /// Number of positions.
    pub size: usize,
    /// Elements of A from one to the next.
    pub a: usize,
    /// Elements of B from one to the next.
    pub b: usize,
}

/// A product to compute.
pub(super) struct Product<'a> {
    /// Left operand.
    pub a: Side,
    /// Right operand.
    pub b: Side,
    /// Rows of the result, columns of it, terms of every sum.
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// The batch, outermost first; empty for one product.
    pub batch: Vec<BatchDim>,
    /// What happens to the sums.
    pub epilogue: Epilogue<'a>,
}

/// What a text depends on besides the family and its tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flags {
    /// A is read by vectors of four.
    pub a: bool,
    /// B is read by vectors of four.
    pub b: bool,
    /// Results are written by vectors of four.
    pub c: bool,
}

/// A part of a product: what one dispatch computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    /// First row, and number of tiles from there.
    pub row: usize,
    pub tiles: usize,
    /// First item of the batch, and number of items.
    pub item: usize,
    pub items: usize,
}

impl Product<'_> {
    /// Number of matrices.
    pub fn items(&self) -> usize {
        self.batch.iter().map(|dim| dim.size).product()
    }

    /// The choices of text.
    pub fn flags(&self) -> Flags {
        let by_four =
            |side: &Side, other: usize| side.aligned && if side.along_k { self.k } else { other }.is_multiple_of(4);
        Flags { a: by_four(&self.a, self.m), b: by_four(&self.b, self.n), c: self.n.is_multiple_of(4) }
    }

    /// Whether there is more than one block of K.
    pub fn has_blocks(&self) -> bool {
        self.k > BLOCK
    }

    /// Adds the dispatches that compute it.
    pub fn prepare(&self, target: Target, to: &mut Prepared) -> Result<()> {
        if self.m == 0 || self.n == 0 || self.items() == 0 {
            return Ok(());
        }
        if self.k == 0 {
            to.calls.push(empty::call(self, target)?);
            return Ok(());
        }
        let family = choose::family(target.traits, self.m, self.n, self.k, self.items());
        self.dispatch(family, target, to)
    }

    /// Adds the dispatches of this family.
    pub fn dispatch(&self, family: Family, target: Target, to: &mut Prepared) -> Result<()> {
        let (tile_m, tile_n) = family.tile();
        for part in self.parts(target.traits, tile_m, self.n.div_ceil(tile_n)) {
            to.calls.push(match family {
                Family::Simt(tile) => simt::call(self, tile, part, target)?,
                Family::Rows(workers) => rows::call(self, workers, part, target)?,
                Family::Software(tile) => software::call(self, tile, part, target)?,
            });
        }
        Ok(())
    }

    /// Cuts the product so that no dispatch runs for long: a watchdog would end it, and others wait for it.
    pub fn parts(&self, traits: &Traits, tile_m: usize, tiles_n: usize) -> Vec<Part> {
        const GIGA: f64 = 1e9;
        let most = match traits.class {
            Class::Discrete => 200.0 * GIGA,
            Class::Integrated => 20.0 * GIGA,
            Class::Software => 2.5 * GIGA,
        };
        let (items, tiles) = (self.items(), self.m.div_ceil(tile_m));
        let per_tile = 2.0 * self.k as f64 * self.n as f64 * tile_m as f64;
        let longest = ((most / per_tile) as usize).max(1);
        // Two axes of the grid hold the tiles, the third the batch.
        let axis = traits.grid as usize;
        let tiles_at_once = longest.min(tiles).min((axis.saturating_mul(axis) / tiles_n).max(1));
        let items_at_once = (longest / tiles_at_once.max(1)).clamp(1, items.min(axis));
        let mut parts = Vec::new();
        for item in (0..items).step_by(items_at_once) {
            for tile in (0..tiles).step_by(tiles_at_once) {
                let (tiles, items) = (tiles_at_once.min(tiles - tile), items_at_once.min(items - item));
                parts.push(Part { row: tile * tile_m, tiles, item, items });
            }
        }
        parts
    }

    /// Declares the memory and the numbers of a part, and the functions `a4`, `b4`, `store` and `finish`.
    pub fn declare(&self, b: &mut Builder, part: Part) -> Result<()> {
        let flags = self.flags();
        let ty = |vectors: bool| if vectors { Type::Vec4F32 } else { Type::F32 };
        b.buffer("a", self.a.memory, ty(flags.a));
        b.buffer("b", self.b.memory, ty(flags.b));
        b.item(&load_four("a", flags.a));
        b.item(&load_four("b", flags.b));
        b.value("m", self.m);
        b.value("n", self.n);
        b.value("k", self.k);
        b.value("row", part.row);
        b.value("tiles", part.tiles);
        self.epilogue.declare(b, flags.c)?;
        if !self.batch.is_empty() {
            b.value("item", part.item);
            for (at, dim) in self.batch.iter().enumerate() {
                b.word(&format!("size{at}"), "u32", Word::Value(dim.size as u32));
                b.word(&format!("a_step{at}"), "u32", Word::Value(dim.a as u32));
                b.word(&format!("b_step{at}"), "u32", Word::Value(dim.b as u32));
            }
        }
        Ok(())
    }

    /// The head of every body: `tile_m` and `tile_n`, the matrices' first elements `a_base`, `b_base` and `c_base`, and
    /// `row_end`, the row before which results are stored.
    pub fn head(&self, tile_n: usize) -> String {
        let mut text = format!(
            "let tiles_n = (p.n + {rest}u) / {tile_n}u;\nlet index = group();\n\
             let band = index / ({BAND}u * tiles_n) * {BAND}u;\nlet inside = index % ({BAND}u * tiles_n);\n\
             let height = min(max(p.tiles, band + 1u) - band, {BAND}u);\n\
             let tile_m = band + inside % height;\nlet tile_n = inside / height;\n\
             let row_end = select(0u, p.m, index < p.tiles * tiles_n);\n",
            rest = tile_n - 1,
        );
        if self.batch.is_empty() {
            text.push_str("let a_base = 0u;\nlet b_base = 0u;\nlet c_base = 0u;\n");
            return text;
        }
        text.push_str("var rest = p.item + group_id.z;\nlet c_base = rest * p.m * p.n;\n");
        text.push_str("var a_base = 0u;\nvar b_base = 0u;\n");
        for at in (0..self.batch.len()).rev() {
            let _ = writeln!(
                text,
                "{{ let at = rest % p.size{at}; rest /= p.size{at}; \
                 a_base += at * p.a_step{at}; b_base += at * p.b_step{at}; }}"
            );
        }
        text
    }

    /// The grid of a part.
    pub fn grid(&self, part: Part, tile_n: usize) -> [usize; 3] {
        [part.tiles * self.n.div_ceil(tile_n), 1, part.items]
    }

    /// The last index at which four neighbours along a stored row of `extent` elements can be read.
    pub fn last(vectors: bool, extent: &str) -> String {
        format!("({extent} - {}u)", if vectors { 4 } else { 1 })
    }

    /// A builder for a part.
    ///
    /// # Errors
    /// [`Error::Internal`] for a chain that is none.
    pub fn builder<'t>(&self, name: &'static str, part: Part, target: Target<'t>) -> Result<Builder<'t>> {
        let mut b = Builder::new(target.traits, name).masked();
        self.declare(&mut b, part)?;
        // Every family takes four terms at once or more.
        b.rounds(self.k.div_ceil(4) + self.k.div_ceil(BLOCK));
        Ok(b)
    }
}

/// `x4(at, last)`: elements `at` to `at + 3`, none of them beyond `last`.
fn load_four(x: &str, vectors: bool) -> String {
    if vectors {
        return format!("fn {x}4(at: u32, last: u32) -> vec4<f32> {{ return {x}(at >> 2u); }}");
    }
    format!(
        "fn {x}4(at: u32, last: u32) -> vec4<f32> {{ \
         return vec4<f32>({x}(at), {x}(min(at + 1u, last)), {x}(min(at + 2u, last)), {x}(min(at + 3u, last))); }}"
    )
}

/// The dimensions of a batch without those of one item, neighbours joined where both operands go on evenly.
pub(super) fn collapse(dims: impl IntoIterator<Item = BatchDim>) -> Vec<BatchDim> {
    let mut joined: Vec<BatchDim> = Vec::new();
    for dim in dims.into_iter().filter(|dim| dim.size != 1) {
        match joined.last_mut() {
            Some(outer) if outer.a == dim.a * dim.size && outer.b == dim.b * dim.size => {
                *outer = BatchDim { size: outer.size * dim.size, ..dim };
            }
            _ => joined.push(dim),
        }
    }
    joined
}

/// An axis of an operand that the table says is there.
pub(super) fn axis(dims: &[u32], from_end: usize) -> Result<usize> {
    let size = dims.len().checked_sub(from_end).and_then(|at| dims.get(at));
    size.map(|&size| size as usize).ok_or_else(|| Error::Internal("a matrix of fewer than two dimensions".into()))
}
