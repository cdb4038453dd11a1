//! Chains evaluated a span at a time, on one thread, by a kernel that takes the elements as they come or that has just
//! written what the chain starts from. Whatever the spans, every element has the bits that it has when the chain runs
//! whole.

use std::ops::Range;

use super::chain::Chain;
use super::eval;
use super::layout::Fetch;
use super::places::{Place, Source as Filler};
use crate::cpu::Isa;
use crate::cpu::share::{Shared, with_scratch};
use crate::plan::MAX_CHAIN_INPUTS;

/// Where an output is written: these words, the first of which is element `first`.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Part<'a> {
    pub words: Shared<'a, u32>,
    pub first: usize,
}

/// A chain at work: scratch is there, and what is the same for all elements stands in it.
pub(in crate::cpu) struct Evaluation<'e> {
    chain: &'e Chain,
    isa: Isa,
    inputs: &'e [&'e [u32]],
    scalars: &'e [f64],
    scratch: Shared<'e, u32>,
    slot_words: usize,
    /// Longest piece that slots have room for.
    longest: usize,
}

impl Chain {
    /// Calls `body` with the chain at work on these inputs, for spans of at most `longest` elements, or pieces of as many.
    ///
    /// # Panics
    /// For an input that is shorter than its shape says, unless an output takes its place.
    pub(in crate::cpu) fn begin<R>(
        &self,
        isa: Isa,
        inputs: &[&[u32]],
        scalars: &[f64],
        longest: usize,
        body: impl FnOnce(&Evaluation) -> R,
    ) -> R {
        assert!(inputs.len() == self.inputs.len(), "operands of a chain");
        for (slice, input) in inputs.iter().zip(&self.inputs) {
            let in_place = matches!(input.fetch, Fetch::InPlace(_));
            assert!(in_place || slice.len() >= input.extent, "operand of a chain is too short");
        }
        let longest = longest.min(self.piece);
        // Slots begin on their own cache lines.
        let slot_words = if self.slots == 0 { 0 } else { longest.next_multiple_of(16) };
        with_scratch(self.slots * slot_words, |scratch| {
            let scratch = Shared::new(scratch);
            let evaluation = Evaluation { chain: self, isa, inputs, scalars, scratch, slot_words, longest };
            evaluation.fill();
            body(&evaluation)
        })
    }

    /// Estimated picoseconds of one element.
    pub(in crate::cpu) fn picoseconds(&self) -> u64 {
        self.picoseconds
    }
}

