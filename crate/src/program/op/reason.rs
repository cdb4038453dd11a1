//! What is wrong where only data can tell: the reasons of `require`, and what an index out of range is called. The same lists
//! stand in `ts/program/words.ts`, for the `js` device. How a failure reaches whoever reads is the devices' matter.

/// What an index out of range is called in the error, by the operation that it was given to: the list `INDEXED` of
/// `ts/program/words.ts`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Indexed {
    /// An index of the instruction itself.
    Index,
    /// A row of a table.
    Embedding,
    /// The place of a one.
    OneHot,
    /// A class.
    Nll,
    /// A class.
    CrossEntropy,
}

impl Indexed {
    /// All, by number.
    pub const ALL: [Self; 5] = [Self::Index, Self::Embedding, Self::OneHot, Self::Nll, Self::CrossEntropy];

    /// Its name for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Embedding => "embedding: index",
            Self::OneHot => "oneHot: index",
            Self::Nll => "nll: target",
            Self::CrossEntropy => "crossEntropy: target",
        }
    }
}

/// What `require` may find, and for which operation: the list `REASONS` of `ts/program/words.ts`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Cross-entropy has no item to count.
    CrossEntropyCountsNothing,
    /// Negative log-likelihood has no item to count.
    NllCountsNothing,
    /// The mean squared error has no item to count.
    MseCountsNothing,
    /// The mean absolute error has no item to count.
    MaeCountsNothing,
    /// Huber's loss has no item to count.
    HuberCountsNothing,
    /// Binary cross-entropy has no item to count.
    BceCountsNothing,
    /// A gradient that is to be clipped is infinite or NaN.
    ClipNotFinite,
    /// A gradient that micro-batches have added up is infinite or NaN.
    WindowNotFinite,
    /// A channel has fewer than two active values.
    TooFewPerChannel,
}

impl Reason {
    /// All, by number.
    pub const ALL: [Self; 9] = [
        Self::CrossEntropyCountsNothing,
        Self::NllCountsNothing,
        Self::MseCountsNothing,
        Self::MaeCountsNothing,
        Self::HuberCountsNothing,
        Self::BceCountsNothing,
        Self::ClipNotFinite,
        Self::WindowNotFinite,
        Self::TooFewPerChannel,
    ];

    /// The sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::CrossEntropyCountsNothing => "crossEntropy: nothing is counted: every item is masked or ignored",
            Self::NllCountsNothing => "nll: nothing is counted: every item is masked or ignored",
            Self::MseCountsNothing => "mse: nothing is counted: every item is masked or ignored",
            Self::MaeCountsNothing => "mae: nothing is counted: every item is masked or ignored",
            Self::HuberCountsNothing => "huber: nothing is counted: every item is masked or ignored",
            Self::BceCountsNothing => "bceWithLogits: nothing is counted: every item is masked or ignored",
            Self::ClipNotFinite => "clipGradNorm: a gradient is not finite",
            Self::WindowNotFinite => "GradientAccumulator: a gradient of the window is not finite",
            Self::TooFewPerChannel => {
                "batchNorm: more than 1 value per channel needed in training: a channel has fewer active ones"
            }
        }
    }
}
