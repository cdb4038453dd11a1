//! AVX-512: 12 × 32 tiles, 24 accumulators of 16 floats. Sixteen rows in flight would not hide more latency; fewer leave
//! CPUs with two 512-bit pipes waiting.

use std::arch::x86_64::{
    __m512, _CMP_NLE_UQ, _MM_HINT_T1, _mm_prefetch, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_mov_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};

use super::Simd;

/// AVX-512 F.
pub(in super::super) struct Avx512;

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 12;
    const PANEL: usize = 2;

    // Into L2 only: the rows of a tile of C are often a multiple of 4 KiB apart and would evict each other from L1.
    #[inline(always)]
    unsafe fn prefetch(line: *const f32) {
        // SAFETY: a hint may be given for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller has checked the instruction set.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller has checked the instruction set and the pointer.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        // SAFETY: the caller has checked the instruction set and the pointer.
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m512 {
        // SAFETY: the caller has checked the instruction set and the pointer.
        unsafe { _mm512_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller has checked the instruction set.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller has checked the instruction set.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn relu(z: __m512) -> __m512 {
        // SAFETY: the caller has checked the instruction set.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLE_UQ>(z, _mm512_setzero_ps()), z) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller has checked the instruction set, the rows it names and the 16 vectors at `to`.
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.add(i.min(rows - 1) * stride));
            }
            // Four rows at a time inside each 128-bit lane: t[4 g + j] holds columns j, j + 4, j + 8, j + 12 of rows
            // 4 g … 4 g + 3.
            let mut t = [_mm512_setzero_ps(); 16];
            for g in 0..4 {
                let [a, b, c, d] = [r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]];
                let ab_lo = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
                let ab_hi = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
                let cd_lo = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
                let cd_hi = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
                t[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_lo, cd_lo));
                t[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_lo, cd_lo));
                t[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_hi, cd_hi));
                t[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_hi, cd_hi));
            }
            // Then a 4 × 4 transpose of whole 128-bit lanes; r[j] becomes column j.
            for j in 0..4 {
                let lo01 = _mm512_shuffle_f32x4::<0x44>(t[j], t[4 + j]);
                let hi01 = _mm512_shuffle_f32x4::<0xEE>(t[j], t[4 + j]);
                let lo23 = _mm512_shuffle_f32x4::<0x44>(t[8 + j], t[12 + j]);
                let hi23 = _mm512_shuffle_f32x4::<0xEE>(t[8 + j], t[12 + j]);
                r[j] = _mm512_shuffle_f32x4::<0x88>(lo01, lo23);
                r[4 + j] = _mm512_shuffle_f32x4::<0xDD>(lo01, lo23);
                r[8 + j] = _mm512_shuffle_f32x4::<0x88>(hi01, hi23);
                r[12 + j] = _mm512_shuffle_f32x4::<0xDD>(hi01, hi23);
            }
            for (j, column) in r.iter().enumerate() {
                _mm512_storeu_ps(to.add(j * to_stride), *column);
            }
        }
    }
}
