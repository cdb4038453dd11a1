//! Programs as text, for people: `%3: f32[32,512] = linear %0, %1, %2 {activation: relu, saveZ: 0}`. Scalars of the run
//! are `$0`, `$1`, …; an absent operand is `none`.

use super::op::{
    BatchNormOp, Channels, Dropout, ElementOp, Middle, NormKind, NormRows, Op, ReduceOp, Segment, Uniform, Wanted,
};
use super::{Instruction, Program};
use crate::cpu::activation::Activation;
use std::fmt;

impl Program {
    /// One instruction as text; nothing for a number that is none.
    pub fn line(&self, number: usize) -> String {
        self.instructions.get(number).map_or_else(String::new, |instruction| Line(self, instruction).to_string())
    }
}

/// One line per instruction.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.instructions.iter().try_for_each(|instruction| writeln!(f, "{}", Line(self, instruction)))
    }
}

struct Line<'a>(&'a Program, &'a Instruction);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(program, instruction) = self;
        let results = program.results(instruction);
        for id in results.clone() {
            let register = program.register(id);
            let comma = if id == results.start { "" } else { ", " };
            write!(f, "{comma}%{id}: {}{}", register.dtype.name(), register.dims)?;
        }
        f.write_str(if results.is_empty() { "" } else { " = " })?;
        f.write_str(instruction.row.name)?;
        for (i, operand) in program.operands(instruction).iter().enumerate() {
            f.write_str(if i == 0 { " " } else { ", " })?;
            match operand {
                Some(id) => write!(f, "%{id}")?,
                None => f.write_str("none")?,
            }
        }
        f.write_str(&attributes(instruction))
    }
}

