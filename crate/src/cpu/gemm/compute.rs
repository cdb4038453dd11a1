//! The compute phase of a slab: jobs, the order of panels and blocks inside a job, and the tiles at the edges of C.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::Then;
use super::driver::{KC, Right, Slab, TILES_PER_PART, share};
use super::pack::Source;
use super::split::Split;
use super::tile::{Finish, Tile, TileFn};
use crate::cpu::Pool;
use crate::cpu::activation::{self, Activation};

/// Bytes of A up to which all blocks of K are computed for one panel before the next panel is begun.
const RESIDENT_A: usize = 900 << 10;
/// Compute jobs per thread, so that a thread that is held up leaves its share to the others.
const JOBS_PER_THREAD: usize = 12;
/// Compute jobs shorter than this are not worth their claim.
const JOB_NS: usize = 2_000;
/// Columns of C that are worth finishing row by row: with fewer, beginning a row costs more than its elements.
const WORTH_FINISHING: usize = 256;
/// Floats of C that a job finishes at least, where that is a phase of its own.
const FINISHED_TOGETHER: usize = 1 << 14;
/// Floats of the largest tile and columns of the widest panel, over all instruction sets.
const MAX_TILE: usize = 12 * 32;
const MAX_PANEL: usize = 32;

impl Slab<'_> {
    /// Computes the slab, sharing the jobs over `pool` if `threads` says so.
    pub fn compute(&self, threads: usize, pool: Option<&Pool>) {
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
        let pool = if threads > 1 { pool } else { None };
        let widest = columns.largest() * together * self.kernels.panel;
        let by_jobs = self.problem.turned || columns.parts == 1 || widest >= WORTH_FINISHING;
        share(pool, rows.parts * columns.parts, &|job| {
            let strips = columns.range(job % columns.parts);
            let end = self.panels.len().min(strips.end * together);
            let (tiles, panels) = (rows.range(job / columns.parts), strips.start * together..end);
            self.compute_part(tiles.clone(), panels.clone());
            if self.is_last() {
                self.finish(self.rows_of(tiles), panels, by_jobs);
            }
        });
        if self.is_last() && !by_jobs {
            self.then(threads, pool);
        }
    }

    /// Whether C is finished with this slab.
    fn is_last(&self) -> bool {
        self.blocks.end * KC >= self.problem.k
    }

    fn rows_of(&self, tiles: Range<usize>) -> Range<usize> {
        self.tiles.range(tiles.start).start..self.tiles.range(tiles.end - 1).end
    }

    /// Computes the tiles of some rows and panels (both counted from the slab's first) over the slab's blocks of K.
    fn compute_part(&self, tiles: Range<usize>, panels: Range<usize>) {
        let mut local = Local::new();
        let mut step =
            |first: usize, count: usize, block: usize| self.compute_step(&tiles, first, count, block, &mut local);
        let rows = self.rows_of(tiles.clone());
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
    }

    /// Applies what the tiles did not apply in registers to a finished part of C, and, if `then`, what follows.
    fn finish(&self, rows: Range<usize>, panels: Range<usize>, then: bool) {
        let problem = self.problem;
        let then = problem.then.filter(|_| then);
        // Tiles have applied it, unless they were turned.
        let activation = match problem.activation {
            Activation::Relu if !problem.turned => Activation::None,
            activation => activation,
        };
        if activation == Activation::None && then.is_none() {
            return;
        }
        self.each_run(rows, panels, |start, len| {
            // SAFETY: inside C; this job alone writes these places, and its tiles are finished.
            let y = unsafe { std::slice::from_raw_parts_mut(problem.c.add(start), len) };
            activation::apply(problem.isa, activation, y);
            if let Some(then) = then {
                then(problem.first + start, y);
            }
        });
    }

    /// What follows a finished slab whose jobs had too few columns to do it themselves.
    fn then(&self, threads: usize, pool: Option<&Pool>) {
        let problem = self.problem;
        let Some(then) = problem.then else { return };
        let columns = (self.panels.end * self.kernels.panel).min(problem.n) - self.panels.start * self.kernels.panel;
        let jobs = (self.rows.len() * columns / FINISHED_TOGETHER).clamp(1, threads * JOBS_PER_THREAD);
        // Whole rows follow each other; of others each is a run of its own.
        let (row, rows) =
            if columns == problem.n { (1, self.rows.len() * columns) } else { (problem.n, self.rows.len()) };
        let first = self.rows.start * problem.n + self.panels.start * self.kernels.panel;
        let parts = Split::into(rows, jobs.min(rows));
        share(pool, parts.parts, &|job| match (row, parts.range(job)) {
            // SAFETY: inside C, which is finished; every job has elements or rows of its own.
            (1, elements) => unsafe { self.hand_over(then, first + elements.start, elements.len()) },
            // SAFETY: the same.
            (_, rows) => rows.for_each(|i| unsafe { self.hand_over(then, first + i * row, columns) }),
        });
    }

    /// Calls `then` with a run of neighbours of C.
    ///
    /// # Safety
    /// They are inside C and finished, and nobody else has them.
    unsafe fn hand_over(&self, then: &Then, start: usize, len: usize) {
        // SAFETY: the caller's promise.
        then(self.problem.first + start, unsafe { std::slice::from_raw_parts_mut(self.problem.c.add(start), len) });
    }

    /// Calls `body(start, len)` with all runs of neighbouring elements of C that these rows and panels are.
    fn each_run(&self, rows: Range<usize>, panels: Range<usize>, body: impl Fn(usize, usize)) {
        let problem = self.problem;
        let first = (self.panels.start + panels.start) * self.kernels.panel;
        let columns = ((self.panels.start + panels.end) * self.kernels.panel).min(problem.n) - first;
        if problem.turned {
            body(first * problem.m, columns * problem.m);
        } else if columns == problem.n {
            body((self.rows.start + rows.start) * columns, rows.len() * columns);
        } else {
            rows.for_each(|row| body((self.rows.start + row) * problem.n + first, columns));
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
    fn compute_step(&self, tiles: &Range<usize>, first: usize, count: usize, block: usize, local: &mut Local) {
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
                    pack = local.panel.as_mut_ptr();
                }
                (source.at(column, k0).data, source.k_stride, width)
            }
            (Right::Memory(source), None) => {
                // SAFETY: the source holds these columns and steps; the panel has room for a block.
                unsafe {
                    (self.kernels.interleave)(source.at(column, k0), columns, k, local.panel.as_mut_ptr(), width);
                };
                (local.panel.as_ptr(), width, 0)
            }
        };
        let last = k0 + k == problem.k;
        for tile in tiles.clone() {
            let rows = self.tiles.range(tile);
            let row = self.rows.start + rows.start;
            let (start, bias) =
                if problem.turned { (column * problem.m + row, row) } else { (row * problem.n + column, column) };
            let at = |p: *mut f32, by: usize| if p.is_null() { p } else { p.wrapping_add(by) };
            let finish = Finish {
                bias: at(problem.bias.cast_mut(), bias),
                z: at(problem.z, start),
                relu: problem.activation == Activation::Relu,
            };
            let (a, a_row, a_step) = self.left(rows.clone(), block);
            let t = Tile {
                k,
                pack,
                a,
                a_row,
                a_step,
                b,
                b_stride,
                b_panel,
                c: problem.c.wrapping_add(start),
                c_stride: problem.n,
                add: block > 0,
                finish: if last { finish } else { Finish::NONE },
            };
            let (width, instance) = match self.kernels.wide_tile(rows.len()) {
                Some((_, wide)) if count > 1 => (count * width, wide),
                _ => self.kernels.tile(rows.len(), columns),
            };
            // SAFETY: `Problem` has checked its pointers against its sizes, and the slab packed what the tile reads. This
            // job alone computes these rows and columns.
            unsafe {
                if problem.turned {
                    self.turned_tile(&t, instance, rows.len(), columns, width, &mut local.edge);
                } else if columns < width {
                    narrow_tile(&t, instance, rows.len(), columns, width, &mut local.edge);
                } else {
                    instance(&t);
                }
            }
            if !pack.is_null() {
                (b, b_stride, pack) = (local.panel.as_ptr(), self.kernels.panel, std::ptr::null_mut());
            }
        }
    }

    /// A tile of a transposed C, all of whose columns it covers: computed into scratch and written transposed.
    ///
    /// # Safety
    /// As for the tile, but C and z hold `columns` runs of `rows` floats, and the bias `rows` floats.
    unsafe fn turned_tile(
        &self,
        t: &Tile,
        instance: TileFn,
        rows: usize,
        columns: usize,
        width: usize,
        edge: &mut Edge,
    ) {
        let c = &mut edge.c;
        // SAFETY: the caller's promise; the scratch has room for the widest tile.
        unsafe {
            if t.add {
                for (i, row) in c.chunks_exact_mut(width).take(rows).enumerate() {
                    (0..columns).for_each(|j| row[j] = *t.c.add(j * rows + i));
                }
            }
            instance(&Tile { c: c.as_mut_ptr(), c_stride: width, finish: Finish::NONE, ..*t });
            if !t.finish.bias.is_null() {
                for (i, row) in c.chunks_exact_mut(width).take(rows).enumerate() {
                    let bias = *t.finish.bias.add(i);
                    for sum in row {
                        *sum += bias;
                    }
                }
            }
            let tile = Source { data: c.as_ptr(), room: c.len(), k_stride: 1, stride: width };
            (self.kernels.interleave)(tile, rows, columns, t.c, rows);
            if !t.finish.z.is_null() {
                (self.kernels.interleave)(tile, rows, columns, t.finish.z, rows);
            }
        }
    }
}

