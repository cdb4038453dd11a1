//! Places for values whose lifetimes are known: blocks that are alive at the same step never overlap.
//!
//! First the cheap way, once through the steps with the best-fitting free range for each block. Where that leaves a
//! noticeably larger arena than the values alive at any one step, and the program is not huge, the careful way is tried:
//! largest block first, each into the tightest gap between those placed before it that share a step with it.

use super::ALIGN;
use std::collections::{BTreeMap, BTreeSet};

/// A block of the arena: how large, and from which step to which it is needed, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Block {
    /// Elements.
    pub(super) size: usize,
    /// The step that writes it.
    pub(super) first: u32,
    /// The last step that reads it.
    pub(super) last: u32,
}

impl Block {
    fn padded(&self) -> usize {
        self.size.next_multiple_of(ALIGN)
    }

    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Offsets of the blocks, in their order, and the size of the arena.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) offsets: Vec<usize>,
    pub(super) size: usize,
}

/// The careful way looks at every pair of blocks: 1024 of them take about a millisecond.
const FEW: usize = 1024;

/// Lays out blocks, whose [`bound`] is known.
pub(super) fn lay_out(blocks: &[Block], bound: usize) -> Layout {
    let quick = best_fit(blocks);
    if blocks.len() > FEW || quick.size <= bound / 16 * 17 {
        return quick;
    }
    let careful = by_size(blocks);
    if careful.size < quick.size { careful } else { quick }
}

/// What is alive at the fullest step: no layout can be smaller.
pub(super) fn bound(blocks: &[Block]) -> usize {
    let mut changes: Vec<(u32, bool, usize)> = Vec::with_capacity(2 * blocks.len());
    for block in blocks {
        // At one step beginnings (false) come before the ends of that step (true).
        changes.push((block.first, false, block.padded()));
        changes.push((block.last, true, block.padded()));
    }
    changes.sort_unstable();
    let (mut alive, mut most) = (0, 0);
    for (_, ends, size) in changes {
        if ends {
            alive -= size;
        } else {
            alive += size;
            most = most.max(alive);
        }
    }
    most
}

/// The blocks by step of some event, as positions.
fn order(blocks: &[Block], key: impl Fn(&Block) -> (u32, usize)) -> Vec<usize> {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&i| blocks.get(i).map(&key));
    order
}

fn best_fit(blocks: &[Block]) -> Layout {
    let mut offsets = vec![0; blocks.len()];
    let mut free = Free::default();
    let mut ends = order(blocks, |block| (block.last, 0)).into_iter().peekable();
    // Larger blocks of one step first: small ones fill what they leave.
    for i in order(blocks, |block| (block.first, usize::MAX - block.size)) {
        let (Some(block), Some(_)) = (blocks.get(i), offsets.get(i)) else { continue };
        while let Some(over) = ends.next_if(|&over| blocks.get(over).is_some_and(|over| over.last < block.first)) {
            if let (Some(over), Some(&offset)) = (blocks.get(over), offsets.get(over)) {
                free.give(offset, over.padded());
            }
        }
        offsets[i] = free.take(block.padded());
    }
    Layout { offsets, size: free.top }
}

/// Free ranges below `top`, by place and by size; neighbours are always merged.
#[derive(Default)]
struct Free {
    places: BTreeMap<usize, usize>,
    sizes: BTreeSet<(usize, usize)>,
    top: usize,
}

impl Free {
    fn insert(&mut self, offset: usize, size: usize) {
        self.places.insert(offset, size);
        self.sizes.insert((size, offset));
    }

    fn remove(&mut self, offset: usize, size: usize) {
        self.places.remove(&offset);
        self.sizes.remove(&(size, offset));
    }

    fn take(&mut self, size: usize) -> usize {
        if size == 0 {
            return 0;
        }
        if let Some(&(found, offset)) = self.sizes.range((size, 0)..).next() {
            self.remove(offset, found);
            if found > size {
                self.insert(offset + size, found - size);
            }
            return offset;
        }
        // Nothing fits: grow, from the free range at the top if there is one.
        let offset = match self.places.last_key_value() {
            Some((&offset, &last)) if offset + last == self.top => {
                self.remove(offset, last);
                offset
            }
            _ => self.top,
        };
        self.top = offset + size;
        offset
    }

