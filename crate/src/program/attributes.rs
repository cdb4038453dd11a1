//! From the attributes of an instruction, read by the kinds of the table, to its typed [`Op`]. Each value is checked for
//! itself here: flags are 0 or 1, activations exist, lists fit. Whether it fits the operands is
//! [`validate`](super::validate)'s question.

use super::op::{
    Adam, BatchNormOp, BinaryOp, Channels, Dropout, ElementOp, Ema, Indexed, Middle, NormKind, NormRows, Op, Reason,
    ReduceOp, Rmsprop, RunningUpdate, Scan, ScanOp, Segment, Sgd, Smoothed, UnaryOp, Uniform, Wanted,
};
use super::table::Opcode;
use crate::cpu::activation::Activation;
use crate::shape::{self, Dims};

/// One attribute as read from the words.
#[derive(Clone, Copy)]
pub(super) enum Attribute<'a> {
    U32(u32),
    F64(f64),
    Scalar(u32),
    U32s(&'a [u32]),
}

/// The attributes of one instruction in the order of the table, which never has more than eight.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    values: [Option<Attribute<'a>>; 8],
    length: usize,
}

type Checked<T> = Result<T, String>;

/// A mismatch between the table and [`op`]: a bug here, not a bad stream.
const NOT_THE_TABLES: &str = "attribute is not what the table says";

impl<'a> Attributes<'a> {
    pub(super) fn push(&mut self, attribute: Attribute<'a>) {
        if let Some(value) = self.values.get_mut(self.length) {
            *value = Some(attribute);
            self.length += 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Attribute<'a>> {
        self.values.iter().flatten()
    }

    fn word(&self, i: usize) -> Checked<u32> {
        match self.values.get(i) {
            Some(&Some(Attribute::U32(word))) => Ok(word),
            _ => Err(NOT_THE_TABLES.into()),
        }
    }

    fn float(&self, i: usize) -> Checked<f64> {
        match self.values.get(i) {
            Some(&Some(Attribute::F64(value))) => Ok(value),
            _ => Err(NOT_THE_TABLES.into()),
        }
    }

    fn scalar(&self, i: usize) -> Checked<u32> {
        match self.values.get(i) {
            Some(&Some(Attribute::Scalar(index))) => Ok(index),
            _ => Err(NOT_THE_TABLES.into()),
        }
    }

    fn words(&self, i: usize) -> Checked<&'a [u32]> {
        match self.values.get(i) {
            Some(&Some(Attribute::U32s(words))) => Ok(words),
            _ => Err(NOT_THE_TABLES.into()),
        }
    }

    fn reason(&self, i: usize) -> Checked<Reason> {
        let number = self.word(i)?;
        Reason::ALL.get(number as usize).copied().ok_or_else(|| format!("there is no reason {number}"))
    }

    fn indexed(&self, i: usize) -> Checked<Indexed> {
        let number = self.word(i)?;
        Indexed::ALL.get(number as usize).copied().ok_or_else(|| format!("indices are of no operation {number}"))
    }

