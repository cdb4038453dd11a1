//! Products on an adapter against f64, and every text through naga. Results lie between canaries: nothing but a result and
//! its padding may be written.

mod chains;
mod families;
mod gradients;
mod products;
mod texts;

use super::super::testing::{Lab, Settings, operand};
use super::super::{Prepared, Target};
use super::*;
use crate::dtype::Dtype;
use crate::gpu::{Class, Traits};
use crate::plan::ALIGN;

/// What no kernel may write over.
const CANARY: u32 = 0xDEAD_BEEF;

/// Numbers in [−1, 1), the same at every run.
struct Numbers(u64);

impl Numbers {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, limit: usize) -> usize {
        self.bits() as usize % limit
    }

    fn real(&mut self) -> f32 {
        self.bits() as f32 / (1u64 << 30) as f32 - 1.0
    }

    fn reals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.real()).collect()
    }

    /// Whole numbers whose products of some hundred terms are exact.
    fn integers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.below(17) as f32 - 8.0).collect()
    }
}

/// Memory being laid out: operands and results with canaries in between.
#[derive(Default)]
struct Layout {
    words: Vec<u32>,
    results: Vec<Operand>,
}

impl Layout {
    /// An operand of these numbers, `shift` elements behind a multiple of 16.
    fn input(&mut self, dims: &[usize], numbers: &[f32], shift: usize) -> Operand {
        self.words.resize(self.words.len().next_multiple_of(ALIGN) + shift, CANARY);
        let operand = operand(Dtype::F32, &words(dims), self.words.len());
        assert_eq!(operand.numel, numbers.len());
        self.words.extend(numbers.iter().map(|x| x.to_bits()));
        // What stands behind an operand in a slab would show in any result that it gets into.
        self.words.extend([f32::NAN.to_bits(); 5]);
        operand
    }

    fn result(&mut self, dims: &[usize]) -> Operand {
        self.words.resize(self.words.len().next_multiple_of(ALIGN) + ALIGN, CANARY);
        let operand = operand(Dtype::F32, &words(dims), self.words.len());
        self.words.resize(self.words.len() + operand.numel.next_multiple_of(ALIGN) + ALIGN, CANARY);
        self.results.push(operand);
        operand
    }

    /// Runs a step, checks that it wrote what is its own, and gives the results.
    fn run(&self, lab: &mut Lab, prepared: &Prepared, unchecked: bool) -> Vec<Vec<f32>> {
        let arena = lab.run(prepared, &self.words, Settings { unchecked, ..Settings::default() }).arena;
        let owned = |at: usize| {
            self.results.iter().any(|result| {
                let begin = result.location.offset;
                (begin..begin + result.numel.next_multiple_of(ALIGN)).contains(&at)
            })
        };
        for (at, (before, after)) in self.words.iter().zip(&arena).enumerate() {
            assert!(before == after || owned(at), "word {at} was written: {:?}", self.results);
        }
        let read = |result: &Operand| {
            let begin = result.location.offset;
            arena[begin..begin + result.numel].iter().map(|&word| f32::from_bits(word)).collect()
        };
        self.results.iter().map(read).collect()
    }
}

fn words(dims: &[usize]) -> Vec<u32> {
    dims.iter().map(|&size| size as u32).collect()
}

fn kernel(op: Op, inputs: Vec<Option<Operand>>, outputs: Vec<Operand>) -> Kernel {
    Kernel { op, inputs, outputs, mutates: &[] }
}

fn prepare(kernel: &Kernel, traits: &Traits) -> Prepared {
    super::super::prepare_kernel(kernel, Target { traits, aligned: Aligned::default() }).unwrap()
}

/// The adapter as each class would see it: software families, and those of hardware with tiles of every size.
fn disguises(traits: &Traits) -> [Traits; 3] {
    let software = traits.clone();
    let small = Traits { class: Class::Discrete, workgroup_bytes: 16 << 10, ..traits.clone() };
    let large = Traits { class: Class::Software, subgroup: None, workgroup_bytes: 32 << 10, ..traits.clone() };
    [software, small, large]
}

/// A matrix stored by rows, transposed or not.
#[derive(Clone, Copy)]
struct Stored<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    transposed: bool,
}

impl Stored<'_> {
    fn at(&self, row: usize, col: usize) -> f64 {
        let index = if self.transposed { col * self.rows + row } else { row * self.cols + col };
        f64::from(self.data[index])
    }
}

/// A sum and that of the absolute values of its terms.
fn exact(a: Stored, b: Stored, row: usize, col: usize) -> (f64, f64) {
    (0..a.cols).fold((0.0, 0.0), |(sum, size), l| {
        let term = a.at(row, l) * b.at(l, col);
        (sum + term, size + term.abs())
    })
}

/// Higham's bound on the error of a sum of `terms` products in any order: γ = nu / (1 − nu), times Σ|a||b|.
fn gamma(terms: usize) -> f64 {
    let nu = terms as f64 * f64::from(f32::EPSILON) / 2.0;
    nu / (1.0 - nu)
}

/// Roundings in the longest way of a term into a sum of k: a chain, the blocks, and what an epilogue adds.
fn roundings(k: usize) -> usize {
    k.min(product::BLOCK) + k.div_ceil(product::BLOCK) + 2
}
