//! The calls that update slabs. A call takes a run of segments that follow each other as slabs are laid out: their
//! parameters one by one, their offsets at the next multiple of [`LAYOUT`]; so two words per segment say where
//! everything is. What breaks a run begins a new call.
//!
//! Gradients that lie in one memory, as those that nobody sees outside the step do, are bound as one operand: then any
//! number of them costs an element no more than one does.

use std::fmt::Write as _;

use super::state::{HEADER, OWN};
use super::{choose, find_segment};
use crate::error::Result;
use crate::gpu::kernels::shader::{Builder, Call, IMMEDIATE_WORDS, Memory, Type};
use crate::gpu::kernels::shape::{part, window_words};
use crate::gpu::kernels::{Prepared, Target, share};
use crate::plan::Operand;
use crate::program::op::Segment;

/// Segments of slabs begin at multiples of this many elements.
const LAYOUT: usize = 64;

/// Invocations of a workgroup, and elements or vectors of each.
const GROUP: usize = 256;
const EACH: usize = 4;

/// Words of a call besides two for each segment: the grid, slabs, counters, state, gradients, parameter, whether to count.
const FIXED_WORDS: usize = 9;

/// Bindings of a call besides slabs and gradients: counters and state.
const FIXED_BINDINGS: usize = 2;

/// What is written where a segment ends inside a vector.
const MERGE_VECTORS: &str = "fn merge(old: vec4<f32>, new_one: vec4<f32>) -> vec4<f32> {
  return select(old, new_one, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(left));
}";

/// Single words end nowhere else.
const MERGE_WORDS: &str = "fn merge(old: f32, new_one: f32) -> f32 { return new_one; }";

/// An update of slabs of one shape.
pub(super) struct Slabs<'a> {
    pub(super) name: &'static str,
    pub(super) operands: Vec<Operand>,
    /// What `body` calls them.
    pub(super) names: &'a [&'static str],
    pub(super) steps: &'a Operand,
    /// How many constants the body knows.
    pub(super) constants: usize,
    /// What is done to the elements at `i`.
    pub(super) body: String,
}

/// A segment, or as much of it as one binding reaches.
#[derive(Clone, Copy)]
struct Piece {
    gradient: Operand,
    parameter: usize,
    offset: usize,
    /// Whether the step counter is to be advanced: by the last piece of a segment.
    counts: bool,
    vectors: bool,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.gradient.numel
    }

    /// Whether `next` follows as segments of a slab do.
    fn leads_to(&self, next: &Self) -> bool {
        next.parameter == self.parameter + 1
            && next.offset == self.end().next_multiple_of(LAYOUT)
            && next.counts == self.counts
            && next.vectors == self.vectors
    }
}

/// The gradients of a run as one operand, if they are neighbours in memory that one binding reaches.
fn together(run: &[Piece], target: Target) -> Option<Operand> {
    let first = run.first()?.gradient;
    let (mut start, mut end) = (first.location.offset, 0);
    for Piece { gradient, .. } in run {
        if gradient.location.base != first.location.base {
            return None;
        }
        start = start.min(gradient.location.offset);
        end = end.max(gradient.location.offset + gradient.numel);
    }
    let mut all = part(&first, 0, end - start);
    all.location.offset = start;
    (run.len() > 1 && all.numel <= window_words(target.traits)).then_some(all)
}

/// Whether one call can bind the gradients of a run, and had better.
fn can_bind(run: &[Piece], bindings: usize, target: Target) -> bool {
    let sizes = || run.iter().map(|piece| piece.gradient.numel);
    together(run, target).is_some()
        || run.len() <= bindings.max(1) && sizes().zip(sizes().skip(1)).all(|(a, b)| share(a, b, target))
}

