//! Normalisation of rows (layerNorm, groupNorm, rmsNorm), forward and backward. A tensor is `[outer, groups, channels, inner]`,
//! a row `channels · inner` neighbours of it; weight and bias go by channel.
//!
//! Statistics take two passes over the row, the mean and then the squares around it, while the row lies in the first-level
//! cache: memory is read once. Sums go by position (32 lanes, then a tree), so a row has the same bits in any batch. What
//! is summed over the batch, the gradients of weight and bias, is summed for blocks of examples and then over the blocks,
//! in an order that no number of threads changes.

mod backward;
mod forward;
#[cfg(test)]
mod tests;

use super::lanes::{LANES, add_rest, fold_apart};
use crate::program::op::NormRows;

pub use backward::{NormGradients, Saved, norm_grad};
pub use forward::{Affine, Normalized, norm};

/// Elements of a row that are summed before their sums join the totals, so that errors hardly grow with the length.
const BLOCK: usize = 2048;

/// Positions of a channel up to which each of them gets a weight and a bias of its own: a loop over so few is not worth
/// starting. All of a row is then one loop, as where a channel is one element.
const FEW: usize = 64;

fn has_few_positions(rows: NormRows) -> bool {
    (2..=FEW).contains(&rows.inner)
}

/// The same rows with every position a channel.
fn by_position(rows: NormRows) -> NormRows {
    NormRows { channels: rows.count(), inner: 1, ..rows }
}

/// What goes by channel, for each position.
fn spread<'to>(channels: &[f32], inner: usize, to: &'to mut [f32]) -> &'to [f32] {
    for (&channel, to) in channels.iter().zip(to.chunks_exact_mut(inner)) {
        to.fill(channel);
    }
    to
}

/// Two sums over neighbours: of the pairs that `term` makes of each element of three operands.
#[inline(always)]
fn sums([a, b, c]: [&[f32]; 3], term: impl Fn(f32, f32, f32) -> (f32, f32)) -> (f32, f32) {
    let mut totals = [[0.0; LANES]; 2];
    for ((a, b), c) in a.chunks(BLOCK).zip(b.chunks(BLOCK)).zip(c.chunks(BLOCK)) {
        let mut sums = [[0.0; LANES]; 2];
        let (a_whole, a_rest) = a.as_chunks::<LANES>();
        let (b_whole, b_rest) = b.as_chunks::<LANES>();
        let (c_whole, c_rest) = c.as_chunks::<LANES>();
        for ((a, b), c) in a_whole.iter().zip(b_whole).zip(c_whole) {
            for i in 0..LANES {
                let (first, second) = term(a[i], b[i], c[i]);
                sums[0][i] += first;
                sums[1][i] += second;
            }
        }
        let rest = a_rest.iter().zip(b_rest).zip(c_rest).map(|((&a, &b), &c)| term(a, b, c));
        add_rest(&mut sums[0], rest.clone().map(|(first, _)| first));
        add_rest(&mut sums[1], rest.map(|(_, second)| second));
        for (totals, sums) in totals.iter_mut().zip(&sums) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += sum;
            }
        }
    }
    let [first, second] = totals.map(fold_apart);
    (first, second)
}
