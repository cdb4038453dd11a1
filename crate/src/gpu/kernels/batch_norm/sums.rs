//! Sums over all positions of a channel, in stages. The first gives states: an invocation takes [`EACH`] positions of a
//! channel, one after the other where channels lie side by side (its neighbours have the next channels), else [`LANES`]
//! apart (its neighbours have the positions between). Further stages bring [`EACH`] states together, until one is left.
//! So the order depends on the shape alone. Statistics go over their positions, or states, twice, the second time around
//! the mean: nothing cancels. The mean of a state is rounded, and where it is large beside the deviations that is more than
//! these can bear: a state keeps a centre and how far its elements are from that on average, its *drift*.
//!
//! States lie in scratch memory as planes of `[states][channels]`: two sums, or centre, M2 and drift and then their counts,
//! `[states]`.

use super::super::shader::{Builder, Call, Memory, Type};
use super::super::{Prepared, Target, input, output};
use super::GROUP;
use crate::error::Result;
use crate::plan::{Kernel, Operand};
use crate::program::op::Channels;

/// Positions of a state, and states that are brought together.
const EACH: usize = 64;

/// Most invocations that share a run of positions.
const LANES: usize = 64;

/// Scratch memory of some states.
#[derive(Clone, Copy)]
struct States {
    /// All planes.
    sums: Memory,
    counts: Memory,
    length: usize,
}

/// Scratch memory, handed out from its begin.
#[derive(Default)]
struct Scratch {
    words: usize,
}

impl Scratch {
    fn take(&mut self, words: usize) -> Memory {
        let offset = self.words;
        self.words += words.next_multiple_of(64);
        Memory::Scratch { offset, words }
    }

    fn states(&mut self, how: Join, states: usize, channels: usize) -> States {
        States { sums: self.take(how.planes() * states * channels), counts: self.take(states), length: states }
    }
}

/// Where the positions of a state lie.
#[derive(Clone, Copy)]
struct Layout {
    of: Channels,
    lanes: usize,
}

impl Layout {
    fn new(of: Channels) -> Self {
        let lanes = if of.inner == 1 { 1 } else { of.positions().next_power_of_two().min(LANES) };
        Self { of, lanes }
    }

    fn states(self) -> usize {
        self.of.positions().div_ceil(self.lanes * EACH) * self.lanes
    }

    /// Declares the numbers.
    fn declare(self, b: &mut Builder) {
        b.value("positions", self.of.positions());
        b.value("channels", self.of.channels);
        b.value("inner", self.of.inner);
        b.value("lanes", self.lanes);
        b.value("states", self.states());
    }

    /// `channel`, `state`, its first position `first`, and how far the next ones are apart.
    fn place(self) -> String {
        let cell =
            format!("let cell = group() * {GROUP}u + local;\nif (cell >= p.states * p.channels) {{ return; }}\n");
        let rest = if self.of.inner == 1 {
            format!(
                "let channel = cell % p.channels;
let state = cell / p.channels;
let first = state * {EACH}u;
let apart = 1u;"
            )
        } else {
            format!(
                "let channel = cell / p.lanes % p.channels;
let block = cell / p.lanes / p.channels;
let state = block * p.lanes + cell % p.lanes;
let first = block * p.lanes * {EACH}u + cell % p.lanes;
let apart = p.lanes;"
            )
        };
        cell + &rest
    }

    /// Runs `body` for each position `q` of the state, with its element `at`.
    fn each(self, mask: bool, body: &str) -> String {
        let at = if self.of.inner == 1 {
            "let at = q * p.channels + channel;"
        } else {
            "let at = (q / p.inner * p.channels + channel) * p.inner + q % p.inner;"
        };
        let only = if mask { "if (mask(q) == 0u) { continue; }" } else { "" };
        format!(
            "for (var k = 0u; k < {EACH}u; k++) {{
  let q = first + k * apart;
  if (q >= p.positions) {{ break; }}
  {only}
  {at}
  {body}
}}"
        )
    }

    fn finish(self, b: Builder, main: &str) -> Result<Call> {
        b.finish(GROUP as u32, [(self.states() * self.of.channels).div_ceil(GROUP), 1, 1], main)
    }
}

