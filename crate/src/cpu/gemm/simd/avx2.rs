//! AVX2 with FMA: 6 × 16 tiles, 12 accumulators of 8 floats in 16 registers.

use std::arch::x86_64::{
    __m256, _CMP_NLE_UQ, _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_and_ps, _mm256_broadcast_ss,
    _mm256_castpd_ps, _mm256_castps_pd, _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_permute2f128_ps,
    _mm256_setzero_ps, _mm256_storeu_ps, _mm256_unpackhi_pd, _mm256_unpackhi_ps, _mm256_unpacklo_pd,
    _mm256_unpacklo_ps,
};

use super::Simd;

/// AVX2 and FMA.
pub(in super::super) struct Avx2;

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const PANEL: usize = 2;

    // Into L2 only: the rows of a tile of C are often a multiple of 4 KiB apart and would evict each other from L1.
    #[inline(always)]
    unsafe fn prefetch(line: *const f32) {
        // SAFETY: a hint may be given for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller has checked the instruction set.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller has checked the instruction set and the pointer.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        // SAFETY: the caller has checked the instruction set and the pointer.
        unsafe { _mm256_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m256 {
        // SAFETY: the caller has checked the instruction set and the pointer.
        unsafe { _mm256_broadcast_ss(&*from) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller has checked the instruction set.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller has checked the instruction set.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn relu(z: __m256) -> __m256 {
        // SAFETY: the caller has checked the instruction set.
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(z, _mm256_setzero_ps()), z) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller has checked the instruction set, the rows it names and the 8 vectors at `to`.
        unsafe {
            let mut r = [_mm256_setzero_ps(); 8];
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(from.add(i.min(rows - 1) * stride));
            }
            // Four rows at a time inside each 128-bit lane: t[4 g + j] holds columns j and j + 4 of rows 4 g … 4 g + 3.
            let mut t = [_mm256_setzero_ps(); 8];
            for g in 0..2 {
                let [a, b, c, d] = [r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]];
                let ab_lo = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
                let ab_hi = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
                let cd_lo = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
                let cd_hi = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
                t[4 * g] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_lo, cd_lo));
                t[4 * g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_lo, cd_lo));
                t[4 * g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_hi, cd_hi));
                t[4 * g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_hi, cd_hi));
            }
            for j in 0..4 {
                r[j] = _mm256_permute2f128_ps::<0x20>(t[j], t[4 + j]);
                r[4 + j] = _mm256_permute2f128_ps::<0x31>(t[j], t[4 + j]);
            }
            for (j, column) in r.iter().enumerate() {
                _mm256_storeu_ps(to.add(j * to_stride), *column);
            }
        }
    }
}
