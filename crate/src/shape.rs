//! Shapes: row-major, at most [`MAX_RANK`] dimensions, fewer than 2³¹ elements.

/// The largest number of dimensions.
pub const MAX_RANK: usize = 8;

/// The largest number of elements of one tensor: indices fit a signed 32-bit word on every device.
pub const MAX_ELEMENTS: u64 = (1 << 31) - 1;

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

/// Row-major strides in elements.
pub fn strides(dims: &[u32]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
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
    fn a_zero_dimension_hides_no_overflow() {
        assert_eq!(numel(&[]), Some(1));
        assert_eq!(numel(&[3, 0, 5]), Some(0));
        assert_eq!(numel(&[1 << 16, 1 << 15]), None);
        assert_eq!(numel(&[0, u32::MAX, u32::MAX]), None);
        assert_eq!(numel(&[u32::MAX; 8]), None);
    }

    #[test]
    fn strides_are_row_major() {
        assert_eq!(strides(&[2, 3, 4]), [12, 4, 1]);
        assert!(strides(&[]).is_empty());
    }

    #[test]
    fn broadcasting_aligns_trailing_dimensions() {
        assert!(broadcasts_to(&[3], &[2, 3]));
        assert!(broadcasts_to(&[2, 1], &[2, 3]));
        assert!(!broadcasts_to(&[2], &[2, 3]));
        assert!(!broadcasts_to(&[1, 2, 3], &[2, 3]));
    }
}
