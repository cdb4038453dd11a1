//! One product, cut into slabs that bound the scratch; and the packing of a slab. [`super::compute`] does the rest.
//!
//! K is cut into blocks of [`KC`]; block sums are added to C in ascending order, whatever else is cut. Everything else
//! here (slabs, row parts, column parts, which thread) only decides when a tile is computed, never what it computes.
//!
//! - A is read where it lies, unless its lines would evict each other; see [`Problem::worth_packing_a`].
//! - Few rows: each panel of B is used once, so it is packed into a cache-sized buffer just before (or read where it
//!   lies, if a single tile covers all rows).
//! - Many rows: all panels of the slab are packed first, by all threads, and shared.
//! - Few columns: most of a panel would be empty, so Cᵀ = op(B)ᵀ op(A)ᵀ is computed, and written transposed.

use std::ops::Range;

use super::Then;
use super::buffer::Scratch;
use super::kernels::Kernels;
use super::pack::Source;
use super::split::Split;
use crate::cpu::activation::Activation;
use crate::cpu::{Isa, Pool, idle};
use crate::error::Result;

/// Length of a block of K: part of the contract of the sum, not a tuning knob.
pub(super) const KC: usize = 256;
/// Tiles of rows that share one pass over a panel: 16 × 12 × 256 floats of A are 192 KiB, a part of any L2.
pub(super) const TILES_PER_PART: usize = 16;
/// Rows of A or columns of B that are packed at a time.
const SLAB: usize = 4096;
/// Floats of packed A or B that are kept at a time: 4 MiB each, so that both stay in a last-level cache.
const SLAB_FLOATS: usize = SLAB * KC;
/// Operations that one thread does in a nanosecond; only the decision to share work depends on it.
const OPERATIONS_PER_NS: usize = 100;
/// Packing fewer floats than this is done by the caller alone.
const WORTH_SHARING_PACK: usize = 16 << 10;
/// Columns of C up to which an A whose rows are not contiguous is read where it lies.
const FEW_COLUMNS: usize = 256;
/// Floats after which addresses fall into the same set of an L1: 64 sets of 64 bytes, as on all current CPUs.
const L1_WAY_FLOATS: usize = 1024;
/// Ways of a set for A's lines: an L1 has at least 8, and B's lines and C's pass through the same sets.
const L1_WAYS_FOR_A: usize = 6;

/// B as the compute jobs find it.
#[derive(Clone, Copy)]
pub(super) enum Right {
    /// In the user's memory.
    Memory(Source),
    /// In panels over all of K.
    Panels(*const f32),
}

/// One product with its epilogue. The pointers have been checked against the sizes.
pub(super) struct Problem<'e> {
    pub isa: Isa,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a: Source,
    pub b: Right,
    /// `m × n`, row-major; written without being read first.
    pub c: *mut f32,
    /// `n` floats, or null.
    pub bias: *const f32,
    pub activation: Activation,
    /// `m × n`, or null.
    pub z: *mut f32,
    /// What is done with finished parts of C.
    pub then: Option<&'e Then<'e>>,
    /// The position that `then` is told for the first element of C.
    pub first: usize,
    /// C and z lie transposed, as `n × m`, and the bias has `m` floats. False at first; see [`Problem::run`].
    pub turned: bool,
}

/// The part of a problem that one packing and one compute phase work on.
pub(super) struct Slab<'p> {
    pub problem: &'p Problem<'p>,
    pub kernels: &'static Kernels,
    pub rows: Range<usize>,
    pub panels: Range<usize>,
    /// Blocks of K.
    pub blocks: Range<usize>,
    /// The slab's rows cut into tiles.
    pub tiles: Split,
    /// Where A is packed, if it is: block by block of K, tile by tile.
    pub a: Option<*mut f32>,
    /// Where B is packed, if this slab packs it: panel by panel.
    pub b: Option<*mut f32>,
}

// SAFETY: the jobs of a phase write disjoint places: parts of the packed slabs, or rectangles of C and z. What they read
// was written before the phase began.
unsafe impl Sync for Slab<'_> {}

