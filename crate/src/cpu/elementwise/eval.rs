//! The loops: one per operation and type, over slices of equal length that lie in the first-level cache or, for a chain of
//! one step, anywhere. Each is instantiated per instruction set and vectorised by the compiler.

use crate::cpu::activation::{grad_words, map_words};
use crate::cpu::{Isa, math};
use crate::dtype::Dtype;
use crate::program::op::{BinaryOp, ElementOp, UnaryOp};

/// An operation with the types that choose its loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Typed {
    pub op: ElementOp,
    /// Type of the operands (of a and b in `where`).
    pub from: Dtype,
    /// Type of the result.
    pub to: Dtype,
}

impl Typed {
    /// Rough cost in picoseconds per element on one thread: decides only whether work is worth sharing.
    pub fn picoseconds(self) -> u64 {
        match self.op {
            ElementOp::Unary(UnaryOp::Exp | UnaryOp::Expm1 | UnaryOp::Log | UnaryOp::Log1p | UnaryOp::Erf) => 400,
            ElementOp::Activation { activation, .. } | ElementOp::ActivationGrad { activation, .. } => {
                if activation.is_piecewise_linear() { 100 } else { 400 }
            }
            ElementOp::Binary(BinaryOp::Pow) => 2000,
            _ => 100,
        }
    }
}

/// Evaluates one operation on every element of `out`. The operands are as long as `out`; missing ones are empty.
pub(super) fn step(isa: Isa, op: Typed, scalars: &[f64], out: &mut [u32], operands: [&[u32]; 3]) {
    crate::dispatch!(
        isa,
        body(op: Typed = op, scalars: &[f64] = scalars, out: &mut [u32] = out, operands: [&[u32]; 3] = operands)
    );
}

/// The word of a run-time scalar.
pub(crate) fn scalar(scalars: &[f64], index: u32, dtype: Dtype) -> u32 {
    let value = scalars[index as usize];
    match dtype {
        Dtype::F32 => (value as f32).to_bits(),
        Dtype::I32 => value as i32 as u32,
        Dtype::Bool => u32::from(value != 0.0),
    }
}

/// `x`, read as the type that a loop computes in.
macro_rules! read {
    (f32, $x:expr) => {
        f32::from_bits($x)
    };
    (i32, $x:expr) => {
        $x as i32
    };
    (u32, $x:expr) => {
        $x
    };
}

/// `y`, written as a word.
macro_rules! write {
    (f32, $y:expr) => {
        $y.to_bits()
    };
    (i32, $y:expr) => {
        $y as u32
    };
    (bool, $y:expr) => {
        u32::from($y)
    };
    (u32, $y:expr) => {
        $y
    };
}

// Macros, not closures: a closure is a function of its own, and one that the compiler does not inline is compiled
// without the instruction set and spoils the loop.
macro_rules! map1 {
    ($out:ident, $a:ident, |$x:ident: $from:tt| -> $to:tt $body:expr) => {
        for (o, &x) in $out.iter_mut().zip($a) {
            let $x = read!($from, x);
            *o = write!($to, $body);
        }
    };
}

macro_rules! map2 {
    ($out:ident, $a:ident, $b:ident, |$x:ident, $y:ident: $from:tt| -> $to:tt $body:expr) => {
        for ((o, &x), &y) in $out.iter_mut().zip($a).zip($b) {
            let $x = read!($from, x);
            let $y = read!($from, y);
            *o = write!($to, $body);
        }
    };
}

