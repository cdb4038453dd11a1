//! What moves and maps elements: transpose, gather and its gradient, a chain of elementwise instructions.

use super::measure::{Bench, Case, Expected, Failure, Work};
use super::memory::{Arena, bits, numbers, step};
use super::report::Report;
use tilegrad::cpu::{elementwise, gather, shape};
use tilegrad::dtype::Dtype;
use tilegrad::plan::{Chain, ChainOp, ChainOperand, ChainOutput, Step, StepKind};
use tilegrad::program::Op;
use tilegrad::program::op::{BinaryOp, ElementOp, Indexed, UnaryOp};
use tilegrad::shape::Dims;

/// Measures all of them.
pub fn run(bench: &mut Bench, report: &mut Report) -> Result<(), Failure> {
    let size: u32 = if bench.is_software() || bench.is_quick() { 2048 } else { 8192 };
    transpose(bench, report, size)?;
    gather_and_scatter(bench, report)?;
    chain(bench, report, size as usize * size as usize)
}

fn one(bench: &mut Bench, report: &mut Report, case: &Case, step: &Step) -> Result<(), Failure> {
    let prepared = bench.prepare(step)?;
    let outcome = bench.measure(case, &prepared)?;
    report.add(&case.name, "", case.work, outcome, None);
    Ok(())
}

fn transpose(bench: &mut Bench, report: &mut Report, size: u32) -> Result<(), Failure> {
    let name = format!("transpose [{size}, {size}]");
    if !bench.wants(&name) {
        return Ok(());
    }
    let (dims, order, count) = ([size, size], [1, 0], size as usize * size as usize);
    let values = numbers(count, 1);
    let mut arena = Arena::default();
    let (x, y) = (arena.floats(&dims, &values), arena.result(&dims));
    let mut words = vec![0; count];
    shape::transpose(&bench.cpu, &dims, &order, &bits(&values), &mut words);
    let expected = vec![Expected { operand: y, words, slack: None }];
    let case = Case { name, work: Work::Bytes(8.0 * count as f64), arena, scalars: Vec::new(), expected };
    let permutation = Dims::new(&order).unwrap_or_default();
    one(bench, report, &case, &step(Op::Transpose { permutation }, &[Some(x)], &[y], &[]))
}

fn gather_and_scatter(bench: &mut Bench, report: &mut Report) -> Result<(), Failure> {
    let (slices, taken, inner) = (8192, 4096, 512);
    let [forward, backward] = ["gather", "scatterAdd"].map(|name| format!("{name} {taken} of [{slices}, {inner}]"));
    let axis = gather::Axis { outer: 1, size: slices, inner };
    // Some of them twice.
    let indices: Vec<i32> = (0..taken as i32).map(|i| i * 7919 % 5000).collect();
    let (table, picked) = ([slices as u32, inner as u32], [taken as u32, inner as u32]);
    if bench.wants(&forward) {
        let values = numbers(slices * inner, 1);
        let mut arena = Arena::default();
        let inputs = [arena.floats(&table, &values), arena.integers(&[taken as u32], &indices)].map(Some);
        let y = arena.result(&picked);
        let mut words = vec![0; taken * inner];
        gather::gather(&bench.cpu, axis, &bits(&values), &indices, &mut words).map_err(|_| "an index is outside")?;
        let work = Work::Bytes(8.0 * words.len() as f64);
        let expected = vec![Expected { operand: y, words, slack: None }];
        let case = Case { name: forward, work, arena, scalars: Vec::new(), expected };
        one(bench, report, &case, &step(Op::Gather { axis: 0, of: Indexed::Index }, &inputs, &[y], &[]))?;
    }
    if bench.wants(&backward) {
        let values = numbers(taken * inner, 1);
        let mut arena = Arena::default();
        let inputs = [arena.floats(&picked, &values), arena.integers(&[taken as u32], &indices)].map(Some);
        let y = arena.result(&table);
        let mut words = vec![0; slices * inner];
        gather::scatter_add(&bench.cpu, axis, Dtype::F32, &bits(&values), &indices, &mut words)
            .map_err(|_| "an index is outside")?;
        let work = Work::Bytes(4.0 * (values.len() + words.len()) as f64);
        // The order of the sums is the same on every device.
        let expected = vec![Expected { operand: y, words, slack: None }];
        let case = Case { name: backward, work, arena, scalars: Vec::new(), expected };
        one(bench, report, &case, &step(Op::ScatterAdd { axis: 0, of: Indexed::Index }, &inputs, &[y], &[]))?;
    }
    Ok(())
}

/// √|x·y + x|·y, fused.
fn chain(bench: &mut Bench, report: &mut Report, count: usize) -> Result<(), Failure> {
    use ChainOperand::{Input, Op};
    let name = format!("chain of 5 [{count}]");
    if !bench.wants(&name) {
        return Ok(());
    }
    let dims = [count as u32];
    let values = [numbers(count, 1), numbers(count, 2)];
    let mut arena = Arena::default();
    let inputs: Vec<_> = values.iter().map(|values| arena.floats(&dims, values)).collect();
    let y = arena.result(&dims);
    let (binary, unary) = (ElementOp::Binary, ElementOp::Unary);
    let ops = [
        (binary(BinaryOp::Mul), [Input(0), Input(1)]),
        (binary(BinaryOp::Add), [Op(0), Input(0)]),
        (unary(UnaryOp::Abs), [Op(1), ChainOperand::None]),
        (unary(UnaryOp::Sqrt), [Op(2), ChainOperand::None]),
        (binary(BinaryOp::Mul), [Op(3), Input(1)]),
    ];
    let ops = ops.into_iter().map(|(op, [a, b])| ChainOp {
        instruction: 0,
        op,
        operands: [a, b, ChainOperand::None],
        operand_dtype: Dtype::F32,
        dtype: Dtype::F32,
    });
    let output = ChainOutput { op: 4, operand: y, depends_on: 3, in_place_of: None };
    let chain = Chain { dims: y.dims, numel: count, inputs, ops: ops.collect(), outputs: vec![output] };
    let mut words = vec![0; count];
    let [a, b] = values.map(|values| bits(&values));
    elementwise::Chain::new(&chain)?.run(&bench.cpu, &[&a, &b], &mut [&mut words], &[]);
    // Where x·y + x cancels, it is off by the rounding of terms below 0.75, and the root of it by the root of that.
    let unit = f32::EPSILON;
    let slack = move |at: usize, want: f32| {
        let (x, y) = (f32::from_bits(a[at]), f32::from_bits(b[at]).abs());
        let inside = (x * y).abs() + x.abs();
        let root = if y > 0.0 { want.abs() / y } else { 0.0 };
        y * ((root * root + 2.0 * unit * inside).sqrt() - root) + 8.0 * unit * want.abs()
    };
    let expected = vec![Expected { operand: y, words, slack: Some(Box::new(slack)) }];
    let case = Case { name, work: Work::Bytes(12.0 * count as f64), arena, scalars: Vec::new(), expected };
    one(bench, report, &case, &Step { instruction: 0, nanoseconds: 0, kind: StepKind::Chain(chain) })
}
