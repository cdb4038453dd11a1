//! Sums that run in lanes, so that they vectorise: element i goes to lane i mod the number of lanes, and in the end the
//! lanes are added in a fixed tree. So a sum goes by position, and zeros behind it change no bit.
//!
//! What the compiler makes of a loop that feeds lanes hangs on what else it sees. Lanes that are indexed by a variable, as
//! for the elements that are left over, stay in memory. And into a simple loop it may weave the tree behind it, few lanes
//! to a register. [`fold_apart`] and [`add_rest`] keep both away; loops that do more per element do better with [`fold`].

use std::hint::black_box;

/// Independent sums of [`fold_apart`].
pub const LANES: usize = 32;

/// The sum over lanes, pairwise. Their number is a power of two.
#[inline(always)]
pub fn fold<const LANES: usize>(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The same sum, apart from the loop that made the lanes: they are handed over in memory.
#[inline(always)]
pub fn fold_apart(lanes: [f32; LANES]) -> f32 {
    let lanes = black_box(lanes);
    let (quads, _) = lanes.as_chunks::<4>();
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| quad::add(quad::load(&quads[i]), quad::load(&quads[i + 4])));
    quad::fold(quad::add(quad::add(a, c), quad::add(b, d)))
}

/// Adds what belongs to elements that are left over, one to each of the first lanes.
#[inline(always)]
pub fn add_rest(sums: &mut [f32; LANES], rest: impl ExactSizeIterator<Item = f32>) {
    if rest.len() == 0 {
        return;
    }
    let mut terms = [0.0; LANES];
    for (to, term) in terms.iter_mut().zip(rest) {
        *to = term;
    }
    for i in 0..LANES {
        sums[i] += terms[i];
    }
}

/// Four lanes. Every x86-64 has registers for them, and every kernel may use those whatever else it is compiled for.
#[cfg(target_arch = "x86_64")]
mod quad {
    use std::arch::x86_64::{
        __m128, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadu_ps, _mm_movehl_ps, _mm_shuffle_ps,
    };

    #[inline(always)]
    pub fn load(from: &[f32; 4]) -> __m128 {
        // SAFETY: it reads four floats of any alignment, and there are four.
        unsafe { _mm_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    pub fn add(a: __m128, b: __m128) -> __m128 {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_add_ps(a, b) }
    }

    #[inline(always)]
    pub fn fold(x: __m128) -> f32 {
        // SAFETY: SSE is part of x86-64.
        unsafe {
            let pair = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod quad {
    #[inline(always)]
    pub fn load(&from: &[f32; 4]) -> [f32; 4] {
        from
    }

    #[inline(always)]
    pub fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }

    #[inline(always)]
    pub fn fold([a, b, c, d]: [f32; 4]) -> f32 {
        (a + c) + (b + d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_trees_give_the_same_bits() {
        for seed in 0..50 {
            let lanes: [f32; LANES] = std::array::from_fn(|i| {
                let word = (seed * 32 + i as u32).wrapping_mul(0x9e37_79b9) >> 8;
                (word as f32 / 8_388_608.0 - 1.0) * if i % 3 == 0 { 1e4 } else { 1e-3 }
            });
            assert_eq!(fold_apart(lanes).to_bits(), fold(lanes).to_bits());
            let mut undefined = lanes;
            undefined[seed as usize % LANES] = f32::NAN;
            assert!(fold_apart(undefined).is_nan());
        }
    }

    #[test]
    fn what_is_left_over_goes_to_the_first_lanes() {
        for count in [0, 1, 31] {
            let mut sums = [1.0; LANES];
            let rest: Vec<f32> = (0..count).map(|i| i as f32).collect();
            add_rest(&mut sums, rest.iter().map(|x| 2.0 * x));
            assert!((0..LANES).all(|i| sums[i] == if i < count { 1.0 + 2.0 * i as f32 } else { 1.0 }));
        }
    }
}