impl Slabs<'_> {
    /// `first`, then the calls for all segments. `state` is the number of words that `first` writes.
    pub(super) fn prepare(
        &self,
        first: Call,
        state: usize,
        segments: &[Segment],
        gradients: &[Option<Operand>],
        target: Target,
    ) -> Result<Prepared> {
        let most = window_words(target.traits);
        let bindings = (target.traits.bindings as usize).saturating_sub(FIXED_BINDINGS + self.operands.len());
        let longest = (IMMEDIATE_WORDS - FIXED_WORDS) / 2;
        let mut calls = vec![first];
        let mut run: Vec<Piece> = Vec::new();
        for (segment, gradient) in segments.iter().zip(gradients.iter().flatten()) {
            for piece in self.pieces(*segment, gradient, most, target) {
                if let (Some(first), Some(last)) = (run.first(), run.last()) {
                    let follows = last.leads_to(&piece) && piece.end() <= first.offset + most;
                    run.push(piece);
                    if follows && run.len() <= longest && can_bind(&run, bindings, target) {
                        continue;
                    }
                    run.pop();
                    calls.push(self.call(&run, state, target)?);
                    run.clear();
                }
                run.push(piece);
            }
        }
        if run.is_empty() {
            return Ok(Prepared::default());
        }
        calls.push(self.call(&run, state, target)?);
        Ok(Prepared { calls, scratch: state, check: None })
    }

    fn pieces(&self, segment: Segment, gradient: &Operand, most: usize, target: Target) -> Vec<Piece> {
        let slab = self.operands.first().map_or(0, |slab| slab.numel);
        let count = gradient.numel.div_ceil(most).max(1);
        let pieces = (0..count).map(|i| {
            let start = i * most;
            let gradient = part(gradient, start, most.min(gradient.numel - start));
            let offset = segment.offset as usize + start;
            let counts = i + 1 == count;
            let mut piece = Piece { gradient, parameter: segment.parameter as usize, offset, counts, vectors: false };
            // A last vector that is not full is written back as it was behind the segment: there must be such memory,
            // and nobody else may write it, which holds because segments that use vectors begin with one.
            piece.vectors = piece.end().next_multiple_of(4) <= slab
                && Builder::is_aligned(&piece.gradient, target.aligned)
                && self.operands.iter().all(|slab| Builder::is_aligned(&part(slab, offset, 0), target.aligned));
            piece
        });
        pieces.collect()
    }

    fn call(&self, run: &[Piece], state: usize, target: Target) -> Result<Call> {
        let (begin, end) = (run.first().map_or(0, |p| p.offset), run.last().map_or(0, Piece::end));
        let vectors = run.first().is_some_and(|piece| piece.vectors);
        let (ty, unit, zero) = if vectors { (Type::Vec4F32, 4, "vec4<f32>()") } else { (Type::F32, 1, "0.0") };
        let block = GROUP * EACH * unit;
        let mut b = Builder::new(target.traits, self.name).masked();
        for (name, slab) in self.names.iter().zip(&self.operands) {
            b.buffer(name, Memory::Operand(part(slab, begin, end - begin)), ty);
        }
        b.operand("steps", self.steps);
        b.buffer("state", Memory::Scratch { offset: 0, words: state }, Type::F32);
        b.value("parameter", run.first().map_or(0, |piece| piece.parameter));
        b.value("counts", usize::from(run.first().is_some_and(|piece| piece.counts)));
        let mut main = "if (state(0u) == 0.0) { return; }\n".to_owned() + &find_segment(run.len(), block, LAYOUT);
        let all = together(run, target);
        let mut groups = 0;
        if let Some(all) = &all {
            b.buffer("gradients", Memory::Operand(*all), ty);
            main += "var begin = 0u;\n";
        }
        for (j, piece) in run.iter().enumerate() {
            if let Some(all) = &all {
                b.value(&format!("begin_{j}"), piece.gradient.location.offset - all.location.offset);
                let _ = writeln!(main, "begin = select(begin, p.begin_{j} / {unit}u, segment == {j}u);");
            } else {
                b.buffer(&format!("gradient{j}"), Memory::Operand(piece.gradient), ty);
            }
            b.value(&format!("count_{j}"), piece.gradient.numel);
            groups += piece.gradient.numel.div_ceil(block).max(1);
        }
        b.item("var<private> left: u32;");
        b.item(if vectors { MERGE_VECTORS } else { MERGE_WORDS });
        if all.is_none() {
            b.item(&choose("gradient", ty, run.len()));
        }
        let gradient = if all.is_some() { "gradients(begin + k)" } else { "gradient(segment, k)" };
        main += "let parameter = p.parameter + segment;\nlet scale = state(1u);\n";
        for c in 0..self.constants {
            let _ = writeln!(main, "let c{c} = state({}u);", c + 2);
        }
        for own in 0..OWN {
            let _ = writeln!(main, "let own{own} = state({HEADER}u + parameter * {OWN}u + {own}u);");
        }
        let _ = write!(
            main,
            "if (p.counts != 0u && block == 0u && local == 0u) {{
  steps_set(parameter, min(steps(parameter), 2147483646) + 1);
}}
for (var n = 0u; n < {EACH}u; n++) {{
let k = (block * {EACH}u + n) * {GROUP}u + local;
if (k * {unit}u >= count) {{ return; }}
left = count - k * {unit}u;
let i = at / {unit}u + k;
let g = {gradient} * scale;
let zero = {zero};
{}
}}",
            self.body
        );
        b.finish(GROUP as u32, [groups, 1, 1], &main)
    }
}
