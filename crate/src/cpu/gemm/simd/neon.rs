//! NEON: 6 × 16 tiles, 24 accumulators of 4 floats in 32 registers.

use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vbslq_f32, vcleq_f32, vdupq_n_f32, vfmaq_f32, vld1q_dup_f32, vld1q_f32,
    vreinterpretq_f32_f64, vreinterpretq_f64_f32, vst1q_f32, vtrn1q_f32, vtrn1q_f64, vtrn2q_f32, vtrn2q_f64,
};

use super::Simd;

/// NEON, which every `aarch64` CPU has.
pub(in super::super) struct Neon;

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 6;
    const PANEL: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        // SAFETY: NEON is the target's baseline.
        unsafe { vdupq_n_f32(0.0) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        // SAFETY: the caller has checked the pointer.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: float32x4_t) {
        // SAFETY: the caller has checked the pointer.
        unsafe { vst1q_f32(to, v) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> float32x4_t {
        // SAFETY: the caller has checked the pointer.
        unsafe { vld1q_dup_f32(from) }
    }

    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is the target's baseline.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is the target's baseline.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    unsafe fn relu(z: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is the target's baseline.
        unsafe {
            let zero = vdupq_n_f32(0.0);
            vbslq_f32(vcleq_f32(z, zero), zero, z)
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller has checked the rows it names and the 4 vectors at `to`.
        unsafe {
            let mut r = [vdupq_n_f32(0.0); 4];
            for (i, row) in r.iter_mut().enumerate() {
                *row = vld1q_f32(from.add(i.min(rows - 1) * stride));
            }
            let [even01, odd01] = [vtrn1q_f32(r[0], r[1]), vtrn2q_f32(r[0], r[1])].map(|v| vreinterpretq_f64_f32(v));
            let [even23, odd23] = [vtrn1q_f32(r[2], r[3]), vtrn2q_f32(r[2], r[3])].map(|v| vreinterpretq_f64_f32(v));
            let columns = [
                vtrn1q_f64(even01, even23),
                vtrn1q_f64(odd01, odd23),
                vtrn2q_f64(even01, even23),
                vtrn2q_f64(odd01, odd23),
            ];
            for (j, column) in columns.into_iter().enumerate() {
                vst1q_f32(to.add(j * to_stride), vreinterpretq_f32_f64(column));
            }
        }
    }
}