/// Count, mean and M2.
pub(super) fn statistics(kernel: &Kernel, of: Channels, target: Target) -> Result<Prepared> {
    let mask = kernel.inputs.get(1).copied().flatten();
    let (count, mean, m2) = (output(kernel, 0)?, output(kernel, 1)?, output(kernel, 2)?);
    let layout = Layout::new(of);
    let mut scratch = Scratch::default();
    if layout.states() * of.channels == 0 {
        return nothing(of, mask.as_ref(), [count, mean, m2], target);
    }
    let states = scratch.states(STATISTICS, layout.states(), of.channels);
    let mut b = Builder::new(target.traits, "batch_norm_statistics").masked();
    b.operand("x", input(kernel, 0)?);
    b.buffer("sums", states.sums, Type::F32);
    b.buffer("counts", states.counts, Type::F32);
    if let Some(mask) = &mask {
        b.operand("mask", mask);
    }
    layout.declare(&mut b);
    let (place, masked) = (layout.place(), mask.is_some());
    let (total, spread) = (
        layout.each(masked, "n += 1.0; total += x(at);"),
        layout.each(masked, "let d = math_hide(x(at) - mean); spread += d * d; drift += d;"),
    );
    let main = format!(
        "{place}
var n = 0.0; var total = 0.0; var spread = 0.0; var drift = 0.0;
{total}
let mean = total / max(n, 1.0);
{spread}
drift /= max(n, 1.0);
// Where elements are infinite the mean is as well, and nothing is left of it.
drift = select(drift, 0.0, (bitcast<u32>(drift) & 0x7f800000u) == 0x7f800000u);
spread -= n * drift * drift;
// Rounding must not make it negative; NaN stays.
spread = select(spread, 0.0, math_less(spread, 0.0));
sums_set(state * p.channels + channel, mean);
sums_set((p.states + state) * p.channels + channel, spread);
sums_set((2u * p.states + state) * p.channels + channel, drift);
if (channel == 0u) {{ counts_set(state, n); }}"
    );
    let mut calls = vec![layout.finish(b, &main)?];
    let results = [*mean, *m2];
    join(STATISTICS, states, of.channels, &mut scratch, &mut calls, target, &|b| {
        b.operand("count", count);
        b.operand("first_result", &results[0]);
        b.operand("second_result", &results[1]);
        "first_result_set(channel, a + c); second_result_set(channel, b);
if (channel == 0u) { count_set(0u, n); }"
            .to_owned()
    })?;
    Ok(Prepared { calls, scratch: scratch.words, check: None })
}

/// Σdy and Σdy·x̂.
pub(super) fn grad_sums(kernel: &Kernel, of: Channels, target: Target) -> Result<Prepared> {
    let (sums, products, istd) = (output(kernel, 0)?, output(kernel, 1)?, input(kernel, 3)?);
    let mask = kernel.inputs.get(4).copied().flatten();
    let layout = Layout::new(of);
    if layout.states() * of.channels == 0 {
        let zeros = |to: &Operand| (to.numel > 0).then(|| fill(to, target)).transpose();
        let calls = [zeros(sums)?, zeros(products)?];
        return Ok(calls.into_iter().flatten().collect::<Vec<_>>().into());
    }
    let mut scratch = Scratch::default();
    let states = scratch.states(SUMS, layout.states(), of.channels);
    let mut b = Builder::new(target.traits, "batch_norm_grad_sums").masked();
    b.operand("dy", input(kernel, 0)?);
    b.operand("x", input(kernel, 1)?);
    b.operand("mean", input(kernel, 2)?);
    b.buffer("sums", states.sums, Type::F32);
    if let Some(mask) = &mask {
        b.operand("mask", mask);
    }
    layout.declare(&mut b);
    let place = layout.place();
    let each = layout.each(mask.is_some(), "let g = dy(at); total += g; product += g * (x(at) - centre);");
    let main = format!(
        "{place}
let centre = mean(channel);
var total = 0.0; var product = 0.0;
{each}
sums_set(state * p.channels + channel, total);
sums_set((p.states + state) * p.channels + channel, product);"
    );
    let mut calls = vec![layout.finish(b, &main)?];
    join(SUMS, states, of.channels, &mut scratch, &mut calls, target, &|b| {
        b.operand("istd", istd);
        b.operand("first_result", sums);
        b.operand("second_result", products);
        "first_result_set(channel, a); second_result_set(channel, b * istd(channel));".to_owned()
    })?;
    Ok(Prepared { calls, scratch: scratch.words, check: None })
}

/// How states `begin` to `end` are brought together in `a` and `b`, and `c`. `plane(0u, k, channel)` is the first plane of
/// state k, and so on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Join {
    name: &'static str,
    body: &'static str,
    /// Whether states have a third plane and counts.
    counted: bool,
}

impl Join {
    fn planes(self) -> usize {
        if self.counted { 3 } else { 2 }
    }
}

