//! No instruction set at all: arrays of four floats that the compiler may put into whatever registers the target has.
//! Without a fused multiply-add the product is rounded before it is added; the order of the sum is the same.

use super::Simd;

/// Plain Rust.
pub(in super::super) struct Scalar;

impl Simd for Scalar {
    type V = [f32; 4];
    const LANES: usize = 4;
    const ROWS: usize = 4;
    const PANEL: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller has checked the pointer.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller has checked the pointer.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller has checked the pointer.
        [unsafe { *from }; 4]
    }

    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }

    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }

    #[inline(always)]
    unsafe fn relu(z: [f32; 4]) -> [f32; 4] {
        z.map(|z| if z <= 0.0 { 0.0 } else { z })
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
        for j in 0..4 {
            for i in 0..4 {
                // SAFETY: the caller has checked the rows it names and the 4 vectors at `to`.
                unsafe { *to.add(j * to_stride + i) = *from.add(i.min(rows - 1) * stride + j) };
            }
        }
    }
}
