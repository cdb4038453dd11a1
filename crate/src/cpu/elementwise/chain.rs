//! A chain of elementwise steps, prepared once and run often. Preparing decides for every value where it lives and how
//! long the pieces are; running allocates nothing. A chain runs whole, or a span at a time by whoever wants its elements
//! just then (`spans.rs`).
//!
//! A step that is an output writes straight into it, and operands that lie contiguously are read in place, so a chain of
//! one step is a plain loop.

use std::ops::Range;

use super::layout::{Fetch, Layout, strides_over};
use super::places::{Fill, Placed, Places, internal};
use super::spans::Part;
use crate::cpu::share::Shared;
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
pub(super) struct Input {
    pub fetch: Fetch,
    pub extent: usize,
}

/// A prepared chain.
#[derive(Debug)]
pub struct Chain {
    pub(super) layout: Layout,
    pub(super) inputs: Vec<Input>,
    pub(super) steps: Vec<Placed>,
    pub(super) outputs: usize,
    pub(super) slots: usize,
    pub(super) per_task: Vec<Fill>,
    pub(super) per_piece: Vec<Fill>,
    /// Pieces never cross a multiple of this.
    pub(super) row: usize,
    pub(super) piece: usize,
    pub(super) count: usize,
    /// Estimated time of an element.
    pub(super) picoseconds: u64,
}

impl Chain {
    /// Prepares a chain of the plan. Fails with [`Error::Internal`](crate::error::Error::Internal) if an operand does not
    /// exist or a limit is exceeded: mistakes of the planner.
    pub fn new(chain: &plan::Chain) -> Result<Self> {
        Self::prepare(chain, false)
    }

    /// The same for a chain of which [spans](super::Feed) are wanted, wherever they begin.
    pub fn in_spans(chain: &plan::Chain) -> Result<Self> {
        Self::prepare(chain, true)
    }

    fn prepare(chain: &plan::Chain, in_spans: bool) -> Result<Self> {
        if chain.inputs.len() > MAX_CHAIN_INPUTS || chain.outputs.len() > MAX_CHAIN_OUTPUTS {
            return Err(internal("too many operands or outputs"));
        }
        let strides: Vec<_> = chain.inputs.iter().map(|input| strides_over(&input.dims, &chain.dims)).collect();
        let layout = Layout::merge(&chain.dims, &strides);
        let inner = layout.inner();
        let by_rows = layout.dims.len() > 1 && inner >= SHORTEST_PIECE;
        let fetch = |input| match layout.fetch(input, by_rows) {
            // What repeats with whole rows does so only where pieces begin with one.
            Fetch::Periodic if in_spans => Fetch::Gather,
            fetch => fetch,
        };
        let mut fetches: Vec<_> = (0..chain.inputs.len()).map(fetch).collect();
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
            picoseconds,
        })
    }

    /// Evaluates the chain. `inputs` and `outputs` are in the plan's order, each at least as long as its shape says. An
    /// input that an output takes the place of is given as an empty slice: it is read from the output.
    pub fn run(&self, cpu: &Cpu, inputs: &[&[u32]], outputs: &mut [&mut [u32]], scalars: &[f64]) {
        assert!(inputs.len() == self.inputs.len() && outputs.len() == self.outputs, "operands of a chain");
        if self.count == 0 {
            return;
        }
        let mut parts: [Option<Part>; MAX_CHAIN_OUTPUTS] = [const { None }; MAX_CHAIN_OUTPUTS];
        for (part, output) in parts.iter_mut().zip(outputs) {
            *part = Some(Part { words: Shared::new(output), first: 0 });
        }
        let per_row = self.row.div_ceil(self.piece);
        let pieces = self.count / self.row * per_row;
        let tasks = cpu.tasks(self.picoseconds * self.count as u64, pieces);
        cpu.ranges(tasks, pieces, &|pieces| self.task(cpu.isa, inputs, &parts, scalars, pieces, per_row));
    }

    /// Evaluates a range of pieces.
    fn task(
        &self,
        isa: Isa,
        inputs: &[&[u32]],
        outputs: &[Option<Part>],
        scalars: &[f64],
        pieces: Range<usize>,
        per_row: usize,
    ) {
        self.begin(isa, inputs, scalars, self.piece, |evaluation| {
            for piece in pieces {
                let within = piece % per_row * self.piece;
                evaluation.piece(piece / per_row * self.row + within, self.piece.min(self.row - within), outputs);
            }
        });
    }
}
