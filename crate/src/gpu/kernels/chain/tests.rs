//! Elementwise chains against `cpu`: every operation, broadcasting, fused against instruction by instruction; texts of random
//! programs through naga, without a GPU.

use super::super::prepare_fused;
use super::super::shader::Aligned;
use super::super::testing::{Lab, Outcome, Settings, operand, validate};
use super::*;
use crate::cpu::activation::Activation;
use crate::cpu::{Cpu, Isa, Pool, elementwise};
use crate::gpu::Class;
use crate::plan::{Base, ChainOutput, Location, Operand, Options, Plan, StepKind};
use crate::program::Program;
use crate::program::testing::{BOOL, F32, I32, Random, random_program};
use crate::shape::{Dims, numel};

fn target(traits: &Traits) -> Target<'_> {
    Target { traits, aligned: Aligned::default() }
}

fn op(op: ElementOp, from: Dtype, to: Dtype, operands: &[ChainOperand]) -> ChainOp {
    let mut all = [ChainOperand::None; 3];
    all[..operands.len()].copy_from_slice(operands);
    ChainOp { instruction: 0, op, operands: all, operand_dtype: from, dtype: to }
}

/// A chain over an arena in which its operands follow each other, `shift` elements after multiples of 16, the results
/// after them; and the size of that arena.
fn chain(dims: &[u32], inputs: &[(Dtype, &[u32])], shift: usize, ops: Vec<ChainOp>, outputs: &[u8]) -> (Chain, usize) {
    let mut end = 0;
    let mut place = |dtype, dims: &[u32], shift: usize| {
        let operand = operand(dtype, dims, end + shift);
        end = (end + shift + operand.numel).next_multiple_of(16);
        operand
    };
    let inputs = inputs.iter().map(|&(dtype, dims)| place(dtype, dims, shift)).collect();
    let outputs: Vec<_> = outputs
        .iter()
        .map(|&of| ChainOutput {
            op: of,
            operand: place(ops[usize::from(of)].dtype, dims, 0),
            depends_on: 0,
            in_place_of: None,
        })
        .collect();
    (Chain { dims: Dims::new(dims).unwrap(), numel: numel(dims).unwrap(), inputs, ops, outputs }, end)
}

/// The results of a chain on an arena: the cpu's and the lab's, one list of words each per result.
fn both(lab: &mut Lab, chain: &Chain, arena: &[u32], scalars: &[f64]) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
    let part = |arena: &[u32], operand: &Operand| {
        arena[operand.location.offset..operand.location.offset + operand.numel].to_vec()
    };
    let inputs: Vec<_> = chain.inputs.iter().map(|input| part(arena, input)).collect();
    let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
    let mut want = vec![vec![0; chain.numel]; chain.outputs.len()];
    let mut apart = chain.clone();
    apart.outputs.iter_mut().for_each(|output| output.in_place_of = None);
    let mut slices: Vec<_> = want.iter_mut().map(Vec::as_mut_slice).collect();
    let cpu = Cpu { isa: Isa::Scalar, pool: Pool::new(1).unwrap() };
    elementwise::Chain::new(&apart).unwrap().run(&cpu, &inputs, &mut slices, scalars);
    let traits = lab.traits.clone();
    let prepared = prepare(chain, target(&traits)).unwrap();
    let Outcome { arena, .. } = lab.run(&prepared, arena, Settings { scalars, ..Settings::default() });
    let got = chain.outputs.iter().map(|output| part(&arena, &output.operand)).collect();
    (want, got)
}

const UNARY: [UnaryOp; 16] = [
    UnaryOp::Neg,
    UnaryOp::Abs,
    UnaryOp::Sign,
    UnaryOp::Square,
    UnaryOp::Sqrt,
    UnaryOp::Rsqrt,
    UnaryOp::Reciprocal,
    UnaryOp::Exp,
    UnaryOp::Expm1,
    UnaryOp::Log,
    UnaryOp::Log1p,
    UnaryOp::Erf,
    UnaryOp::Floor,
    UnaryOp::Ceil,
    UnaryOp::LogicalNot,
    UnaryOp::IsFinite,
];

