//! The microkernel: one tile of C, at most `S::ROWS` rows high, over one block of K, kept in registers.
//!
//! Every accumulator is one chain of fused multiply-adds that starts from zero and walks the block in ascending k. That
//! order, not the tiling, is what the bits of the result depend on: a row comes out the same in a tile of any height,
//! next to any other row.

use super::simd::Simd;

/// Rows of the tallest tile of any instruction set.
const MAX_ROWS: usize = 12;
/// Rows of A that share a pointer.
const ROWS_PER_POINTER: usize = 3;

/// One tile's operands.
pub(super) struct Tile {
    /// Length of the block of K.
    pub k: usize,
    /// A: element (i, k) at `i * a_row + k * a_step`.
    pub a: *const f32,
    /// Floats from one row of A to the next.
    pub a_row: usize,
    /// Floats from one k of A to the next.
    pub a_step: usize,
    /// B: row k of the first panel at `k * b_stride`.
    pub b: *const f32,
    /// Floats from one row of B to the next.
    pub b_stride: usize,
    /// Floats from one panel of B to the next, for tiles that are several panels wide.
    pub b_panel: usize,
    /// Where to leave this panel of B packed, for the tiles below, or null. Only for tiles exactly one panel wide: the
    /// tile waits for its FMA units, so reading B where it lies and storing it costs next to nothing here.
    pub pack: *mut f32,
    /// C, row by row at `c_stride`.
    pub c: *mut f32,
    /// Floats from one row of C (and of z) to the next.
    pub c_stride: usize,
    /// C holds the sum of the blocks before this one.
    pub add: bool,
    /// What happens after the last block.
    pub finish: Finish,
}

/// The epilogue that runs on the registers of a tile.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    /// One float per column, or null.
    pub bias: *const f32,
    /// Where the pre-activation goes, laid out as C, or null.
    pub z: *mut f32,
    /// Apply relu.
    pub relu: bool,
}

impl Finish {
    /// Nothing: the block is not the last, or there is no epilogue.
    pub const NONE: Self = Self { bias: std::ptr::null(), z: std::ptr::null_mut(), relu: false };
}

/// An instance of [`tile`].
///
/// # Safety
/// See [`tile`].
pub(super) type TileFn = unsafe fn(&Tile);

/// Computes a tile of `ROWS` rows and `VECTORS` vectors.
///
/// # Safety
/// The CPU has the instruction set `S`. `t.a` holds `ROWS` rows over `k` steps, each of the `k` rows of each panel of B its
/// vectors, C (and z) `ROWS` rows of `VECTORS` vectors, the bias as many floats as a row of C. Nobody else touches C
/// and z meanwhile.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(t: &Tile) {
    // SAFETY: the caller vouches for the instruction set and for all the places read and written here.
    unsafe {
        let mut acc = [[S::zero(); VECTORS]; ROWS];
        // Few pointers, each with rows near enough for the addressing modes: one per row would not fit the registers.
        let mut a: [_; MAX_ROWS.div_ceil(ROWS_PER_POINTER)] =
            std::array::from_fn(|group| t.a.wrapping_add(group * ROWS_PER_POINTER * t.a_row));
        let mut b = t.b;
        // C comes from a distant cache, one short run per row, which no hardware prefetcher foresees.
        for i in 0..ROWS {
            S::prefetch(t.c.add(i * t.c_stride));
            S::prefetch(t.c.add(i * t.c_stride + (VECTORS - 1) * S::LANES));
        }
        if VECTORS == S::PANEL && !t.pack.is_null() {
            let mut pack = t.pack;
            for _ in 0..t.k {
                let row = load_row::<S, VECTORS>(b, t.b_panel);
                for (v, b_v) in row.into_iter().enumerate() {
                    S::store(pack.add(v * S::LANES), b_v);
                }
                multiply_add::<S, ROWS, VECTORS>(&mut acc, a, t.a_row, row);
                a = a.map(|a| a.wrapping_add(t.a_step));
                b = b.add(t.b_stride);
                pack = pack.add(VECTORS * S::LANES);
            }
        } else {
            for _ in 0..t.k {
                multiply_add::<S, ROWS, VECTORS>(&mut acc, a, t.a_row, load_row::<S, VECTORS>(b, t.b_panel));
                a = a.map(|a| a.wrapping_add(t.a_step));
                b = b.add(t.b_stride);
            }
        }
        // One pass per step of the epilogue: the conditions stay outside the unrolled loops.
        if t.add {
            each(&mut acc, |i, v, sum| S::add(S::load(t.c.add(i * t.c_stride + v * S::LANES)), sum));
        }
        if !t.finish.bias.is_null() {
            each(&mut acc, |_, v, sum| S::add(sum, S::load(t.finish.bias.add(v * S::LANES))));
        }
        if !t.finish.z.is_null() {
            each(&mut acc, |i, v, sum| {
                S::store(t.finish.z.add(i * t.c_stride + v * S::LANES), sum);
                sum
            });
        }
        if t.finish.relu {
            each(&mut acc, |_, _, sum| S::relu(sum));
        }
        each(&mut acc, |i, v, sum| {
            S::store(t.c.add(i * t.c_stride + v * S::LANES), sum);
            sum
        });
    }
}

/// One row of B.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn load_row<S: Simd, const VECTORS: usize>(b: *const f32, b_panel: usize) -> [S::V; VECTORS] {
    // SAFETY: the caller's promise.
    std::array::from_fn(|v| unsafe { S::load(b.add(v / S::PANEL * b_panel + v % S::PANEL * S::LANES)) })
}

/// One step of every chain.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn multiply_add<S: Simd, const ROWS: usize, const VECTORS: usize>(
    acc: &mut [[S::V; VECTORS]; ROWS],
    a: [*const f32; MAX_ROWS.div_ceil(ROWS_PER_POINTER)],
    a_row: usize,
    row: [S::V; VECTORS],
) {
    for (i, acc_i) in acc.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let a_i = unsafe { S::splat(a[i / ROWS_PER_POINTER].add(i % ROWS_PER_POINTER * a_row)) };
        for (sum, b_v) in acc_i.iter_mut().zip(row) {
            // SAFETY: the caller's promise.
            *sum = unsafe { S::fma(a_i, b_v, *sum) };
        }
    }
}

/// Replaces every accumulator by `f(row, vector, accumulator)`.
#[inline(always)]
fn each<V: Copy, const ROWS: usize, const VECTORS: usize>(
    acc: &mut [[V; VECTORS]; ROWS],
    f: impl Fn(usize, usize, V) -> V,
) {
    for (i, acc_i) in acc.iter_mut().enumerate() {
        for (v, sum) in acc_i.iter_mut().enumerate() {
            *sum = f(i, v, *sum);
        }
    }
}
