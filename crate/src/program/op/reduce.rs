//! Reductions and scans, and the view `[outer, count, inner]` that they and softmax have of a tensor. No element is
//! computed here; the validator has seen that the view covers the operand.

/// A tensor seen as `[outer, count, inner]`: what is done is done over `count`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Middle {
    /// Product of the dimensions before.
    pub outer: usize,
    /// Product of the dimensions worked on.
    pub count: usize,
    /// Product of the dimensions after.
    pub inner: usize,
}

/// What a reduction computes. Meanings as in the table.
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(missing_docs, reason = "the names say it; the table has the fine print")]
pub enum ReduceOp {
    Sum,
    Mean,
    Max,
    Min,
    Argmax,
    Argmin,
    /// Divides by count − correction.
    Variance {
        correction: f64,
    },
}

/// What a scan adds up or multiplies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ScanOp {
    Sum,
    Product,
}

/// Running sums or products.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Which of the two.
    pub kind: ScanOp,
    /// How the operand is seen.
    pub axes: Middle,
    /// From the last element to the first.
    pub reverse: bool,
    /// Without the element at the same place.
    pub exclusive: bool,
}
