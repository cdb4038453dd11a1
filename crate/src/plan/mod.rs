//! A plan: how a program is run. Views are resolved, dead instructions gone, elementwise instructions fused into
//! chains, and every value has its place in memory. A device walks the steps in order; it decides nothing about memory.
//!
//! # Memory
//! All sizes and offsets are in elements of four bytes. A value lives in one of three places ([`Base`]): an input slot's
//! memory, one of the allocations that outlive the run because an output slot shows them, or the arena, which is the
//! plan's alone while it runs. Arena offsets and sizes are multiples of [`ALIGN`].
//!
//! # Aliasing
//! - What a step writes overlaps nothing else that the step touches, except [`ChainOutput::in_place_of`], which names an
//!   input of exactly the same memory, read element by element. For a chain behind an instruction ([`After`]) that input
//!   is the instruction's result: it is written first, and replaced.
//! - In-place steps ([`Kernel::mutates`]) change inputs only. The program guarantees that a changed operand overlaps no
//!   other operand *of the same input slot*. Different input slots may share storage at run time (a parameter and the
//!   slab around it); steps are never reordered across an in-place step, so a device that runs them in order reads what
//!   the program means. Only the device knows storages: it must refuse bindings under which a changed operand overlaps
//!   another operand of the same step.
//!
//! # Poison
//! Every value that is ever in memory has a number below [`Plan::values`]. A device keeps one flag per value: a failing
//! step poisons what it writes; a step that reads a poisoned value is not run and poisons what it writes. An output of a
//! chain depends only on the inputs in [`ChainOutput::depends_on`]. What a chain before an instruction reads is read by
//! the instruction; its own result is no value and has the number [`NO_VALUE`].

mod arena;
mod attach;
#[cfg(test)]
mod attach_tests;
mod build;
pub mod cache;
mod cost;
mod fuse;
mod fused;
mod label;
mod live;
#[cfg(test)]
mod meaning_tests;
mod part;
mod print;
#[cfg(test)]
mod rule_tests;

pub use cache::PlanCache;
pub use fused::{After, Fused};
pub use label::Label;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::program::op::ElementOp;
use crate::program::{Interface, Op, RegisterId};
use crate::shape::Dims;

/// Arena blocks begin at multiples of 16 elements: 64 bytes, a cache line and the widest vector.
pub const ALIGN: usize = 16;

/// The most instructions in one chain.
pub const MAX_CHAIN_OPS: usize = 32;

/// The most different memory operands of one chain.
pub const MAX_CHAIN_INPUTS: usize = 16;

/// The most results that one chain writes to memory.
pub const MAX_CHAIN_OUTPUTS: usize = 8;

/// What one chain may have at most, below the constants above. Longer ones are cut; a single instruction is never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Memory operands.
    pub inputs: usize,
    /// Results in memory.
    pub outputs: usize,
    /// Scalars of the run.
    pub scalars: usize,
    /// Bindings of all operands and results together.
    pub bindings: usize,
    /// Elements that one binding holds.
    pub binding: usize,
    /// Elements of the iteration shape.
    pub elements: usize,
}

impl Limits {
    /// Those of a device without limits of its own.
    pub const NONE: Self = Self {
        inputs: MAX_CHAIN_INPUTS,
        outputs: MAX_CHAIN_OUTPUTS,
        scalars: usize::MAX,
        bindings: usize::MAX,
        binding: usize::MAX,
        elements: usize::MAX,
    };
}

/// What the device wants of its plans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Evaluate neighbouring elementwise instructions together. Without it every one is a chain of its own.
    pub fuse: bool,
    /// What a chain may have that a reduction evaluates instead of reading memory; `None`: the device cannot do that.
    /// Bindings and binding count what both touch together.
    pub before: Option<Limits>,
    /// The same for a chain that is applied to a product as it is stored.
    pub after: Option<Limits>,
    /// Whether softmax and its gradient, along the last axis, are among those that do both.
    pub rows: bool,
    /// Let results of chains take over the memory of operands that die there: for devices whose chains can write what they
    /// have just read.
    pub in_place: bool,
    /// What one chain may have.
    pub limits: Limits,
}

impl Options {
    /// Everything, without limits.
    pub const ALL: Self = Self {
        fuse: true,
        before: Some(Limits::NONE),
        after: Some(Limits::NONE),
        rows: true,
        in_place: true,
        limits: Limits::NONE,
    };
}

/// Which memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// The arena of the run.
    Arena,
    /// The memory of an input slot, by position in [`Plan::inputs`].
    Input(u32),
    /// An allocation that outlives the run, by position in [`Plan::allocations`].
    Allocation(u32),
    /// None: the value exists inside its step only, one element at a time.
    Nowhere,
}

/// Where a value begins. All lengths are the operand's `numel`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Location {
    /// Which memory.
    pub base: Base,
    /// First element in it. For [`Base::Input`] this comes on top of the slot's own offset in its storage.
    pub offset: usize,
}

/// A value in memory as one step sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Operand {
    /// The register of the program, for texts.
    pub register: RegisterId,
    /// The number to track poison by; views share their root's.
    pub value: u32,
    /// Where it begins.
    pub location: Location,
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub dims: Dims,
    /// Number of elements; they follow each other.
    pub numel: usize,
}