impl Evaluation<'_> {
    fn slot(&self, slot: usize, len: usize) -> Range<usize> {
        slot * self.slot_words..slot * self.slot_words + len
    }

    /// Fills the slots that hold the same for every piece.
    fn fill(&self) {
        for fill in &self.chain.per_task {
            // SAFETY: nothing else of the scratch is borrowed.
            let words = unsafe { self.scratch.part(self.slot(fill.slot, self.longest)) };
            match fill.source {
                Filler::Scalar(index, dtype) => words.fill(eval::scalar(self.scalars, index, dtype)),
                Filler::Input(i) if self.chain.inputs[i].fetch == Fetch::Uniform => words.fill(self.inputs[i][0]),
                Filler::Input(i) => self.chain.layout.gather(i, self.inputs[i], 0, words),
            }
        }
    }

    /// Evaluates the elements of a span of a chain [prepared for it](Chain::in_spans).
    pub fn span(&self, span: Range<usize>, outputs: &[Option<Part>]) {
        let mut start = span.start;
        while start < span.end {
            let row_end = (start / self.chain.row + 1) * self.chain.row;
            let len = self.longest.min(span.end.min(row_end) - start);
            self.piece(start, len, outputs);
            start += len;
        }
    }

    /// Evaluates as many elements as `out` has, from `first` on, of a chain of one output.
    pub fn compute(&self, first: usize, out: &mut [u32]) {
        let span = first..first + out.len();
        self.span(span, &[Some(Part { words: Shared::new(out), first })]);
    }

    /// Evaluates `len` elements from `start` on, which cross no row.
    pub(super) fn piece(&self, start: usize, len: usize, outputs: &[Option<Part>]) {
        let chain = self.chain;
        let (row, within) = (start / chain.row, start % chain.row);
        let mut bases = [0; MAX_CHAIN_INPUTS];
        for (i, (base, input)) in bases.iter_mut().zip(&chain.inputs).enumerate() {
            *base = match input.fetch {
                Fetch::Row => chain.layout.row_offset(i, row) + within,
                _ => start,
            };
        }
        let home = |place: Place| match place {
            Place::Input(_) => None,
            Place::Slot(s) => Some((self.scratch, self.slot(s, len))),
            Place::Output(o) => {
                let part = outputs.get(o).and_then(Option::as_ref);
                part.map(|part| (part.words, start - part.first..start - part.first + len))
            }
        };
        let read = |place: Place| match (place, home(place)) {
            (Place::Input(i), _) => &self.inputs[i][bases[i]..bases[i] + len],
            // SAFETY: this task alone works on the piece; no part of it is being written while it is read, because a
            // step's target is none of its operands (see `Places`).
            (_, Some((memory, range))) => unsafe { memory.read(range) },
            (_, None) => &[],
        };
        for fill in &chain.per_piece {
            let Filler::Input(i) = fill.source else { continue };
            // SAFETY: nothing else of the scratch is borrowed.
            let words = unsafe { self.scratch.part(self.slot(fill.slot, len)) };
            match chain.inputs[i].fetch {
                Fetch::InPlace(output) => words.copy_from_slice(read(Place::Output(output))),
                _ => chain.layout.gather(i, self.inputs[i], start, words),
            }
        }
        for step in &chain.steps {
            let mut operands: [&[u32]; 3] = [&[]; 3];
            for (slice, &place) in operands.iter_mut().zip(&step.operands[..step.arity]) {
                *slice = read(place);
            }
            if let Some((memory, range)) = home(step.target) {
                // SAFETY: tasks have disjoint pieces and scratch, and the target is none of the operands.
                eval::step(self.isa, step.op, self.scalars, unsafe { memory.part(range) }, operands);
            }
        }
    }
}

/// A chain of one output with its operands: elements that are computed when they are asked for.
#[derive(Clone, Copy)]
pub struct Feed<'a> {
    /// [Prepared for spans](Chain::in_spans).
    pub chain: &'a Chain,
    /// Its inputs, in the plan's order.
    pub inputs: &'a [&'a [u32]],
    /// The scalars of the run.
    pub scalars: &'a [f64],
}

/// Where a kernel gets elements from.
#[derive(Clone, Copy)]
pub(in crate::cpu) enum Source<'a> {
    /// Memory.
    Words(&'a [u32]),
    /// A chain.
    Chain(Feed<'a>),
}

/// A source on the thread that reads it.
#[derive(Clone, Copy)]
pub(in crate::cpu) enum Elements<'a> {
    Words(&'a [u32]),
    Chain(&'a Evaluation<'a>),
}

impl Source<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Words(words) => words.len(),
            Self::Chain(feed) => feed.chain.count,
        }
    }

    /// Estimated picoseconds of an element, beside what is done with it.
    pub fn picoseconds(&self) -> u64 {
        match self {
            Self::Words(_) => 0,
            Self::Chain(feed) => feed.chain.picoseconds(),
        }
    }

    /// Calls `body` with the elements, of which it asks for at most `longest` at a time.
    pub fn open<R>(&self, isa: Isa, longest: usize, body: impl FnOnce(Elements) -> R) -> R {
        match self {
            Self::Words(words) => body(Elements::Words(words)),
            Self::Chain(feed) => feed
                .chain
                .begin(isa, feed.inputs, feed.scalars, longest, |evaluation| body(Elements::Chain(evaluation))),
        }
    }
}
