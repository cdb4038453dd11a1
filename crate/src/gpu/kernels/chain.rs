//! Elementwise chains: one shader per form of a chain. An invocation computes four neighbouring elements: it loads every
//! operand once, evaluates all instructions in registers, and writes vectors, so the work in memory is that of one copy.
//!
//! The text holds the instructions, the types, and per operand which dimensions it has; sizes, the batch among them, are
//! words of the run. Dimensions that all operands walk alike are merged first, so most chains need no index arithmetic.
//!
//! Every float that an instruction makes is hidden from the compiler, which sees none of them come from another: so fused
//! chains have the bits of their instructions one by one. Mesa alone would turn √x·√x into |x| and 1 ÷ (1 ÷ x) into x.

use std::fmt::Write as _;

use super::math::{activation, activation_grad};
use super::shader::{Builder, Memory, Type, Word};
use super::{Prepared, Target};
use crate::cpu::elementwise::{Layout, strides_over};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::gpu::{Class, Traits};
use crate::plan::{Chain, ChainOp, ChainOperand, Limits};
use crate::program::op::{BinaryOp, ElementOp, UnaryOp};

mod inline;
#[cfg(test)]
mod tests;

pub(super) use inline::inline;

/// Invocations of a workgroup.
const SIZE: u32 = 64;

/// Names of the elements of a vector.
const ELEMENTS: [&str; 4] = ["x", "y", "z", "w"];

/// What a chain may have to fit a shader: 8 + 4 offsets, 8 scalars, 7 dimensions and 3 more words of immediates.
pub fn limits(traits: &Traits) -> Limits {
    Limits {
        inputs: 8,
        outputs: 4,
        scalars: 8,
        bindings: traits.bindings as usize,
        binding: ((traits.binding_bytes - u64::from(traits.alignment)) / 4) as usize,
        elements: usize::MAX,
    }
}

/// What a chain may have that is applied to a product. Where a processor plays the GPU it takes longer there than on its
/// own, by a tenth and more for 512 columns of 256 rows; only for small products what counts is one dispatch less.
pub fn limits_after(traits: &Traits) -> Limits {
    let elements = if traits.class == Class::Software { 1 << 14 } else { usize::MAX };
    Limits { elements, ..limits(traits) }
}

/// What a chain may have that a reduction evaluates, which binds a result and partial results, and has 12 immediates.
pub fn limits_before(traits: &Traits) -> Limits {
    let all = limits(traits);
    Limits { outputs: 1, scalars: 5, bindings: all.bindings.saturating_sub(2), ..all }
}

/// How the four elements of an operand are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fetch {
    /// One element for all.
    Uniform,
    /// At the index of the iteration.
    Straight,
    /// At an index of its own: four neighbours, because innermost rows are multiples of four.
    Row,
    /// At an index of its own, one for all four: innermost rows are multiples of four and repeat it.
    Column,
    /// Each at an index of its own.
    Scattered,
}

/// The distinct scalars of a chain, by name.
struct Scalars(Vec<(u32, Dtype)>);

impl Scalars {
    fn name(&self, scalar: u32, dtype: Dtype) -> Result<String> {
        let position = self.0.iter().position(|&known| known == (scalar, dtype));
        let position = position.ok_or_else(|| internal("a scalar that is not there"))?;
        Ok(if dtype == Dtype::Bool { format!("(p.s{position} != 0u)") } else { format!("p.s{position}") })
    }
}

fn internal(what: &str) -> Error {
    Error::Internal(format!("chain: {what}"))
}

/// What a chain reads, and how.
struct Reads {
    layout: Layout,
    fetches: Vec<Fetch>,
}

impl Reads {
    fn of(chain: &Chain) -> Self {
        let strides: Vec<_> = chain.inputs.iter().map(|input| strides_over(&input.dims, &chain.dims)).collect();
        let layout = Layout::merge(&chain.dims, &strides);
        let rows = layout.inner().is_multiple_of(4);
        let fetches = (0..chain.inputs.len()).map(|input| fetch(&layout, input, rows)).collect();
        Self { layout, fetches }
    }