impl Problem<'_> {
    /// Computes the product, sharing the work over `pool` if there is one and it is worth it.
    pub fn run(self, pool: Option<&Pool>) -> Result<()> {
        let problem = self.turn_if_narrow();
        idle::with_packing(|scratch| problem.run_with(pool, scratch))
    }

    /// The same product as Cᵀ = op(B)ᵀ op(A)ᵀ, if a single tile is as high as C is wide. The two factors of a fused
    /// multiply-add may change places without changing a bit.
    fn turn_if_narrow(self) -> Self {
        let kernels = Kernels::of(self.isa);
        if self.n > kernels.rows || self.n >= self.m {
            return self;
        }
        let a = match self.b {
            Right::Memory(source) => source,
            Right::Panels(data) => Source { data, room: self.k * kernels.panel, k_stride: kernels.panel, stride: 1 },
        };
        Self { m: self.n, n: self.m, a, b: Right::Memory(self.a), turned: true, ..self }
    }

    /// Roughly how long one thread takes.
    pub fn nanoseconds(&self) -> usize {
        // Two more rows: B has to be read, however few rows use it.
        (self.m + 2).saturating_mul(self.n).saturating_mul(self.k.max(1)) / (OPERATIONS_PER_NS / 2)
    }

    /// Whether A is packed before the tiles read it. Most are read where they lie: a tile broadcasts each element once, so
    /// order gains it little, and a packing phase costs a few per cent of a product with some hundred columns.
    fn worth_packing_a(&self, rows: usize) -> bool {
        if self.a.k_stride != 1 {
            // Each k lies on another line, which every panel of B fetches again.
            return self.n > FEW_COLUMNS;
        }
        // The rows' lines for one k, of which each set of the L1 has to hold this many.
        let period = L1_WAY_FLOATS >> self.a.stride.trailing_zeros().min(L1_WAY_FLOATS.trailing_zeros());
        rows.min(self.m).div_ceil(period) > L1_WAYS_FOR_A
    }

    fn run_with(&self, pool: Option<&Pool>, scratch: &mut Scratch) -> Result<()> {
        let kernels = Kernels::of(self.isa);
        let threads = pool.map_or(1, |pool| pool.threads_for(self.nanoseconds() as u64));
        let blocks = self.k.div_ceil(KC).max(1);
        let panels = self.n.div_ceil(kernels.panel);
        // Packing inside the first tile is so cheap that it may be done twice.
        let pack_b = match self.b {
            Right::Memory(source) => self.m > TILES_PER_PART * kernels.rows * if source.stride == 1 { 2 } else { 1 },
            Right::Panels(_) => false,
        };
        let row_slabs = Split::by_size(self.m, SLAB);
        let panel_slabs = if pack_b { Split::by_size(panels, SLAB / kernels.panel) } else { Split::into(panels, 1) };
        let columns = if pack_b { panel_slabs.largest() * kernels.panel } else { 0 };
        let widest = columns.max(row_slabs.largest());
        let groups = Split::by_size(blocks, (SLAB_FLOATS / KC / widest).max(1));
        let pack_a = self.worth_packing_a(kernels.rows);
        let depth = self.k.min(groups.largest() * KC);
        scratch.a.grow(if pack_a { row_slabs.largest() * depth } else { 0 })?;
        scratch.b.grow(columns * depth)?;
        for panel_slab in 0..panel_slabs.parts {
            for group in 0..groups.parts {
                for row_slab in 0..row_slabs.parts {
                    let blocks = groups.range(group);
                    let rows = row_slabs.range(row_slab);
                    let slab = Slab {
                        problem: self,
                        kernels,
                        panels: panel_slabs.range(panel_slab),
                        tiles: Split::by_size(rows.len(), kernels.rows),
                        a: pack_a.then(|| scratch.a.as_mut_ptr()),
                        b: pack_b.then(|| scratch.b.as_mut_ptr()),
                        rows,
                        blocks,
                    };
                    slab.pack(pack_a, pack_b && row_slab == 0, if threads > 1 { pool } else { None });
                    slab.compute(threads, pool);
                }
            }
        }
        Ok(())
    }
}

