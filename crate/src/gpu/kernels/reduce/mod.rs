//! Reductions over the middle of `[outer, count, inner]`, as stages: each takes sections of the axis of a fixed length and
//! leaves one state per section, until one is left. Within a section the order is fixed by position; so sums depend on
//! the elements of the axis only, and zeros appended to it change no bit.
//!
//! The first stage may compute the elements that it takes, by a chain.
//!
//! Where `inner` is 1 the elements of a section are neighbours (`rows.rs`), otherwise sections are (`columns.rs`).

mod columns;
mod fold;
mod rows;
#[cfg(test)]
mod tests;

use super::chain::inline;
use super::shader::{Aligned, Builder, Call, Memory, Type, Word};
use super::{Prepared, Target, input, output};
use crate::dtype::Dtype;
use crate::error::Result;
use crate::gpu::Class;
use crate::plan::{Chain, Kernel};
use crate::program::op::{Middle, ReduceOp};
use fold::{Fold, Order};

/// What becomes of the last state.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Finish {
    /// Written as it is.
    Plain,
    /// Divided; what is divided by 0 is as IEEE 754 says.
    Divide(f32),
    /// A key turns back into what it stands for.
    Unkey,
    /// The position is written.
    Place,
}

/// What a stage reads.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    x: Elements<'a>,
    /// Whether it begins at a multiple of four elements.
    is_aligned: bool,
    /// Whether these are states of an earlier stage.
    of_states: bool,
    /// Of states that are keys: the positions that belong to them.
    places: Option<Memory>,
}

/// Where elements come from.
#[derive(Clone, Copy, Debug)]
enum Elements<'a> {
    Memory(Memory),
    /// A chain, and which slots allow vectors.
    Chain(&'a Chain, Aligned),
}

/// What a stage writes.
#[derive(Clone, Copy, Debug)]
enum Sink {
    /// States, and the positions that belong to keys.
    States(Memory, Option<Memory>),
    Result(Memory, Finish),
}

/// One dispatch: sections of an axis to one state each.
#[derive(Clone, Copy, Debug)]
struct Stage<'a> {
    fold: Fold,
    axes: Middle,
    source: Source<'a>,
    /// Centres of deviations, one per result.
    centres: Option<Memory>,
    sink: Sink,
}

/// Scratch memory of a step, handed out from its begin.
#[derive(Clone, Copy, Default)]
pub(super) struct Scratch {
    /// What has been handed out.
    pub(super) words: usize,
}

impl Scratch {
    pub(super) fn take(&mut self, words: usize) -> Memory {
        let offset = self.words;
        self.words += words.next_multiple_of(64);
        Memory::Scratch { offset, words }
    }
}

/// Prepares a reduction, of the elements of a chain if there is one.
pub(super) fn prepare(
    kernel: &Kernel,
    kind: ReduceOp,
    axes: Middle,
    before: Option<&Chain>,
    target: Target,
) -> Result<Prepared> {
    let (x, y) = (input(kernel, 0)?, output(kernel, 0)?);
    if y.numel == 0 {
        return Ok(Prepared::default());
    }
    let result = Memory::Operand(*y);
    if axes.count == 0 {
        return Ok(vec![fill(y.numel, result, nothing(kind, x.dtype), target)?].into());
    }
    let elements = before.map_or(Elements::Memory(Memory::Operand(*x)), |chain| Elements::Chain(chain, target.aligned));
    let is_aligned = before.is_some() || Builder::is_aligned(x, target.aligned);
    let source = Source { x: elements, is_aligned, of_states: false, places: None };
    let order = |largest| Order { largest, floats: x.dtype == Dtype::F32 };
    let mut steps = Steps { target, calls: Vec::new(), scratch: Scratch::default() };
    let count = axes.count as f32;
    match kind {
        ReduceOp::Sum if x.dtype == Dtype::F32 => steps.reduce(Fold::Sum, axes, source, None, result, Finish::Plain)?,
        ReduceOp::Sum => steps.reduce(Fold::Words, axes, source, None, result, Finish::Plain)?,
        ReduceOp::Mean => steps.reduce(Fold::Sum, axes, source, None, result, Finish::Divide(count))?,
        ReduceOp::Max => steps.reduce(Fold::Extreme(order(true)), axes, source, None, result, Finish::Unkey)?,
        ReduceOp::Min => steps.reduce(Fold::Extreme(order(false)), axes, source, None, result, Finish::Unkey)?,
        ReduceOp::Argmax => steps.reduce(Fold::Position(order(true)), axes, source, None, result, Finish::Place)?,
        ReduceOp::Argmin => steps.reduce(Fold::Position(order(false)), axes, source, None, result, Finish::Place)?,
        // Two passes: E[x²] − E[x]² would cancel.
        ReduceOp::Variance { correction } => {
            let centres = steps.scratch.take(y.numel);
            steps.reduce(Fold::Sum, axes, source, None, centres, Finish::Divide(count))?;
            let divisor = (axes.count as f64 - correction).max(0.0) as f32;
            steps.reduce(Fold::Deviations, axes, source, Some(centres), result, Finish::Divide(divisor))?;
        }
    }
    Ok(Prepared { calls: steps.calls, scratch: steps.scratch.words, check: None })
}

/// Calls that add up the middle of partial sums, which lie in scratch memory.
pub(super) fn sum_up(
    partials: Memory,
    axes: Middle,
    to: Memory,
    scratch: &mut Scratch,
    target: Target,
) -> Result<Vec<Call>> {
    let mut steps = Steps { target, calls: Vec::new(), scratch: *scratch };
    let source = Source { x: Elements::Memory(partials), is_aligned: true, of_states: true, places: None };
    steps.reduce(Fold::Sum, axes, source, None, to, Finish::Plain)?;
    *scratch = steps.scratch;
    Ok(steps.calls)
}

