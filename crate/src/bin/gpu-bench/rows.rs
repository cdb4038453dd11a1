//! Kernels over rows and columns: softmax, norms, sums, cross-entropy.

use super::measure::{Bench, Case, Expected, Failure, Slack, Work};
use super::memory::{Arena, bits, numbers, step};
use super::report::Report;
use tilegrad::cpu::{loss, norm, reduce, softmax};
use tilegrad::dtype::Dtype;
use tilegrad::plan::Step;
use tilegrad::program::Op;
use tilegrad::program::op::{Middle, NormKind, NormRows, ReduceOp, Wanted};

const COLUMNS: usize = 1024;

/// Roundings in the longest way of a term into any sum here, those of the expected value included.
const ROUNDINGS: f32 = 512.0;

/// Relative error of a sum of terms of one sign, absolute error of a logarithm of one.
const SUM: f32 = ROUNDINGS * f32::EPSILON;

/// Measures all of them.
pub fn run(bench: &mut Bench, report: &mut Report) -> Result<(), Failure> {
    let few = 4096;
    // On a GPU the small size lies in the cache; the large one does not.
    let many = 65_536;
    let fits = bench.traits().buffer_bytes >= 3 * (many * COLUMNS * 4) as u64;
    let sizes = if bench.is_software() || bench.is_quick() || !fits { vec![few] } else { vec![few, many] };
    for rows in sizes {
        softmax_rows(bench, report, rows)?;
        norms(bench, report, rows)?;
        sums(bench, report, rows, "sum of rows", Middle { outer: rows, count: COLUMNS, inner: 1 })?;
        sums(bench, report, rows, "sum of columns", Middle { outer: 1, count: rows, inner: COLUMNS })?;
        cross_entropy(bench, report, rows)?;
    }
    Ok(())
}

/// Prepares, measures and reports one step.
fn one(bench: &mut Bench, report: &mut Report, case: &Case, step: &Step) -> Result<(), Failure> {
    let prepared = bench.prepare(step)?;
    let outcome = bench.measure(case, &prepared)?;
    report.add(&case.name, "", case.work, outcome, None);
    Ok(())
}

fn relative(error: f32) -> Slack {
    Box::new(move |_, want| want.abs() * error)
}

fn softmax_rows(bench: &mut Bench, report: &mut Report, rows: usize) -> Result<(), Failure> {
    let name = format!("softmax [{rows}, {COLUMNS}]");
    if !bench.wants(&name) {
        return Ok(());
    }
    let (dims, size) = ([rows as u32, COLUMNS as u32], rows * COLUMNS);
    let values = numbers(size, 1);
    let axes = Middle { outer: rows, count: COLUMNS, inner: 1 };
    let mut arena = Arena::default();
    let (x, y) = (arena.floats(&dims, &values), arena.result(&dims));
    let mut want = vec![0.0; size];
    softmax::softmax(&bench.cpu, false, axes, &values, &mut want);
    let expected = vec![Expected { operand: y, words: bits(&want), slack: Some(relative(SUM)) }];
    let case = Case { name, work: Work::Bytes(8.0 * size as f64), arena, scalars: Vec::new(), expected };
    one(bench, report, &case, &step(Op::Softmax { log: false, axes }, &[Some(x)], &[y], &[]))
}

fn norms(bench: &mut Bench, report: &mut Report, outer: usize) -> Result<(), Failure> {
    let [forward, backward] = ["layerNorm", "layerNormGrad"].map(|name| format!("{name} [{outer}, {COLUMNS}]"));
    if !bench.wants(&forward) && !bench.wants(&backward) {
        return Ok(());
    }
    let rows = NormRows { kind: NormKind::Layer, outer, groups: 1, channels: COLUMNS, inner: 1 };
    let (dims, size, line, column) = ([outer as u32, COLUMNS as u32], rows.numel(), [COLUMNS as u32], [outer as u32]);
    let (x, dy, weight, bias) = (numbers(size, 1), numbers(size, 2), numbers(COLUMNS, 3), numbers(COLUMNS, 4));
    let (mut y, mut means, mut scales) = (vec![0.0; size], vec![0.0; outer], vec![0.0; outer]);
    let affine = norm::Affine { weight: Some(&weight), bias: Some(&bias) };
    let to = norm::Normalized { y: &mut y, means: Some(&mut means), scales: &mut scales };
    norm::norm(&bench.cpu, rows, 1e-5, &x, affine, to);
    // Elements of y and x̂ are about 1, and those of sums over the batch have as many terms as there are rows.
    let near = |terms: usize| -> Slack { Box::new(move |_, want| 1e-5 * (1.0 + want.abs()) + 1e-7 * terms as f32) };
    let expects = |operand, words, terms| Expected { operand, words, slack: Some(near(terms)) };
    if bench.wants(&forward) {
        let mut arena = Arena::default();
        let inputs = [arena.floats(&dims, &x), arena.floats(&line, &weight), arena.floats(&line, &bias)].map(Some);
        let results = [arena.result(&dims), arena.result(&column), arena.result(&column)];
        let words = [bits(&y), bits(&means), bits(&scales)];
        let expected = results.iter().zip(words).map(|(&operand, words)| expects(operand, words, 0)).collect();
        let work = Work::Bytes(8.0 * size as f64);
        let case = Case { name: forward, work, arena, scalars: Vec::new(), expected };
        one(bench, report, &case, &step(Op::Norm { rows, eps: 1e-5 }, &inputs, &results, &[]))?;
    }
    if bench.wants(&backward) {
        let (mut dx, mut dweight, mut dbias) = (vec![0.0; size], vec![0; COLUMNS], vec![0; COLUMNS]);
        let saved = norm::Saved { dy: &dy, x: &x, weight: Some(&weight), means: Some(&means), scales: &scales };
        let (dx_to, to) = (Some(&mut dx[..]), (Some(&mut dweight[..]), Some(&mut dbias[..])));
        norm::norm_grad(&bench.cpu, rows, saved, norm::NormGradients { dx: dx_to, dweight: to.0, dbias: to.1 });
        let mut arena = Arena::default();
        let inputs = [
            arena.floats(&dims, &dy),
            arena.floats(&dims, &x),
            arena.floats(&line, &weight),
            arena.floats(&column, &means),
            arena.floats(&column, &scales),
        ];
        let results = [arena.result(&dims), arena.result(&line), arena.result(&line)];
        let expected = vec![
            expects(results[0], bits(&dx), 0),
            expects(results[1], dweight, outer),
            expects(results[2], dbias, outer),
        ];
        let work = Work::Bytes(12.0 * size as f64);
        let case = Case { name: backward, work, arena, scalars: Vec::new(), expected };
        let wanted = Wanted { dx: true, dweight: true, dbias: true };
        one(bench, report, &case, &step(Op::NormGrad { rows, wanted }, &inputs.map(Some), &results, &[]))?;
    }
    Ok(())
}

