//! The instances of the tile and of the packing, one set per instruction set. This file is where `#[target_feature]`
//! lives; the choice is made once per GEMM, from `Cpu::isa`.

use super::pack::{InterleaveFn, Source, interleave};
use super::simd::Simd;
use super::simd::scalar::Scalar;
use super::tile::{Tile, TileFn, tile};
use crate::cpu::Isa;

/// One instruction set's kernels.
pub(super) struct Kernels {
    /// Rows of the tallest tile.
    pub rows: usize,
    /// Columns of a panel of B.
    pub panel: usize,
    /// Tiles one panel wide, by height less one.
    full: &'static [TileFn],
    /// Tiles half a panel wide, for the columns that are left at the end.
    half: &'static [TileFn],
    /// Low tiles that are several panels wide, by height less one: one row alone has too few chains of additions in
    /// flight to keep the FMA units busy.
    wide: &'static [(usize, TileFn)],
    /// Packs A and B.
    pub interleave: InterleaveFn,
}

impl Kernels {
    /// The kernels for an instruction set that this machine has.
    pub fn of(isa: Isa) -> &'static Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &NEON,
            _ => &SCALAR,
        }
    }

    /// The tile of `rows` rows that covers at least `columns` columns of one panel, and how many it covers.
    pub fn tile(&self, rows: usize, columns: usize) -> (usize, TileFn) {
        if columns * 2 <= self.panel {
            (self.panel / 2, self.half[rows - 1])
        } else {
            (self.panel, self.full[rows - 1])
        }
    }

    /// The tile of `rows` rows that is several panels wide, and how many, if there is one.
    pub fn wide_tile(&self, rows: usize) -> Option<(usize, TileFn)> {
        self.wide.get(rows - 1).copied()
    }
}

/// Defines `$table` and the functions behind it for one instruction set.
macro_rules! kernels {
    ($table:ident, $simd:ty, [$(#[$feature:meta])?], full $full:literal, half $half:literal, [$($rows:literal)*],
     wide [$(($wide_rows:literal, $wide:literal))*]) => {
        static $table: Kernels = {
            $(#[$feature])?
            unsafe fn instance<const ROWS: usize, const VECTORS: usize>(t: &Tile) {
                // SAFETY: as for `tile`; the instruction set is this function's.
                unsafe { tile::<$simd, ROWS, VECTORS>(t) }
            }
            $(#[$feature])?
            unsafe fn pack(from: Source, width: usize, k: usize, to: *mut f32, to_stride: usize) {
                // SAFETY: as for `interleave`; the instruction set is this function's.
                unsafe { interleave::<$simd>(from, width, k, to, to_stride) }
            }
            Kernels {
                rows: <$simd>::ROWS,
                panel: <$simd>::PANEL * <$simd>::LANES,
                full: &[$(instance::<$rows, $full>),*],
                half: &[$(instance::<$rows, $half>),*],
                wide: &[$(($wide / <$simd>::PANEL, instance::<$wide_rows, $wide>)),*],
                interleave: pack,
            }
        };
    };
}

#[cfg(target_arch = "x86_64")]
kernels!(AVX512, super::simd::avx512::Avx512,
    [#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]],
    full 2, half 1, [1 2 3 4 5 6 7 8 9 10 11 12],
    wide [(1, 8) (2, 8) (3, 8) (4, 4) (5, 4) (6, 4)]);

#[cfg(target_arch = "x86_64")]
kernels!(AVX2, super::simd::avx2::Avx2, [#[target_feature(enable = "avx2,fma")]],
    full 2, half 1, [1 2 3 4 5 6],
    wide [(1, 8) (2, 4) (3, 4)]);

#[cfg(target_arch = "aarch64")]
kernels!(NEON, super::simd::neon::Neon, [], full 4, half 2, [1 2 3 4 5 6], wide [(1, 16) (2, 8) (3, 8)]);

kernels!(SCALAR, Scalar, [], full 2, half 1, [1 2 3 4], wide [(1, 4)]);
