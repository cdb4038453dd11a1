//! A chain of elementwise steps, prepared once and run often. Preparing decides for every value where it lives and how
//! long the pieces are; running allocates nothing.
//!
//! A step that is an output writes straight into it, and operands that lie contiguously are read in place, so a chain of
//! one step is a plain loop.

use std::ops::Range;

use super::eval;
use super::layout::{Fetch, Layout, strides_over};
use super::places::{Fill, Place, Placed, Places, Source, internal};
use crate::cpu::share::{Shared, with_scratch};
use crate::cpu::{Cpu, Isa};
use crate::error::Result;
use crate::plan::{self, MAX_CHAIN_INPUTS, MAX_CHAIN_OUTPUTS};

/// Scratch of one task, in words: slots of all values in flight share 24 of the 32 KiB of a first-level cache.
const SCRATCH_WORDS: usize = 6144;

/// Longest piece where slots are in use: beyond it the cost of starting a loop is already below a percent.
const LONGEST_PIECE: usize = 4096;

/// Shortest piece, however many slots there are.
const SHORTEST_PIECE: usize = 256;

/// Piece length of chains without slots. Only the granularity of sharing depends on it.
const UNSLOTTED_PIECE: usize = 1 << 15;

/// An external operand.
#[derive(Debug)]
struct Input {
    fetch: Fetch,
    extent: usize,
}

/// A prepared chain.
#[derive(Debug)]
pub struct Chain {
    layout: Layout,
    inputs: Vec<Input>,
    steps: Vec<Placed>,
    outputs: usize,
    slots: usize,
    per_task: Vec<Fill>,
    per_piece: Vec<Fill>,
    /// Pieces never cross a multiple of this.
    row: usize,
    piece: usize,
    count: usize,
    picoseconds: u64,
}

impl Chain {
    /// Prepares a chain of the plan. Fails with [`Error::Internal`](crate::error::Error::Internal) if an operand does not
    /// exist or a limit is exceeded: mistakes of the planner.
    pub fn new(chain: &plan::Chain) -> Result<Self> {
        if chain.inputs.len() > MAX_CHAIN_INPUTS || chain.outputs.len() > MAX_CHAIN_OUTPUTS {
            return Err(internal("too many operands or outputs"));
        }
        let strides: Vec<_> = chain.inputs.iter().map(|input| strides_over(&input.dims, &chain.dims)).collect();
        let layout = Layout::merge(&chain.dims, &strides);
        let inner = layout.inner();
        let by_rows = layout.dims.len() > 1 && inner >= SHORTEST_PIECE;
        let mut fetches: Vec<_> = (0..chain.inputs.len()).map(|input| layout.fetch(input, by_rows)).collect();
        for (position, output) in chain.outputs.iter().enumerate() {
            if let Some(input) = output.in_place_of {
                match fetches.get_mut(usize::from(input)) {
                    Some(fetch @ Fetch::Contiguous) => *fetch = Fetch::InPlace(position),
                    _ => return Err(internal("an output in place of an operand that is not read straight through")),
                }
            }
        }
        let places = Places::new(chain, &fetches)?;
        let longest = SCRATCH_WORDS
            .checked_div(places.slots)
            .map_or(UNSLOTTED_PIECE, |words| (words / 64 * 64).clamp(SHORTEST_PIECE, LONGEST_PIECE));
        let (row, piece) = if by_rows {
            // Equal pieces: 5000 elements become two of 2500, not 4096 and 904.
            (inner, inner.div_ceil(inner.div_ceil(longest)))
        } else if inner < longest {
            // Whole innermost rows, so that what repeats with them is gathered once.
            (chain.numel, longest - longest % inner.max(1))
        } else {
            (chain.numel, longest)
        };
        let memory = 100 * (chain.inputs.len() + chain.outputs.len()) as u64;
        let picoseconds = memory + places.steps.iter().map(|step| step.op.picoseconds()).sum::<u64>();
        let inputs = fetches.into_iter().enumerate();
        Ok(Self {
            inputs: inputs.map(|(input, fetch)| Input { fetch, extent: layout.extent(input) }).collect(),
            layout,
            steps: places.steps,
            outputs: chain.outputs.len(),
            slots: places.slots,
            per_task: places.per_task,
            per_piece: places.per_piece,
            row: row.max(1),
            piece,
            count: chain.numel,
            picoseconds: picoseconds * chain.numel as u64,
        })
    }