/// Chan's merge of all at once. The first finite centre of something is that of all of them: what the means are apart from
/// it is small, and stays exact. Of one state that counts alone, nothing changes a bit.
const STATISTICS: Join = Join {
    name: "batch_norm_join_statistics",
    body: "var a = 0.0; var drift = 0.0;
for (var k = begin; k < end; k++) {
  if (counts(k) != 0.0 && math_is_finite(plane(0u, k, channel)) && math_is_finite(plane(2u, k, channel))) {
    a = plane(0u, k, channel);
    drift = plane(2u, k, channel);
    break;
  }
}
var n = 0.0; var apart = 0.0; var b = 0.0;
for (var k = begin; k < end; k++) {
  n += counts(k);
  apart += counts(k) * (math_hide(plane(0u, k, channel) - a) + math_hide(plane(2u, k, channel) - drift));
}
apart /= max(n, 1.0);
for (var k = begin; k < end; k++) {
  let d = math_hide(plane(0u, k, channel) - a) + math_hide(plane(2u, k, channel) - drift) - apart;
  b += plane(1u, k, channel) + counts(k) * d * d;
}
let c = drift + apart;",
    counted: true,
};

const SUMS: Join = Join {
    name: "batch_norm_join_sums",
    body: "var a = 0.0; var b = 0.0;
for (var k = begin; k < end; k++) { a += plane(0u, k, channel); b += plane(1u, k, channel); }",
    counted: false,
};

/// Stages that bring states together until one is left, which `last` writes.
fn join(
    how: Join,
    mut from: States,
    channels: usize,
    scratch: &mut Scratch,
    calls: &mut Vec<Call>,
    target: Target,
    last: &dyn Fn(&mut Builder) -> String,
) -> Result<()> {
    loop {
        let groups = from.length.div_ceil(EACH);
        let mut b = Builder::new(target.traits, how.name).masked();
        b.buffer("sums", from.sums, Type::F32);
        if how.counted {
            b.buffer("counts", from.counts, Type::F32);
        }
        b.value("channels", channels);
        b.value("states", from.length);
        b.value("groups", groups);
        let next = (groups > 1).then(|| scratch.states(how, groups, channels));
        let put = if let Some(next) = next {
            b.buffer("joined", next.sums, Type::F32);
            let mut put = "joined_set(state * p.channels + channel, a);
joined_set((p.groups + state) * p.channels + channel, b);"
                .to_owned();
            if how.counted {
                b.buffer("joined_counts", next.counts, Type::F32);
                put += "\njoined_set((2u * p.groups + state) * p.channels + channel, c);
if (channel == 0u) { joined_counts_set(state, n); }";
            }
            put
        } else {
            last(&mut b)
        };
        b.item(
            "fn plane(which: u32, k: u32, channel: u32) -> f32 {
  return sums((which * p.states + k) * p.channels + channel);
}",
        );
        let body = how.body;
        let main = format!(
            "let cell = group() * {GROUP}u + local;
if (cell >= p.groups * p.channels) {{ return; }}
let channel = cell % p.channels;
let state = cell / p.channels;
let begin = state * {EACH}u;
let end = min(begin + {EACH}u, p.states);
{body}
{put}"
        );
        calls.push(b.finish(GROUP as u32, [(groups * channels).div_ceil(GROUP), 1, 1], &main)?);
        match next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

/// Statistics without positions, or without channels: zeros, and how many positions count.
fn nothing(of: Channels, mask: Option<&Operand>, results: [&Operand; 3], target: Target) -> Result<Prepared> {
    let [count, mean, m2] = results;
    let mut b = Builder::new(target.traits, "batch_norm_count").masked();
    b.operand("count", count);
    b.value("positions", of.positions());
    let main = if let Some(mask) = mask.filter(|mask| mask.numel > 0) {
        b.operand("mask", mask);
        b.rounds(of.positions());
        "var n = 0.0;\nfor (var i = 0u; i < p.positions; i++) { n += select(0.0, 1.0, mask(i) != 0u); }\ncount_set(0u, n);"
    } else {
        "count_set(0u, f32(p.positions));"
    };
    let mut calls = vec![b.finish(1, [1, 1, 1], main)?];
    for result in [mean, m2] {
        if result.numel > 0 {
            calls.push(fill(result, target)?);
        }
    }
    Ok(calls.into())
}

fn fill(to: &Operand, target: Target) -> Result<Call> {
    super::super::reduce::fill(to.numel, Memory::Operand(*to), 0, target)
}
