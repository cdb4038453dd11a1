//! What people call the steps of a plan: a name by which the same work at other places has the same one, its operands,
//! and how much there is to compute and to move.

use std::fmt::Write;

use super::{Chain, Kernel, Operand, Plan, Step, StepKind};
use crate::program::{Op, Program};

/// Instructions of a chain, and operands of a step, that are written out.
const SHOWN: usize = 6;

/// What a step is.
#[derive(Clone, PartialEq, Debug)]
pub struct Label {
    /// The names of its instructions: `linear`, `mul+add`.
    pub name: String,
    /// Its operands: `f32[32,784], f32[784,512] → f32[32,512]`.
    pub detail: String,
    /// Multiplications and additions of its matrix products; 0 for everything else, where bytes decide.
    pub flops: u64,
    /// Bytes of its operands and results.
    pub bytes: u64,
}

impl Plan {
    /// One label for each step.
    pub fn labels(&self, program: &Program) -> Vec<Label> {
        self.steps.iter().map(|step| label(step, program)).collect()
    }
}

fn label(step: &Step, program: &Program) -> Label {
    match &step.kind {
        StepKind::Chain(chain) => {
            let results: Vec<&Operand> = outputs(chain).collect();
            of(&names(chain, program), &chain.inputs.iter().collect::<Vec<_>>(), &results, 0)
        }
        StepKind::Kernel(kernel) => {
            let inputs: Vec<&Operand> = kernel.inputs.iter().flatten().collect();
            let results: Vec<&Operand> = kernel.outputs.iter().collect();
            of(&[name(program, step.instruction)], &inputs, &results, multiply_adds(kernel))
        }
        StepKind::Fused(fused) => {
            let after = fused.after.as_ref();
            let chained = |chain: Option<&Chain>| chain.map(|chain| names(chain, program)).unwrap_or_default();
            let mut all = chained(fused.before.as_ref());
            all.push(name(program, step.instruction));
            all.extend(chained(after.map(|after| &after.chain)));
            let mut inputs: Vec<&Operand> = fused.reads().collect();
            if let Some(after) = after {
                let beside = after.chain.inputs.iter().enumerate();
                inputs.extend(beside.filter(|&(i, _)| i != usize::from(after.input)).map(|(_, operand)| operand));
            }
            of(&all, &inputs, &fused.results().collect::<Vec<_>>(), multiply_adds(&fused.kernel))
        }
    }
}

fn of(names: &[&str], inputs: &[&Operand], results: &[&Operand], multiply_adds: u64) -> Label {
    Label {
        name: joined(names.iter(), "+"),
        detail: detail(inputs, results),
        flops: 2 * multiply_adds,
        bytes: bytes(inputs) + bytes(results),
    }
}

fn names(chain: &Chain, program: &Program) -> Vec<&'static str> {
    chain.ops.iter().map(|op| name(program, op.instruction)).collect()
}

fn outputs(chain: &Chain) -> impl Iterator<Item = &Operand> {
    chain.outputs.iter().map(|output| &output.operand)
}

fn name(program: &Program, instruction: u32) -> &'static str {
    program.instructions().get(instruction as usize).map_or("", |known| known.row.name)
}

fn detail(inputs: &[&Operand], results: &[&Operand]) -> String {
    let list = |operands: &[&Operand]| joined(operands.iter().map(|operand| shape(operand)), ", ");
    match (list(inputs), list(results)) {
        (inputs, results) if results.is_empty() => inputs,
        (inputs, results) if inputs.is_empty() => format!("→ {results}"),
        (inputs, results) => format!("{inputs} → {results}"),
    }
}

fn shape(operand: &Operand) -> String {
    format!("{}{}", operand.dtype.name(), operand.dims)
}

/// The first few of a list, and how many more there are.
fn joined(parts: impl Iterator<Item = impl AsRef<str>>, separator: &str) -> String {
    let (mut text, mut count) = (String::new(), 0_usize);
    for part in parts {
        if count < SHOWN {
            text.push_str(if count == 0 { "" } else { separator });
            text.push_str(part.as_ref());
        }
        count += 1;
    }
    if count > SHOWN {
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{} more", count - SHOWN);
    }
    text
}

fn bytes(operands: &[&Operand]) -> u64 {
    operands.iter().map(|operand| operand.numel as u64 * 4).sum()
}