const BINARY: [BinaryOp; 15] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Pow,
    BinaryOp::Maximum,
    BinaryOp::Minimum,
    BinaryOp::Equal,
    BinaryOp::NotEqual,
    BinaryOp::Greater,
    BinaryOp::GreaterEqual,
    BinaryOp::Less,
    BinaryOp::LessEqual,
    BinaryOp::LogicalAnd,
    BinaryOp::LogicalOr,
];

/// Every elementwise operation on every dtype it takes, with the dtype of its result.
fn every_operation() -> Vec<(ElementOp, Dtype, Dtype)> {
    let mut all = Vec::new();
    for dtype in [F32, I32, BOOL] {
        all.extend([F32, I32, BOOL].map(|to| (ElementOp::Cast, dtype, to)));
        all.extend([ElementOp::Full { scalar: 0 }, ElementOp::Expand, ElementOp::Where].map(|op| (op, dtype, dtype)));
        let (float, number) = (dtype == F32, dtype != BOOL);
        if number {
            all.push((ElementOp::Clip { low: 0, high: 1 }, dtype, dtype));
        }
        all.extend(UNARY.into_iter().filter_map(|op| {
            let takes = match op {
                UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Square => number,
                UnaryOp::LogicalNot => dtype == BOOL,
                _ => float,
            };
            takes.then_some((ElementOp::Unary(op), dtype, if op == UnaryOp::IsFinite { BOOL } else { dtype }))
        }));
        all.extend(BINARY.into_iter().filter_map(|op| {
            let takes = match op {
                BinaryOp::Div | BinaryOp::Pow => float,
                BinaryOp::Equal | BinaryOp::NotEqual => true,
                BinaryOp::LogicalAnd | BinaryOp::LogicalOr => dtype == BOOL,
                _ => number,
            };
            takes.then_some((ElementOp::Binary(op), dtype, if op.is_comparison() { BOOL } else { dtype }))
        }));
    }
    for code in 0..11 {
        let activation = Activation::from_code(code).unwrap();
        let parameters = activation.default_parameters();
        all.push((ElementOp::Activation { activation, parameters }, F32, F32));
        all.push((ElementOp::ActivationGrad { activation, parameters }, F32, F32));
    }
    all
}

/// Words of a dtype, special values first.
fn words(dtype: Dtype, count: usize, random: &mut Random) -> Vec<u32> {
    const FLOATS: [f32; 12] =
        [0.0, -0.0, 1.0, -1.0, 0.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-42, -2.5, 3e9];
    const INTEGERS: [i32; 8] = [0, 1, -1, i32::MAX, i32::MIN, 46_341, -46_341, 7];
    let word = |_| match dtype {
        Dtype::F32 if random.chance(40) => random.pick(&FLOATS).to_bits(),
        Dtype::F32 => (random.below(8000) as f32 / 1000.0 - 4.0).to_bits(),
        Dtype::I32 => random.pick(&INTEGERS) as u32,
        Dtype::Bool => random.below(2),
    };
    (0..count).map(word).collect()
}

#[test]
fn every_operation_agrees_with_the_cpu() {
    let Some(mut lab) = Lab::open() else { return };
    let mut random = Random::new(5);
    for (kind, from, to) in every_operation() {
        let dtypes: Vec<Dtype> = match kind {
            ElementOp::Where => vec![BOOL, from, from],
            _ => vec![from; kind.arity()],
        };
        let operands: Vec<_> = (0..dtypes.len()).map(|i| ChainOperand::Input(i as u8)).collect();
        let inputs: Vec<(Dtype, &[u32])> = dtypes.iter().map(|&dtype| (dtype, &[301u32][..])).collect();
        let (chain, size) = chain(&[301], &inputs, 0, vec![op(kind, from, to, &operands)], &[0]);
        let mut arena = vec![0; size];
        for input in &chain.inputs {
            let at = input.location.offset;
            arena[at..at + 301].copy_from_slice(&words(input.dtype, 301, &mut random));
        }
        let (want, got) = both(&mut lab, &chain, &arena, &[-1.5, 2.0]);
        for (i, (&want, &got)) in want[0].iter().zip(&got[0]).enumerate() {
            let (x, y) = (f32::from_bits(want), f32::from_bits(got));
            let near = to == F32 && (x.is_nan() && y.is_nan() || x == y || (x - y).abs() <= (5e-7 * x.abs()).max(5e-7));
            let arguments: Vec<_> = chain.inputs.iter().map(|x| arena[x.location.offset + i]).collect();
            assert!(want == got || near, "{kind:?} of {from:?} at {arguments:x?} is {got:x}, not {want:x}");
        }
    }
}