/// ` {name: value, …}`, or nothing.
fn attributes(instruction: &Instruction) -> String {
    let values = values(&instruction.op);
    let pairs: Vec<String> =
        instruction.row.attributes.iter().zip(values).map(|((name, _), value)| format!("{name}: {value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(" {{{}}}", pairs.join(", ")) }
}

/// The attributes' values in the order of the table.
fn values(op: &Op) -> Vec<String> {
    match op {
        Op::Input { .. } | Op::Output { .. } | Op::Assign | Op::AddInto | Op::SquaredNorm => vec![],
        Op::View { offset } => vec![offset.to_string()],
        Op::Element(op) => element(*op),
        Op::Reduce { kind, axes } => {
            let mut values = middle(*axes);
            if let ReduceOp::Variance { correction } = kind {
                values.push(correction.to_string());
            }
            values
        }
        Op::TopK { axes, k } => [middle(*axes), vec![k.to_string()]].concat(),
        Op::Scan(of) => [middle(of.axes), vec![flag(of.reverse), flag(of.exclusive)]].concat(),
        Op::Softmax { axes, .. } | Op::SoftmaxGrad { axes, .. } => middle(*axes),
        Op::Matmul { transpose_a, transpose_b } => vec![flag(*transpose_a), flag(*transpose_b)],
        Op::Linear { activation, save_z } => vec![name(*activation), flag(*save_z)],
        Op::LinearGrad { activation, wanted } => {
            vec![name(*activation), gradients(*wanted)]
        }
        Op::Norm { rows, eps } => [norm_rows(*rows), vec![eps.to_string()]].concat(),
        Op::NormGrad { rows, wanted } => [norm_rows(*rows), vec![gradients(*wanted)]].concat(),
        Op::CrossEntropy { ignore_index } | Op::CrossEntropyGrad { ignore_index } => vec![ignore_index.to_string()],
        Op::WeightedCrossEntropy(rule) | Op::WeightedCrossEntropyGrad(rule) => {
            vec![rule.ignore_index.to_string(), rule.smoothing.to_string()]
        }
        Op::Transpose { permutation } => vec![permutation.to_string()],
        Op::Concat { axis } => vec![axis.to_string()],
        Op::Gather { axis, of } | Op::ScatterAdd { axis, of } => vec![axis.to_string(), (*of as u32).to_string()],
        Op::Require { reason } => vec![(*reason as u32).to_string()],
        Op::Slice { starts } => vec![starts.to_string()],
        Op::Pad { before, value } => vec![before.to_string(), scalar(*value)],
        Op::Sgd(sgd) => vec![
            scalar(sgd.lr),
            sgd.momentum.to_string(),
            sgd.dampening.to_string(),
            sgd.weight_decay.to_string(),
            flag(sgd.nesterov),
            segments(&sgd.segments),
        ],
        Op::Adam(adam) => vec![
            scalar(adam.lr),
            adam.beta1.to_string(),
            adam.beta2.to_string(),
            adam.eps.to_string(),
            adam.weight_decay.to_string(),
            flag(adam.decoupled),
            segments(&adam.segments),
        ],
        Op::Rmsprop(rule) => vec![
            scalar(rule.lr),
            rule.alpha.to_string(),
            rule.eps.to_string(),
            rule.weight_decay.to_string(),
            rule.momentum.to_string(),
            segments(&rule.segments),
        ],
        Op::Ema(rule) => vec![scalar(rule.weight), segments(&rule.segments)],
        Op::BatchNorm(op) => batch_norm(*op),
        Op::Uniform(of) => [of.inner.to_string()].into_iter().chain(counter(of)).collect(),
        Op::Dropout(Dropout { of, threshold, scale }) => {
            let numbers = [of.inner.to_string(), threshold.to_string(), scale.to_string()];
            numbers.into_iter().chain(counter(of)).collect()
        }
    }
}

fn batch_norm(op: BatchNormOp) -> Vec<String> {
    match op {
        BatchNormOp::Statistics(of) | BatchNormOp::Forward(of) | BatchNormOp::GradSums(of) | BatchNormOp::Grad(of) => {
            let Channels { outer, channels, inner } = of;
            middle(Middle { outer, count: channels, inner })
        }
        BatchNormOp::Variance { eps } => vec![eps.to_string()],
        BatchNormOp::Update(update) => vec![scalar(update.momentum), flag(update.cumulative), flag(update.unbiased)],
    }
}

fn element(op: ElementOp) -> Vec<String> {
    match op {
        ElementOp::Full { scalar: value } => vec![scalar(value)],
        ElementOp::Clip { low, high } => vec![scalar(low), scalar(high)],
        // More than the table has attributes: unused parameters fall off.
        ElementOp::Activation { parameters, .. } | ElementOp::ActivationGrad { parameters, .. } => {
            parameters.iter().map(ToString::to_string).collect()
        }
        ElementOp::Expand | ElementOp::Cast | ElementOp::Unary(_) | ElementOp::Binary(_) | ElementOp::Where => vec![],
    }
}

fn counter(of: &Uniform) -> [String; 5] {
    [of.seed[0], of.seed[1], of.site, of.draw, of.row_base].map(scalar)
}

fn middle(axes: Middle) -> Vec<String> {
    [axes.outer, axes.count, axes.inner].iter().map(ToString::to_string).collect()
}

fn norm_rows(rows: NormRows) -> Vec<String> {
    let NormRows { kind, outer, groups, channels, inner } = rows;
    let sizes = if kind == NormKind::Group { vec![outer, groups, channels, inner] } else { vec![outer, channels] };
    sizes.iter().map(ToString::to_string).collect()
}

/// `dx+dbias`.
fn gradients(wanted: Wanted) -> String {
    let names = [(wanted.dx, "dx"), (wanted.dweight, "dweight"), (wanted.dbias, "dbias")];
    let wanted: Vec<&str> = names.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    wanted.join("+")
}

fn flag(is: bool) -> String {
    u8::from(is).to_string()
}

fn scalar(index: u32) -> String {
    format!("${index}")
}

/// `parameter@offset` each.
fn segments(segments: &[Segment]) -> String {
    let each: Vec<String> = segments.iter().map(|s| format!("{}@{}", s.parameter, s.offset)).collect();
    format!("[{}]", each.join(","))
}

/// The name in `ACTIVATION_CODES`: that of the variant, its first letter small.
fn name(activation: Activation) -> String {
    let mut name = format!("{activation:?}");
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::testing::{A, F32, I32, Writer};

    #[test]
    fn instructions_read_like_assignments() {
        let mut writer = Writer::default();
        let x = writer.input(F32, &[32, 784]);
        let weight = writer.input(F32, &[784, 512]);
        writer.op("linear", &[(F32, &[32, 512])], &[x, weight, super::super::NONE], &[A::W(1), A::W(0)]);
        let slab = writer.input(F32, &[600]);
        let steps = writer.input(I32, &[1]);
        let row = writer.op("view", &[(F32, &[512])], &[2], &[A::W(0)]);
        let attributes = [A::W(0), A::F(0.0), A::F(0.0), A::F(0.5), A::W(0), A::L(&[0, 64])];
        let none = super::super::NONE;
        writer.op("sgd", &[], &[slab, none, steps, none, none, row], &attributes);
        writer.output(2);
        let program = Program::decode(&writer.code).unwrap();
        assert_eq!(
            program.to_string(),
            "%0: f32[32,784] = input\n\
             %1: f32[784,512] = input\n\
             %2: f32[32,512] = linear %0, %1, none {activation: relu, saveZ: 0}\n\
             %3: f32[600] = input\n\
             %4: i32[1] = input\n\
             %5: f32[512] = view %2 {offset: 0}\n\
             sgd %3, none, %4, none, none, %5 \
             {lr: $0, momentum: 0, dampening: 0, weightDecay: 0.5, nesterov: 0, segments: [0@64]}\n\
             output %2\n"
        );
        assert_eq!(program.line(99), "");
    }
}
