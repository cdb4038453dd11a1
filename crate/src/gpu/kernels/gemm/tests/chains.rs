//! Chains behind products: one dispatch has the bits of the product and then the chain.

use super::super::super::{chain, prepare_fused};
use super::*;
use crate::plan::{After, Chain, ChainOp, ChainOperand, ChainOutput, Fused};
use crate::program::op::{BinaryOp, ElementOp};

/// t3 = (gelu(P)·mask + row)·column and t4 = t3 < row, of which one takes the place of P.
fn behind(memory: &mut Layout, numbers: &mut Numbers, product: Operand, shift: usize, boolean: bool) -> After {
    let [m, n] = [0, 1].map(|axis| product.dims[axis] as usize);
    let mut input = |dims: &[usize]| memory.input(dims, &numbers.reals(dims.iter().product()), shift);
    let (mask, row, column) = (input(&[m, n]), input(&[n]), input(&[m, 1]));
    let op = |op, operands: &[ChainOperand], dtype| {
        let mut all = [ChainOperand::None; 3];
        all[..operands.len()].copy_from_slice(operands);
        ChainOp { instruction: 0, op, operands: all, operand_dtype: Dtype::F32, dtype }
    };
    let gelu = ElementOp::Activation { activation: Activation::Gelu, parameters: [0.0; 2] };
    let binary = ElementOp::Binary;
    let (input, value) = (ChainOperand::Input, ChainOperand::Op);
    let ops = vec![
        op(gelu, &[input(1)], Dtype::F32),
        op(binary(BinaryOp::Mul), &[value(0), input(0)], Dtype::F32),
        op(binary(BinaryOp::Add), &[value(1), input(2)], Dtype::F32),
        op(binary(BinaryOp::Mul), &[value(2), input(3)], Dtype::F32),
        op(binary(BinaryOp::Less), &[value(3), input(2)], Dtype::Bool),
    ];
    let other = memory.result(&[m, n]);
    let output = |op: u8, takes: bool| ChainOutput {
        op,
        operand: Operand { dtype: ops[usize::from(op)].dtype, ..if takes { product } else { other } },
        depends_on: 15,
        in_place_of: takes.then_some(1),
    };
    let outputs = vec![output(3, !boolean), output(4, boolean)];
    let inputs = vec![mask, product, row, column];
    let chain = Chain { dims: product.dims, numel: product.numel, inputs, ops, outputs };
    After { result: 0, input: 1, chain }
}

#[test]
fn a_chain_in_the_same_dispatch_has_the_bits_of_one_behind_it() {
    let Some(mut lab) = Lab::open() else { return };
    let mut numbers = Numbers(5);
    let shapes = [(1, 16, 8), (7, 300, 12), (33, 20, 64), (130, 5, 68), (3, 0, 4), (9, 4, 7), (5, 6, 1)];
    for (at, traits) in disguises(&lab.traits).iter().enumerate() {
        for (round, (m, k, n)) in shapes.into_iter().enumerate() {
            let (boolean, shift) = (round % 2 == 1, (round + at) % 2);
            let mut memory = Layout::default();
            let x = memory.input(&[m, k], &numbers.reals(m * k), 0);
            let w = memory.input(&[k, n], &numbers.reals(k * n), 0);
            let bias = memory.input(&[n], &numbers.reals(n), 0);
            let product = memory.result(&[m, n]);
            let after = behind(&mut memory, &mut numbers, product, shift, boolean);
            let op = match round % 3 {
                0 => Op::Matmul { transpose_a: false, transpose_b: false },
                1 => Op::Linear { activation: Activation::Relu, save_z: false },
                _ => Op::Linear { activation: Activation::Silu, save_z: false },
            };
            let inputs = if round % 3 == 0 { vec![Some(x), Some(w)] } else { vec![Some(x), Some(w), Some(bias)] };
            let kernel = kernel(op, inputs, vec![product]);
            let target = Target { traits, aligned: Aligned::default() };
            let mut apart = prepare(&kernel, traits);
            apart.calls.extend(chain::prepare(&after.chain, target).unwrap().calls);
            let together = prepare_fused(&Fused { kernel, before: None, after: Some(after) }, target).unwrap();
            assert_eq!(together.calls.len(), if n % 4 == 0 { 1 } else { apart.calls.len() });
            for unchecked in [false, true] {
                let [one, two] = [&together, &apart].map(|prepared| memory.run(&mut lab, prepared, unchecked));
                let bits = |results: Vec<Vec<f32>>| results.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>();
                assert!(bits(one) == bits(two), "{m} {k} {n} {traits:?}");
            }
        }
    }
}

#[test]
fn what_is_too_much_for_one_shader_is_two() {
    let traits = Traits { bindings: 5, ..Traits::least(Class::Discrete) };
    let (mut memory, mut numbers) = (Layout::default(), Numbers(6));
    let x = memory.input(&[8, 8], &numbers.reals(64), 0);
    let product = memory.result(&[8, 8]);
    let after = behind(&mut memory, &mut numbers, product, 0, false);
    let op = Op::Matmul { transpose_a: false, transpose_b: false };
    let fused = Fused { kernel: kernel(op, vec![Some(x), Some(x)], vec![product]), before: None, after: Some(after) };
    let prepared = prepare_fused(&fused, Target { traits: &traits, aligned: Aligned::default() }).unwrap();
    assert_eq!(prepared.calls.len(), 2);
}