    fn give(&mut self, offset: usize, size: usize) {
        if size == 0 {
            return;
        }
        let (mut offset, mut size) = (offset, size);
        if let Some((&before, &length)) = self.places.range(..offset).next_back()
            && before + length == offset
        {
            self.remove(before, length);
            (offset, size) = (before, size + length);
        }
        if let Some(&length) = self.places.get(&(offset + size)) {
            self.remove(offset + size, length);
            size += length;
        }
        self.insert(offset, size);
    }
}

fn by_size(blocks: &[Block]) -> Layout {
    let mut offsets = vec![0; blocks.len()];
    let mut size = 0;
    // Placed blocks by offset, so that gaps are seen in passing.
    let mut placed: Vec<(usize, Block)> = Vec::with_capacity(blocks.len());
    for i in order(blocks, |block| (0, usize::MAX - block.size)) {
        let (Some(block), Some(slot)) = (blocks.get(i), offsets.get_mut(i)) else { continue };
        let wanted = block.padded();
        if wanted == 0 {
            continue;
        }
        let (mut end, mut best) = (0, None);
        for (offset, other) in placed.iter().filter(|(_, other)| other.meets(block)) {
            let gap = offset.saturating_sub(end);
            if gap >= wanted && best.is_none_or(|(least, _)| gap < least) {
                best = Some((gap, end));
            }
            end = end.max(offset + other.padded());
        }
        let offset = best.map_or(end, |(_, offset)| offset);
        *slot = offset;
        size = size.max(offset + wanted);
        let position = placed.partition_point(|(other, _)| *other < offset);
        placed.insert(position, (offset, *block));
    }
    Layout { offsets, size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::testing::Random;

    fn overlapping(blocks: &[Block], layout: &Layout) -> bool {
        let placed: Vec<_> = blocks.iter().zip(&layout.offsets).filter(|(block, _)| block.size > 0).collect();
        placed.iter().enumerate().any(|(i, (a, at))| {
            assert!(**at % ALIGN == 0 && **at + a.size <= layout.size);
            placed[..i].iter().any(|(b, bt)| a.meets(b) && **at < **bt + b.size && **bt < **at + a.size)
        })
    }

    #[test]
    fn blocks_alive_together_never_overlap_and_the_arena_stays_near_the_bound() {
        let mut random = Random::new(7);
        let (mut worst, mut sizes, mut bounds) = (0.0_f64, 0, 0);
        for round in 0..400 {
            let steps = 1 + random.below(60);
            let blocks: Vec<Block> = (0..random.below(120))
                .map(|_| {
                    let first = random.below(steps);
                    let size =
                        [0, 1, 16, 17, 1000, 1 << random.below(20), random.below(100_000)][random.below(7) as usize];
                    Block { size: size as usize, first, last: (first + random.below(8)).min(steps - 1) }
                })
                .collect();
            let bound = bound(&blocks);
            let layout = lay_out(&blocks, bound);
            assert!(!overlapping(&blocks, &layout), "round {round}");
            assert!(!overlapping(&blocks, &best_fit(&blocks)) && !overlapping(&blocks, &by_size(&blocks)));
            assert!(layout.size >= bound);
            worst = worst.max(layout.size as f64 / bound.max(1) as f64);
            sizes += layout.size;
            bounds += bound;
        }
        assert!(worst <= 1.2, "worst {worst}");
        assert!((sizes as f64) < 1.05 * bounds as f64, "{sizes} for {bounds}");
    }

    #[test]
    fn freed_neighbours_merge() {
        let block = |size, first, last| Block { size, first, last };
        let layout = best_fit(&[block(16, 0, 0), block(16, 0, 0), block(32, 1, 1)]);
        assert_eq!((layout.size, layout.offsets[2]), (32, 0));
    }

    #[test]
    fn nothing_needs_no_arena() {
        assert_eq!(lay_out(&[], 0), Layout { offsets: vec![], size: 0 });
        let empty = Block { size: 0, first: 0, last: 9 };
        assert_eq!(lay_out(&[empty, empty], 0).size, 0);
    }
}
