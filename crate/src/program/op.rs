//! What an instruction does, with its attributes decoded: the typed form of a row of the opcode [table](super::table).
//!
//! It holds no operands (those are the [`Instruction`](super::Instruction)'s) and no shape rules (those are in
//! `validate`). Numbers named `scalar` are indices into the scalars that come with each run.

use crate::cpu::activation::Activation;
use crate::shape::Dims;

/// One operation of the program.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// Binds the next input slot.
    Input {
        /// Which of the program's inputs.
        index: u32,
    },
    /// Materialises its operand into the next output slot.
    Output {
        /// Which of the program's outputs.
        index: u32,
    },
    /// The same memory under another shape, from an element offset on.
    View {
        /// First element, counted in the operand.
        offset: u32,
    },
    /// `[target, source]`: target ← source.
    Assign,
    /// `[target, source]`: target += source.
    AddInto,
    /// One result element from one element of each operand, operands broadcast.
    Element(ElementOp),
    /// Over the middle of `[outer, count, inner]`.
    Reduce {
        /// What is computed from the `count` elements.
        kind: ReduceOp,
        /// How the operand is seen.
        axes: Middle,
    },
    /// → the largest over the middle of `[outer, count, inner]`, sorted: elements, indices, places in all of the operand.
    TopK {
        /// How the operand is seen.
        axes: Middle,
        /// How many.
        k: usize,
    },
    /// → running sums or products over the middle of `[outer, count, inner]`.
    Scan(Scan),
    /// Softmax or log-softmax over the middle of `[outer, count, inner]`.
    Softmax {
        /// Whether the logarithm is wanted.
        log: bool,
        /// How the operand is seen.
        axes: Middle,
    },
    /// `[dy, y]` → dx of softmax or log-softmax.
    SoftmaxGrad {
        /// Whether y is a log-softmax.
        log: bool,
        /// How the operands are seen.
        axes: Middle,
    },
    /// `[a, b]`, rank ≥ 2, batch dimensions broadcast.
    Matmul {
        /// a is stored `[…, K, M]`.
        transpose_a: bool,
        /// b is stored `[…, N, K]`.
        transpose_b: bool,
    },
    /// `[x, weight, bias?]` → y, and z if it is saved.
    Linear {
        /// What is applied to z = xW + b.
        activation: Activation,
        /// Whether z is the second result.
        save_z: bool,
    },
    /// `[dy, saved?, x?, weight?]` → the wanted gradients, in the order dx, dweight, dbias.
    LinearGrad {
        /// The activation of the forward instruction.
        activation: Activation,
        /// Which gradients are results.
        wanted: Wanted,
    },
    /// `[logits, targets]` → losses, logSumExp, count.
    CrossEntropy {
        /// The target that is no class and costs nothing.
        ignore_index: i32,
    },
    /// `[logits, targets, logSumExp, dlosses]` → dlogits.
    CrossEntropyGrad {
        /// As in the forward instruction.
        ignore_index: i32,
    },
    /// `[logits, targets, weight?, Σweight?]` → losses, logSumExp, weights of the targets.
    WeightedCrossEntropy(Smoothed),
    /// `[logits, targets, logSumExp, dlosses, weight?, Σweight?]` → dlogits.
    WeightedCrossEntropyGrad(Smoothed),
    /// Dimension `i` of the result is dimension `permutation[i]` of the operand.
    Transpose {
        /// A permutation of `0..rank`.
        permutation: Dims,
    },
    /// The operands one after the other along an axis.
    Concat {
        /// The axis.
        axis: u32,
    },
    /// The part of the result's size that begins at `starts`.
    Slice {
        /// First index per axis.
        starts: Dims,
    },
    /// The operand inside a larger result.
    Pad {
        /// How many elements precede, per axis.
        before: Dims,
        /// Scalar that fills the rest.
        value: u32,
    },
    /// `[x, indices]`: the axis of x is replaced by the dimensions of the indices.
    Gather {
        /// The axis.
        axis: u32,
        /// What an index is.
        of: Indexed,
    },
    /// `[dy, indices]`: zeros plus every slice of dy at its index.
    ScatterAdd {
        /// The axis of the result.
        axis: u32,
        /// What an index is.
        of: Indexed,
    },
    /// `[x, ok]`: x, poisoned unless ok is true.
    Require {
        /// What is wrong then.
        reason: Reason,
    },
    /// Σ over all operands of x².
    SquaredNorm,
    /// One step of SGD over a slab.
    Sgd(Sgd),
    /// One step of Adam over a slab.
    Adam(Adam),
    /// One step of `RMSprop` over a slab.
    Rmsprop(Rmsprop),
    /// One update of exponential moving averages over a slab.
    Ema(Ema),
    /// Uniform numbers in [0, 1) from a counter.
    Uniform(Uniform),
    /// `[x]`: x where a random number is high enough, else 0.
    Dropout(Dropout),
    /// `[x, weight?, bias?]` → y, the means where rows are centred, the scales 1/√(variance + eps).
    Norm {
        /// How the operand is seen.
        rows: NormRows,
        /// Added to the variance.
        eps: f64,
    },
    /// `[dy, x, weight?, means where rows are centred, scales]` → the wanted gradients, in the order dx, dweight, dbias.
    NormGrad {
        /// How the operands are seen.
        rows: NormRows,
        /// Which gradients are results.
        wanted: Wanted,
    },
    /// Batch normalisation, or a part of it.
    BatchNorm(BatchNormOp),
}

/// What an index out of range is called in the error, by the operation that it was given to: the list `INDEXED` of
/// TypeScript's opcode table.
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

