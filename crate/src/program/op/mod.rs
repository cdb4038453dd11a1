//! What an instruction does, with its attributes decoded: the typed form of a row of the opcode [table](super::table).
//!
//! It holds no operands (those are the [`Instruction`](super::Instruction)'s) and no shape rules (those are in
//! `validate`). Numbers named `scalar` are indices into the scalars that come with each run. [`Op`] has a variant for each
//! instruction or family; what a family needs to say of itself stands in the family's file.

mod element;
mod norm;
mod optim;
mod random;
mod reason;
mod reduce;

use crate::cpu::activation::Activation;
use crate::shape::Dims;

pub use element::{BinaryOp, ElementOp, UnaryOp};
pub use norm::{BatchNormOp, Channels, NormKind, NormRows, RunningUpdate};
pub use optim::{Adam, Ema, Rmsprop, Segment, Sgd};
pub use random::{Dropout, Uniform};
pub use reason::{Indexed, Reason};
pub use reduce::{Middle, ReduceOp, Scan, ScanOp};

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

/// A cross-entropy with class indices whose targets are smoothed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Smoothed {
    /// The target that is no class and costs nothing.
    pub ignore_index: i32,
    /// How much of a target's weight is spread over all classes, from 0 to 1.
    pub smoothing: f64,
}