#[inline(always)]
fn body<const FMA: bool>(typed: Typed, scalars: &[f64], out: &mut [u32], operands: [&[u32]; 3]) {
    let [a, b, c] = operands;
    let Typed { op, from, to } = typed;
    match (op, from) {
        (ElementOp::Full { scalar: index }, _) => out.fill(scalar(scalars, index, to)),
        (ElementOp::Expand, _) => out.copy_from_slice(a),
        (ElementOp::Cast, _) => cast(from, to, out, a),
        (ElementOp::Unary(op), Dtype::F32) => unary_f32::<FMA>(op, out, a),
        (ElementOp::Unary(op), _) => unary_i32(op, out, a),
        (ElementOp::Activation { activation, parameters }, _) => match activation.with_parameters(parameters) {
            Some(function) => map_words::<FMA>(function, out, a),
            None => out.copy_from_slice(a),
        },
        (ElementOp::ActivationGrad { activation, parameters }, _) => match activation.with_parameters(parameters) {
            Some(function) => grad_words::<FMA>(function, out, a, b),
            None => out.copy_from_slice(a),
        },
        (ElementOp::Binary(op), Dtype::F32) => binary_f32::<FMA>(op, out, a, b),
        (ElementOp::Binary(op), _) => binary_i32(op, out, a, b),
        (ElementOp::Where, _) => {
            for (((o, &condition), &a), &b) in out.iter_mut().zip(a).zip(b).zip(c) {
                *o = if condition == 0 { b } else { a };
            }
        }
        (ElementOp::Clip { low, high }, Dtype::F32) => {
            let low = f32::from_bits(scalar(scalars, low, from));
            let high = f32::from_bits(scalar(scalars, high, from));
            map1!(out, a, |x: f32| -> f32 math::minimum(math::maximum(x, low), high));
        }
        (ElementOp::Clip { low, high }, _) => {
            let low = scalar(scalars, low, from) as i32;
            let high = scalar(scalars, high, from) as i32;
            map1!(out, a, |x: i32| -> i32 x.max(low).min(high));
        }
    }
}

#[inline(always)]
fn cast(from: Dtype, to: Dtype, out: &mut [u32], a: &[u32]) {
    match (from, to) {
        (Dtype::F32, Dtype::I32) => map1!(out, a, |x: f32| -> i32 x as i32),
        (Dtype::F32, Dtype::Bool) => map1!(out, a, |x: f32| -> bool x != 0.0),
        (Dtype::I32 | Dtype::Bool, Dtype::F32) => map1!(out, a, |x: i32| -> f32 (x as f32)),
        (Dtype::I32, Dtype::Bool) => map1!(out, a, |x: i32| -> bool x != 0),
        _ => out.copy_from_slice(a),
    }
}

#[inline(always)]
fn unary_f32<const FMA: bool>(op: UnaryOp, out: &mut [u32], a: &[u32]) {
    match op {
        UnaryOp::Neg => map1!(out, a, |x: f32| -> f32 (-x)),
        UnaryOp::Abs => map1!(out, a, |x: f32| -> f32 x.abs()),
        UnaryOp::Sign => map1!(out, a, |x: f32| -> f32 math::sign(x)),
        UnaryOp::Square => map1!(out, a, |x: f32| -> f32 (x * x)),
        UnaryOp::Sqrt => map1!(out, a, |x: f32| -> f32 x.sqrt()),
        UnaryOp::Rsqrt => map1!(out, a, |x: f32| -> f32 (1.0 / x.sqrt())),
        UnaryOp::Reciprocal => map1!(out, a, |x: f32| -> f32 (1.0 / x)),
        UnaryOp::Exp => map1!(out, a, |x: f32| -> f32 math::exp::<FMA>(x)),
        UnaryOp::Expm1 => map1!(out, a, |x: f32| -> f32 math::expm1::<FMA>(x)),
        UnaryOp::Log => map1!(out, a, |x: f32| -> f32 math::log::<FMA>(x)),
        UnaryOp::Log1p => map1!(out, a, |x: f32| -> f32 math::log1p::<FMA>(x)),
        UnaryOp::Erf => map1!(out, a, |x: f32| -> f32 math::erf::<FMA>(x)),
        UnaryOp::Floor => map1!(out, a, |x: f32| -> f32 x.floor()),
        UnaryOp::Ceil => map1!(out, a, |x: f32| -> f32 x.ceil()),
        UnaryOp::LogicalNot => map1!(out, a, |x: u32| -> bool x == 0),
        UnaryOp::IsFinite => map1!(out, a, |x: u32| -> bool x & math::EXPONENT_BITS != math::EXPONENT_BITS),
    }
}

