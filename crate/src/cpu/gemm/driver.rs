//! One product, cut into slabs that bound the scratch, packing jobs and compute jobs.
//!
//! K is cut into blocks of [`KC`]; block sums are added to C in ascending order, whatever else is cut. Everything else
//! here (slabs, row parts, column parts, which thread) only decides when a tile is computed, never what it computes.
//!
//! - Few rows: each panel of B is used once, so it is packed into a cache-sized buffer just before (or read where it
//!   lies, if a single tile covers all rows).
//! - Many rows: all panels of the slab are packed first, by all threads, and shared.

use std::ops::Range;

use super::buffer::Scratch;
use super::kernels::Kernels;
use super::pack::Source;
use super::tile::{Finish, Tile};
use crate::cpu::activation::{self, Activation};
use crate::cpu::{Isa, Pool};
use crate::error::Result;

/// Length of a block of K: part of the contract of the sum, not a tuning knob.
pub(super) const KC: usize = 256;
/// Tiles of rows that share one pass over a panel: 16 × 12 × 256 floats of A are 192 KiB, a part of any L2.
const TILES_PER_PART: usize = 16;
/// Rows of A or columns of B that are packed at a time.
const SLAB: usize = 4096;
/// Floats of packed A or B that are kept at a time: 4 MiB each, so that both stay in a last-level cache.
const SLAB_FLOATS: usize = SLAB * KC;
/// Bytes of A up to which all blocks of K are computed for one panel before the next panel is begun.
const RESIDENT_A: usize = 900 << 10;
/// Operations that one thread does in a nanosecond; only the decision to share work depends on it.
const OPERATIONS_PER_NS: usize = 100;
/// Compute jobs per thread, so that a thread that is held up leaves its share to the others.
const JOBS_PER_THREAD: usize = 12;
/// Compute jobs shorter than this are not worth their claim.
const JOB_NS: usize = 2_000;
/// Packing fewer floats than this is done by the caller alone.
const WORTH_SHARING_PACK: usize = 16 << 10;
/// Floats of the largest tile and of one block of a panel, over all instruction sets.
const MAX_TILE: usize = 12 * 32;
const MAX_PANEL: usize = 32;

/// A number of things cut into parts whose sizes differ by at most one.
#[derive(Clone, Copy)]
pub(super) struct Split {
    parts: usize,
    /// Things in every part; the first `longer` parts have one more.
    size: usize,
    longer: usize,
}

impl Split {
    /// Exactly `parts` parts.
    pub fn into(of: usize, parts: usize) -> Self {
        let parts = parts.max(1);
        Self { parts, size: of / parts, longer: of % parts }
    }

    /// As few parts as possible of at most `size` things.
    pub fn by_size(of: usize, size: usize) -> Self {
        Self::into(of, of.div_ceil(size))
    }

    /// How many parts.
    pub fn parts(self) -> usize {
        self.parts
    }

    /// The things in part `index`.
    pub fn range(self, index: usize) -> Range<usize> {
        let start = index * self.size + index.min(self.longer);
        start..start + self.size + usize::from(index < self.longer)
    }

    /// The size of the largest part.
    pub fn largest(self) -> usize {
        self.size + usize::from(self.longer > 0)
    }
}

/// B as the compute jobs find it.
#[derive(Clone, Copy)]
pub(super) enum Right {
    /// In the user's memory.
    Memory(Source),
    /// In panels over all of K.
    Panels(*const f32),
}

/// One product with its epilogue. The pointers have been checked against the sizes.
pub(super) struct Problem {
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
}

/// The part of a problem that one packing and one compute phase work on.
struct Slab<'p> {
    problem: &'p Problem,
    kernels: &'static Kernels,
    rows: Range<usize>,
    panels: Range<usize>,
    /// Blocks of K.
    blocks: Range<usize>,
    /// The slab's rows cut into tiles.
    tiles: Split,
    /// Where A is packed: block by block of K, tile by tile.
    a: *mut f32,
    /// Where B is packed, if this slab packs it: panel by panel.
    b: Option<*mut f32>,
}

// SAFETY: the jobs of a phase write disjoint places: parts of the packed slabs, or rectangles of C and z. What they read
// was written before the phase began.
unsafe impl Sync for Slab<'_> {}

impl Problem {
    /// Computes the product, sharing the work over `pool` if there is one and it is worth it.
    pub fn run(&self, pool: Option<&Pool>) -> Result<()> {
        Scratch::lend(|scratch| self.run_with(pool, scratch))
    }