    fn flag(&self, i: usize) -> Checked<bool> {
        match self.word(i)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("a flag is {other}, neither 0 nor 1")),
        }
    }

    fn activation(&self, i: usize) -> Checked<Activation> {
        let code = self.word(i)?;
        Activation::from_code(code).ok_or_else(|| format!("there is no activation {code}"))
    }

    fn dims(&self, i: usize) -> Checked<Dims> {
        let words = self.words(i)?;
        Dims::new(words).ok_or_else(|| format!("a list of {} numbers for at most {}", words.len(), shape::MAX_RANK))
    }

    /// Attributes 0, 1, 2 as `[outer, count, inner]`. The product fits a tensor even where one of them is 0, so that no
    /// kernel can overflow in computing a part of it.
    fn middle(&self) -> Checked<Middle> {
        let dims = [self.word(0)?, self.word(1)?, self.word(2)?];
        shape::numel(&dims).ok_or_else(|| format!("{dims:?} has more than 2^31 - 1 elements"))?;
        let [outer, count, inner] = dims.map(|dim| dim as usize);
        Ok(Middle { outer, count, inner })
    }

    fn scan(&self, kind: ScanOp) -> Checked<Scan> {
        Ok(Scan { kind, axes: self.middle()?, reverse: self.flag(3)?, exclusive: self.flag(4)? })
    }

    /// `outer, groups, channels, inner` of groupNorm, `outer, channels` of the others, which come first; with what follows
    /// them. The product fits a tensor even where one of them is 0.
    fn rows(&self, kind: NormKind) -> Checked<(NormRows, usize)> {
        let (dims, next) = if kind == NormKind::Group {
            ([self.word(0)?, self.word(1)?, self.word(2)?, self.word(3)?], 4)
        } else {
            ([self.word(0)?, 1, self.word(1)?, 1], 2)
        };
        shape::numel(&dims).ok_or_else(|| format!("{dims:?} has more than 2^31 - 1 elements"))?;
        let [outer, groups, channels, inner] = dims.map(|dim| dim as usize);
        Ok((NormRows { kind, outer, groups, channels, inner }, next))
    }

    fn norm(&self, kind: NormKind) -> Checked<Op> {
        let (rows, next) = self.rows(kind)?;
        Ok(Op::Norm { rows, eps: self.float(next)? })
    }

    fn norm_grad(&self, kind: NormKind) -> Checked<Op> {
        let (rows, next) = self.rows(kind)?;
        Ok(Op::NormGrad { rows, wanted: self.wanted(next)? })
    }

    /// The same three as `[outer, channels, inner]`.
    fn channels(&self) -> Checked<Channels> {
        let Middle { outer, count, inner } = self.middle()?;
        Ok(Channels { outer, channels: count, inner })
    }

    fn wanted(&self, i: usize) -> Checked<Wanted> {
        match self.word(i)? {
            bits @ 1..=7 => Ok(Wanted { dx: bits & 1 != 0, dweight: bits & 2 != 0, dbias: bits & 4 != 0 }),
            bits => Err(format!("wanted is {bits}, not 1 to 7")),
        }
    }

    fn segments(&self, i: usize) -> Checked<Box<[Segment]>> {
        let words = self.words(i)?;
        let (pairs, []) = words.as_chunks() else {
            return Err(format!("segments are pairs, not {} words", words.len()));
        };
        let mut segments = Vec::new();
        segments.try_reserve_exact(pairs.len()).map_err(|_| "no memory for the segments".to_string())?;
        segments.extend(pairs.iter().map(|&[parameter, offset]| Segment { parameter, offset }));
        Ok(segments.into())
    }

    fn smoothed(&self) -> Checked<Smoothed> {
        let smoothing = self.float(1)?;
        if !(0.0..=1.0).contains(&smoothing) {
            return Err(format!("labelSmoothing is {smoothing}, not from 0 to 1"));
        }
        Ok(Smoothed { ignore_index: self.word(0)?.cast_signed(), smoothing })
    }

    /// Attribute 0 is the size of a row; the scalars stand from `first` on.
    fn uniform(&self, first: usize) -> Checked<Uniform> {
        Ok(Uniform {
            inner: self.word(0)?,
            seed: [self.scalar(first)?, self.scalar(first + 1)?],
            site: self.scalar(first + 2)?,
            draw: self.scalar(first + 3)?,
            row_base: self.scalar(first + 4)?,
        })
    }

    fn parameters(&self) -> Checked<[f64; 2]> {
        let mut parameters = [0.0; 2];
        for (i, parameter) in parameters.iter_mut().enumerate().take(self.length) {
            *parameter = self.float(i)?;
        }
        Ok(parameters)
    }
}

