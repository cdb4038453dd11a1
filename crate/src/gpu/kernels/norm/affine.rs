//! The gradients of weight and bias: for each channel Σ dy ⊙ x̂ and Σ dy over all examples, and over all elements that the
//! channel has in each. A first call leaves partial sums, of strips of examples where a channel has one element, else of every
//! example; then these are added up as any columns. No choice of workgroups has a say in the order.

use super::super::Target;
use super::super::reduce::{Scratch, sum_up};
use super::super::shader::{Builder, Call, Memory, Type};
use super::rows::{Phase, Work};
use crate::error::Result;
use crate::plan::Operand;
use crate::program::op::{Middle, NormRows};

/// Examples in one chain of sums.
const STRIP: usize = 64;

/// Invocations of a workgroup: a subgroup's worth, so that narrow results spread over many.
const SIZE: usize = 32;

/// What is summed.
pub(super) struct Sums<'a> {
    pub(super) rows: NormRows,
    pub(super) dy: &'a Operand,
    pub(super) x: &'a Operand,
    /// Means, where rows are centred, and scales.
    pub(super) statistics: &'a [Operand],
    /// Where the sums go, if they are wanted.
    pub(super) dweight: Option<&'a Operand>,
    pub(super) dbias: Option<&'a Operand>,
}

/// Declares what is known of rows, by name.
pub(super) fn declare(b: &mut Builder, statistics: &[Operand]) {
    let names = if statistics.len() == 2 { &["means", "scales"][..] } else { &["scales"] };
    for (name, statistic) in names.iter().zip(statistics) {
        b.operand(name, statistic);
    }
}

impl Sums<'_> {
    /// Adds the calls.
    pub(super) fn prepare(&self, target: Target, scratch: &mut Scratch, calls: &mut Vec<Call>) -> Result<()> {
        let (rows, wanted) = (self.rows, [self.dweight, self.dbias]);
        if wanted.iter().all(Option::is_none) {
            return Ok(());
        }
        let lines = if rows.inner == 1 { rows.outer.div_ceil(STRIP) } else { rows.outer };
        let partials = wanted
            .map(|to| to.map(|to| if lines == 1 { Memory::Operand(*to) } else { scratch.take(lines * rows.affine()) }));
        calls.push(if rows.inner == 1 { self.strips(partials, target)? } else { self.examples(partials, target)? });
        if lines > 1 {
            let columns = Middle { outer: 1, count: lines, inner: rows.affine() };
            for (partials, to) in partials.into_iter().zip(wanted) {
                if let (Some(partials), Some(to)) = (partials, to) {
                    calls.extend(sum_up(partials, columns, Memory::Operand(*to), scratch, target)?);
                }
            }
        }
        Ok(())
    }

    fn mean(&self) -> &'static str {
        if self.rows.is_centred() { "means(here)" } else { "0.0" }
    }

    /// A channel has one element: an invocation has a channel, or four neighbours, of a strip of examples.
    fn strips(&self, [dweight, dbias]: [Option<Memory>; 2], target: Target) -> Result<Call> {
        let NormRows { outer, groups, channels, .. } = self.rows;
        let aligned = [self.dy, self.x].into_iter().all(|x| Builder::is_aligned(x, target.aligned));
        let (ty, lanes) = if aligned && channels.is_multiple_of(4) { (Type::Vec4F32, 4) } else { (Type::F32, 1) };
        let mut b = Builder::new(target.traits, "norm_affine_grad").masked();
        b.buffer("dy", Memory::Operand(*self.dy), ty);
        b.value("outer", outer);
        b.value("groups", groups);
        b.value("columns", self.rows.affine() / lanes);
        b.value("per_group", channels / lanes);
        let (mut along, mut sum, mut end) = (String::new(), "", String::new());
        if let Some(dweight) = dweight {
            b.buffer("x", Memory::Operand(*self.x), ty);
            declare(&mut b, self.statistics);
            b.buffer("dweight", dweight, ty);
            let mean = self.mean();
            along = format!(
                "let here = n * p.groups + column / p.per_group;\nalong += dy_here * ((x(at) - V({mean})) * scales(here));"
            );
            end += "dweight_set(strip * p.columns + column, along);\n";
        }
        if let Some(dbias) = dbias {
            b.buffer("dbias", dbias, ty);
            sum = "sum += dy_here;";
            end += "dbias_set(strip * p.columns + column, sum);\n";
        }
        b.item(&format!("alias V = {};", ty.name()));
        let cells = outer.div_ceil(STRIP) * (self.rows.affine() / lanes);
        b.value("cells", cells);
        let main = format!(
            "let cell = group() * {SIZE}u + local;
if (cell >= p.cells) {{ return; }}
let strip = cell / p.columns;
let column = cell % p.columns;
var along = V();
var sum = V();
for (var n = strip * {STRIP}u; n < min((strip + 1u) * {STRIP}u, p.outer); n++) {{
  let at = n * p.columns + column;
  let dy_here = dy(at);
  {along}
  {sum}
}}
{end}"
        );
        b.finish(SIZE as u32, [cells.div_ceil(SIZE), 1, 1], &main)
    }

    /// A channel has several elements: they are a row to be summed, in each example.
    fn examples(&self, [dweight, dbias]: [Option<Memory>; 2], target: Target) -> Result<Call> {
        let last = match (dweight, dbias) {
            (Some(_), Some(_)) => "dweight_set(row, along); dbias_set(row, centre);",
            (Some(_), None) => "dweight_set(row, along);",
            _ => "dbias_set(row, centre);",
        };
        let work = Work {
            name: "norm_affine_grad",
            rows: self.rows.rows() * self.rows.channels,
            count: self.rows.inner,
            a: self.dy,
            b: Some(self.x),
            out: None,
            layout: None,
            weight: None,
            bias: None,
            before: if self.rows.is_centred() {
                "mean = means(here / p.channels); scale = scales(here / p.channels);"
            } else {
                "mean = 0.0; scale = scales(here / p.channels);"
            },
            phases: &[Phase {
                terms: &["a", "a * ((b - V(mean)) * scale)"],
                is_weighted: false,
                then: "centre = s.x; along = s.y;",
            }],
            result: "",
            last,
        };
        work.call(target, |b| {
            declare(b, self.statistics);
            b.value("channels", self.rows.channels);
            for (name, to) in [("dweight", dweight), ("dbias", dbias)] {
                if let Some(to) = to {
                    b.buffer(name, to, Type::F32);
                }
            }
        })
    }
}