struct Steps<'a> {
    target: Target<'a>,
    calls: Vec<Call>,
    scratch: Scratch,
}

impl Steps<'_> {
    /// Stages until one state per result is left.
    fn reduce(
        &mut self,
        mut fold: Fold,
        mut axes: Middle,
        mut source: Source,
        mut centres: Option<Memory>,
        to: Memory,
        finish: Finish,
    ) -> Result<()> {
        let (section, call): (_, fn(&Stage, Target) -> Result<Call>) = match self.target.traits.class {
            _ if axes.inner > 1 => (columns::SECTION, columns::call),
            Class::Software => (rows::SECTION_ALONE, rows::call_alone),
            _ => (rows::SECTION, rows::call),
        };
        loop {
            let sections = axes.count.div_ceil(section);
            let sink = if sections == 1 {
                Sink::Result(to, finish)
            } else {
                let words = axes.outer * sections * axes.inner;
                let places = matches!(fold, Fold::Position(_)).then(|| self.scratch.take(words));
                Sink::States(self.scratch.take(words), places)
            };
            let stage = Stage { fold, axes, source, centres, sink };
            self.calls.push(call(&stage, self.target)?);
            let Sink::States(x, places) = sink else { return Ok(()) };
            source = Source { x: Elements::Memory(x), is_aligned: true, of_states: true, places };
            (fold, centres, axes.count) = (fold.of_states(), None, sections);
        }
    }
}

impl Stage<'_> {
    /// Whether elements are computed: a text has that only once, however long it takes.
    fn is_computed(&self) -> bool {
        matches!(self.source.x, Elements::Chain(..))
    }

    /// Declares what the stage touches and `put(i, base, s)`: writes state `s` of result `i`, whose axis begins at `base`
    /// and goes on in steps of `p.inner`. `vectors`: `x` is read in vectors; `columns`: and these are of four columns, in
    /// which all else counts too.
    fn declare(&self, b: &mut Builder, vectors: bool, columns: bool) -> Result<()> {
        let element = self.fold.element(vectors);
        match self.source.x {
            Elements::Memory(x) => b.buffer("x", x, element),
            Elements::Chain(chain, aligned) => {
                inline(chain, None, vectors, aligned, b)?;
                let value = if vectors { "chain_four(i, vec4<u32>()).o0" } else { "chain_one(i, 0u).o0" };
                let ty = element.name();
                b.item(&format!("fn x(i: u32) -> {ty} {{ return bitcast<{ty}>({value}); }}"));
            }
        }
        if let Some(centres) = self.centres {
            b.buffer("centres", centres, self.fold.element(columns));
        }
        b.value("count", self.axes.count);
        b.value("inner", self.axes.inner / if columns { 4 } else { 1 });
        b.item(&self.fold.items(self.source.of_states, columns));
        let state = self.fold.element(columns);
        let mut place = "s.y";
        if let Some(places) = self.source.places {
            b.buffer("places", places, Type::U32);
            place = "places(base + s.y * p.inner)";
        }
        let put = match self.sink {
            Sink::States(y, None) => {
                b.buffer("y", y, state);
                "y_set(i, s);".to_owned()
            }
            Sink::States(y, Some(found)) => {
                b.buffer("y", y, Type::U32);
                b.buffer("found", found, Type::U32);
                format!("y_set(i, s.x); found_set(i, {place});")
            }
            Sink::Result(y, finish) => {
                b.buffer("y", y, state);
                match finish {
                    Finish::Plain => "y_set(i, s);".to_owned(),
                    Finish::Unkey => "y_set(i, unkey(s));".to_owned(),
                    Finish::Place => format!("y_set(i, {place});"),
                    Finish::Divide(divisor) => {
                        b.word("divisor", "f32", Word::Value(divisor.to_bits()));
                        // Shaders may not count on what a division by zero gives.
                        b.word("infinity", "f32", Word::Value(f32::INFINITY.to_bits()));
                        b.word("undefined", "f32", Word::Value(f32::NAN.to_bits()));
                        "if (p.divisor > 0.0) { y_set(i, s / p.divisor); }
                         else { y_set(i, select(State(p.undefined), State(p.infinity), s > State(0.0))); }"
                            .to_owned()
                    }
                }
            }
        };
        b.item(&format!("fn put(i: u32, base: u32, s: State) {{ {put} }}"));
        Ok(())
    }
}

/// The bits of a reduction of nothing.
fn nothing(kind: ReduceOp, dtype: Dtype) -> u32 {
    match (kind, dtype) {
        (ReduceOp::Sum | ReduceOp::Argmax | ReduceOp::Argmin, _) => 0,
        (ReduceOp::Mean | ReduceOp::Variance { .. }, _) => f32::NAN.to_bits(),
        (ReduceOp::Max, Dtype::F32) => f32::NEG_INFINITY.to_bits(),
        (ReduceOp::Min, Dtype::F32) => f32::INFINITY.to_bits(),
        (ReduceOp::Max, _) => i32::MIN as u32,
        (ReduceOp::Min, _) => i32::MAX as u32,
    }
}

/// The same bits everywhere.
pub(super) fn fill(count: usize, to: Memory, bits: u32, target: Target) -> Result<Call> {
    let mut b = Builder::new(target.traits, "fill").masked();
    b.buffer("y", to, Type::U32);
    b.value("count", count);
    b.word("bits", "u32", Word::Value(bits));
    let main = "let i = group() * 64u + local; if (i < p.count) { y_set(i, p.bits); }";
    b.finish(64, [count.div_ceil(64), 1, 1], main)
}
