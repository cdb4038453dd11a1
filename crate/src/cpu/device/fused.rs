//! The chains beside a running instruction, with their operands: what a reduction takes its elements from, and what is
//! applied to a product as it is finished. Everything is on the stack: a run allocates nothing.

use super::frame::Frame;
use super::prepare::{Around, chain_inputs};
use crate::cpu::elementwise::{self, Feed, Part, Source};
use crate::cpu::gemm::Then;
use crate::cpu::share::Shared;
use crate::cpu::{Cpu, Isa};
use crate::error::Result;
use crate::plan::{After, Chain, Fused, MAX_CHAIN_INPUTS, MAX_CHAIN_OUTPUTS};

/// The chains beside an instruction.
pub struct Beside<'a> {
    before: Option<Inputs<'a>>,
    /// The chain behind it.
    pub behind: Option<Behind<'a>>,
}

/// A chain with its inputs.
struct Inputs<'a> {
    chain: &'a elementwise::Chain,
    slices: [&'a [u32]; MAX_CHAIN_INPUTS],
    count: usize,
    scalars: &'a [f64],
}

/// A chain behind an instruction, with its operands.
pub struct Behind<'a> {
    /// Which result of the instruction it is applied to.
    pub result: usize,
    inputs: Inputs<'a>,
    outputs: [Option<Part<'a>>; MAX_CHAIN_OUTPUTS],
    /// The output that takes the result's place.
    taker: usize,
}

/// Runs what makes a result, with the chain behind it, if there is one behind this result.
pub fn finished<R>(
    cpu: &Cpu,
    behind: Option<&Behind>,
    result: usize,
    make: impl FnOnce(&Cpu, Option<&Then>) -> R,
) -> R {
    match behind.filter(|behind| behind.result == result) {
        Some(behind) => make(cpu, Some(&|first, part| behind.apply(cpu.isa, first, part))),
        None => make(cpu, None),
    }
}

impl<'a> Beside<'a> {
    /// No chains.
    pub const NOTHING: Self = Self { before: None, behind: None };

    /// Those of a step whose operands all exist; without what is missing behind it, if anything is.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::error::Error::Internal) for operands that are not where the plan says.
    pub fn new(fused: &Fused, prepared: &'a Around, frame: &'a Frame, with_behind: bool) -> Result<Self> {
        let before = match (&fused.before, &prepared.before) {
            (Some(chain), Some(prepared)) => Some(Inputs::new(chain, prepared, frame)?),
            _ => None,
        };
        let behind = match (&fused.after, &prepared.after) {
            (Some(after), Some(prepared)) if with_behind => Some(Behind::new(after, prepared, frame)?),
            _ => None,
        };
        Ok(Self { before, behind })
    }

    /// What the first operand of the instruction is computed from, if it is not in memory.
    pub fn feed(&self) -> Option<Feed<'_>> {
        self.before.as_ref().map(Inputs::feed)
    }

    /// The elements of the first operand: computed, or in memory where `words` finds them.
    ///
    /// # Errors
    /// Those of `words`.
    pub fn source<'s>(&'s self, words: impl FnOnce() -> Result<&'s [u32]>) -> Result<Source<'s>> {
        self.feed().map_or_else(|| words().map(Source::Words), |feed| Ok(Source::Chain(feed)))
    }
}

impl<'a> Inputs<'a> {
    fn new(chain: &Chain, prepared: &'a elementwise::Chain, frame: &'a Frame) -> Result<Self> {
        // SAFETY: the plan keeps what a step writes apart from what it reads, and this is the step that runs now.
        let slices = unsafe { chain_inputs(chain, frame) }?;
        Ok(Self { chain: prepared, slices, count: chain.inputs.len(), scalars: &frame.scalars })
    }

    fn feed(&self) -> Feed<'_> {
        let inputs = self.slices.get(..self.count).unwrap_or(&self.slices);
        Feed { chain: self.chain, inputs, scalars: self.scalars }
    }
}

impl<'a> Behind<'a> {
    fn new(after: &After, prepared: &'a elementwise::Chain, frame: &'a Frame) -> Result<Self> {
        let mut outputs: [Option<Part>; MAX_CHAIN_OUTPUTS] = [None; MAX_CHAIN_OUTPUTS];
        let mut taker = 0;
        for (position, (part, output)) in outputs.iter_mut().zip(&after.chain.outputs).enumerate() {
            if output.in_place_of == Some(after.input) {
                // The instruction holds its memory, and lends a part at a time.
                taker = position;
            } else {
                // SAFETY: the plan keeps what a step writes apart from all else, and this is the step that runs now.
                let words = unsafe { frame.write(&output.operand) }?;
                *part = Some(Part { words: Shared::new(words), first: 0 });
            }
        }
        let inputs = Inputs::new(&after.chain, prepared, frame)?;
        Ok(Self { result: usize::from(after.result), inputs, outputs, taker })
    }

    /// Applies the chain to a finished part of the result, whose first element has the position `first`.
    pub fn apply(&self, isa: Isa, first: usize, part: &mut [f32]) {
        let span = first..first + part.len();
        // SAFETY: equal in size and alignment; any bits are a word, and any words a float.
        let words = unsafe { std::slice::from_raw_parts_mut(part.as_mut_ptr().cast(), part.len()) };
        let mut outputs = self.outputs;
        if let Some(output) = outputs.get_mut(self.taker) {
            *output = Some(Part { words: Shared::new(words), first });
        }
        let Feed { chain, inputs, scalars } = self.inputs.feed();
        chain.begin(isa, inputs, scalars, span.len(), |evaluation| evaluation.span(span, &outputs));
    }
}