/// An input slot as the program expects it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Input {
    /// The operand as the `input` instruction declares it.
    pub operand: Operand,
    /// Whether any step changes it.
    pub mutated: bool,
    /// Whether any step or output needs it.
    pub used: bool,
}

/// How to run a program.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// One per input slot. The device checks dtype and number of elements of what it binds.
    pub inputs: Vec<Input>,
    /// One per output slot: what the slot shows. Several may show one allocation, or an input's memory.
    pub outputs: Vec<Operand>,
    /// Sizes in elements of the allocations that outputs keep.
    pub allocations: Vec<usize>,
    /// Size in elements of the arena.
    pub arena: usize,
    /// The most elements of the arena alive at one step: no layout is smaller.
    pub live: usize,
    /// Number of values ([`Operand::value`]).
    pub values: usize,
    /// What must be bound: numbers of inputs, outputs and scalars.
    pub interface: Interface,
    /// Estimated time of all steps on one thread, in nanoseconds: decides whether a run is worth a thread.
    pub nanoseconds: u64,
}

/// One thing to do.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// The (first) instruction of the program that it stands for.
    pub instruction: u32,
    /// Estimated time on one thread, in nanoseconds.
    pub nanoseconds: u64,
    /// What to do.
    pub kind: StepKind,
}

/// The kinds of steps.
#[derive(Clone, PartialEq, Debug)]
pub enum StepKind {
    /// Elementwise instructions over one iteration shape.
    Chain(Chain),
    /// One instruction of any other family.
    Kernel(Kernel),
    /// One such instruction with elementwise ones before or behind it.
    Fused(Box<Fused>),
}

/// One instruction with its operands in memory. `op` is never `Input`, `Output`, `View` or `Element`.
#[derive(Clone, PartialEq, Debug)]
pub struct Kernel {
    /// What to do.
    pub op: Op,
    /// The operands in the table's order; `None` is an absent one.
    pub inputs: Vec<Option<Operand>>,
    /// The results.
    pub outputs: Vec<Operand>,
    /// Positions of inputs that are changed in place.
    pub mutates: &'static [usize],
}

/// Elementwise instructions evaluated together, element by element: only [`Chain::outputs`] reach memory.
#[derive(Clone, PartialEq, Debug)]
pub struct Chain {
    /// The iteration shape: that of every result.
    pub dims: Dims,
    /// Number of elements of it.
    pub numel: usize,
    /// Memory operands; each broadcasts to `dims` (a shape of the same number of elements is read straight through).
    pub inputs: Vec<Operand>,
    /// Instructions in order; operand `Op(i)` is always an earlier one.
    pub ops: Vec<ChainOp>,
    /// The results that are written.
    pub outputs: Vec<ChainOutput>,
}

/// One instruction of a chain.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ChainOp {
    /// The instruction of the program.
    pub instruction: u32,
    /// What to do.
    pub op: ElementOp,
    /// Operands in order; only the first [`arity`](ElementOp::arity) count.
    pub operands: [ChainOperand; 3],
    /// Element type of the operands (of a and b in `where`; of the result in `full`).
    pub operand_dtype: Dtype,
    /// Element type of the result.
    pub dtype: Dtype,
}

impl ChainOp {
    /// The scalars of the run that it takes, each converted to a dtype.
    pub fn scalars(&self) -> impl Iterator<Item = (u32, Dtype)> {
        let own = match self.op {
            ElementOp::Full { scalar } => [Some((scalar, self.dtype)), None],
            ElementOp::Clip { low, high } => [Some((low, self.operand_dtype)), Some((high, self.operand_dtype))],
            _ => [None; 2],
        };
        let operands = self.operands.into_iter().map(|operand| match operand {
            ChainOperand::Scalar(scalar, dtype) => Some((scalar, dtype)),
            _ => None,
        });
        operands.chain(own).flatten()
    }
}

/// Where an instruction of a chain takes an operand from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainOperand {
    /// Memory: position in [`Chain::inputs`].
    Input(u8),
    /// The result of an earlier instruction of the chain.
    Op(u8),
    /// A scalar of the run, converted to this dtype.
    Scalar(u32, Dtype),
    /// Not there: the operation has fewer operands.
    None,
}

/// A result of a chain that is written to memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ChainOutput {
    /// Which instruction's result: position in [`Chain::ops`].
    pub op: u8,
    /// Where to; its `dims` and `numel` are the chain's.
    pub operand: Operand,
    /// Bit `i`: it is computed from `inputs[i]`. Poison spreads by it.
    pub depends_on: u32,
    /// The input that occupies exactly the same memory. The result is computed from it; it is dead after the chain, read
    /// straight through, and read by no instruction after `op`.
    pub in_place_of: Option<u8>,
}

/// The number of what is never in memory: no device keeps a flag for it.
pub const NO_VALUE: u32 = u32::MAX;

/// A table of a program's size. Programs come from outside, so a table that does not fit is an error, not an abort.
fn table<T: Clone>(length: usize, value: T) -> Result<Vec<T>> {
    let mut table = Vec::new();
    table.try_reserve_exact(length).map_err(|_| no_memory())?;
    table.resize(length, value);
    Ok(table)
}

fn no_memory() -> Error {
    Error::OutOfMemory("no memory to plan a program".into())
}
