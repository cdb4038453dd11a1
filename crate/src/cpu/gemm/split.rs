//! Cutting a number of things into even parts.

use std::ops::Range;

/// A number of things cut into parts whose sizes differ by at most one.
#[derive(Clone, Copy)]
pub(super) struct Split {
    /// How many parts; at least one, which may be empty.
    pub parts: usize,
    /// Things in every part; the first `longer` parts have one more.
    size: usize,
    longer: usize,
}

impl Split {
    /// Exactly `parts` parts.
    pub fn into(of: usize, parts: usize) -> Self {
        let parts = parts.max(1);
        Self { parts, size: of / parts, longer: of % parts }
    }

    /// As few parts as possible of at most `size` things.
    pub fn by_size(of: usize, size: usize) -> Self {
        Self::into(of, of.div_ceil(size))
    }

    /// The things in part `index`.
    pub fn range(self, index: usize) -> Range<usize> {
        let start = index * self.size + index.min(self.longer);
        start..start + self.size + usize::from(index < self.longer)
    }

    /// The size of the largest part.
    pub fn largest(self) -> usize {
        self.size + usize::from(self.longer > 0)
    }
}