/// A tile with fewer columns than its vectors: computed into a tile of scratch, of which the real columns are kept.
///
/// # Safety
/// As for the tile, with `columns` in place of its width.
unsafe fn narrow_tile(t: &Tile, instance: TileFn, rows: usize, columns: usize, width: usize, edge: &mut Edge) {
    let Edge { c, z, bias } = edge;
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
        instance(&Tile { c: c.as_mut_ptr(), c_stride: width, finish, ..*t });
        for i in 0..rows {
            copy(c.as_ptr().add(i * width), t.c.add(i * t.c_stride));
            if !t.finish.z.is_null() {
                copy(z.as_ptr().add(i * width), t.finish.z.add(i * t.c_stride));
            }
        }
    }
}

/// What a compute job needs for itself.
struct Local {
    panel: Panel,
    edge: Edge,
}

impl Local {
    fn new() -> Self {
        Self { panel: Panel::new(), edge: Edge { c: [0.0; MAX_TILE], z: [0.0; MAX_TILE], bias: [0.0; MAX_PANEL] } }
    }
}

/// Scratch for tiles that do not go straight into C.
struct Edge {
    c: [f32; MAX_TILE],
    z: [f32; MAX_TILE],
    bias: [f32; MAX_PANEL],
}

/// One block of one panel of B, packed just before it is used.
#[repr(align(64))]
struct Panel([MaybeUninit<f32>; KC * MAX_PANEL]);

impl Panel {
    #[expect(clippy::large_stack_arrays, reason = "32 KiB once per job, on threads with megabytes of stack")]
    fn new() -> Self {
        Self([MaybeUninit::uninit(); KC * MAX_PANEL])
    }

    fn as_ptr(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}
