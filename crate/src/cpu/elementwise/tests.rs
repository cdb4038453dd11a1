//! Chains against f64 formulas, against themselves unfused, and against index arithmetic.

use super::Chain;
use crate::cpu::activation::Activation;
use crate::cpu::{Cpu, Isa, Pool};
use crate::dtype::Dtype::{self, Bool, F32, I32};
use crate::plan::{self, Base, ChainOp, ChainOperand, ChainOutput, Location, Operand};
use crate::program::op::{BinaryOp, ElementOp, UnaryOp};
use crate::shape::{Dims, numel};

const SIZES: [u32; 9] = [0, 1, 7, 255, 256, 257, 1031, 4099, 40_009];

fn every_cpu() -> impl Iterator<Item = Cpu> {
    Isa::available().into_iter().map(|isa| Cpu { isa, pool: Pool::new(3).unwrap() })
}

fn operand(dims: &[u32], dtype: Dtype) -> Operand {
    let location = Location { base: Base::Arena, offset: 0 };
    let dims = Dims::new(dims).unwrap();
    Operand { register: 0, value: 0, location, dtype, dims, numel: numel(&dims).unwrap() }
}

fn op(op: ElementOp, from: Dtype, to: Dtype, operands: &[ChainOperand]) -> ChainOp {
    let mut all = [ChainOperand::None; 3];
    all[..operands.len()].copy_from_slice(operands);
    ChainOp { instruction: 0, op, operands: all, operand_dtype: from, dtype: to }
}

fn chain(dims: &[u32], inputs: &[&[u32]], ops: Vec<ChainOp>, outputs: &[u8]) -> plan::Chain {
    let out = operand(dims, F32);
    plan::Chain {
        dims: out.dims,
        numel: out.numel,
        inputs: inputs.iter().map(|dims| operand(dims, F32)).collect(),
        ops,
        outputs: outputs.iter().map(|&op| ChainOutput { op, operand: out, depends_on: 0, in_place_of: None }).collect(),
    }
}

fn run(cpu: &Cpu, chain: &plan::Chain, inputs: &[&[u32]], scalars: &[f64]) -> Vec<Vec<u32>> {
    let mut outputs = vec![vec![0xdead_beef; chain.numel]; chain.outputs.len()];
    let mut slices: Vec<_> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    Chain::new(chain).unwrap().run(cpu, inputs, &mut slices, scalars);
    outputs
}

/// Numbers that repeat nowhere soon, from −4 to 4.
fn floats(count: usize, seed: u32) -> Vec<u32> {
    let word = |i: u32| (i.wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b)) >> 8;
    (0..count as u32).map(|i| (word(i) as f32 / f32::from(1u16 << 12) / 512.0 - 4.0).to_bits()).collect()
}

fn lone(cpu: &Cpu, element: ElementOp, types: (Dtype, Dtype), inputs: &[&[u32]], scalars: &[f64]) -> Vec<u32> {
    let dims = [inputs.first().map_or(3, |x| x.len() as u32)];
    let shapes = vec![&dims[..]; inputs.len()];
    let operands: Vec<_> = (0..inputs.len() as u8).map(ChainOperand::Input).collect();
    let chain = chain(&dims, &shapes, vec![op(element, types.0, types.1, &operands)], &[0]);
    run(cpu, &chain, inputs, scalars).remove(0)
}

fn as_floats(words: &[u32]) -> Vec<f32> {
    words.iter().map(|&w| f32::from_bits(w)).collect()
}