/// Runs the jobs on the pool, or here.
pub(super) fn share(pool: Option<&Pool>, jobs: usize, body: &(dyn Fn(usize) + Sync)) {
    match pool {
        Some(pool) => pool.run(jobs, body),
        None => (0..jobs).for_each(body),
    }
}

impl Slab<'_> {
    /// First k and length of a block.
    pub fn block(&self, block: usize) -> (usize, usize) {
        (block * KC, KC.min(self.problem.k - block * KC))
    }

    /// K steps of this slab before the block.
    pub fn depth_before(&self, block: usize) -> usize {
        (block - self.blocks.start) * KC
    }

    /// K steps of this slab.
    pub fn depth(&self) -> usize {
        self.problem.k.min(self.blocks.end * KC) - self.blocks.start * KC
    }

    /// Where a tile of these rows (counted from the slab's first) has its block of A, and the floats from row to row and
    /// from k to k.
    pub fn left(&self, rows: Range<usize>, block: usize) -> (*const f32, usize, usize) {
        let (k0, k) = self.block(block);
        if let Some(packed) = self.a {
            let start = self.depth_before(block) * self.rows.len() + rows.start * k;
            return (packed.wrapping_add(start), 1, rows.len());
        }
        let source = self.problem.a.at(self.rows.start + rows.start, k0);
        (source.data, source.stride, source.k_stride)
    }

    /// The packing phase.
    fn pack(&self, a: bool, b: bool, pool: Option<&Pool>) {
        let parts = Split::by_size(self.tiles.parts, TILES_PER_PART);
        let a_jobs = if a { parts.parts * self.blocks.len() } else { 0 };
        let eighths = Split::by_size(self.panels.len(), 8);
        let b_jobs = if b { eighths.parts * self.blocks.len() } else { 0 };
        let a_floats = if a { self.rows.len() } else { 0 };
        let b_floats = if b { self.panels.len() * self.kernels.panel } else { 0 };
        let alone = (a_floats + b_floats) * self.depth() < WORTH_SHARING_PACK;
        share(if alone { None } else { pool }, a_jobs + b_jobs, &|job| {
            if job < a_jobs {
                self.pack_a(parts.range(job % parts.parts), self.blocks.start + job / parts.parts);
            } else {
                let job = job - a_jobs;
                self.pack_b(eighths.range(job % eighths.parts), self.blocks.start + job / eighths.parts);
            }
        });
    }

    fn pack_a(&self, tiles: Range<usize>, block: usize) {
        let (k0, k) = self.block(block);
        let Some(packed) = self.a else { return };
        for tile in tiles {
            let rows = self.tiles.range(tile);
            let to = packed.wrapping_add(self.depth_before(block) * self.rows.len() + rows.start * k);
            let source = self.problem.a.at(self.rows.start + rows.start, k0);
            // SAFETY: the source holds these rows and steps; the slab's tiles lie one after the other, each
            // `rows.len() * k` floats long, and no other job packs this one.
            unsafe {
                (self.kernels.interleave)(source, rows.len(), k, to, rows.len());
            }
        }
    }

    fn pack_b(&self, panels: Range<usize>, block: usize) {
        let (Right::Memory(source), Some(b)) = (self.problem.b, self.b) else { return };
        let (k0, k) = self.block(block);
        let width = self.kernels.panel;
        for panel in panels {
            let column = (self.panels.start + panel) * width;
            let to = b.wrapping_add((panel * self.depth() + self.depth_before(block)) * width);
            // SAFETY: the source holds these columns and steps; each block of a panel is packed by one job.
            unsafe {
                let columns = width.min(self.problem.n - column);
                (self.kernels.interleave)(source.at(column, k0), columns, k, to, width);
            }
        }
    }
}
