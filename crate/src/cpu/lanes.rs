//! Sums that run in lanes, so that they vectorise: element i goes to lane i mod the number of lanes, and in the end the
//! lanes are added in a fixed tree. So a sum goes by position, and zeros behind it change no bit.

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