/// A random chain of operations that are exact on small integers, over operands that broadcast in random ways.
fn random_chain(random: &mut Random) -> (Chain, usize) {
    let dims: Vec<u32> = (0..random.below(5)).map(|_| random.pick(&[1, 2, 3, 4, 8, 12, 17])).collect();
    let shapes: Vec<(Dtype, Vec<u32>)> = (0..=random.below(4))
        .map(|_| {
            let from = if random.chance(40) { random.below(dims.len() as u32 + 1) as usize } else { 0 };
            let stretch = random.pick(&[0, 50]);
            let shape = dims[from..].iter().map(|&d| if random.chance(stretch) { 1 } else { d }).collect();
            (random.pick(&[F32, F32, I32, BOOL]), shape)
        })
        .collect();
    let mut values: Vec<(ChainOperand, Dtype)> =
        shapes.iter().enumerate().map(|(i, (dtype, _))| (ChainOperand::Input(i as u8), *dtype)).collect();
    values.extend([(ChainOperand::Scalar(1, F32), F32), (ChainOperand::Scalar(1, I32), I32)]);
    let mut ops = Vec::new();
    for i in 0..=random.below(6) {
        let pick = |random: &mut Random, dtype| {
            let found: Vec<_> = values.iter().filter(|value| value.1 == dtype).collect();
            if found.is_empty() { None } else { Some(found[random.below(found.len() as u32) as usize].0) }
        };
        let (a, from) = values[random.below(values.len() as u32) as usize];
        let b = pick(random, from).unwrap();
        let (kind, to, operands) = match (random.below(6), pick(random, BOOL)) {
            (0, Some(condition)) => (ElementOp::Where, from, vec![condition, a, b]),
            (1, _) if from != BOOL => (ElementOp::Binary(BinaryOp::Less), BOOL, vec![a, b]),
            (2, _) => (ElementOp::Cast, random.pick(&[F32, I32]), vec![a]),
            (3, _) if from != BOOL => (ElementOp::Binary(BinaryOp::Sub), from, vec![a, b]),
            (4, _) if from != BOOL => (ElementOp::Clip { low: 0, high: 1 }, from, vec![a]),
            (5, _) if from != BOOL => (ElementOp::Binary(BinaryOp::Maximum), from, vec![a, b]),
            _ => (ElementOp::Binary(BinaryOp::Equal), BOOL, vec![a, b]),
        };
        ops.push(op(kind, from, to, &operands));
        values.push((ChainOperand::Op(i as u8), to));
    }
    let last = ops.len() as u8 - 1;
    let mut outputs = vec![last];
    outputs.extend((0..last).filter(|_| random.chance(25)).take(3));
    let inputs: Vec<_> = shapes.iter().map(|(dtype, shape)| (*dtype, shape.as_slice())).collect();
    chain(&dims, &inputs, random.pick(&[0, 0, 1, 4]) as usize, ops, &outputs)
}

#[test]
fn chains_broadcast_fuse_and_pad_as_the_cpu_does() {
    let Some(mut lab) = Lab::open() else { return };
    let mut random = Random::new(6);
    let mut reused = 0;
    let mut met = Vec::new();
    for round in 0..150 {
        let (mut chain, size) = random_chain(&mut random);
        let mut arena: Vec<u32> = vec![f32::NAN.to_bits(); size];
        for input in &chain.inputs {
            for word in &mut arena[input.location.offset..input.location.offset + input.numel] {
                let number = random.below(9);
                *word = match input.dtype {
                    Dtype::F32 => (number as f32 - 4.0).to_bits(),
                    Dtype::I32 => number.wrapping_sub(4),
                    Dtype::Bool => number & 1,
                };
            }
        }
        let strides: Vec<_> = chain.inputs.iter().map(|input| strides_over(&input.dims, &chain.dims)).collect();
        let layout = Layout::merge(&chain.dims, &strides);
        met.extend((0..strides.len()).map(|input| fetch(&layout, input, layout.inner().is_multiple_of(4))));
        // The first result may take the place of an operand that is read straight through and padded.
        let first = chain.inputs[0];
        if first.numel == chain.numel
            && first.location.offset % 16 == 0
            && first.dtype == chain.outputs[0].operand.dtype
        {
            chain.outputs[0].operand.location = first.location;
            chain.outputs[0].in_place_of = Some(0);
            reused += 1;
        }
        let (want, got) = both(&mut lab, &chain, &arena, &[-2.0, 3.0]);
        assert_eq!(want, got, "{round}: {chain:#?}");
    }
    assert!(reused >= 10, "{reused}");
    for fetch in [Fetch::Uniform, Fetch::Straight, Fetch::Row, Fetch::Column, Fetch::Scattered] {
        assert!(met.iter().filter(|&&it| it == fetch).count() > 3, "{fetch:?}");
    }
}

