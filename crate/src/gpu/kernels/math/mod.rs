//! Functions of one and two numbers in WGSL. The texts stand beside this file; their constants are those of `cpu::math`,
//! so that devices cannot drift apart. A kernel calls `math_exp(x)` and the like in what it writes, and
//! [`Builder::finish`](super::shader::Builder::finish) adds what is called; [`definitions`] finds it.
//!
//! # What compilers may do to them
//! WGSL lets compilers rearrange sums, fuse or split `fma`, and assume that NaN and infinities do not occur. Mesa does
//! cancel `(x + c) − c`. So what compensates for rounding goes through `math_hide`, which no compiler can see through;
//! NaN is told by bits, and what is infinite or NaN by design is made from bits. Division and square root are the
//! hardware's: exact on lavapipe, within 2.5 ulp elsewhere.

mod activation;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use crate::cpu::activation::{GELU_TANH, GELU_TANH_FLAT, INV_SQRT_2PI};
use crate::cpu::math::exp::{
    DECAY_LOWEST, EXP, EXP_HIGHEST, EXP_LOWEST, EXPM1_LOWEST, LN2_HIGH, LN2_LOW, LOG2_E, TANH_HIGHEST,
};
use crate::cpu::math::log::{LOG, SQRT_HALF_BITS};
use crate::cpu::math::normal::{ERF, ERF_SMALL, TAIL, TAIL_HIGHEST, TAIL_SCALE};
use crate::cpu::math::pow::{EXP2, LARGEST_EXPONENT, LOG2_CUBIC, TWO_LOG2_E};

pub(super) use activation::{activation, activation_grad};

const TEXTS: [&str; 6] = [
    include_str!("basic.wgsl"),
    include_str!("exp.wgsl"),
    include_str!("log.wgsl"),
    include_str!("normal.wgsl"),
    include_str!("pow.wgsl"),
    include_str!("activation.wgsl"),
];

/// A function by name, with its constants filled in.
struct Function {
    name: String,
    text: String,
}

static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
    let constants = constants();
    let mut functions = Vec::new();
    for source in TEXTS {
        let mut text = String::new();
        for line in source.lines() {
            if text.is_empty() && !line.starts_with("fn ") {
                continue;
            }
            fill(line, &constants, &mut text);
            // A function ends at a brace in the first column, or where it begins.
            if line.starts_with('}') || line.starts_with("fn ") && line.ends_with('}') {
                let name = identifiers(&text).nth(1).unwrap_or_default().to_owned();
                functions.push(Function { name, text: std::mem::take(&mut text) });
            }
        }
    }
    functions
});

/// What stands for `$NAME` in the texts.
fn constants() -> Vec<(&'static str, String)> {
    let (scale, cubic) = GELU_TANH;
    vec![
        ("LOG2_E", literal(LOG2_E)),
        ("LN2_HIGH", literal(LN2_HIGH)),
        ("LN2_LOW", literal(LN2_LOW)),
        ("MINUS_LN2_HIGH", literal(-LN2_HIGH)),
        ("MINUS_LN2_LOW", literal(-LN2_LOW)),
        ("EXP_OF_R", polynomial("r", &EXP)),
        ("EXP_HIGHEST", literal(EXP_HIGHEST)),
        ("EXP_LOWEST", literal(EXP_LOWEST)),
        ("DECAY_LOWEST", literal(DECAY_LOWEST)),
        ("EXPM1_LOWEST", literal(EXPM1_LOWEST)),
        ("TANH_HIGHEST", literal(TANH_HIGHEST)),
        ("EPSILON", literal(f32::EPSILON)),
        ("HALF_EPSILON", literal(f32::EPSILON / 2.0)),
        ("SQRT_HALF_BITS", format!("{SQRT_HALF_BITS}u")),
        ("LOG_OF_F", polynomial("f", &LOG)),
        ("TAIL_SCALE", literal(TAIL_SCALE)),
        ("TAIL_OF_T", polynomial("t", &TAIL)),
        ("TAIL_HIGHEST", literal(TAIL_HIGHEST)),
        ("ERF_OF_SQUARE", polynomial("square", &ERF)),
        ("ERF_SMALL", literal(ERF_SMALL)),
        ("SQRT_2", literal(std::f32::consts::SQRT_2)),
        ("TWO_LOG2_E", literal(TWO_LOG2_E.0)),
        ("TWO_LOG2_E_LOW", literal(TWO_LOG2_E.1)),
        ("LOG2_OF_SQUARE", polynomial("square", &LOG2_CUBIC)),
        ("EXP2_OF_R", polynomial("r", &EXP2)),
        ("LARGEST_EXPONENT", literal(LARGEST_EXPONENT)),
        ("TWICE_GELU_SCALE", literal(2.0 * scale)),
        ("GELU_CUBIC", literal(cubic)),
        ("THRICE_GELU_CUBIC", literal(3.0 * cubic)),
        ("GELU_TANH_FLAT", literal(GELU_TANH_FLAT)),
        ("INV_SQRT_2PI", literal(INV_SQRT_2PI)),
    ]
}

/// A number as WGSL reads it, to the last bit. What constants cannot be is made from bits at run time.
pub(super) fn literal(x: f32) -> String {
    if x.is_finite() { format!("{x:?}f") } else { format!("math_bits({}u)", x.to_bits()) }
}

/// c₀ + c₁x + c₂x² + …, by Horner's rule.
fn polynomial(x: &str, coefficients: &[f32]) -> String {
    let mut sum = String::new();
    for &c in coefficients.iter().rev() {
        sum = if sum.is_empty() { literal(c) } else { format!("fma({sum}, {x}, {})", literal(c)) };
    }
    sum
}

/// Appends a line, with its constants.
fn fill(line: &str, constants: &[(&str, String)], text: &mut String) {
    let mut parts = line.split('$');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| !is_word(c)).unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        let value = constants.iter().find(|(known, _)| *known == name).map_or(name, |(_, value)| value);
        text.push_str(value);
        text.push_str(rest);
    }
    text.push('\n');
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// The functions of this module that the texts call, directly or through each other, each once.
pub(super) fn definitions(texts: &[&str]) -> String {
    let functions = &*FUNCTIONS;
    let mut wanted = vec![false; functions.len()];
    let mut open: Vec<&str> = texts.to_vec();
    while let Some(text) = open.pop() {
        for word in identifiers(text).filter(|word| word.starts_with("math_")) {
            for (function, wanted) in functions.iter().zip(&mut wanted) {
                if function.name == word && !*wanted {
                    *wanted = true;
                    open.push(&function.text);
                }
            }
        }
    }
    functions.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(function, _)| function.text.as_str()).collect()
}
