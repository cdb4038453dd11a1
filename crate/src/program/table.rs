//! The opcode table: what the words of a program may be. It mirrors `ts/program/opcodes.ts`, the single source;
//! [`opcode_table`] writes it out as text and a test on each side holds the hash of that text, so neither can change
//! alone. Shape rules are not here but in [`validate`](super::validate).

use std::fmt::Write;

/// What a family of instructions has in common; the name is that of the validator's and the kernels' file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Family {
    Structure,
    Element,
    Reduce,
    Softmax,
    Matmul,
    Loss,
    Shape,
    Gather,
    Optim,
    Random,
    Norm,
    BatchNorm,
}

/// How one attribute is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttributeKind {
    /// One word.
    U32,
    /// Two words, low first.
    F64,
    /// One word: an index into the scalars of the run.
    Scalar,
    /// A count and that many words.
    U32s,
}

/// What the first operand (of `full`, the result) may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DtypeClass {
    /// f32.
    Float,
    /// f32 or i32.
    Number,
    /// Everything.
    Any,
    /// bool.
    Bool,
}

/// One row of the table.
#[derive(PartialEq, Debug)]
pub struct Opcode {
    /// The number in the stream.
    pub code: u16,
    /// The name in every room.
    pub name: &'static str,
    /// The family.
    pub family: Family,
    /// Least and most inputs.
    pub inputs: (u32, u32),
    /// Least and most outputs.
    pub outputs: (u32, u32),
    /// Names and kinds, in the order of the words.
    pub attributes: &'static [(&'static str, AttributeKind)],
    /// What the first operand may be.
    pub dtypes: DtypeClass,
    /// Positions of inputs that are changed in place.
    pub mutates: &'static [usize],
}

const MANY: u32 = 0xff_ffff;

type Attributes = &'static [(&'static str, AttributeKind)];

use AttributeKind::{F64, Scalar, U32, U32s};
use DtypeClass::{Any, Bool, Float, Number};

const fn row(
    code: u16,
    name: &'static str,
    family: Family,
    inputs: (u32, u32),
    outputs: (u32, u32),
    attributes: Attributes,
    dtypes: DtypeClass,
    mutates: &'static [usize],
) -> Opcode {
    Opcode { code, name, family, inputs, outputs, attributes, dtypes, mutates }
}

/// An instruction without choice in its counts.
const fn fixed(
    code: u16,
    name: &'static str,
    family: Family,
    inputs: u32,
    outputs: u32,
    attributes: Attributes,
    dtypes: DtypeClass,
) -> Opcode {
    row(code, name, family, (inputs, inputs), (outputs, outputs), attributes, dtypes, &[])
}

const fn element(code: u16, name: &'static str, inputs: u32, dtypes: DtypeClass, attributes: Attributes) -> Opcode {
    fixed(code, name, Family::Element, inputs, 1, attributes, dtypes)
}

const MIDDLE: Attributes = &[("outer", U32), ("count", U32), ("inner", U32)];
const SCAN: Attributes = &[("outer", U32), ("count", U32), ("inner", U32), ("reverse", U32), ("exclusive", U32)];
const UNIFORM: Attributes = &[
    ("inner", U32),
    ("seedLow", Scalar),
    ("seedHigh", Scalar),
    ("site", Scalar),
    ("draw", Scalar),
    ("rowBase", Scalar),
];
const SMOOTHED: Attributes = &[("ignoreIndex", U32), ("labelSmoothing", F64)];
const NORM: Attributes = &[("outer", U32), ("channels", U32), ("eps", F64)];
const NORM_GRAD: Attributes = &[("outer", U32), ("channels", U32), ("wanted", U32)];
const GROUPS: Attributes = &[("outer", U32), ("groups", U32), ("channels", U32), ("inner", U32), ("eps", F64)];
const GROUPS_GRAD: Attributes = &[("outer", U32), ("groups", U32), ("channels", U32), ("inner", U32), ("wanted", U32)];
const CHANNELS: Attributes = &[("outer", U32), ("channels", U32), ("inner", U32)];
const DROPOUT: Attributes = &[
    ("inner", U32),
    ("threshold", U32),
    ("scale", F64),
    ("seedLow", Scalar),
    ("seedHigh", Scalar),
    ("site", Scalar),
    ("draw", Scalar),
    ("rowBase", Scalar),
];
const SOFTPLUS: Attributes = &[("beta", F64), ("threshold", F64)];