    /// Roughly how long one thread takes.
    pub fn nanoseconds(&self) -> usize {
        // Two more rows: B has to be read, however few rows use it.
        (self.m + 2).saturating_mul(self.n).saturating_mul(self.k.max(1)) / (OPERATIONS_PER_NS / 2)
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
        // A single contiguous row needs no interleaving.
        let pack_a = self.m > 1 || self.a.k_stride != 1;
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
                        a: if pack_a {
                            scratch.a.as_mut_ptr()
                        } else {
                            self.a.at(0, blocks.start * KC).data.cast_mut()
                        },
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
fn share(pool: Option<&Pool>, jobs: usize, body: &(dyn Fn(usize) + Sync)) {
    match pool {
        Some(pool) => pool.run(jobs, body),
        None => (0..jobs).for_each(body),
    }
}

impl Slab<'_> {
    /// First k and length of a block.
    fn block(&self, block: usize) -> (usize, usize) {
        (block * KC, KC.min(self.problem.k - block * KC))
    }

    /// K steps of this slab before the block.
    fn depth_before(&self, block: usize) -> usize {
        (block - self.blocks.start) * KC
    }

    /// K steps of this slab.
    fn depth(&self) -> usize {
        self.problem.k.min(self.blocks.end * KC) - self.blocks.start * KC
    }

    /// Where the tile that begins `row` rows into the slab has its block of A.
    fn packed_a(&self, row: usize, block: usize) -> *mut f32 {
        let (_, k) = self.block(block);
        self.a.wrapping_add(self.depth_before(block) * self.rows.len() + row * k)
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
        for tile in tiles {
            let rows = self.tiles.range(tile);
            let source = self.problem.a.at(self.rows.start + rows.start, k0);
            // SAFETY: the source holds these rows and steps; the slab's tiles lie one after the other, each
            // `rows.len() * k` floats long, and no other job packs this one.
            unsafe {
                (self.kernels.interleave)(source, rows.len(), k, self.packed_a(rows.start, block), rows.len());
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

    /// The compute phase.
    fn compute(&self, threads: usize, pool: Option<&Pool>) {
        let jobs = if threads == 1 { 1 } else { self.problem.nanoseconds() / JOB_NS };
        let jobs = jobs.clamp(1, threads * JOBS_PER_THREAD);
        // Tiles that are several panels wide stay together.
        let together =
            if self.tiles.parts == 1 { self.kernels.wide_tile(self.rows.len()).map_or(1, |w| w.0) } else { 1 };
        let strips = self.panels.len().div_ceil(together);
        let row_parts = self.tiles.parts.div_ceil(TILES_PER_PART);
        let column_parts = jobs.div_ceil(row_parts).min(strips);
        let rows = Split::into(self.tiles.parts, row_parts.max(jobs / column_parts).min(self.tiles.parts));
        let columns = Split::into(strips, column_parts);
        share(if threads > 1 { pool } else { None }, rows.parts * columns.parts, &|job| {
            let strips = columns.range(job % columns.parts);
            let end = self.panels.len().min(strips.end * together);
            self.compute_part(rows.range(job / columns.parts), strips.start * together..end);
        });
    }

    /// Computes the tiles of some rows and panels (both counted from the slab's first) over the slab's blocks of K.
    fn compute_part(&self, tiles: Range<usize>, panels: Range<usize>) {
        let problem = self.problem;
        let mut panel = Panel::new();
        let mut step =
            |first: usize, count: usize, block: usize| self.compute_step(&tiles, first, count, block, &mut panel);
        let rows = self.tiles.range(tiles.start).start..self.tiles.range(tiles.end - 1).end;
        if rows.len() * self.depth() * size_of::<f32>() <= RESIDENT_A {
            let mut first = panels.start;
            while first < panels.end {
                let count = self.strip(first, panels.end);
                self.blocks.clone().for_each(|block| step(first, count, block));
                first += count;
            }
        } else {
            for block in self.blocks.clone() {
                panels.clone().for_each(|first| step(first, 1, block));
            }
        }
        let fused = matches!(problem.activation, Activation::None | Activation::Relu);
        if !fused && self.blocks.end * KC >= problem.k {
            let first = (self.panels.start + panels.start) * self.kernels.panel;
            let columns = ((self.panels.start + panels.end) * self.kernels.panel).min(problem.n) - first;
            for row in rows {
                let start = (self.rows.start + row) * problem.n + first;
                // SAFETY: inside C; this job alone writes these rows and columns, and its tiles are finished.
                let y = unsafe { std::slice::from_raw_parts_mut(problem.c.add(start), columns) };
                activation::apply(problem.isa, problem.activation, y);
            }
        }
    }

    /// How many panels the next tile covers at once.
    fn strip(&self, first: usize, end: usize) -> usize {
        if self.tiles.parts > 1 {
            return 1;
        }
        let Some((count, _)) = self.kernels.wide_tile(self.rows.len()) else { return 1 };
        let whole = (self.panels.start + first + count) * self.kernels.panel <= self.problem.n;
        // Only one panel of a transposed B is packed at a time.
        let ready = !matches!(self.problem.b, Right::Memory(source) if source.stride != 1);
        if whole && ready && first + count <= end { count } else { 1 }
    }

    /// Computes `count` panels from `first` on over one block of K.
    fn compute_step(&self, tiles: &Range<usize>, first: usize, count: usize, block: usize, local: &mut Panel) {
        let problem = self.problem;
        let width = self.kernels.panel;
        let (k0, k) = self.block(block);
        let column = (self.panels.start + first) * width;
        let columns = (count * width).min(problem.n - column);
        let mut pack = std::ptr::null_mut();
        let (mut b, mut b_stride, b_panel) = match (problem.b, self.b) {
            (Right::Panels(data), _) => (
                data.wrapping_add((self.panels.start + first) * width * problem.k + k0 * width),
                width,
                problem.k * width,
            ),
            (Right::Memory(_), Some(data)) => {
                let depth = self.depth();
                let start = (first * depth + self.depth_before(block)) * width;
                (data.cast_const().wrapping_add(start), width, depth * width)
            }
            (Right::Memory(source), None) if source.stride == 1 && columns == count * width => {
                // The first tile reads B where it lies and leaves it packed for the others, if there are any.
                if tiles.len() > 1 {
                    pack = local.as_mut_ptr();
                }
                (source.at(column, k0).data, source.k_stride, width)
            }
            (Right::Memory(source), None) => {
                // SAFETY: the source holds these columns and steps; the panel has room for a block.
                unsafe { (self.kernels.interleave)(source.at(column, k0), columns, k, local.as_mut_ptr(), width) };
                (local.as_ptr(), width, 0)
            }
        };
        let last = k0 + k == problem.k;
        for tile in tiles.clone() {
            let rows = self.tiles.range(tile);
            let start = (self.rows.start + rows.start) * problem.n + column;
            let optional = |p: *mut f32, by: usize| if p.is_null() { p } else { p.wrapping_add(by) };
            let finish = Finish {
                bias: optional(problem.bias.cast_mut(), column),
                z: optional(problem.z, start),
                relu: problem.activation == Activation::Relu,
            };
            let t = Tile {
                k,
                pack,
                a: self.packed_a(rows.start, block),
                b,
                b_stride,
                b_panel,
                c: problem.c.wrapping_add(start),
                c_stride: problem.n,
                add: block > 0,
                finish: if last { finish } else { Finish::NONE },
            };
            // SAFETY: `Problem` has checked its pointers against its sizes, and the slab packed what the tile reads. This
            // job alone computes these rows and columns.
            unsafe {
                if columns < width {
                    self.narrow_tile(&t, rows.len(), columns);
                } else if let (true, Some((_, wide))) = (count > 1, self.kernels.wide_tile(rows.len())) {
                    wide(&t);
                } else {
                    (self.kernels.tile(rows.len(), width).1)(&t);
                }
            }
            if !pack.is_null() {
                (b, b_stride, pack) = (local.as_ptr(), width, std::ptr::null_mut());
            }
        }
    }

    /// A tile with fewer columns than its vectors: computed into a tile of scratch, of which the real columns are kept.
    ///
    /// # Safety
    /// As for the tile, with `columns` in place of its width.
    unsafe fn narrow_tile(&self, t: &Tile, rows: usize, columns: usize) {
        let (width, tile) = self.kernels.tile(rows, columns);
        let mut c = [0.0_f32; MAX_TILE];
        let mut z = [0.0_f32; MAX_TILE];
        let mut bias = [0.0_f32; MAX_PANEL];
        // SAFETY: rows and columns are inside C, z and the bias; the scratch has room for the widest tile.
        unsafe {
            let copy = |from: *const f32, to: *mut f32| to.copy_from_nonoverlapping(from, columns);
            if t.add {
                (0..rows).for_each(|i| copy(t.c.add(i * t.c_stride), c.as_mut_ptr().add(i * width)));
            }
            let mut finish = t.finish;
            if !finish.bias.is_null() {
                copy(finish.bias, bias.as_mut_ptr());
                finish.bias = bias.as_ptr();
            }
            if !finish.z.is_null() {
                finish.z = z.as_mut_ptr();
            }
            tile(&Tile { c: c.as_mut_ptr(), c_stride: width, finish, ..*t });
            for i in 0..rows {
                copy(c.as_ptr().add(i * width), t.c.add(i * t.c_stride));
                if !t.finish.z.is_null() {
                    copy(z.as_ptr().add(i * width), t.finish.z.add(i * t.c_stride));
                }
            }
        }
    }
}

/// One block of one panel of B, packed just before it is used.
#[repr(align(64))]
struct Panel([std::mem::MaybeUninit<f32>; KC * MAX_PANEL]);

impl Panel {
    #[expect(clippy::large_stack_arrays, reason = "32 KiB once per job, on threads with megabytes of stack")]
    fn new() -> Self {
        Self([std::mem::MaybeUninit::uninit(); KC * MAX_PANEL])
    }

    fn as_ptr(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}