/// i32 and bool.
#[inline(always)]
fn unary_i32(op: UnaryOp, out: &mut [u32], a: &[u32]) {
    match op {
        UnaryOp::Neg => map1!(out, a, |x: i32| -> i32 x.wrapping_neg()),
        UnaryOp::Abs => map1!(out, a, |x: i32| -> i32 x.wrapping_abs()),
        UnaryOp::Sign => map1!(out, a, |x: i32| -> i32 x.signum()),
        UnaryOp::Square => map1!(out, a, |x: i32| -> i32 x.wrapping_mul(x)),
        UnaryOp::LogicalNot => map1!(out, a, |x: u32| -> bool x == 0),
        _ => unreachable!("{op:?} takes floats only"),
    }
}

#[inline(always)]
fn binary_f32<const FMA: bool>(op: BinaryOp, out: &mut [u32], a: &[u32], b: &[u32]) {
    match op {
        BinaryOp::Add => map2!(out, a, b, |x, y: f32| -> f32 (x + y)),
        BinaryOp::Sub => map2!(out, a, b, |x, y: f32| -> f32 (x - y)),
        BinaryOp::Mul => map2!(out, a, b, |x, y: f32| -> f32 (x * y)),
        BinaryOp::Div => map2!(out, a, b, |x, y: f32| -> f32 (x / y)),
        BinaryOp::Pow => map2!(out, a, b, |x, y: f32| -> f32 math::pow::<FMA>(x, y)),
        BinaryOp::Maximum => map2!(out, a, b, |x, y: f32| -> f32 math::maximum(x, y)),
        BinaryOp::Minimum => map2!(out, a, b, |x, y: f32| -> f32 math::minimum(x, y)),
        BinaryOp::Equal => map2!(out, a, b, |x, y: f32| -> bool x == y),
        BinaryOp::NotEqual => map2!(out, a, b, |x, y: f32| -> bool x != y),
        BinaryOp::Greater => map2!(out, a, b, |x, y: f32| -> bool x > y),
        BinaryOp::GreaterEqual => map2!(out, a, b, |x, y: f32| -> bool x >= y),
        BinaryOp::Less => map2!(out, a, b, |x, y: f32| -> bool x < y),
        BinaryOp::LessEqual => map2!(out, a, b, |x, y: f32| -> bool x <= y),
        BinaryOp::LogicalAnd | BinaryOp::LogicalOr => logical(op, out, a, b),
    }
}

/// i32 and bool.
#[inline(always)]
fn binary_i32(op: BinaryOp, out: &mut [u32], a: &[u32], b: &[u32]) {
    match op {
        BinaryOp::Add => map2!(out, a, b, |x, y: i32| -> i32 x.wrapping_add(y)),
        BinaryOp::Sub => map2!(out, a, b, |x, y: i32| -> i32 x.wrapping_sub(y)),
        BinaryOp::Mul => map2!(out, a, b, |x, y: i32| -> i32 x.wrapping_mul(y)),
        BinaryOp::Maximum => map2!(out, a, b, |x, y: i32| -> i32 x.max(y)),
        BinaryOp::Minimum => map2!(out, a, b, |x, y: i32| -> i32 x.min(y)),
        BinaryOp::Equal => map2!(out, a, b, |x, y: i32| -> bool x == y),
        BinaryOp::NotEqual => map2!(out, a, b, |x, y: i32| -> bool x != y),
        BinaryOp::Greater => map2!(out, a, b, |x, y: i32| -> bool x > y),
        BinaryOp::GreaterEqual => map2!(out, a, b, |x, y: i32| -> bool x >= y),
        BinaryOp::Less => map2!(out, a, b, |x, y: i32| -> bool x < y),
        BinaryOp::LessEqual => map2!(out, a, b, |x, y: i32| -> bool x <= y),
        BinaryOp::LogicalAnd | BinaryOp::LogicalOr => logical(op, out, a, b),
        BinaryOp::Div | BinaryOp::Pow => unreachable!("{op:?} takes floats only"),
    }
}

#[inline(always)]
fn logical(op: BinaryOp, out: &mut [u32], a: &[u32], b: &[u32]) {
    if op == BinaryOp::LogicalAnd {
        map2!(out, a, b, |x, y: u32| -> bool (x != 0) & (y != 0));
    } else {
        map2!(out, a, b, |x, y: u32| -> bool (x | y) != 0);
    }
}
