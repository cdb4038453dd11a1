//! An instruction together with elementwise ones around it, so that what lies between them never makes the way through
//! memory: a chain whose result a reduction takes in as it is computed, or a chain that is applied to a product where it
//! is stored; around a softmax, both. What is computed, and in which order sums are taken, is as in two steps.

use super::{Chain, Kernel, Operand};

/// An instruction with a chain before it or behind it.
#[derive(Clone, PartialEq, Debug)]
pub struct Fused {
    /// The instruction. With a chain before it, its first operand is [`Base::Nowhere`](super::Base::Nowhere).
    pub kernel: Kernel,
    /// What computes the elements of the first operand: a chain of one output, which is that operand.
    pub before: Option<Chain>,
    /// What becomes of a result.
    pub after: Option<After>,
}

/// A chain behind an instruction.
#[derive(Clone, PartialEq, Debug)]
pub struct After {
    /// Which result it is applied to. Nobody else reads it.
    pub result: u8,
    /// Which input of the chain that is. Exactly one output is [in its place](super::ChainOutput::in_place_of).
    pub input: u8,
    /// The chain. Its other inputs exist before the instruction runs.
    pub chain: Chain,
}

impl Fused {
    /// What the instruction and the chain before it read from memory: if any of it does not exist, neither do the
    /// instruction's results.
    pub fn reads(&self) -> impl Iterator<Item = &Operand> {
        let skipped = usize::from(self.before.is_some());
        let before = self.before.iter().flat_map(|chain| &chain.inputs);
        self.kernel.inputs.iter().skip(skipped).flatten().chain(before)
    }

    /// The output of the chain behind the instruction that takes the place of the result.
    pub fn successor(&self) -> Option<&Operand> {
        let after = self.after.as_ref()?;
        let taker = after.chain.outputs.iter().find(|output| output.in_place_of == Some(after.input));
        taker.map(|output| &output.operand)
    }

    /// All that is in memory when the step is done.
    pub fn results(&self) -> impl Iterator<Item = &Operand> {
        let replaced = self.after.as_ref().map(|after| usize::from(after.result));
        let own = self.kernel.outputs.iter().enumerate();
        let own = own.filter(move |&(position, _)| Some(position) != replaced).map(|(_, operand)| operand);
        own.chain(self.after.iter().flat_map(|after| &after.chain.outputs).map(|output| &output.operand))
    }
}
