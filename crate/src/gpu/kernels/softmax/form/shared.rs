//! The invocations of a workgroup share rows.

use std::fmt::Write as _;

use super::super::super::rows::{BLOCK, LINE, Layout};
use super::super::super::shader::Builder;
use super::{Work, access};
use crate::program::op::Middle;

/// Invocations of a workgroup, workgroups, and what they run.
pub(super) fn body(
    b: &mut Builder,
    work: &Work,
    axes: Middle,
    layout: Layout,
    vectors: bool,
    held: bool,
) -> (usize, usize, String) {
    if !held {
        let sweeps =
            [work.has_top, work.out.is_some(), !work.also.is_empty()].map(usize::from).iter().sum::<usize>() + 1;
        b.rounds(sweeps * axes.count.div_ceil(layout.blocks * BLOCK));
    }
    b.item(&work.items(true, false));
    b.item(&access(work, vectors));
    if work.has_top {
        b.item(&layout.joined("highest_of_row", "f32", "higher_of"));
    }
    b.item(&layout.joined("sum_of_row", "f32", "sum_of"));
    if !work.also.is_empty() {
        b.item(&layout.joined("also_of_row", "f32", "sum_of"));
    }
    let mut main =
        format!("{}\nlet end = select(0u, p.count, row < p.rows);\nlet base = row * p.count;\n", layout.place());
    main += &if held { held_row(work, layout) } else { long_row(work, layout) };
    if !work.last.is_empty() {
        let _ = write!(main, "if (row < p.rows && local % {}u == 0u) {{ {} }}", layout.width(), work.last);
    }
    (layout.size(), axes.outer.div_ceil(layout.rows), main)
}

fn held_row(work: &Work, layout: Layout) -> String {
    let mut text = String::new();
    let lines = layout.lines;
    for k in 0..lines {
        let i = k * LINE;
        let _ = writeln!(text, "let i{k} = begin + {i}u;\nvar a{k} = V({});\nvar b{k} = V(0.0);", work.fill());
        let second = if work.b.is_some() { format!(" b{k} = load_b(base + i{k}, i{k}, end);") } else { String::new() };
        let _ = writeln!(text, "if (i{k} < end) {{ a{k} = load_a(base + i{k}, i{k}, end);{second} }}");
    }
    if work.has_top {
        let top = (1..lines).fold("a0".to_owned(), |top, k| format!("higher({top}, a{k})"));
        let _ = writeln!(text, "top = highest_of_row(local, highest({top}));");
    }
    if !work.also.is_empty() {
        let mut sum = "V(0.0)".to_owned();
        for k in 0..lines {
            let _ = writeln!(text, "var u{k} = V(0.0);\nif (i{k} < end) {{ u{k} = also(a{k}, i{k}, end); }}");
            sum = format!("({sum} + u{k})");
        }
        let _ = writeln!(text, "let also_sum = also_of_row(local, 0.0 + narrow({sum}));");
    }
    let mut sum = "V(0.0)".to_owned();
    for k in 0..lines {
        let _ = writeln!(text, "let t{k} = term(a{k}, b{k});");
        if work.of_term {
            let _ = writeln!(text, "a{k} = t{k};");
        }
        sum = format!("({sum} + t{k})");
    }
    let _ = writeln!(text, "let s = sum_of_row(local, 0.0 + narrow({sum}));\n{};", work.scale);
    if work.out.is_some() {
        for k in 0..lines {
            let _ = writeln!(text, "if (i{k} < end) {{ store(base + i{k}, i{k}, end, result(a{k}, b{k})); }}");
        }
    }
    text
}

fn long_row(work: &Work, layout: Layout) -> String {
    let step = layout.blocks * BLOCK;
    let over = |before: &str, body: &str, after: &str| {
        let lines: String = (0..layout.lines).fold(String::new(), |lines, k| {
            lines + &format!("{{ let i = begin + first + {}u; if (i < end) {{ {body} }} }}\n", k * LINE)
        });
        format!("for (var first = 0u; first < p.count; first += {step}u) {{ {before}\n{lines}{after} }}\n")
    };
    let second = work.second("load_b(base + i, i, end)");
    let mut text = String::new();
    if work.has_top {
        let _ = writeln!(text, "var t = V({});", work.fill());
        text += &over("", "t = higher(t, load_a(base + i, i, end));", "");
        text += "top = highest_of_row(local, highest(t));\n";
    }
    text += "var mine = 0.0;\n";
    let term = format!("sums += term(load_a(base + i, i, end), {second});");
    text += &over("var sums = V(0.0);", &term, "mine += narrow(sums);");
    if !work.also.is_empty() {
        text += "var other = 0.0;\n";
        let also = "others += also(load_a(base + i, i, end), i, end);";
        text += &over("var others = V(0.0);", also, "other += narrow(others);");
        text += "let also_sum = also_of_row(local, other);\n";
    }
    let _ = writeln!(text, "let s = sum_of_row(local, mine);\n{};", work.scale);
    if work.out.is_some() {
        let element = work.element("a", "b");
        let store = format!("let a = load_a(base + i, i, end); let b = {second}; store(base + i, i, end, {element});");
        text += &over("", &store, "");
    }
    text
}
