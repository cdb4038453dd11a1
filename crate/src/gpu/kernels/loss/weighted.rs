//! Cross-entropy with class indices, weights of classes and label smoothing. With q = w ⊙ ((1 − ε)·one-hot + ε/C) the
//! loss of an item is Σ q ⊙ (ln Σexp − x), its gradient g·(Σq·softmax(x) − q). The forms of the plain loss do it; what is
//! smoothed is a second sum over a row beside that of the exponentials. Texts know whether there are weights and whether
//! something is smoothed, no number.

use std::fmt::Write as _;

use super::super::reduce::fill;
use super::super::rows::quad;
use super::super::shader::{Builder, Memory, Word};
use super::super::softmax::form::{self, Work};
use super::super::{Prepared, Target, indices, input, output};
use super::{Gradient, gradient, target_of};
use crate::error::Result;
use crate::plan::{Kernel, Operand};
use crate::program::op::{Middle, Smoothed};

/// Weights of classes, and what a target's is divided into.
struct Weights<'a> {
    weight: Option<&'a Operand>,
    sum: Option<&'a Operand>,
    smoothing: f64,
    classes: usize,
}

impl<'a> Weights<'a> {
    /// The weights at a position, and behind them their sum.
    fn new(kernel: &'a Kernel, position: usize, rule: Smoothed) -> Result<Self> {
        let (logits, targets) = (input(kernel, 0)?, input(kernel, 1)?);
        let classes = logits.numel.checked_div(targets.numel).unwrap_or(0);
        let optional = |position: usize| kernel.inputs.get(position).and_then(Option::as_ref);
        let (weight, sum) = (optional(position), optional(position + 1));
        Ok(Self { weight, sum, smoothing: rule.smoothing, classes })
    }

    fn is_smoothed(&self) -> bool {
        self.smoothing > 0.0
    }

    /// Declares `p.own`, 1 − ε, and `p.each`, ε/C, `weight(i)` and the sum of the weights.
    fn declare(&self, b: &mut Builder) {
        let float = |x: f64| Word::Value((x as f32).to_bits());
        b.word("own", "f32", float(1.0 - self.smoothing));
        if let Some(weight) = self.weight {
            b.operand("weight", weight);
        }
        if self.is_smoothed() {
            b.word("each", "f32", float(self.smoothing / self.classes as f64));
            match self.sum {
                Some(sum) => b.operand("weight_sum", sum),
                None => b.word("weight_sum", "f32", float(self.classes as f64)),
            }
        }
    }

    /// The expression of Σw.
    fn sum(&self) -> &'static str {
        if self.sum.is_some() { "weight_sum(0u)" } else { "p.weight_sum" }
    }

    /// The expression of the weight of a class.
    fn of(&self, class: &str) -> String {
        if self.weight.is_some() { format!("weight({class})") } else { "1.0".to_owned() }
    }
}

/// `[logits, targets, weight?, Σweight?]` → losses, ln Σexp, weight of the target of every item.
pub(in super::super) fn weighted_cross_entropy(kernel: &Kernel, rule: Smoothed, target: Target) -> Result<Prepared> {
    let (logits, targets) = (input(kernel, 0)?, input(kernel, 1)?);
    let results = [output(kernel, 0)?, output(kernel, 1)?, output(kernel, 2)?];
    let weights = Weights::new(kernel, 2, rule)?;
    let mut calls = Vec::new();
    if weights.classes == 0 {
        // Of no classes the sum is 0, its logarithm −∞; a loss is that of an ignored item.
        for (to, value) in results.into_iter().zip([0.0, f32::NEG_INFINITY, 0.0]) {
            if to.numel > 0 {
                calls.push(fill(to.numel, Memory::Operand(*to), value.to_bits(), target)?);
            }
        }
    } else if targets.numel > 0 {
        let smoothed = if weights.is_smoothed() {
            format!("\n  loss += p.each * (also_sum + {} * scale);", weights.sum())
        } else {
            String::new()
        };
        let last = format!(
            "log_sums_set(row, top + scale);
let class_index = targets(row);
var loss = 0.0;
var heavy = 0.0;
if (class_index != p.ignored && bitcast<u32>(class_index) < p.count) {{
  heavy = {};
  // Differences to the maximum, here and in the sum: it may be large, they are small.
  loss = heavy * p.own * ((top - logits(base + bitcast<u32>(class_index))) + scale);{smoothed}
}}
losses_set(row, loss);
weights_set(row, heavy);",
            weights.of("bitcast<u32>(class_index)")
        );
        let also = match (weights.is_smoothed(), weights.weight) {
            (false, _) => "",
            (true, None) => "V(top) - a",
            (true, Some(_)) => "weight_quad(i, i, end) * (V(top) - a)",
        };
        let work = Work {
            name: "weighted_cross_entropy",
            a: logits,
            b: None,
            out: None,
            has_top: true,
            term: "decay(a - V(top))",
            also,
            of_term: false,
            scale: "scale = log_of(s)",
            result: "",
            last: &last,
        };
        let axes = Middle { outer: targets.numel, count: weights.classes, inner: 1 };
        calls.push(form::call(&work, axes, target, |b| {
            b.operand("logits", logits);
            b.operand("targets", targets);
            for (name, result) in ["losses", "log_sums", "weights"].into_iter().zip(results) {
                b.operand(name, result);
            }
            b.word("ignored", "i32", Word::Value(rule.ignore_index as u32));
            weights.declare(b);
            if weights.is_smoothed() && weights.weight.is_some() {
                b.item(&quad("weight", "f32", false));
            }
        })?);
    }
    indices::checked(target, targets, target_of(weights.classes, rule.ignore_index), calls.into())
}

/// `[logits, targets, ln Σexp, dlosses, weight?, Σweight?]` → dlogits.
pub(in super::super) fn weighted_cross_entropy_grad(
    kernel: &Kernel,
    rule: Smoothed,
    target: Target,
) -> Result<Prepared> {
    let weights = Weights::new(kernel, 4, rule)?;
    gradient(kernel, "weighted_cross_entropy_grad", rule.ignore_index, target, |b, width| {
        weights.declare(b);
        b.value("classes", weights.classes);
        let mut before = format!(
            "let own = {} * p.own;\nvar all = own;\n",
            weights.of("min(bitcast<u32>(class_index), p.classes - 1u)")
        );
        let spread = match (weights.is_smoothed(), weights.weight) {
            (false, _) => "T(0.0)".to_owned(),
            (true, None) => "T(p.each)".to_owned(),
            (true, Some(_)) if width == 1 => "p.each * weight(i)".to_owned(),
            (true, Some(_)) => {
                let four: Vec<_> = (0..4).map(|k| format!("weight(i * 4u + {k}u)")).collect();
                format!("p.each * T({})", four.join(", "))
            }
        };
        if weights.is_smoothed() {
            let _ = writeln!(before, "all += p.each * {};", weights.sum());
        }
        Gradient { before, element: format!("(all * soft - select({spread}, {spread} + T(own), hits))") }
    })
}