#[test]
fn runs_of_vectors_end_where_the_operands_do() {
    use ChainOperand::Input;
    let Some(mut lab) = Lab::open() else { return };
    let most = 64 * 64 * SIZE * 4;
    // From two vectors of an invocation on, to as many as there may be; a second operand straight, by rows, by columns and
    // scattered.
    let cases: [(&[u32], &[u32]); 6] = [
        (&[33_001], &[33_001]),
        (&[most], &[most]),
        (&[most + 5], &[most + 5]),
        (&[8201, 8], &[8]),
        (&[8201, 8], &[8201, 1]),
        (&[20_003, 3], &[3]),
    ];
    for (dims, second) in cases {
        for in_place in [false, true] {
            let ops = vec![op(ElementOp::Binary(BinaryOp::Sub), F32, F32, &[Input(0), Input(1)])];
            let (mut chain, size) = chain(dims, &[(F32, dims), (F32, second)], 0, ops, &[0]);
            if in_place {
                chain.outputs[0].operand.location = chain.inputs[0].location;
                chain.outputs[0].in_place_of = Some(0);
            }
            let arena: Vec<u32> = (0..size).map(|i| ((i % 1009) as f32).to_bits()).collect();
            let (want, got) = both(&mut lab, &chain, &arena, &[]);
            assert!(want == got, "{dims:?} {second:?} {in_place}");
        }
    }
}

#[test]
fn a_fused_chain_has_the_bits_of_its_instructions() {
    use ChainOperand::{Input, Op};
    let Some(mut lab) = Lab::open() else { return };
    let binary = |kind, a, b| op(ElementOp::Binary(kind), F32, F32, &[a, b]);
    // (a + b) − b, a·b + a, x − x of what may be infinite: what compilers like to rearrange.
    let ops = vec![
        binary(BinaryOp::Add, Input(0), Input(1)),
        binary(BinaryOp::Sub, Op(0), Input(1)),
        binary(BinaryOp::Mul, Op(1), Input(1)),
        binary(BinaryOp::Add, Op(2), Input(0)),
        binary(BinaryOp::Sub, Op(3), Op(3)),
        binary(BinaryOp::Div, Input(0), Input(0)),
    ];
    let (chain, size) = chain(&[1000], &[(F32, &[1000]), (F32, &[1000])], 0, ops, &[1, 3, 4, 5]);
    let arena = words(F32, size, &mut Random::new(7));
    let (want, got) = both(&mut lab, &chain, &arena, &[]);
    for (want, got) in want.iter().flatten().zip(got.iter().flatten()) {
        assert!(want == got || f32::from_bits(*want).is_nan() && f32::from_bits(*got).is_nan(), "{want:x} {got:x}");
    }
}

#[test]
fn chains_of_any_program_are_valid() {
    let mut random = Random::new(8);
    let traits = Traits::software();
    let (mut longest, mut fused) = (0, [0; 2]);
    for _ in 0..600 {
        let program = Program::decode(&random_program(&mut random, 60).code).unwrap();
        let (before, after) = (Some(limits_before(&traits)), Some(limits_after(&traits)));
        let options = Options { fuse: true, before, after, rows: false, in_place: true, limits: limits(&traits) };
        let plan = Plan::new(&program, options).unwrap();
        for step in &plan.steps {
            for misaligned in [0, u64::MAX] {
                let target = Target { traits: &traits, aligned: Aligned { misaligned } };
                match &step.kind {
                    StepKind::Chain(chain) => {
                        let prepared = prepare(chain, target).unwrap();
                        assert_eq!(prepared.calls.is_empty(), chain.numel == 0);
                        prepared.calls.iter().for_each(validate);
                        longest = longest.max(chain.ops.len());
                    }
                    StepKind::Fused(step) => {
                        let others = [Class::Discrete, Class::Integrated].map(Traits::least);
                        for traits in others.iter().chain([&traits]) {
                            let prepared = prepare_fused(step, Target { traits, ..target }).unwrap();
                            assert!(!prepared.calls.is_empty());
                            prepared.calls.iter().for_each(validate);
                        }
                        fused[usize::from(step.after.is_some())] += 1;
                    }
                    StepKind::Kernel(_) => {}
                }
            }
        }
    }
    assert!(longest >= 6 && fused.iter().all(|&count| count > 30), "{longest} {fused:?}");
}