/// What `require` may find: the list `REASONS` of TypeScript's opcode table.
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

/// An elementwise operation; only these are fused into chains.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ElementOp {
    /// Every element is the scalar, converted to the result's dtype.
    Full {
        /// The scalar.
        scalar: u32,
    },
    /// The operand, broadcast.
    Expand,
    /// The operand in the result's dtype.
    Cast,
    /// A function of one operand.
    Unary(UnaryOp),
    /// An activation with its parameters (unused ones are 0).
    Activation {
        /// Which.
        activation: Activation,
        /// leakyRelu: slope; elu: alpha; softplus: beta, threshold.
        parameters: [f64; 2],
    },
    /// `[dy, saved]` → dz.
    ActivationGrad {
        /// Which.
        activation: Activation,
        /// As in the forward instruction.
        parameters: [f64; 2],
    },
    /// A function of two operands.
    Binary(BinaryOp),
    /// `[condition, a, b]`.
    Where,
    /// The operand held between two scalars.
    Clip {
        /// Scalar: lowest value.
        low: u32,
        /// Scalar: highest value.
        high: u32,
    },
}

impl ElementOp {
    /// Number of operands.
    pub fn arity(self) -> usize {
        match self {
            Self::Full { .. } => 0,
            Self::Expand | Self::Cast | Self::Unary(_) | Self::Activation { .. } | Self::Clip { .. } => 1,
            Self::ActivationGrad { .. } | Self::Binary(_) => 2,
            Self::Where => 3,
        }
    }
}

/// Functions of one element. Meanings as in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the names say it; the table has the fine print")]
pub enum UnaryOp {
    Neg,
    Abs,
    Sign,
    Square,
    Sqrt,
    Rsqrt,
    Reciprocal,
    Exp,
    Expm1,
    Log,
    Log1p,
    Erf,
    Floor,
    Ceil,
    LogicalNot,
    IsFinite,
}

/// Functions of two elements. Meanings as in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the names say it; the table has the fine print")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Maximum,
    Minimum,
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    LogicalAnd,
    LogicalOr,
}

impl BinaryOp {
    /// Whether the result is bool whatever the operands are.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Greater | Self::GreaterEqual | Self::Less | Self::LessEqual)
    }
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

/// Which gradients are results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Gradient of x.
    pub dx: bool,
    /// Gradient of the weight.
    pub dweight: bool,
    /// Gradient of the bias.
    pub dbias: bool,
}

/// Where the gradient of one parameter belongs. Its length is the gradient's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Index into the step counters.
    pub parameter: u32,
    /// First element in the slab.
    pub offset: u32,
}

/// A cross-entropy with class indices whose targets are smoothed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Smoothed {
    /// The target that is no class and costs nothing.
    pub ignore_index: i32,
    /// How much of a target's weight is spread over all classes, from 0 to 1.
    pub smoothing: f64,
}

/// `[param slab, momentum slab?, steps, scale?, ok?, …gradients]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Sgd {
    /// Scalar: learning rate.
    pub lr: u32,
    /// Weight of the old velocity; 0 needs no slab.
    pub momentum: f64,
    /// 1 − weight of the gradient in the velocity.
    pub dampening: f64,
    /// Coupled L2.
    pub weight_decay: f64,
    /// Nesterov's form.
    pub nesterov: bool,
    /// One per gradient; disjoint, inside the slab.
    pub segments: Box<[Segment]>,
}

/// `[param slab, m slab, v slab, greatest v slab?, steps, scale?, ok?, …gradients]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Adam {
    /// Scalar: learning rate.
    pub lr: u32,
    /// Weight of the old first moment.
    pub beta1: f64,
    /// Weight of the old second moment.
    pub beta2: f64,
    /// Added after bias correction.
    pub eps: f64,
    /// Coupled L2, or the decay of the parameters themselves.
    pub weight_decay: f64,
    /// Which of the two.
    pub decoupled: bool,
    /// One per gradient; disjoint, inside the slab.
    pub segments: Box<[Segment]>,
}

/// `[param slab, v slab, mean slab?, velocity slab?, steps, scale?, ok?, …gradients]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Rmsprop {
    /// Scalar: learning rate.
    pub lr: u32,
    /// Weight of the old averages.
    pub alpha: f64,
    /// Added to the root.
    pub eps: f64,
    /// Coupled L2.
    pub weight_decay: f64,
    /// Weight of the old velocity; there is a slab unless it is 0.
    pub momentum: f64,
    /// One per gradient; disjoint, inside the slab.
    pub segments: Box<[Segment]>,
}

/// `[average slab, steps, scale?, ok?, …values]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Ema {
    /// Scalar: weight of the new value.
    pub weight: u32,
    /// One per value; disjoint, inside the slab.
    pub segments: Box<[Segment]>,
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

/// What is left of rows of elements. Applied to dy it is its own gradient.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dropout {
    /// The random numbers, one for each element.
    pub of: Uniform,
    /// An element stays if its number is at least this times 2⁻²⁴; at most 2²⁴.
    pub threshold: u32,
    /// What is left is multiplied by this.
    pub scale: f64,
}

/// Rows of random numbers. The scalars carry whole numbers of 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uniform {
    /// Elements of a row; the result is whole rows.
    pub inner: u32,
    /// Scalars: the words of the seed, low first.
    pub seed: [u32; 2],
    /// Scalar: who draws.
    pub site: u32,
    /// Scalar: how often they have drawn before.
    pub draw: u32,
    /// Scalar: number of the first row.
    pub row_base: u32,
}