/// Every instruction, by ascending number.
pub static OPCODES: &[Opcode] = &[
    fixed(0, "input", Family::Structure, 0, 1, &[], Any),
    fixed(1, "output", Family::Structure, 1, 0, &[], Any),
    element(2, "full", 0, Any, &[("value", Scalar)]),
    fixed(3, "view", Family::Structure, 1, 1, &[("offset", U32)], Any),
    row(4, "assign", Family::Structure, (2, 2), (0, 0), &[], Any, &[0]),
    row(5, "addInto", Family::Structure, (2, 2), (0, 0), &[], Number, &[0]),
    element(6, "expand", 1, Any, &[]),
    element(7, "cast", 1, Any, &[]),
    element(16, "neg", 1, Number, &[]),
    element(17, "abs", 1, Number, &[]),
    element(18, "sign", 1, Number, &[]),
    element(19, "square", 1, Number, &[]),
    element(20, "sqrt", 1, Float, &[]),
    element(21, "rsqrt", 1, Float, &[]),
    element(22, "reciprocal", 1, Float, &[]),
    element(23, "exp", 1, Float, &[]),
    element(24, "expm1", 1, Float, &[]),
    element(25, "log", 1, Float, &[]),
    element(26, "log1p", 1, Float, &[]),
    element(27, "erf", 1, Float, &[]),
    element(28, "floor", 1, Float, &[]),
    element(29, "ceil", 1, Float, &[]),
    element(30, "logicalNot", 1, Bool, &[]),
    element(31, "isFinite", 1, Float, &[]),
    element(40, "relu", 1, Float, &[]),
    element(41, "leakyRelu", 1, Float, &[("slope", F64)]),
    element(42, "elu", 1, Float, &[("alpha", F64)]),
    element(43, "sigmoid", 1, Float, &[]),
    element(44, "tanh", 1, Float, &[]),
    element(45, "silu", 1, Float, &[]),
    element(46, "softplus", 1, Float, SOFTPLUS),
    element(47, "heaviside", 1, Float, &[]),
    element(48, "gelu", 1, Float, &[]),
    element(49, "geluTanh", 1, Float, &[]),
    element(52, "reluGrad", 2, Float, &[]),
    element(53, "leakyReluGrad", 2, Float, &[("slope", F64)]),
    element(54, "eluGrad", 2, Float, &[("alpha", F64)]),
    element(55, "sigmoidGrad", 2, Float, &[]),
    element(56, "tanhGrad", 2, Float, &[]),
    element(57, "siluGrad", 2, Float, &[]),
    element(58, "softplusGrad", 2, Float, SOFTPLUS),
    element(59, "geluGrad", 2, Float, &[]),
    element(60, "geluTanhGrad", 2, Float, &[]),
    element(64, "add", 2, Number, &[]),
    element(65, "sub", 2, Number, &[]),
    element(66, "mul", 2, Number, &[]),
    element(67, "div", 2, Float, &[]),
    element(68, "pow", 2, Float, &[]),
    element(69, "maximum", 2, Number, &[]),
    element(70, "minimum", 2, Number, &[]),
    element(71, "equal", 2, Any, &[]),
    element(72, "notEqual", 2, Any, &[]),
    element(73, "greater", 2, Number, &[]),
    element(74, "greaterEqual", 2, Number, &[]),
    element(75, "less", 2, Number, &[]),
    element(76, "lessEqual", 2, Number, &[]),
    element(77, "logicalAnd", 2, Bool, &[]),
    element(78, "logicalOr", 2, Bool, &[]),
    element(84, "where", 3, Any, &[]),
    element(85, "clip", 1, Number, &[("low", Scalar), ("high", Scalar)]),
    fixed(96, "sum", Family::Reduce, 1, 1, MIDDLE, Number),
    fixed(97, "mean", Family::Reduce, 1, 1, MIDDLE, Float),
    fixed(98, "max", Family::Reduce, 1, 1, MIDDLE, Number),
    fixed(99, "min", Family::Reduce, 1, 1, MIDDLE, Number),
    fixed(100, "argmax", Family::Reduce, 1, 1, MIDDLE, Number),
    fixed(101, "argmin", Family::Reduce, 1, 1, MIDDLE, Number),
    fixed(
        102,
        "variance",
        Family::Reduce,
        1,
        1,
        &[("outer", U32), ("count", U32), ("inner", U32), ("correction", F64)],
        Float,
    ),
    fixed(103, "topK", Family::Reduce, 1, 3, &[("outer", U32), ("count", U32), ("inner", U32), ("k", U32)], Number),
    fixed(104, "cumsum", Family::Reduce, 1, 1, SCAN, Number),
    fixed(105, "cumprod", Family::Reduce, 1, 1, SCAN, Number),
    fixed(112, "softmax", Family::Softmax, 1, 1, MIDDLE, Float),
    fixed(113, "logSoftmax", Family::Softmax, 1, 1, MIDDLE, Float),
    fixed(114, "softmaxGrad", Family::Softmax, 2, 1, MIDDLE, Float),
    fixed(115, "logSoftmaxGrad", Family::Softmax, 2, 1, MIDDLE, Float),
    fixed(120, "matmul", Family::Matmul, 2, 1, &[("transposeA", U32), ("transposeB", U32)], Float),
    row(121, "linear", Family::Matmul, (3, 3), (1, 2), &[("activation", U32), ("saveZ", U32)], Float, &[]),
    row(122, "linearGrad", Family::Matmul, (4, 4), (1, 3), &[("activation", U32), ("wanted", U32)], Float, &[]),
    fixed(128, "crossEntropy", Family::Loss, 2, 3, &[("ignoreIndex", U32)], Float),
    fixed(129, "crossEntropyGrad", Family::Loss, 4, 1, &[("ignoreIndex", U32)], Float),
    fixed(130, "weightedCrossEntropy", Family::Loss, 4, 3, SMOOTHED, Float),
    fixed(131, "weightedCrossEntropyGrad", Family::Loss, 6, 1, SMOOTHED, Float),
    fixed(136, "transpose", Family::Shape, 1, 1, &[("permutation", U32s)], Any),
    row(137, "concat", Family::Shape, (1, MANY), (1, 1), &[("axis", U32)], Any, &[]),
    fixed(138, "slice", Family::Shape, 1, 1, &[("starts", U32s)], Any),
    fixed(139, "pad", Family::Shape, 1, 1, &[("before", U32s), ("value", Scalar)], Any),
    fixed(144, "gather", Family::Gather, 2, 1, &[("axis", U32), ("of", U32)], Any),
    fixed(145, "scatterAdd", Family::Gather, 2, 1, &[("axis", U32), ("of", U32)], Number),
    fixed(146, "require", Family::Gather, 2, 1, &[("reason", U32)], Any),
    row(152, "squaredNorm", Family::Optim, (1, MANY), (1, 1), &[], Float, &[]),
    row(
        153,
        "sgd",
        Family::Optim,
        (6, MANY),
        (0, 0),
        &[
            ("lr", Scalar),
            ("momentum", F64),
            ("dampening", F64),
            ("weightDecay", F64),
            ("nesterov", U32),
            ("segments", U32s),
        ],
        Float,
        &[0, 1, 2],
    ),
    row(
        154,
        "adam",
        Family::Optim,
        (8, MANY),
        (0, 0),
        &[
            ("lr", Scalar),
            ("beta1", F64),
            ("beta2", F64),
            ("eps", F64),
            ("weightDecay", F64),
            ("decoupled", U32),
            ("segments", U32s),
        ],
        Float,
        &[0, 1, 2, 3, 4],
    ),
    row(
        155,
        "rmsprop",
        Family::Optim,
        (8, MANY),
        (0, 0),
        &[("lr", Scalar), ("alpha", F64), ("eps", F64), ("weightDecay", F64), ("momentum", F64), ("segments", U32s)],
        Float,
        &[0, 1, 2, 3, 4],
    ),
    row(156, "ema", Family::Optim, (5, MANY), (0, 0), &[("weight", Scalar), ("segments", U32s)], Float, &[0, 1]),
    fixed(160, "uniform", Family::Random, 0, 1, UNIFORM, Float),
    fixed(161, "dropout", Family::Random, 1, 1, DROPOUT, Float),
    fixed(168, "layerNorm", Family::Norm, 3, 3, NORM, Float),
    row(169, "layerNormGrad", Family::Norm, (5, 5), (1, 3), NORM_GRAD, Float, &[]),
    fixed(170, "groupNorm", Family::Norm, 3, 3, GROUPS, Float),
    row(171, "groupNormGrad", Family::Norm, (5, 5), (1, 3), GROUPS_GRAD, Float, &[]),
    fixed(172, "rmsNorm", Family::Norm, 2, 2, NORM, Float),
    row(173, "rmsNormGrad", Family::Norm, (4, 4), (1, 2), NORM_GRAD, Float, &[]),
    fixed(176, "batchNormStatistics", Family::BatchNorm, 2, 3, CHANNELS, Float),
    fixed(177, "batchNormVariance", Family::BatchNorm, 2, 2, &[("eps", F64)], Float),
    fixed(178, "batchNorm", Family::BatchNorm, 6, 1, CHANNELS, Float),
    fixed(179, "batchNormGradSums", Family::BatchNorm, 5, 2, CHANNELS, Float),
    fixed(180, "batchNormGrad", Family::BatchNorm, 9, 1, CHANNELS, Float),
    row(
        181,
        "batchNormUpdate",
        Family::BatchNorm,
        (7, 7),
        (0, 0),
        &[("momentum", Scalar), ("cumulative", U32), ("unbiased", U32)],
        Float,
        &[0, 1, 2],
    ),
];

