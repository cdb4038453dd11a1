//! Which family computes a product, and with which tile: a table by class of adapter. Of M it asks only to which of at
//! most three classes it belongs, so a product of given K and N meets at most three pipelines.

use std::fmt;

use super::rows;
use super::simt;
use super::software;
use crate::gpu::{Class, Traits};

/// A family with its tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Tiles in workgroup memory.
    Simt(simt::Tile),
    /// Few rows; so many blocks of K at a time.
    Rows(usize),
    /// Subgroups of eight lanes on a processor.
    Software(software::Tile),
}

impl Family {
    /// All families with all their tiles that an adapter can run for these sizes: to measure them beside each other. Those
    /// for software adapters are slow, and left out, elsewhere.
    pub fn all(traits: &Traits, m: usize, k: usize) -> Vec<Self> {
        let simt = simt::TILES.into_iter().filter(|tile| tile.fits(traits)).map(Self::Simt);
        let rows = (m <= rows::ROWS).then(|| Self::Rows(rows::workers(k)));
        let software = has_lanes(traits).then_some(software::TILES).into_iter().flatten().map(Self::Software);
        software.chain(rows).chain(simt).collect()
    }

    /// Rows and columns of C that a workgroup computes.
    pub fn tile(self) -> (usize, usize) {
        match self {
            Self::Simt(tile) => (tile.rows, tile.cols),
            Self::Rows(workers) => rows::tile(workers),
            Self::Software(tile) => tile.size(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (rows, columns) = self.tile();
        match self {
            Self::Simt(_) => write!(f, "tiles {rows}x{columns}"),
            Self::Rows(workers) => write!(f, "few rows, {workers} blocks"),
            Self::Software(_) => write!(f, "software {rows}x{columns}"),
        }
    }
}

/// Whether an adapter is what [`software`] is written for.
fn has_lanes(traits: &Traits) -> bool {
    traits.class == Class::Software && traits.subgroup == Some(8)
}

/// Workgroups that keep an adapter busy. Adapters do not tell how many they run at a time; these are of the usual sizes.
fn fill(class: Class) -> usize {
    match class {
        Class::Discrete => 128,
        Class::Integrated => 32,
        Class::Software => 4,
    }
}

/// The choice.
pub(super) fn family(traits: &Traits, m: usize, n: usize, k: usize, items: usize) -> Family {
    if has_lanes(traits) {
        // Larger tiles are a tenth faster and take twice as long to compile.
        let rows = if m <= 8 { 8 } else { 16 };
        return Family::Software(software::Tile { rows, vectors: if n > 32 { 2 } else { 1 } });
    }
    if m <= rows::ROWS {
        return Family::Rows(rows::workers(k));
    }
    let large = simt::Tile { rows: 128, cols: if n > 64 { 128 } else { 64 } };
    let tiles = m.div_ceil(large.rows) * n.div_ceil(large.cols) * items;
    if tiles >= fill(traits.class) {
        return Family::Simt(large);
    }
    Family::Simt(match n {
        0..=512 => simt::Tile { rows: 32, cols: 32 },
        513..=4096 => simt::Tile { rows: 64, cols: 64 },
        _ => simt::Tile { rows: 64, cols: 128 },
    })
}