/// Multiply-adds of matrix products.
fn multiply_adds(kernel: &Kernel) -> u64 {
    let input = |position: usize| kernel.inputs.get(position).copied().flatten();
    let output = |position: usize| kernel.outputs.get(position).map_or(0, |operand| operand.numel as u64);
    // An axis of an operand, counted from the last.
    let size = |operand: Option<Operand>, axis: usize| {
        u64::from(operand.and_then(|operand| operand.dims.iter().rev().nth(axis).copied()).unwrap_or(0))
    };
    match &kernel.op {
        Op::Matmul { transpose_a, .. } => output(0) * size(input(0), usize::from(*transpose_a)),
        Op::Linear { .. } => output(0) * size(input(0), 0),
        Op::LinearGrad { wanted, .. } => {
            // dx = dz·Wᵀ sums over the columns of dy, dW = xᵀ·dz over its rows.
            let dy = input(0);
            let (elements, columns) = (dy.map_or(0, |dy| dy.numel as u64), size(dy, 0));
            let dx = if wanted.dx { output(0) * columns } else { 0 };
            let weight = if wanted.dweight { output(usize::from(wanted.dx)) } else { 0 };
            dx + weight * elements.checked_div(columns).unwrap_or(0)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::plan::Options;
    use crate::program::testing::{A, F32, Writer};

    fn labels(writer: &Writer) -> Vec<Label> {
        let program = Program::decode(&writer.code).unwrap();
        Plan::new(&program, Options::ALL).unwrap().labels(&program)
    }

    #[test]
    fn a_product_says_what_it_computes_and_moves() {
        let mut writer = Writer::default();
        let x = writer.input(F32, &[32, 8]);
        let weight = writer.input(F32, &[8, 4]);
        writer.op("linear", &[(F32, &[32, 4])], &[x, weight, crate::program::NONE], &[A::W(0), A::W(0)]);
        writer.output(2);
        let expected = Label {
            name: "linear".into(),
            detail: "f32[32,8], f32[8,4] → f32[32,4]".into(),
            flops: 2 * 32 * 8 * 4,
            bytes: 4 * (32 * 8 + 8 * 4 + 32 * 4),
        };
        assert_eq!(labels(&writer), [expected]);
    }

    #[test]
    fn gradients_of_a_product_count_those_that_are_wanted() {
        let flops = |wanted: u32, results: &[(Dtype, &[u32])]| {
            let mut writer = Writer::default();
            let dy = writer.input(F32, &[32, 4]);
            let x = writer.input(F32, &[32, 8]);
            let weight = writer.input(F32, &[8, 4]);
            let needed = |bit: u32, operand| if wanted & bit == 0 { crate::program::NONE } else { operand };
            let operands = [dy, crate::program::NONE, needed(2, x), needed(1, weight)];
            writer.op("linearGrad", results, &operands, &[A::W(0), A::W(wanted)]);
            (0..results.len() as u32).for_each(|i| writer.output(3 + i));
            labels(&writer)[0].flops
        };
        let product = 2 * 32 * 8 * 4;
        assert_eq!(flops(1, &[(F32, &[32, 8])]), product);
        assert_eq!(flops(2, &[(F32, &[8, 4])]), product);
        assert_eq!(flops(3, &[(F32, &[32, 8]), (F32, &[8, 4])]), 2 * product);
        assert_eq!(flops(4, &[(F32, &[4])]), 0);
    }

    #[test]
    fn a_fused_step_has_the_names_and_operands_of_all_its_parts() {
        let mut writer = Writer::default();
        let x = writer.input(F32, &[32, 8]);
        let weight = writer.input(F32, &[8, 4]);
        let shape = (F32, &[32, 4][..]);
        let product = writer.op("matmul", &[shape], &[x, weight], &[A::W(0), A::W(0)]);
        let other = writer.input(F32, &[32, 4]);
        let sum = writer.like("add", &[product, other], &[]);
        writer.output(sum);
        let expected = Label {
            name: "matmul+add".into(),
            detail: "f32[32,8], f32[8,4], f32[32,4] → f32[32,4]".into(),
            flops: 2 * 32 * 8 * 4,
            bytes: 4 * (32 * 8 + 8 * 4 + 2 * 32 * 4),
        };
        assert_eq!(labels(&writer), [expected]);
    }

    #[test]
    fn long_chains_are_shortened() {
        let mut writer = Writer::default();
        let mut last = writer.input(F32, &[5]);
        for _ in 0..8 {
            last = writer.like("neg", &[last], &[]);
        }
        writer.output(last);
        let labels = labels(&writer);
        assert_eq!(labels.len(), 1);
        assert_eq!(labels[0].name, "neg+neg+neg+neg+neg+neg+2 more");
        assert_eq!((labels[0].detail.as_str(), labels[0].bytes), ("f32[5] → f32[5]", 40));
    }
}