/// The operation of a row with these attributes; `inputs` and `outputs` are the slots bound so far.
pub(super) fn op(row: &Opcode, attributes: &Attributes, inputs: usize, outputs: usize) -> Checked<Op> {
    let a = attributes;
    Ok(match row.name {
        "input" => Op::Input { index: inputs as u32 },
        "output" => Op::Output { index: outputs as u32 },
        "view" => Op::View { offset: a.word(0)? },
        "assign" => Op::Assign,
        "addInto" => Op::AddInto,
        "sum" => Op::Reduce { kind: ReduceOp::Sum, axes: a.middle()? },
        "mean" => Op::Reduce { kind: ReduceOp::Mean, axes: a.middle()? },
        "max" => Op::Reduce { kind: ReduceOp::Max, axes: a.middle()? },
        "min" => Op::Reduce { kind: ReduceOp::Min, axes: a.middle()? },
        "argmax" => Op::Reduce { kind: ReduceOp::Argmax, axes: a.middle()? },
        "argmin" => Op::Reduce { kind: ReduceOp::Argmin, axes: a.middle()? },
        "variance" => Op::Reduce { kind: ReduceOp::Variance { correction: a.float(3)? }, axes: a.middle()? },
        "topK" => Op::TopK { axes: a.middle()?, k: a.word(3)? as usize },
        "cumsum" => Op::Scan(a.scan(ScanOp::Sum)?),
        "cumprod" => Op::Scan(a.scan(ScanOp::Product)?),
        "softmax" => Op::Softmax { log: false, axes: a.middle()? },
        "logSoftmax" => Op::Softmax { log: true, axes: a.middle()? },
        "softmaxGrad" => Op::SoftmaxGrad { log: false, axes: a.middle()? },
        "logSoftmaxGrad" => Op::SoftmaxGrad { log: true, axes: a.middle()? },
        "matmul" => Op::Matmul { transpose_a: a.flag(0)?, transpose_b: a.flag(1)? },
        "linear" => Op::Linear { activation: a.activation(0)?, save_z: a.flag(1)? },
        "linearGrad" => Op::LinearGrad { activation: a.activation(0)?, wanted: a.wanted(1)? },
        "crossEntropy" => Op::CrossEntropy { ignore_index: a.word(0)?.cast_signed() },
        "crossEntropyGrad" => Op::CrossEntropyGrad { ignore_index: a.word(0)?.cast_signed() },
        "weightedCrossEntropy" => Op::WeightedCrossEntropy(a.smoothed()?),
        "weightedCrossEntropyGrad" => Op::WeightedCrossEntropyGrad(a.smoothed()?),
        "transpose" => Op::Transpose { permutation: a.dims(0)? },
        "concat" => Op::Concat { axis: a.word(0)? },
        "slice" => Op::Slice { starts: a.dims(0)? },
        "pad" => Op::Pad { before: a.dims(0)?, value: a.scalar(1)? },
        "gather" => Op::Gather { axis: a.word(0)?, of: a.indexed(1)? },
        "scatterAdd" => Op::ScatterAdd { axis: a.word(0)?, of: a.indexed(1)? },
        "require" => Op::Require { reason: a.reason(0)? },
        "squaredNorm" => Op::SquaredNorm,
        "sgd" => Op::Sgd(Sgd {
            lr: a.scalar(0)?,
            momentum: a.float(1)?,
            dampening: a.float(2)?,
            weight_decay: a.float(3)?,
            nesterov: a.flag(4)?,
            segments: a.segments(5)?,
        }),
        "adam" => Op::Adam(Adam {
            lr: a.scalar(0)?,
            beta1: a.float(1)?,
            beta2: a.float(2)?,
            eps: a.float(3)?,
            weight_decay: a.float(4)?,
            decoupled: a.flag(5)?,
            segments: a.segments(6)?,
        }),
        "rmsprop" => Op::Rmsprop(Rmsprop {
            lr: a.scalar(0)?,
            alpha: a.float(1)?,
            eps: a.float(2)?,
            weight_decay: a.float(3)?,
            momentum: a.float(4)?,
            segments: a.segments(5)?,
        }),
        "ema" => Op::Ema(Ema { weight: a.scalar(0)?, segments: a.segments(1)? }),
        "uniform" => Op::Uniform(a.uniform(1)?),
        "dropout" => Op::Dropout(Dropout { of: a.uniform(3)?, threshold: a.word(1)?, scale: a.float(2)? }),
        "layerNorm" => a.norm(NormKind::Layer)?,
        "layerNormGrad" => a.norm_grad(NormKind::Layer)?,
        "groupNorm" => a.norm(NormKind::Group)?,
        "groupNormGrad" => a.norm_grad(NormKind::Group)?,
        "rmsNorm" => a.norm(NormKind::Rms)?,
        "rmsNormGrad" => a.norm_grad(NormKind::Rms)?,
        "batchNormStatistics" => Op::BatchNorm(BatchNormOp::Statistics(a.channels()?)),
        "batchNormVariance" => Op::BatchNorm(BatchNormOp::Variance { eps: a.float(0)? }),
        "batchNorm" => Op::BatchNorm(BatchNormOp::Forward(a.channels()?)),
        "batchNormGradSums" => Op::BatchNorm(BatchNormOp::GradSums(a.channels()?)),
        "batchNormGrad" => Op::BatchNorm(BatchNormOp::Grad(a.channels()?)),
        "batchNormUpdate" => Op::BatchNorm(BatchNormOp::Update(RunningUpdate {
            momentum: a.scalar(0)?,
            cumulative: a.flag(1)?,
            unbiased: a.flag(2)?,
        })),
        name => Op::Element(element(name, a)?),
    })
}

