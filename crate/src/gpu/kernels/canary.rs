//! For tests that run kernels: an arena in which every operand lies between canaries, and a run that sees whether anything
//! but the results changed.

use super::testing::{Lab, Settings, operand};
use super::{Prepared, Target, prepare_kernel};
use crate::dtype::Dtype;
use crate::gpu::kernels::shader::Aligned;
use crate::gpu::{Class, Traits};
use crate::plan::{Kernel, Operand};
use crate::program::Op;

/// What lies between operands, and in results before they are written: a NaN that says where it was.
fn canary(place: usize) -> u32 {
    0x7fa0_0000 | place as u32 & 0xf_ffff
}

/// Operands between canaries.
#[derive(Default)]
pub struct Arena {
    words: Vec<u32>,
    /// Whether a word may change.
    open: Vec<bool>,
}

impl Arena {
    /// An operand that is read. It begins `shift` words behind a multiple of 16.
    pub fn read(&mut self, dtype: Dtype, dims: &[u32], words: &[u32], shift: usize) -> Operand {
        self.place(dtype, dims, words, shift, false)
    }

    /// An operand that is changed in place, likewise.
    pub fn changed(&mut self, dtype: Dtype, dims: &[u32], words: &[u32], shift: usize) -> Operand {
        self.place(dtype, dims, words, shift, true)
    }

    /// A result.
    pub fn written(&mut self, dtype: Dtype, dims: &[u32]) -> Operand {
        let count = operand(dtype, dims, 0).numel;
        let begin = self.words.len().next_multiple_of(16) + 16;
        let words: Vec<u32> = (begin..begin + count).map(canary).collect();
        let result = self.place(dtype, dims, &words, 0, true);
        let end = self.words.len().next_multiple_of(16);
        self.grow(end, true);
        result
    }

    fn place(&mut self, dtype: Dtype, dims: &[u32], words: &[u32], shift: usize, open: bool) -> Operand {
        self.grow(self.words.len().next_multiple_of(16) + 16 + shift, false);
        let placed = operand(dtype, dims, self.words.len());
        assert_eq!(placed.numel, words.len());
        self.words.extend(words);
        self.open.resize(self.words.len(), open);
        placed
    }

    fn grow(&mut self, length: usize, open: bool) {
        self.words.extend((self.words.len()..length).map(canary));
        self.open.resize(length, open);
    }

    /// Prepares and runs an instruction, as on a processor and as on a GPU, with and without bounds checks, and gives the
    /// arena. All runs must leave the same.
    pub fn run(&self, lab: &mut Lab, kernel: &Kernel, settings: Settings) -> Vec<u32> {
        let mut ways = [lab.traits.class, Class::Discrete]
            .map(|class| prepare(kernel, &Traits { class, ..lab.traits.clone() }))
            .to_vec();
        ways.dedup();
        let mut outcomes: Vec<_> = ways.iter().map(|prepared| self.outcome(lab, kernel, prepared, settings)).collect();
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{:?}", kernel.op);
        outcomes.swap_remove(0)
    }

    /// The same in one of these ways only, for instructions that add in another order in the other.
    pub fn run_as(&self, lab: &mut Lab, kernel: &Kernel, class: Class, settings: Settings) -> Vec<u32> {
        let prepared = prepare(kernel, &Traits { class, ..lab.traits.clone() });
        self.outcome(lab, kernel, &prepared, settings)
    }

    /// The arena after a run, which must be the same with and without bounds checks.
    fn outcome(&self, lab: &mut Lab, kernel: &Kernel, prepared: &Prepared, settings: Settings) -> Vec<u32> {
        let mut arena = self.words.clone();
        arena.extend((arena.len()..arena.len() + 16).map(canary));
        let [checked, unchecked] = [false, true].map(|unchecked| {
            let outcome = lab.run(prepared, &arena, Settings { unchecked, ..settings });
            for (i, (before, after)) in arena.iter().zip(&outcome.arena).enumerate() {
                let may = self.open.get(i).is_some_and(|&open| open);
                assert!(may || before == after, "word {i} of {:?} was written", kernel.op);
            }
            outcome.arena
        });
        assert!(checked == unchecked, "{:?}", kernel.op);
        checked
    }
}

/// An instruction on some operands.
pub fn kernel(op: Op, inputs: &[Option<Operand>], outputs: &[Operand]) -> Kernel {
    Kernel { op, inputs: inputs.to_vec(), outputs: outputs.to_vec(), mutates: &[] }
}

/// Prepares an instruction.
pub fn prepare(kernel: &Kernel, traits: &Traits) -> Prepared {
    prepare_kernel(kernel, Target { traits, aligned: Aligned::default() }).unwrap()
}

/// The words of an operand.
pub fn words<'a>(arena: &'a [u32], operand: &Operand) -> &'a [u32] {
    &arena[operand.location.offset..][..operand.numel]
}

/// Numbers in [−1, 1).
pub fn floats(count: usize, seed: u32) -> Vec<f32> {
    let word = |i: u32| i.wrapping_mul(0x9e37_79b9).wrapping_add(seed.wrapping_mul(0x85eb_ca6b)) >> 8;
    (0..count as u32).map(|i| word(i) as f32 / 8_388_608.0 - 1.0).collect()
}

/// The bits of numbers.
pub fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}