    /// Evaluates the chain. `inputs` and `outputs` are in the plan's order, each at least as long as its shape says. An
    /// input that an output takes the place of is given as an empty slice: it is read from the output.
    pub fn run(&self, cpu: &Cpu, inputs: &[&[u32]], outputs: &mut [&mut [u32]], scalars: &[f64]) {
        assert!(inputs.len() == self.inputs.len() && outputs.len() == self.outputs, "operands of a chain");
        if self.count == 0 {
            return;
        }
        for (slice, input) in inputs.iter().zip(&self.inputs) {
            let in_place = matches!(input.fetch, Fetch::InPlace(_));
            assert!(in_place || slice.len() >= input.extent, "operand of a chain is too short");
        }
        let mut parts: [Option<Shared<u32>>; MAX_CHAIN_OUTPUTS] = [const { None }; MAX_CHAIN_OUTPUTS];
        for (part, output) in parts.iter_mut().zip(outputs) {
            *part = Some(Shared::new(output));
        }
        let per_row = self.row.div_ceil(self.piece);
        let pieces = self.count / self.row * per_row;
        let tasks = cpu.tasks(self.picoseconds, pieces);
        cpu.ranges(tasks, pieces, &|pieces| self.task(cpu.isa, inputs, &parts, scalars, pieces, per_row));
    }

    /// Evaluates a range of pieces.
    fn task(
        &self,
        isa: Isa,
        inputs: &[&[u32]],
        outputs: &[Option<Shared<u32>>],
        scalars: &[f64],
        pieces: Range<usize>,
        per_row: usize,
    ) {
        // Slots begin on their own cache lines.
        let slot_words = if self.slots == 0 { 0 } else { self.piece.next_multiple_of(16) };
        with_scratch(self.slots * slot_words, |scratch| {
            let scratch = Shared::new(scratch);
            let slot = |slot: usize, len: usize| slot * slot_words..slot * slot_words + len;
            for fill in &self.per_task {
                // SAFETY: nothing else of the scratch is borrowed.
                let words = unsafe { scratch.part(slot(fill.slot, self.piece)) };
                match fill.source {
                    Source::Scalar(index, dtype) => words.fill(eval::scalar(scalars, index, dtype)),
                    Source::Input(i) if self.inputs[i].fetch == Fetch::Uniform => words.fill(inputs[i][0]),
                    Source::Input(i) => self.layout.gather(i, inputs[i], 0, words),
                }
            }
            let mut bases = [0; MAX_CHAIN_INPUTS];
            for piece in pieces {
                let row = piece / per_row;
                let within = piece % per_row * self.piece;
                let start = row * self.row + within;
                let len = self.piece.min(self.row - within);
                for (i, (base, input)) in bases.iter_mut().zip(&self.inputs).enumerate() {
                    *base = match input.fetch {
                        Fetch::Row => self.layout.row_offset(i, row) + within,
                        _ => start,
                    };
                }
                let home = |place: Place| match place {
                    Place::Input(_) => None,
                    Place::Slot(s) => Some((&scratch, slot(s, len))),
                    Place::Output(o) => outputs[o].as_ref().map(|output| (output, start..start + len)),
                };
                let read = |place: Place| match (place, home(place)) {
                    (Place::Input(i), _) => &inputs[i][bases[i]..bases[i] + len],
                    // SAFETY: this task alone works on the piece; no part of it is being written while it is read,
                    // because a step's target is none of its operands (see `Places`).
                    (_, Some((memory, range))) => unsafe { memory.read(range) },
                    (_, None) => &[],
                };
                for fill in &self.per_piece {
                    let Source::Input(i) = fill.source else { continue };
                    // SAFETY: nothing else of the scratch is borrowed.
                    let words = unsafe { scratch.part(slot(fill.slot, len)) };
                    match self.inputs[i].fetch {
                        Fetch::InPlace(output) => words.copy_from_slice(read(Place::Output(output))),
                        _ => self.layout.gather(i, inputs[i], start, words),
                    }
                }
                for step in &self.steps {
                    let mut operands: [&[u32]; 3] = [&[]; 3];
                    for (slice, &place) in operands.iter_mut().zip(&step.operands[..step.arity]) {
                        *slice = read(place);
                    }
                    if let Some((memory, range)) = home(step.target) {
                        // SAFETY: tasks have disjoint pieces and scratch, and the target is none of the operands.
                        eval::step(isa, step.op, scalars, unsafe { memory.part(range) }, operands);
                    }
                }
            }
        });
    }
}