fn words(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn unary_functions_follow_their_formulas() {
    type Case = (UnaryOp, fn(f64) -> f64, bool);
    let cases: [Case; 13] = [
        (UnaryOp::Neg, |x| -x, false),
        (UnaryOp::Abs, f64::abs, false),
        (UnaryOp::Sign, f64::signum, false),
        (UnaryOp::Square, |x| x * x, false),
        (UnaryOp::Sqrt, f64::sqrt, true),
        (UnaryOp::Rsqrt, |x| 1.0 / x.sqrt(), true),
        (UnaryOp::Reciprocal, |x| 1.0 / x, false),
        (UnaryOp::Exp, f64::exp, false),
        (UnaryOp::Expm1, f64::exp_m1, false),
        (UnaryOp::Log, f64::ln, true),
        (UnaryOp::Log1p, f64::ln_1p, true),
        (UnaryOp::Floor, f64::floor, false),
        (UnaryOp::Ceil, f64::ceil, false),
    ];
    for cpu in every_cpu() {
        for size in SIZES {
            for (unary, formula, positive) in cases {
                let mut x = floats(size as usize, 1);
                for w in &mut x {
                    *w &= if positive { 0x7fff_ffff } else { u32::MAX };
                }
                let y = lone(&cpu, ElementOp::Unary(unary), (F32, F32), &[&x], &[]);
                for (x, y) in as_floats(&x).into_iter().zip(as_floats(&y)) {
                    let want = formula(f64::from(x));
                    assert!(
                        (f64::from(y) - want).abs() <= 2.5e-7 * want.abs() || f64::from(y) == want,
                        "{unary:?}({x}) is {y}, not {want} on {:?}",
                        cpu.isa
                    );
                }
            }
        }
    }
}

#[test]
fn binary_functions_follow_their_formulas() {
    type Case = (BinaryOp, fn(f64, f64) -> f64);
    let cases: [Case; 7] = [
        (BinaryOp::Add, |a, b| a + b),
        (BinaryOp::Sub, |a, b| a - b),
        (BinaryOp::Mul, |a, b| a * b),
        (BinaryOp::Div, |a, b| a / b),
        (BinaryOp::Pow, |a, b| a.powf(b)),
        (BinaryOp::Maximum, f64::max),
        (BinaryOp::Minimum, f64::min),
    ];
    for cpu in every_cpu() {
        for size in SIZES {
            let (a, b) = (floats(size as usize, 2), floats(size as usize, 3));
            for (binary, formula) in cases {
                let y = lone(&cpu, ElementOp::Binary(binary), (F32, F32), &[&a, &b], &[]);
                for ((a, b), y) in as_floats(&a).into_iter().zip(as_floats(&b)).zip(as_floats(&y)) {
                    let want = formula(f64::from(a), f64::from(b));
                    assert!(
                        (f64::from(y) - want).abs() <= 2.5e-7 * want.abs() || (want.is_nan() && y.is_nan()),
                        "{binary:?}({a}, {b}) is {y}, not {want} on {:?}",
                        cpu.isa
                    );
                }
            }
        }
    }
}

#[test]
fn comparisons_follow_the_type() {
    let floats = words(&[1.0, -1.0, 0.0, f32::NAN, 2.0]);
    let others = words(&[2.0, -1.0, -0.0, f32::NAN, 1.0]);
    let ints: Vec<u32> = [1, -1, 0, i32::MIN, 2].iter().map(|&i: &i32| i as u32).collect();
    let other_ints: Vec<u32> = [2, -1, -2, i32::MAX, 1].iter().map(|&i: &i32| i as u32).collect();
    let cases = [
        (BinaryOp::Equal, [0, 1, 1, 0, 0], [0, 1, 0, 0, 0]),
        (BinaryOp::NotEqual, [1, 0, 0, 1, 1], [1, 0, 1, 1, 1]),
        (BinaryOp::Greater, [0, 0, 0, 0, 1], [0, 0, 1, 0, 1]),
        (BinaryOp::GreaterEqual, [0, 1, 1, 0, 1], [0, 1, 1, 0, 1]),
        (BinaryOp::Less, [1, 0, 0, 0, 0], [1, 0, 0, 1, 0]),
        (BinaryOp::LessEqual, [1, 1, 1, 0, 0], [1, 1, 0, 1, 0]),
    ];
    for cpu in every_cpu() {
        for (binary, float, int) in cases {
            let binary = ElementOp::Binary(binary);
            assert_eq!(lone(&cpu, binary, (F32, Bool), &[&floats, &others], &[]), float, "{binary:?}");
            assert_eq!(lone(&cpu, binary, (I32, Bool), &[&ints, &other_ints], &[]), int, "{binary:?}");
        }
    }
}

#[test]
fn integers_wrap_and_booleans_are_words() {
    let a: Vec<u32> = [i32::MAX, i32::MIN, -7, 0].iter().map(|&i| i as u32).collect();
    let b: Vec<u32> = [1, -1, 3, 5].iter().map(|&i: &i32| i as u32).collect();
    let signed = |words: Vec<u32>| words.into_iter().map(|w| w as i32).collect::<Vec<_>>();
    for cpu in every_cpu() {
        let unary = |u| signed(lone(&cpu, ElementOp::Unary(u), (I32, I32), &[&a], &[]));
        let binary = |op| signed(lone(&cpu, ElementOp::Binary(op), (I32, I32), &[&a, &b], &[]));
        assert_eq!(unary(UnaryOp::Neg), [-i32::MAX, i32::MIN, 7, 0]);
        assert_eq!(unary(UnaryOp::Abs), [i32::MAX, i32::MIN, 7, 0]);
        assert_eq!(unary(UnaryOp::Sign), [1, -1, -1, 0]);
        assert_eq!(unary(UnaryOp::Square), [1, 0, 49, 0]);
        assert_eq!(binary(BinaryOp::Add), [i32::MIN, i32::MAX, -4, 5]);
        assert_eq!(binary(BinaryOp::Sub), [i32::MAX - 1, i32::MIN + 1, -10, -5]);
        assert_eq!(binary(BinaryOp::Mul), [i32::MAX, i32::MIN, -21, 0]);
        assert_eq!(binary(BinaryOp::Maximum), [i32::MAX, -1, 3, 5]);
        assert_eq!(binary(BinaryOp::Minimum), [1, i32::MIN, -7, 0]);
        let clip = ElementOp::Clip { low: 1, high: 0 };
        assert_eq!(signed(lone(&cpu, clip, (I32, I32), &[&a], &[2.0, f64::NEG_INFINITY])), [2, i32::MIN, -7, 0]);

        let (p, q): (&[u32], &[u32]) = (&[0, 0, 1, 1], &[0, 1, 0, 1]);
        assert_eq!(lone(&cpu, ElementOp::Binary(BinaryOp::LogicalAnd), (Bool, Bool), &[p, q], &[]), [0, 0, 0, 1]);
        assert_eq!(lone(&cpu, ElementOp::Binary(BinaryOp::LogicalOr), (Bool, Bool), &[p, q], &[]), [0, 1, 1, 1]);
        assert_eq!(lone(&cpu, ElementOp::Unary(UnaryOp::LogicalNot), (Bool, Bool), &[q], &[]), [1, 0, 1, 0]);
        assert_eq!(lone(&cpu, ElementOp::Where, (F32, F32), &[p, &a, &b], &[]), [b[0], b[1], a[2], a[3]]);
    }
}

#[test]
fn casts_saturate_and_nan_passes_where_it_must() {
    let x = words(&[1.9, -1.9, f32::NAN, 3e9, f32::NEG_INFINITY, 0.0]);
    for cpu in every_cpu() {
        let cast = |from, to, x: &[u32]| lone(&cpu, ElementOp::Cast, (from, to), &[x], &[]);
        assert_eq!(cast(F32, I32, &x), [1, u32::MAX, 0, i32::MAX as u32, i32::MIN as u32, 0]);
        assert_eq!(cast(F32, Bool, &x), [1, 1, 1, 1, 1, 0]);
        assert_eq!(as_floats(&cast(I32, F32, &[3, u32::MAX, 0])), [3.0, -1.0, 0.0]);
        assert_eq!(cast(I32, Bool, &[3, u32::MAX, 0]), [1, 1, 0]);
        assert_eq!(as_floats(&cast(Bool, F32, &[1, 0])), [1.0, 0.0]);
        assert_eq!(cast(Bool, I32, &[1, 0]), [1, 0]);
        assert_eq!(lone(&cpu, ElementOp::Unary(UnaryOp::IsFinite), (F32, Bool), &[&x], &[]), [1, 1, 0, 1, 0, 1]);

        let nan = words(&[f32::NAN]);
        let one = words(&[1.0]);
        let is_nan = |y: Vec<u32>| as_floats(&y)[0].is_nan();
        for extreme in [BinaryOp::Maximum, BinaryOp::Minimum] {
            assert!(is_nan(lone(&cpu, ElementOp::Binary(extreme), (F32, F32), &[&nan, &one], &[])));
            assert!(is_nan(lone(&cpu, ElementOp::Binary(extreme), (F32, F32), &[&one, &nan], &[])));
        }
        let clip = ElementOp::Clip { low: 0, high: 1 };
        assert!(is_nan(lone(&cpu, clip, (F32, F32), &[&nan], &[0.0, 1.0])));
        assert_eq!(as_floats(&lone(&cpu, clip, (F32, F32), &[&x], &[-1.0, 1.5]))[..2], [1.5, -1.0]);
        let relu = ElementOp::Activation { activation: Activation::Relu, parameters: [0.0; 2] };
        assert!(is_nan(lone(&cpu, relu, (F32, F32), &[&nan], &[])));
        assert_eq!(lone(&cpu, ElementOp::Full { scalar: 1 }, (I32, I32), &[], &[0.0, -2.0]), [-2i32 as u32; 3]);
    }
}

/// (a·b + s) → gelu → ⊙ c, stored before and after, with a mask: enough values to make slots be given back and taken.
fn long_chain() -> (Vec<ChainOp>, Vec<u8>) {
    use ChainOperand::{Input, Op, Scalar};
    let gelu = ElementOp::Activation { activation: Activation::Gelu, parameters: [0.0; 2] };
    let binary = |b, x, y| op(ElementOp::Binary(b), F32, F32, &[x, y]);
    let ops = vec![
        binary(BinaryOp::Mul, Input(0), Input(1)),
        op(ElementOp::Full { scalar: 0 }, F32, F32, &[]),
        binary(BinaryOp::Add, Op(0), Op(1)),
        op(gelu, F32, F32, &[Op(2)]),
        op(ElementOp::Unary(UnaryOp::Exp), F32, F32, &[Op(2)]),
        binary(BinaryOp::Mul, Op(3), Input(2)),
        binary(BinaryOp::Maximum, Op(4), Scalar(1, F32)),
        op(ElementOp::Binary(BinaryOp::Greater), F32, Bool, &[Op(6), Op(5)]),
        op(ElementOp::Where, F32, F32, &[Op(7), Op(5), Op(6)]),
        binary(BinaryOp::Sub, Op(8), Op(8)),
        binary(BinaryOp::Add, Op(9), Op(3)),
    ];
    (ops, vec![3, 8, 10])
}

/// The same steps, one chain each, broadcast by hand.
fn unfused(cpu: &Cpu, ops: &[ChainOp], inputs: &[Vec<u32>], scalars: &[f64]) -> Vec<Vec<u32>> {
    let count = inputs[0].len();
    let mut values: Vec<Vec<u32>> = Vec::new();
    for step in ops {
        let operands: Vec<Vec<u32>> = step.operands[..step.op.arity()]
            .iter()
            .map(|o| match *o {
                ChainOperand::Input(i) => inputs[usize::from(i)].clone(),
                ChainOperand::Op(i) => values[usize::from(i)].clone(),
                ChainOperand::Scalar(s, _) => vec![(scalars[s as usize] as f32).to_bits(); count],
                ChainOperand::None => unreachable!(),
            })
            .collect();
        let slices: Vec<_> = operands.iter().map(Vec::as_slice).collect();
        let mut lone = chain(&[count as u32], &vec![&[count as u32][..]; slices.len()], vec![*step], &[0]);
        for (i, o) in lone.ops[0].operands[..slices.len()].iter_mut().enumerate() {
            *o = ChainOperand::Input(i as u8);
        }
        values.push(run(cpu, &lone, &slices, scalars).remove(0));
    }
    values
}

fn broadcast(x: &[u32], shape: &[u32], dims: &[u32]) -> Vec<u32> {
    let count = numel(dims).unwrap();
    (0..count)
        .map(|i| {
            let (mut rest, mut index, mut stride) = (i, 0, 1);
            for (axis, &size) in dims.iter().enumerate().rev() {
                let position = rest % size as usize;
                rest /= size as usize;
                if let Some(from) = (axis + shape.len()).checked_sub(dims.len())
                    && shape[from] != 1
                {
                    index += position * stride;
                    stride *= shape[from] as usize;
                }
            }
            x[index]
        })
        .collect()
}

#[test]
fn a_fused_chain_has_the_bits_of_its_steps() {
    let (ops, outputs) = long_chain();
    let shapes: [[&[u32]; 4]; 9] = [
        [&[0], &[0], &[1], &[]],
        [&[1], &[1], &[], &[1]],
        [&[4099], &[4099], &[4099], &[1]],
        [&[5, 1031], &[5, 1031], &[1031], &[5, 1]],
        [&[3, 5000], &[3, 5000], &[5000], &[3, 1]],
        [&[1000, 10], &[1000, 10], &[10], &[1000, 1]],
        [&[7, 3, 50], &[7, 3, 50], &[3, 1], &[7, 1, 50]],
        [&[2, 3, 300], &[2, 3, 300], &[2, 1, 300], &[3, 300]],
        [&[40, 257], &[40, 257], &[40, 257], &[257]],
    ];
    let scalars = [0.25, -0.5];
    for cpu in every_cpu() {
        for [dims, a, b, c] in shapes {
            let inputs: Vec<_> = [a, b, c].iter().zip(4..).map(|(s, seed)| floats(numel(s).unwrap(), seed)).collect();
            let slices: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
            let fused = run(&cpu, &chain(dims, &[a, b, c], ops.clone(), &outputs), &slices, &scalars);
            let full: Vec<_> = inputs.iter().zip([a, b, c]).map(|(x, s)| broadcast(x, s, dims)).collect();
            let values = unfused(&cpu, &ops, &full, &scalars);
            for (got, &of) in fused.iter().zip(&outputs) {
                assert!(*got == values[usize::from(of)], "step {of} over {dims:?} on {:?}", cpu.isa);
            }
        }
    }
}

#[test]
fn an_output_may_take_the_place_of_an_operand() {
    let (ops, outputs) = long_chain();
    let dims: [&[u32]; 2] = [&[40_009], &[6, 700]];
    for cpu in every_cpu() {
        for dims in dims {
            let last = &dims[dims.len() - 1..];
            let count = numel(dims).unwrap();
            let (a, b, c) = (floats(count, 4), floats(numel(last).unwrap(), 5), floats(count, 6));
            let mut plan = chain(dims, &[dims, last, dims], ops.clone(), &outputs);
            let want = run(&cpu, &plan, &[&a, &b, &c], &[0.25, -0.5]);
            plan.outputs[1].in_place_of = Some(2);
            let mut got = [vec![0; count], c, vec![0; count]];
            let mut slices: Vec<_> = got.iter_mut().map(Vec::as_mut_slice).collect();
            Chain::new(&plan).unwrap().run(&cpu, &[&a, &b, &[]], &mut slices, &[0.25, -0.5]);
            assert!(got.iter().eq(&want), "{dims:?} on {:?}", cpu.isa);
        }
    }
}

#[test]
fn a_lone_expand_repeats_its_operand() {
    for cpu in every_cpu() {
        for (dims, shape) in [([3, 4], &[4][..]), ([1000, 7], &[1000, 1]), ([2, 9000], &[9000]), ([50, 50], &[])] {
            let x = floats(numel(shape).unwrap(), 7);
            let expand = vec![op(ElementOp::Expand, F32, F32, &[ChainOperand::Input(0)])];
            let got = run(&cpu, &chain(&dims, &[shape], expand, &[0]), &[&x], &[]);
            assert!(got[0] == broadcast(&x, shape, &dims));
        }
    }
}

#[test]
fn mistakes_of_the_planner_are_errors() {
    let negate = |operand| vec![op(ElementOp::Unary(UnaryOp::Neg), F32, F32, &[operand])];
    for (ops, outputs) in [
        (negate(ChainOperand::Input(1)), &[0][..]),
        (negate(ChainOperand::Op(0)), &[0]),
        (negate(ChainOperand::None), &[0]),
        (negate(ChainOperand::Input(0)), &[0, 0]),
    ] {
        assert!(Chain::new(&chain(&[3], &[&[3]], ops, outputs)).is_err());
    }
    let mut broadcast_in_place = chain(&[3], &[&[1]], negate(ChainOperand::Input(0)), &[0]);
    broadcast_in_place.outputs[0].in_place_of = Some(0);
    assert!(Chain::new(&broadcast_in_place).is_err());
}