fn element(name: &str, a: &Attributes) -> Checked<ElementOp> {
    use BinaryOp as B;
    use UnaryOp as U;
    let unary = ElementOp::Unary;
    let binary = ElementOp::Binary;
    Ok(match name {
        "full" => ElementOp::Full { scalar: a.scalar(0)? },
        "expand" => ElementOp::Expand,
        "cast" => ElementOp::Cast,
        "where" => ElementOp::Where,
        "clip" => ElementOp::Clip { low: a.scalar(0)?, high: a.scalar(1)? },
        "neg" => unary(U::Neg),
        "abs" => unary(U::Abs),
        "sign" => unary(U::Sign),
        "square" => unary(U::Square),
        "sqrt" => unary(U::Sqrt),
        "rsqrt" => unary(U::Rsqrt),
        "reciprocal" => unary(U::Reciprocal),
        "exp" => unary(U::Exp),
        "expm1" => unary(U::Expm1),
        "log" => unary(U::Log),
        "log1p" => unary(U::Log1p),
        "erf" => unary(U::Erf),
        "floor" => unary(U::Floor),
        "ceil" => unary(U::Ceil),
        "logicalNot" => unary(U::LogicalNot),
        "isFinite" => unary(U::IsFinite),
        "add" => binary(B::Add),
        "sub" => binary(B::Sub),
        "mul" => binary(B::Mul),
        "div" => binary(B::Div),
        "pow" => binary(B::Pow),
        "maximum" => binary(B::Maximum),
        "minimum" => binary(B::Minimum),
        "equal" => binary(B::Equal),
        "notEqual" => binary(B::NotEqual),
        "greater" => binary(B::Greater),
        "greaterEqual" => binary(B::GreaterEqual),
        "less" => binary(B::Less),
        "lessEqual" => binary(B::LessEqual),
        "logicalAnd" => binary(B::LogicalAnd),
        "logicalOr" => binary(B::LogicalOr),
        other => match other.strip_suffix("Grad") {
            Some(forward) => {
                ElementOp::ActivationGrad { activation: activation(forward)?, parameters: a.parameters()? }
            }
            None => ElementOp::Activation { activation: activation(other)?, parameters: a.parameters()? },
        },
    })
}

fn activation(name: &str) -> Checked<Activation> {
    Ok(match name {
        "relu" => Activation::Relu,
        "leakyRelu" => Activation::LeakyRelu,
        "elu" => Activation::Elu,
        "sigmoid" => Activation::Sigmoid,
        "tanh" => Activation::Tanh,
        "silu" => Activation::Silu,
        "softplus" => Activation::Softplus,
        "heaviside" => Activation::Heaviside,
        "gelu" => Activation::Gelu,
        "geluTanh" => Activation::GeluTanh,
        other => return Err(format!("{other} has no meaning here")),
    })
}
