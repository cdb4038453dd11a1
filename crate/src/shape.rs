//! Shapes: row-major, at most [`MAX_RANK`] dimensions, fewer than 2³¹ elements.

use std::fmt;
use std::ops::Deref;

/// The largest number of dimensions.
pub const MAX_RANK: usize = 8;

/// The largest number of elements of one tensor: indices fit a signed 32-bit word on every device.
pub const MAX_ELEMENTS: u64 = (1 << 31) - 1;

/// Up to [`MAX_RANK`] numbers in place: a shape, or one number per dimension (a permutation, the starts of a slice).
///
/// It dereferences to a slice, so everything that takes `&[u32]` takes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Dims {
    rank: u8,
    dims: [u32; MAX_RANK],
}

impl Dims {
    /// Copies the numbers, or `None` if there are more than [`MAX_RANK`].
    pub fn new(dims: &[u32]) -> Option<Self> {
        let mut out = Self { rank: dims.len() as u8, dims: [0; MAX_RANK] };
        out.dims.get_mut(..dims.len())?.copy_from_slice(dims);
        Some(out)
    }

    /// Appends one number, or gives `None` if it is full.
    #[must_use]
    pub fn with(mut self, dim: u32) -> Option<Self> {
        *self.dims.get_mut(usize::from(self.rank))? = dim;
        self.rank += 1;
        Some(self)
    }
}

impl Deref for Dims {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.dims[..usize::from(self.rank)]
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// `[2,3]`, as users see shapes.
impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

/// The number of elements, or `None` above [`MAX_ELEMENTS`]. Rank 0 has one element; a zero anywhere gives none.
pub fn numel(dims: &[u32]) -> Option<usize> {
    let mut product: u64 = 1;
    let mut empty = false;
    for &d in dims {
        if d == 0 {
            empty = true;
        } else {
            product = product.checked_mul(u64::from(d))?;
            if product > MAX_ELEMENTS {
                return None;
            }
        }
    }
    Some(if empty { 0 } else { product as usize })
}

/// Row-major strides in elements, one per dimension; what is left of the array is 1.
///
/// # Panics
/// For more than [`MAX_RANK`] dimensions.
pub fn strides(dims: &[u32]) -> [usize; MAX_RANK] {
    assert!(dims.len() <= MAX_RANK, "{} dimensions", dims.len());
    let mut strides = [1; MAX_RANK];
    for i in (0..dims.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * dims[i + 1] as usize;
    }
    strides
}

/// Whether `from` can be stretched to `to` by NumPy's rules.
pub fn broadcasts_to(from: &[u32], to: &[u32]) -> bool {
    from.len() <= to.len() && from.iter().rev().zip(to.iter().rev()).all(|(&f, &t)| f == t || f == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dims_hold_eight_numbers_and_no_more() {
        let dims = Dims::new(&[2, 3]).unwrap();
        assert_eq!(&dims[..], [2, 3]);
        assert_eq!(dims.to_string(), "[2,3]");
        assert_eq!(dims.with(4).as_deref(), Some(&[2, 3, 4][..]));
        let full = Dims::new(&[1; MAX_RANK]).unwrap();
        assert_eq!(full.with(1), None);
        assert_eq!(Dims::new(&[1; MAX_RANK + 1]), None);
        assert_eq!(Dims::default().to_string(), "[]");
    }

    #[test]
    fn a_zero_dimension_hides_no_overflow() {
        assert_eq!(numel(&[]), Some(1));
        assert_eq!(numel(&[3, 0, 5]), Some(0));
        assert_eq!(numel(&[1 << 16, 1 << 15]), None);
        assert_eq!(numel(&[0, u32::MAX, u32::MAX]), None);
        assert_eq!(numel(&[u32::MAX; 8]), None);
    }

    #[test]
    fn strides_are_row_major() {
        assert_eq!(strides(&[2, 3, 4]), [12, 4, 1, 1, 1, 1, 1, 1]);
        assert_eq!(strides(&[]), [1; MAX_RANK]);
    }

    #[test]
    fn broadcasting_aligns_trailing_dimensions() {
        assert!(broadcasts_to(&[3], &[2, 3]));
        assert!(broadcasts_to(&[2, 1], &[2, 3]));
        assert!(!broadcasts_to(&[2], &[2, 3]));
        assert!(!broadcasts_to(&[1, 2, 3], &[2, 3]));
    }
}
