//! An invocation has a row for itself. Sums are taken as eight invocations would take them (`rows.rs`).

use std::fmt::Write as _;

use super::super::super::rows::{BLOCK, INSIDE, LANES, LINE, quad};
use super::super::super::shader::Builder;
use super::{Work, access, loners};
use crate::program::op::Middle;

/// The sum of what up to eight invocations would have, as those would take it: see `Layout::joined`.
fn sum_of_lanes(lanes: usize, lane: impl Fn(usize) -> String) -> String {
    let one = |k: usize| (k < lanes).then(|| lane(k));
    let both = |a: Option<String>, b: Option<String>| match (a, b) {
        (Some(a), Some(b)) => Some(format!("({a} + {b})")),
        (a, b) => a.or(b),
    };
    let pair = |k: usize| both(one(k), one(k + 4));
    both(both(pair(0), pair(2)), both(pair(1), pair(3))).unwrap_or_default()
}

/// With the row in registers: invocations of a workgroup, workgroups, and what they run.
pub(super) fn held(b: &mut Builder, work: &Work, axes: Middle, vectors: bool) -> (usize, usize, String) {
    const COMPONENTS: [&str; 4] = ["x", "y", "z", "w"];
    let (count, size) = (axes.count, loners(b));
    let quads = count.div_ceil(4);
    b.item(&work.items(true, false));
    let has_also = !work.also.is_empty();
    if has_also {
        b.item(INSIDE);
    }
    let mut main =
        format!("let row = group() * {size}u + local;\nif (row >= p.rows) {{ return; }}\nlet base = row * {count}u;\n");
    let load = |name: &str, quad: usize| {
        if vectors {
            return format!("{name}((base >> 2u) + {quad}u)");
        }
        let parts = (4 * quad..4 * quad + 4)
            .map(|i| if i < count { format!("{name}(base + {i}u)") } else { work.fill().to_owned() });
        format!("V({})", parts.collect::<Vec<_>>().join(", "))
    };
    for k in 0..quads {
        let _ = writeln!(main, "var a{k} = {};", load("a", k));
        let _ = writeln!(main, "let b{k} = {};", work.second(&load("b", k)));
    }
    if work.has_top {
        let top = (1..quads).fold("a0".to_owned(), |top, k| format!("higher({top}, a{k})"));
        let _ = writeln!(main, "top = highest({top});");
    }
    if has_also {
        let sum = sum_of_lanes(quads, |k| format!("narrow(also(a{k}, {}u, {count}u))", 4 * k));
        let _ = writeln!(main, "let also_sum = 0.0 + {sum};");
    }
    for k in 0..quads {
        let _ = writeln!(main, "let t{k} = term(a{k}, b{k});");
        if work.of_term {
            let _ = writeln!(main, "a{k} = t{k};");
        }
    }
    let sum = sum_of_lanes(quads, |k| format!("narrow(t{k})"));
    let _ = writeln!(main, "let s = 0.0 + {sum};\n{};", work.scale);
    for k in 0..quads {
        if work.out.is_none() {
            break;
        }
        let _ = writeln!(main, "let r{k} = result(a{k}, b{k});");
        if vectors {
            let _ = writeln!(main, "out_set((base >> 2u) + {k}u, r{k});");
            continue;
        }
        for (component, i) in COMPONENTS.iter().zip(4 * k..count) {
            let _ = writeln!(main, "out_set(base + {i}u, r{k}.{component});");
        }
    }
    (size, axes.outer.div_ceil(size), main + work.last)
}

/// Going over the row several times; the same.
pub(super) fn swept(b: &mut Builder, work: &Work, axes: Middle, vectors: bool) -> (usize, usize, String) {
    let size = loners(b);
    b.rounds(2 * axes.count.div_ceil(4) + axes.count.div_ceil(LINE) + axes.count.div_ceil(BLOCK));
    b.item(&work.items(true, false));
    b.item(&access(work, vectors));
    let mut main = format!(
        "let row = group() * {size}u + local;
if (row >= p.rows) {{ return; }}
let base = row * p.count;
let end = p.count;
"
    );
    let second = work.second("load_b(base + i, i, end)");
    // Terms wait in the place of their result: a load costs less than an exponential function.
    let kept = work.of_term && work.out.is_some();
    if kept {
        b.item(&format!(
            "{}\nfn load_out(at: u32, i: u32, end: u32) -> V {{ return out_quad(at, i, end); }}",
            quad("out", "f32", vectors)
        ));
    }
    if work.has_top {
        let _ = writeln!(
            main,
            "var t = V({});
for (var i = 0u; i < end; i += 4u) {{ t = higher(t, load_a(base + i, i, end)); }}
top = highest(t);",
            work.fill()
        );
    }
    // Of every step of the sum, that of the one beside it.
    let also = |text: String| if work.also.is_empty() { String::new() } else { text };
    let lanes = |text: &dyn Fn(usize) -> String| (0..LANES).map(text).collect::<Vec<_>>().join("\n");
    let _ = writeln!(
        main,
        "{}
for (var first = 0u; first < end; first += {BLOCK}u) {{
{}
for (var line = first; line < min(first + {BLOCK}u, end); line += {LINE}u) {{
{}
}}
{}
}}
let s = {};
{};",
        lanes(&|k| format!("var mine{k} = 0.0;") + &also(format!(" var other{k} = 0.0;"))),
        lanes(&|k| format!("var sums{k} = V(0.0);") + &also(format!(" var others{k} = V(0.0);"))),
        lanes(&|k| format!(
            "{{ let i = line + {}u; if (i < end) {{ let t = term(load_a(base + i, i, end), {second}); sums{k} += t;{}{} }} }}",
            4 * k,
            if kept { " store(base + i, i, end, t);" } else { "" },
            also(format!(" others{k} += also(load_a(base + i, i, end), i, end);"))
        )),
        lanes(&|k| format!("mine{k} += narrow(sums{k});") + &also(format!(" other{k} += narrow(others{k});"))),
        sum_of_lanes(LANES, |k| format!("mine{k}")),
        work.scale
    );
    main += &also(format!("let also_sum = {};\n", sum_of_lanes(LANES, |k| format!("other{k}"))));
    if work.out.is_some() {
        let (from, element) =
            if kept { ("out", "result(a_here, b_here)".to_owned()) } else { ("a", work.element("a_here", "b_here")) };
        let _ = writeln!(
            main,
            "for (var i = 0u; i < end; i += 4u) {{
  let a_here = load_{from}(base + i, i, end);
  let b_here = {second};
  store(base + i, i, end, {element});
}}"
        );
    }
    (size, axes.outer.div_ceil(size), main + work.last)
}