    /// Whether any operand is read at an index of its own.
    fn is_by_index(&self) -> bool {
        self.fetches.iter().any(|fetch| !matches!(fetch, Fetch::Uniform | Fetch::Straight))
    }

    /// Declares the sizes that indices are made of, and the scalars.
    fn declare(&self, chain: &Chain, b: &mut Builder) -> Scalars {
        if self.is_by_index() {
            for (axis, &size) in self.layout.dims.iter().enumerate().skip(1) {
                b.value(&format!("d{axis}"), size);
            }
        }
        let mut scalars = Scalars(Vec::new());
        for scalar in chain.ops.iter().flat_map(ChainOp::scalars) {
            if !scalars.0.contains(&scalar) {
                b.word(&format!("s{}", scalars.0.len()), Type::of(scalar.1).name(), Word::Scalar(scalar.0, scalar.1));
                scalars.0.push(scalar);
            }
        }
        scalars
    }

    /// The statements that evaluate four neighbours, the first of which is element `4 i`, to `rx`, `ry`, `rz` and `rw`.
    fn four(&self, loads: &Loads) -> String {
        let (rank, mut text) = (self.layout.dims.len(), String::new());
        if self.is_by_index() {
            text.push_str(&coordinates("i * 4u", rank));
        }
        text.push_str(&loads.first);
        if self.fetches.contains(&Fetch::Scattered) {
            for element in &ELEMENTS[1..] {
                text.push_str(&advance(rank));
                text.push_str(&loads.scattered.replace('@', element));
            }
        }
        for element in ELEMENTS {
            let arguments: Vec<_> = (0..self.fetches.len()).map(|i| format!("v{i}.{element}")).collect();
            let _ = writeln!(text, "let r{element} = element({});", arguments.join(", "));
        }
        text
    }
}

