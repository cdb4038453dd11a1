//! Normalisations: of rows (layer, group, RMS) and of channels over the batch, with the views of a tensor in which each
//! works and the sizes that follow. No statistics are computed here; the validator has seen that the products fit.

/// Which instruction normalises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum NormKind {
    Layer,
    Group,
    /// Without the mean.
    Rms,
}

/// A tensor seen as `[outer, groups, channels, inner]` of which each `channels · inner` neighbours, a row, are normalised;
/// weight and bias have an element for each of `groups · channels`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NormRows {
    /// By which instruction.
    pub kind: NormKind,
    /// Examples.
    pub outer: usize,
    /// Rows of an example.
    pub groups: usize,
    /// Channels of a row.
    pub channels: usize,
    /// Elements of a channel in a row.
    pub inner: usize,
}

impl NormRows {
    /// Whether the mean is subtracted.
    pub fn is_centred(self) -> bool {
        self.kind != NormKind::Rms
    }

    /// Number of rows.
    pub fn rows(self) -> usize {
        self.outer * self.groups
    }

    /// Elements of a row.
    pub fn count(self) -> usize {
        self.channels * self.inner
    }

    /// Elements of weight and bias.
    pub fn affine(self) -> usize {
        self.groups * self.channels
    }

    /// Elements of the tensor.
    pub fn numel(self) -> usize {
        self.rows() * self.count()
    }
}

/// The parts of batch normalisation. Operands and results as in the table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum BatchNormOp {
    /// `[x, mask?]` → count, mean, M2.
    Statistics(Channels),
    /// `[M2, count]` → variance, istd.
    Variance {
        /// Is added inside the root.
        eps: f64,
    },
    /// `[x, mean, istd, weight?, bias?, mask?]` → y.
    Forward(Channels),
    /// `[dy, x, mean, istd, mask?]` → Σdy, Σdy·x̂.
    GradSums(Channels),
    /// `[dy, x, mean, istd, weight?, Σdy, Σdy·x̂, count, mask?]` → dx.
    Grad(Channels),
    /// `[running mean, running variance, updates?, mean, variance, count, ok?]`.
    Update(RunningUpdate),
}

/// A tensor seen as `[outer, channels, inner]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channels {
    /// Product of the dimensions before.
    pub outer: usize,
    /// The dimension of the channels.
    pub channels: usize,
    /// Product of the dimensions after.
    pub inner: usize,
}

impl Channels {
    /// Values of each channel.
    pub fn positions(self) -> usize {
        self.outer * self.inner
    }

    /// All elements.
    pub fn numel(self) -> usize {
        self.outer * self.channels * self.inner
    }
}

/// How running statistics take in new ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunningUpdate {
    /// Scalar: weight of the new ones.
    pub momentum: u32,
    /// The weight is 1/updates instead.
    pub cumulative: bool,
    /// The variance taken in is M2/(count − 1).
    pub unbiased: bool,
}
