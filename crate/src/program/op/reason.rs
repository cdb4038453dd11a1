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

/// What `require` may find: the list `REASONS` of `ts/program/words.ts`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A loss has no item to count.
    NothingCounted,
    /// A gradient is infinite or NaN.
    NotFinite,
    /// A channel has fewer than two active values.
    TooFewPerChannel,
}

impl Reason {
    /// All, by number.
    pub const ALL: [Self; 3] = [Self::NothingCounted, Self::NotFinite, Self::TooFewPerChannel];

    /// The sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::NothingCounted => "nothing is counted: every item is masked or ignored",
            Self::NotFinite => "a gradient is not finite",
            Self::TooFewPerChannel => "more than 1 value per channel needed: a channel has fewer active ones",
        }
    }
}
