//! Part of a chain, for a run in which some of its operands do not exist.

use super::{Chain, ChainOp, ChainOperand, ChainOutput};

impl Chain {
    /// The part of a chain that its `wanted` outputs need, for the rare run in which others cannot be had.
    #[must_use]
    pub fn part(&self, wanted: impl Fn(usize) -> bool) -> Self {
        let chain = self;
        let outputs = chain.outputs.iter().enumerate().filter(|&(output, _)| wanted(output)).map(|(_, output)| *output);
        let outputs: Vec<ChainOutput> = outputs.collect();
        let mut needed_ops: Vec<bool> = vec![false; chain.ops.len()];
        let mut needed_inputs: Vec<bool> = vec![false; chain.inputs.len()];
        let need = |flags: &mut [bool], index: u8| {
            if let Some(flag) = flags.get_mut(usize::from(index)) {
                *flag = true;
            }
        };
        for output in &outputs {
            need(&mut needed_ops, output.op);
        }
        for index in (0..chain.ops.len()).rev() {
            if needed_ops[index] {
                for operand in chain.ops[index].operands {
                    match operand {
                        ChainOperand::Op(op) => need(&mut needed_ops, op),
                        ChainOperand::Input(input) => need(&mut needed_inputs, input),
                        ChainOperand::Scalar(..) | ChainOperand::None => {}
                    }
                }
            }
        }
        let number = |flags: &[bool], index: u8| flags.iter().take(index.into()).filter(|&&flag| flag).count() as u8;
        let operand = |operand| match operand {
            ChainOperand::Op(op) => ChainOperand::Op(number(&needed_ops, op)),
            ChainOperand::Input(input) => ChainOperand::Input(number(&needed_inputs, input)),
            other => other,
        };
        let kept = |flags: &[bool], index: usize| flags.get(index).copied().unwrap_or(false);
        Chain {
            dims: chain.dims,
            numel: chain.numel,
            inputs: keep(&chain.inputs, |i| kept(&needed_inputs, i)),
            ops: keep(&chain.ops, |i| kept(&needed_ops, i))
                .into_iter()
                .map(|op| ChainOp { operands: op.operands.map(operand), ..op })
                .collect(),
            outputs: outputs
                .into_iter()
                .map(|output| ChainOutput {
                    op: number(&needed_ops, output.op),
                    in_place_of: output.in_place_of.map(|input| number(&needed_inputs, input)),
                    ..output
                })
                .collect(),
        }
    }
}

fn keep<T: Copy>(items: &[T], wanted: impl Fn(usize) -> bool) -> Vec<T> {
    items.iter().enumerate().filter(|&(index, _)| wanted(index)).map(|(_, item)| *item).collect()
}