/// The row of a number, if there is one.
pub fn opcode(code: u16) -> Option<&'static Opcode> {
    OPCODES.binary_search_by_key(&code, |row| row.code).ok().and_then(|i| OPCODES.get(i))
}

/// The table as text, for comparison with TypeScript's; docs/program.md describes the lines.
pub fn opcode_table() -> String {
    let mut text = String::new();
    for row in OPCODES {
        let kinds: Vec<&str> = row.attributes.iter().map(|&(_, kind)| kind.name()).collect();
        let mutates: Vec<String> = row.mutates.iter().map(ToString::to_string).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} {} {} {} {} {} {} {}",
            row.code,
            row.name,
            row.family.name(),
            range(row.inputs),
            range(row.outputs),
            list(&kinds.join(",")),
            row.dtypes.name(),
            list(&mutates.join(","))
        );
    }
    text
}

/// FNV-1a, 32 bits, of the bytes of [`opcode_table`].
pub fn opcode_hash() -> u32 {
    opcode_table().bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn range((least, most): (u32, u32)) -> String {
    if least == most { least.to_string() } else { format!("{least}-{most}") }
}

fn list(joined: &str) -> &str {
    if joined.is_empty() { "-" } else { joined }
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Element => "element",
            Self::Reduce => "reduce",
            Self::Softmax => "softmax",
            Self::Matmul => "matmul",
            Self::Loss => "loss",
            Self::Shape => "shape",
            Self::Gather => "gather",
            Self::Optim => "optim",
            Self::Random => "random",
            Self::Norm => "norm",
            Self::BatchNorm => "batchNorm",
        }
    }
}