pub(super) fn prepare(chain: &Chain, target: Target) -> Result<Prepared> {
    if chain.numel == 0 {
        return Ok(Prepared::default());
    }
    let reads = Reads::of(chain);
    let mut b = Builder::new(target.traits, "chain");
    let vectors = chain.numel.div_ceil(4);
    b.value("count", vectors);
    let scalars = reads.declare(chain, &mut b);
    for (i, output) in chain.outputs.iter().enumerate() {
        b.buffer(&format!("o{i}"), Memory::Operand(output.operand), Type::Vec4U32);
    }
    let mut loads = Loads::default();
    for (i, (input, &fetch)) in chain.inputs.iter().zip(&reads.fetches).enumerate() {
        let taker = chain.outputs.iter().position(|output| output.in_place_of == Some(i as u8));
        if taker.is_some() && fetch != Fetch::Straight {
            return Err(internal("an output in place of an operand that is not read straight through"));
        }
        let vector = matches!(fetch, Fetch::Straight | Fetch::Row) && Builder::is_aligned(input, target.aligned);
        let name = taker.map_or_else(|| format!("a{i}"), |output| format!("o{output}"));
        if taker.is_none() {
            let ty = if vector { Type::Vec4U32 } else { Type::U32 };
            b.buffer(&name, Memory::Operand(*input), ty);
        }
        loads.add(i, &name, fetch, vector, &reads.layout);
    }
    b.item(&element(chain, &scalars)?);

    let in_runs = target.traits.class == Class::Software;
    let mut units = vectors;
    let mut main = format!("let i = group() * {SIZE}u + local;\nif (i >= p.count) {{ return; }}\n");
    if in_runs {
        let run = run_length(vectors);
        units = vectors.div_ceil(run);
        b.value("run", run);
        main = format!(
            "let first = (group() * {SIZE}u + local) * p.run;
for (var i = first; i < min(first + p.run, p.count); i++) {{
"
        );
    }
    main.push_str(&reads.four(&loads));
    for i in 0..chain.outputs.len() {
        let _ = writeln!(main, "o{i}_set(i, vec4<u32>(rx.o{i}, ry.o{i}, rz.o{i}, rw.o{i}));");
    }
    if in_runs {
        main.push('}');
    }
    let call = b.finish(SIZE, [units.div_ceil(SIZE as usize), 1, 1], &main)?;
    Ok(Prepared::from(vec![call]))
}

/// Vectors that an invocation has behind each other where a processor plays the GPU: beginning an invocation takes longer
/// there than a vector does. Sixty-four workgroups are enough to share them among cores.
fn run_length(vectors: usize) -> usize {
    (vectors / (64 * SIZE as usize)).clamp(1, 64)
}

/// How an operand is read; `rows`: innermost rows are multiples of four.
fn fetch(layout: &Layout, input: usize, rows: bool) -> Fetch {
    let Some(strides) = layout.strides.get(input) else { return Fetch::Uniform };
    if strides.iter().all(|&stride| stride == 0) {
        return Fetch::Uniform;
    }
    match (strides.contains(&0), rows, strides.last()) {
        (false, ..) => Fetch::Straight,
        (true, true, Some(0)) => Fetch::Column,
        (true, true, _) => Fetch::Row,
        (true, false, _) => Fetch::Scattered,
    }
}

/// The statements that fill the vectors `v0`, `v1`, … of four words of each operand.
#[derive(Default)]
struct Loads {
    first: String,
    /// For one more element of the scattered ones; `@` is its name.
    scattered: String,
}

impl Loads {
    fn add(&mut self, i: usize, name: &str, fetch: Fetch, vector: bool, layout: &Layout) {
        let index = match fetch {
            Fetch::Uniform => "0u".to_owned(),
            Fetch::Straight if vector => "i".to_owned(),
            Fetch::Straight => "i * 4u".to_owned(),
            Fetch::Row | Fetch::Column | Fetch::Scattered => position(layout, i),
        };
        let line = match fetch {
            Fetch::Uniform | Fetch::Column => format!("let v{i} = vec4<u32>({name}({index}));"),
            Fetch::Row if vector => format!("let v{i} = {name}(({index}) / 4u);"),
            Fetch::Straight if vector => format!("let v{i} = {name}({index});"),
            Fetch::Straight | Fetch::Row => format!(
                "let j{i} = {index};\n\
                 let v{i} = vec4<u32>({name}(j{i}), {name}(j{i} + 1u), {name}(j{i} + 2u), {name}(j{i} + 3u));"
            ),
            Fetch::Scattered => {
                let _ = writeln!(self.scattered, "v{i}.@ = {name}({index});");
                format!("var v{i} = vec4<u32>({name}({index}), 0u, 0u, 0u);")
            }
        };
        self.first.push_str(&line);
        self.first.push('\n');
    }
}

/// The index of an operand at the coordinates `x0`, `x1`, …: the dimensions it has, by Horner's rule.
fn position(layout: &Layout, input: usize) -> String {
    let mut index = String::new();
    let strides = layout.strides.get(input).map(Vec::as_slice).unwrap_or_default();
    for (axis, _) in strides.iter().enumerate().filter(|&(_, &stride)| stride != 0) {
        index = if index.is_empty() { format!("x{axis}") } else { format!("({index}) * p.d{axis} + x{axis}") };
    }
    index
}

/// The coordinates of an element.
fn coordinates(element: &str, rank: usize) -> String {
    let mut text = format!("var x0 = {element};\n");
    for axis in (1..rank).rev() {
        let _ = writeln!(text, "let q{axis} = x0 / p.d{axis};\nvar x{axis} = x0 - q{axis} * p.d{axis};\nx0 = q{axis};");
    }
    text
}

/// The coordinates of the next element. Behind the last one they run over, as do the padded results.
fn advance(rank: usize) -> String {
    let mut text = String::new();
    let last = rank.saturating_sub(1);
    let _ = writeln!(text, "x{last} += 1u;");
    for axis in (1..rank).rev() {
        let _ = writeln!(text, "if (x{axis} == p.d{axis}) {{\nx{axis} = 0u;\nx{outer} += 1u;\n}}", outer = axis - 1);
    }
    text
}

/// The function of one element: a word of every operand to a word of every result.
fn element(chain: &Chain, scalars: &Scalars) -> Result<String> {
    let mut text = String::from("struct Results {");
    for i in 0..chain.outputs.len() {
        let _ = write!(text, " o{i}: u32,");
    }
    text.push_str(" }\nfn element(");
    for i in 0..chain.inputs.len() {
        let _ = write!(text, "a{i}: u32, ");
    }
    text.push_str(") -> Results {\n");
    for (i, input) in chain.inputs.iter().enumerate() {
        let _ = writeln!(text, "let x{i} = {};", from_word(input.dtype, &format!("a{i}")));
    }
    for (i, op) in chain.ops.iter().enumerate() {
        let mut operands = [const { String::new() }; 3];
        for (text, operand) in operands.iter_mut().zip(op.operands).take(op.op.arity()) {
            *text = match operand {
                ChainOperand::Input(input) if usize::from(input) < chain.inputs.len() => format!("x{input}"),
                ChainOperand::Op(op) if usize::from(op) < i => format!("y{op}"),
                ChainOperand::Scalar(scalar, dtype) => scalars.name(scalar, dtype)?,
                _ => return Err(internal("an operand that is not there")),
            };
        }
        let made = expression(op, &operands, scalars)?;
        // What is copied is as hidden as it was.
        let is_copy = matches!(op.op, ElementOp::Full { .. } | ElementOp::Expand);
        let made = if op.dtype == Dtype::F32 && !is_copy { format!("math_hide({made})") } else { made };
        let _ = writeln!(text, "let y{i} = {made};");
    }
    text.push_str("return Results(");
    for output in &chain.outputs {
        let dtype = chain.ops.get(usize::from(output.op)).ok_or_else(|| internal("a result that is not there"))?.dtype;
        let _ = write!(text, "{}, ", to_word(dtype, &format!("y{}", output.op)));
    }
    text.push_str(");\n}");
    Ok(text)
}

fn from_word(dtype: Dtype, word: &str) -> String {
    match dtype {
        Dtype::F32 => format!("bitcast<f32>({word})"),
        Dtype::I32 => format!("bitcast<i32>({word})"),
        Dtype::Bool => format!("{word} != 0u"),
    }
}

fn to_word(dtype: Dtype, value: &str) -> String {
    match dtype {
        Dtype::F32 | Dtype::I32 => format!("bitcast<u32>({value})"),
        Dtype::Bool => format!("select(0u, 1u, {value})"),
    }
}

/// One instruction. Operands of dtype bool are of type bool.
fn expression(op: &ChainOp, operands: &[String; 3], scalars: &Scalars) -> Result<String> {
    let [a, b, c] = operands;
    let from = op.operand_dtype;
    Ok(match op.op {
        ElementOp::Full { scalar } => scalars.name(scalar, op.dtype)?,
        ElementOp::Expand => a.clone(),
        ElementOp::Cast => cast(from, op.dtype, a),
        ElementOp::Unary(unary) => unary_expression(unary, from, a)?,
        ElementOp::Activation { activation: act, parameters } => activation(act.with_parameters(parameters), a),
        ElementOp::ActivationGrad { activation: act, parameters } => {
            activation_grad(act.with_parameters(parameters), a, b)
        }
        ElementOp::Binary(binary) => binary_expression(binary, from, a, b)?,
        ElementOp::Where => format!("select({c}, {b}, {a})"),
        ElementOp::Clip { low, high } => {
            let (low, high) = (scalars.name(low, from)?, scalars.name(high, from)?);
            match from {
                Dtype::F32 => format!("math_minimum(math_maximum({a}, {low}), {high})"),
                Dtype::I32 => format!("min(max({a}, {low}), {high})"),
                Dtype::Bool => return Err(internal("clip of bool")),
            }
        }
    })
}

fn cast(from: Dtype, to: Dtype, x: &str) -> String {
    match (from, to) {
        (Dtype::F32, Dtype::I32) => format!("math_to_i32({x})"),
        (Dtype::F32, Dtype::Bool) => format!("math_to_bool({x})"),
        (Dtype::I32 | Dtype::Bool, Dtype::F32) => format!("f32({x})"),
        (Dtype::I32, Dtype::Bool) => format!("({x} != 0)"),
        (Dtype::Bool, Dtype::I32) => format!("i32({x})"),
        (Dtype::F32, Dtype::F32) | (Dtype::I32, Dtype::I32) | (Dtype::Bool, Dtype::Bool) => x.to_owned(),
    }
}

fn unary_expression(op: UnaryOp, dtype: Dtype, x: &str) -> Result<String> {
    let float = dtype == Dtype::F32;
    Ok(match op {
        UnaryOp::Neg => format!("(-{x})"),
        UnaryOp::Abs => format!("abs({x})"),
        UnaryOp::Sign if float => format!("math_sign({x})"),
        UnaryOp::Sign => format!("sign({x})"),
        UnaryOp::Square => format!("({x} * {x})"),
        UnaryOp::LogicalNot => format!("(!{x})"),
        _ if !float => return Err(internal("a function of floats on another type")),
        UnaryOp::Sqrt => format!("sqrt({x})"),
        UnaryOp::Rsqrt => format!("(1.0 / sqrt({x}))"),
        UnaryOp::Reciprocal => format!("(1.0 / {x})"),
        UnaryOp::Exp => format!("math_exp({x})"),
        UnaryOp::Expm1 => format!("math_expm1({x})"),
        UnaryOp::Log => format!("math_log({x})"),
        UnaryOp::Log1p => format!("math_log1p({x})"),
        UnaryOp::Erf => format!("math_erf({x})"),
        UnaryOp::Floor => format!("math_floor({x})"),
        UnaryOp::Ceil => format!("math_ceil({x})"),
        UnaryOp::IsFinite => format!("math_is_finite({x})"),
    })
}

fn binary_expression(op: BinaryOp, dtype: Dtype, a: &str, b: &str) -> Result<String> {
    let float = dtype == Dtype::F32;
    // x − x is NaN for an infinite x and 0 ÷ 0 is, unless a compiler sees that both are the same.
    let left = if float { format!("math_twin({a})") } else { a.to_owned() };
    let arithmetic = |left: &str, sign: &str| format!("({left} {sign} {b})");
    Ok(match op {
        BinaryOp::Add => arithmetic(a, "+"),
        BinaryOp::Sub => arithmetic(&left, "-"),
        BinaryOp::Mul => arithmetic(a, "*"),
        BinaryOp::Div => arithmetic(&left, "/"),
        BinaryOp::Pow if float => format!("math_pow({a}, {b})"),
        BinaryOp::Pow => return Err(internal("pow of another type than f32")),
        BinaryOp::Maximum if float => format!("math_maximum({a}, {b})"),
        BinaryOp::Maximum => format!("max({a}, {b})"),
        BinaryOp::Minimum if float => format!("math_minimum({a}, {b})"),
        BinaryOp::Minimum => format!("min({a}, {b})"),
        BinaryOp::Equal if float => format!("math_equal({a}, {b})"),
        BinaryOp::Equal => format!("({a} == {b})"),
        BinaryOp::NotEqual if float => format!("(!math_equal({a}, {b}))"),
        BinaryOp::NotEqual => format!("({a} != {b})"),
        BinaryOp::Greater if float => format!("math_less({b}, {a})"),
        BinaryOp::Greater => format!("({a} > {b})"),
        BinaryOp::GreaterEqual if float => format!("math_less_equal({b}, {a})"),
        BinaryOp::GreaterEqual => format!("({a} >= {b})"),
        BinaryOp::Less if float => format!("math_less({a}, {b})"),
        BinaryOp::Less => format!("({a} < {b})"),
        BinaryOp::LessEqual if float => format!("math_less_equal({a}, {b})"),
        BinaryOp::LessEqual => format!("({a} <= {b})"),
        BinaryOp::LogicalAnd => format!("({a} && {b})"),
        BinaryOp::LogicalOr => format!("({a} || {b})"),
    })
}