fn sums(bench: &mut Bench, report: &mut Report, rows: usize, what: &str, axes: Middle) -> Result<(), Failure> {
    let name = format!("{what} [{rows}, {COLUMNS}]");
    if !bench.wants(&name) {
        return Ok(());
    }
    let (dims, size) = ([rows as u32, COLUMNS as u32], rows * COLUMNS);
    // Of one sign: then the error is relative to the sum.
    let values: Vec<f32> = numbers(size, 1).iter().map(|x| x + 0.5).collect();
    let mut arena = Arena::default();
    let (x, y) = (arena.floats(&dims, &values), arena.result(&[(axes.outer * axes.inner) as u32]));
    let mut want = vec![0; axes.outer * axes.inner];
    reduce::reduce(&bench.cpu, ReduceOp::Sum, axes, Dtype::F32, &bits(&values), &mut want);
    let bytes = 4.0 * (size + want.len()) as f64;
    let expected = vec![Expected { operand: y, words: want, slack: Some(relative(SUM)) }];
    let case = Case { name, work: Work::Bytes(bytes), arena, scalars: Vec::new(), expected };
    one(bench, report, &case, &step(Op::Reduce { kind: ReduceOp::Sum, axes }, &[Some(x)], &[y], &[]))
}

fn cross_entropy(bench: &mut Bench, report: &mut Report, rows: usize) -> Result<(), Failure> {
    const IGNORE: i32 = -100;
    let [forward, backward] = ["crossEntropy", "crossEntropyGrad"].map(|name| format!("{name} [{rows}, {COLUMNS}]"));
    if !bench.wants(&forward) && !bench.wants(&backward) {
        return Ok(());
    }
    let (dims, size, items) = ([rows as u32, COLUMNS as u32], rows * COLUMNS, [rows as u32]);
    let logits = numbers(size, 1);
    let targets: Vec<i32> = (0..rows as i32).map(|row| row * 7919 % COLUMNS as i32).collect();
    let (mut losses, mut log_sums) = (vec![0.0; rows], vec![0.0; rows]);
    let counted = loss::cross_entropy(&bench.cpu, IGNORE, &logits, &targets, &mut losses, &mut log_sums);
    let counted = counted.map_err(|_| "the targets of a bench are classes")?;
    if bench.wants(&forward) {
        let mut arena = Arena::default();
        let inputs = [arena.floats(&dims, &logits), arena.integers(&items, &targets)].map(Some);
        let results = [arena.result(&items), arena.result(&items), arena.result(&[1])];
        let wanted = [bits(&losses), bits(&log_sums), bits(&[counted as f32])];
        // Both are about ln Σexp, whose absolute error is the relative one of the sum.
        let slack = || -> Slack { Box::new(|_, want| SUM * (1.0 + want.abs())) };
        let expected = results.iter().zip(wanted);
        let expected = expected.map(|(&operand, words)| Expected { operand, words, slack: Some(slack()) }).collect();
        let work = Work::Bytes(4.0 * (size + 3 * rows) as f64);
        let case = Case { name: forward, work, arena, scalars: Vec::new(), expected };
        one(bench, report, &case, &step(Op::CrossEntropy { ignore_index: IGNORE }, &inputs, &results, &[]))?;
    }
    if bench.wants(&backward) {
        let mut arena = Arena::default();
        let upstream = vec![1.0 / rows as f32; rows];
        let inputs = [
            arena.floats(&dims, &logits),
            arena.integers(&items, &targets),
            arena.floats(&items, &log_sums),
            arena.floats(&items, &upstream),
        ];
        let dx = arena.result(&dims);
        let mut want = vec![0.0; size];
        loss::cross_entropy_grad(&bench.cpu, IGNORE, &logits, &targets, &log_sums, &upstream, &mut want)
            .map_err(|_| "the targets of a bench are classes")?;
        let expected = vec![Expected { operand: dx, words: bits(&want), slack: Some(relative(SUM)) }];
        let work = Work::Bytes(4.0 * (2 * size + 3 * rows) as f64);
        let case = Case { name: backward, work, arena, scalars: Vec::new(), expected };
        let op = Op::CrossEntropyGrad { ignore_index: IGNORE };
        one(bench, report, &case, &step(op, &inputs.map(Some), &[dx], &[]))?;
    }
    Ok(())
}
