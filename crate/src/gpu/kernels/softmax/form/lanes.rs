//! A subgroup of eight invocations has a row and holds it in registers, where a processor plays the GPU: eight times as
//! much of a row fits as into one invocation, each element is read once, and lanes talk without a barrier. Lines of a
//! block, blocks and lanes are summed in the order of `rows.rs`.

use std::fmt::Write as _;

use super::super::super::rows::{BLOCK, LANES, LINE};
use super::super::super::shader::Builder;
use super::{Work, access};
use crate::program::op::Middle;

/// Whether rows of `count` elements are held so: those of a softmax. Two operands would not fit the registers; without a
/// result a row is read twice only, which costs less than compiling this does, a second. Below a block an invocation alone
/// is as good.
pub(super) fn takes(work: &Work, count: usize) -> bool {
    let is_softmax = work.has_top && work.b.is_none() && work.out.is_some() && work.also.is_empty();
    is_softmax && work.last.is_empty() && count > BLOCK && count <= 4 * BLOCK
}

/// `name(mine)`: joins what eight lanes have, in the order of `Layout::joined`; each of them gets what the first has.
fn joined(name: &str, join: &str) -> String {
    format!(
        "fn {name}(mine: f32) -> f32 {{
  let four = {join}(mine, subgroupShuffleXor(mine, 4u));
  let two = {join}(four, subgroupShuffleXor(four, 2u));
  return subgroupBroadcast({join}(two, subgroupShuffleXor(two, 1u)), 0u);
}}
"
    )
}

/// Invocations of a workgroup, workgroups, and what they run.
pub(super) fn body(b: &mut Builder, work: &Work, axes: Middle, vectors: bool) -> (usize, usize, String) {
    b.item(&work.items(true, false));
    b.item(&access(work, vectors));
    b.item(&joined("highest_of_row", "higher_of"));
    b.item(&joined("sum_of_row", "sum_of"));
    let lines = axes.count.div_ceil(LINE);
    // Only the last line may end before its last lane.
    let inside = |k: usize| if (k + 1) * LINE <= axes.count { String::new() } else { format!("if (i{k} < end) ") };
    let mut main = "let row = group();
if (row >= p.rows) { return; }
let base = row * p.count;
let end = p.count;
"
    .to_owned();
    for k in 0..lines {
        let (i, fill, inside) = (k * LINE, work.fill(), inside(k));
        let _ = writeln!(
            main,
            "let i{k} = local * 4u + {i}u;\nvar a{k} = V({fill});\n{inside}{{ a{k} = load_a(base + i{k}, i{k}, end); }}"
        );
    }
    let top = (1..lines).fold("a0".to_owned(), |top, k| format!("higher({top}, a{k})"));
    let _ = writeln!(main, "top = highest_of_row(highest({top}));\nvar mine = 0.0;");
    for block in 0..lines.div_ceil(BLOCK / LINE) {
        let first = block * (BLOCK / LINE);
        let mut sum = "V(0.0)".to_owned();
        for k in first..lines.min(first + BLOCK / LINE) {
            let _ = writeln!(main, "let t{k} = term(a{k}, V(0.0));");
            if work.of_term {
                let _ = writeln!(main, "a{k} = t{k};");
            }
            sum = format!("({sum} + t{k})");
        }
        let _ = writeln!(main, "mine += narrow({sum});");
    }
    let _ = writeln!(main, "let s = sum_of_row(mine);\n{};", work.scale);
    for k in 0..lines {
        let _ = writeln!(main, "{}{{ store(base + i{k}, i{k}, end, result(a{k}, V(0.0))); }}", inside(k));
    }
    (LANES, axes.outer, main)
}