#[test]
fn the_text_depends_on_neither_sizes_nor_places() {
    let traits = Traits::software();
    let text = |batch: u32, scalar: u32, shift| {
        let ops = vec![
            op(ElementOp::Binary(BinaryOp::Add), F32, F32, &[ChainOperand::Input(0), ChainOperand::Input(1)]),
            op(ElementOp::Binary(BinaryOp::Mul), F32, F32, &[ChainOperand::Op(0), ChainOperand::Scalar(scalar, F32)]),
        ];
        let (chain, _) = chain(&[batch, 3, 20], &[(F32, &[batch, 3, 20]), (F32, &[3, 1])], shift, ops, &[1]);
        prepare(&chain, target(&traits)).unwrap().calls[0].shader.text.clone()
    };
    assert_eq!(text(7, 0, 0), text(1000, 5, 16));
    assert_ne!(text(7, 0, 0), text(7, 0, 1));
}

#[test]
fn the_largest_chain_fits_the_immediates_and_mistakes_are_errors() {
    use ChainOperand::{Input, Op, Scalar};
    let traits = Traits::software();
    let dims = [2u32; 8];
    let shapes: Vec<(Dtype, Vec<u32>)> =
        (0..8).map(|i| (F32, (0..8).map(|d| 1 + u32::from(d % 2 == i % 2)).collect())).collect();
    let inputs: Vec<_> = shapes.iter().map(|(dtype, shape)| (*dtype, shape.as_slice())).collect();
    let add = |a, b| op(ElementOp::Binary(BinaryOp::Add), F32, F32, &[a, b]);
    let mut ops = vec![add(Input(0), Scalar(0, F32))];
    ops.extend((1..8).map(|i| add(Op(i - 1), Input(i))));
    ops.extend((8..15).map(|i| add(Op(i - 1), Scalar(u32::from(i), F32))));
    let (largest, _) = chain(&dims, &inputs, 0, ops, &[3, 7, 11, 14]);
    let prepared = prepare(&largest, target(&traits)).unwrap();
    validate(&prepared.calls[0]);
    let mistakes = [add(Input(0), Op(0)), add(Input(1), Input(0)), add(ChainOperand::None, Input(0))];
    for mistake in mistakes {
        let (wrong, _) = chain(&[3], &[(F32, &[3])], 0, vec![mistake], &[0]);
        assert_eq!(prepare(&wrong, target(&traits)).unwrap_err().code(), "ERR_INTERNAL");
    }
    let (mut in_place, _) = chain(&[3], &[(F32, &[1])], 0, vec![add(Input(0), Input(0))], &[0]);
    in_place.outputs[0].in_place_of = Some(0);
    assert_eq!(prepare(&in_place, target(&traits)).unwrap_err().code(), "ERR_INTERNAL");
}

#[test]
fn slots_that_are_misaligned_are_read_by_words() {
    let traits = Traits::software();
    let ops = vec![op(ElementOp::Unary(UnaryOp::Exp), F32, F32, &[ChainOperand::Input(0)])];
    let (mut chain, _) = chain(&[64], &[(F32, &[64])], 0, ops, &[0]);
    chain.inputs[0].location = Location { base: Base::Input(2), offset: 0 };
    let text = |misaligned| {
        let target = Target { traits: &traits, aligned: Aligned { misaligned } };
        prepare(&chain, target).unwrap().calls[0].shader.text.clone()
    };
    assert!(text(0b1011).contains("a0_0: array<vec4<u32>>") && text(0b100).contains("a0_0: array<u32>"));
}