impl AttributeKind {
    fn name(self) -> &'static str {
        match self {
            U32 => "u32",
            F64 => "f64",
            Scalar => "scalar",
            U32s => "u32s",
        }
    }
}

impl DtypeClass {
    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Float => "float",
            Number => "number",
            Any => "any",
            Bool => "bool",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_so_that_the_search_finds_every_row() {
        assert!(OPCODES.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert!(OPCODES.iter().all(|row| opcode(row.code).is_some_and(|found| found.name == row.name)));
        assert!(opcode(8).is_none());
        assert!(opcode(u16::MAX).is_none());
    }

    #[test]
    fn the_text_and_its_hash_are_those_of_typescript() {
        let text = opcode_table();
        assert!(text.contains("\n121 linear matmul 3 1-2 u32,u32 float -\n"));
        assert!(text.contains("\n153 sgd optim 6-16777215 0 scalar,f64,f64,f64,u32,u32s float 0,1,2\n"));
        assert_eq!(opcode_hash(), 0xabe9_2571, "the table has changed; change TypeScript with it:\n{text}");
    }

    /// The source itself, read as text: names and numbers of both tables agree.
    #[test]
    fn the_typescript_table_has_the_same_names_and_numbers() {
        let source = include_str!("../../../ts/program/opcodes.ts");
        let table = source.split("export const OPCODES = {").nth(1).unwrap().split("} as const").next().unwrap();
        let mut found = Vec::new();
        let words: Vec<&str> = table.split(|c: char| !c.is_ascii_alphanumeric() && c != ':' && c != '(').collect();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        for window in words.windows(3) {
            if let Some(name) = window[0].strip_suffix(':') {
                if let Some(code) = window[1].strip_prefix("element(") {
                    found.push((code.parse::<u16>().unwrap(), name));
                } else if window[1] == "code:" {
                    found.push((window[2].parse().unwrap(), name));
                }
            }
        }
        found.sort_unstable();
        let ours: Vec<(u16, &str)> = OPCODES.iter().map(|row| (row.code, row.name)).collect();
        assert_eq!(found, ours);
    }
}
