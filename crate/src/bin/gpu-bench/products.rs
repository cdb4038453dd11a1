//! Matrix products: squares and few rows by every family beside the kernel that everybody writes first, transposes, and relu(XW + b)
//! at the batch sizes of a layer.

use std::rc::Rc;

use super::measure::{Bench, Case, Expected, Failure, Slack, Work};
use super::memory::{Arena, bits, numbers, step};
use super::plain;
use super::report::Report;
use tilegrad::cpu::activation::Activation;
use tilegrad::cpu::gemm::{Epilogue, Matrix, gemm};
use tilegrad::gpu::kernels::Target;
use tilegrad::gpu::kernels::gemm::{Family, matmul_by};
use tilegrad::gpu::kernels::shader::Aligned;
use tilegrad::plan::{Operand, StepKind};
use tilegrad::program::Op;

/// Measures all of them.
pub fn run(bench: &mut Bench, report: &mut Report) -> Result<(), Failure> {
    let sizes: &[usize] = if bench.is_quick() { &[256, 1024] } else { &[256, 512, 1024, 2048, 4096] };
    for &n in sizes {
        matmul(bench, report, [n; 3], [false, false])?;
    }
    matmul(bench, report, [8, 1024, 1024], [false, false])?;
    for transposes in [[true, false], [false, true], [true, true]] {
        matmul(bench, report, [1024; 3], transposes)?;
    }
    for batch in [1, 8, 32, 128, 512] {
        linear(bench, report, batch)?;
    }
    Ok(())
}

/// How far a sum of products may be off: both it and the expected one are within Higham's bound, for chains of at most
/// 256 terms and sums of those, of the same sum of absolute values.
fn bound(magnitudes: Rc<Vec<f32>>, k: usize) -> Slack {
    let roundings = (k.min(256) + k.div_ceil(256) + 2) as f32;
    Box::new(move |at, _| f32::EPSILON * roundings * magnitudes.get(at).copied().unwrap_or(0.0))
}

fn magnitude(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| value.abs()).collect()
}

fn matmul(bench: &mut Bench, report: &mut Report, sizes: [usize; 3], [ta, tb]: [bool; 2]) -> Result<(), Failure> {
    let [m, k, n] = sizes;
    let mark = |transposed| if transposed { "ᵀ" } else { "" };
    let name = format!("A{}·B{} [{m}, {k}, {n}]", mark(ta), mark(tb));
    if !bench.wants(&name) {
        return Ok(());
    }
    let (x, y) = (numbers(m * k, 1), numbers(k * n, 2));
    let product = |bench: &Bench, x: &[f32], y: &[f32]| -> Result<Vec<f32>, Failure> {
        let matrix = |data, rows, cols, transposed| Matrix { data, rows, cols, transposed };
        let mut c = vec![0.0; m * n];
        gemm(&bench.cpu, matrix(x, m, k, ta), matrix(y, k, n, tb), &mut c, Epilogue::NONE)?;
        Ok(c)
    };
    let words = bits(&product(bench, &x, &y)?);
    let magnitudes = Rc::new(product(bench, &magnitude(&x), &magnitude(&y))?);
    let mut arena = Arena::default();
    let stored =
        |rows, cols, transposed| if transposed { [cols as u32, rows as u32] } else { [rows as u32, cols as u32] };
    let (a, b) = (arena.floats(&stored(m, k, ta), &x), arena.floats(&stored(k, n, tb), &y));
    let c = arena.result(&stored(m, n, false));
    let expected = vec![Expected { operand: c, words, slack: Some(bound(magnitudes, k)) }];
    let work = Work::Operations(2.0 * (m * k * n) as f64);
    let case = Case { name, work, arena, scalars: Vec::new(), expected };

    // Slow kernels on slow adapters would take minutes for nothing new.
    let is_small = n <= 1024 || !bench.is_software();
    let naive = if is_small && !ta && !tb { Some(naive(bench, report, &case, [&a, &b, &c], sizes)?) } else { None };
    let chosen = step(Op::Matmul { transpose_a: ta, transpose_b: tb }, &[Some(a), Some(b)], &[c], &[]);
    let prepared = bench.prepare(&chosen)?;
    let outcome = bench.measure(&case, &prepared)?;
    report.add(&case.name, "as chosen", work, outcome, naive);
    let StepKind::Kernel(kernel) = &chosen.kind else { return Ok(()) };
    if is_small && !ta && !tb {
        for family in Family::all(bench.traits(), m, k) {
            let prepared = matmul_by(kernel, family, Target { traits: bench.traits(), aligned: Aligned::default() })?;
            let outcome = bench.measure(&case, &prepared)?;
            report.add(&case.name, &family.to_string(), work, outcome, naive);
        }
    }
    Ok(())
}

/// Measures the kernel that everybody writes first; the seconds it takes.
fn naive(
    bench: &mut Bench,
    report: &mut Report,
    case: &Case,
    operands: [&Operand; 3],
    sizes: [usize; 3],
) -> Result<f64, Failure> {
    let prepared = plain::matmul(bench.traits(), operands, sizes)?;
    let outcome = bench.measure(case, &prepared)?;
    let seconds = outcome.best;
    report.add(&case.name, "naive", case.work, outcome, None);
    Ok(seconds)
}

/// relu(XW + b) of a batch of rows, with W of 1024 by 1024.
fn linear(bench: &mut Bench, report: &mut Report, m: usize) -> Result<(), Failure> {
    let size = 1024;
    let name = format!("relu(XW + b) [{m}, {size}, {size}]");
    if !bench.wants(&name) {
        return Ok(());
    }
    let (x, w, bias) = (numbers(m * size, 1), numbers(size * size, 2), numbers(size, 3));
    let product = |bench: &Bench, x: &[f32], w: &[f32], bias: &[f32], activation| -> Result<Vec<f32>, Failure> {
        let mut y = vec![0.0; m * size];
        let epilogue = Epilogue { bias: Some(bias), activation, ..Epilogue::NONE };
        gemm(&bench.cpu, Matrix::new(x, m, size), Matrix::new(w, size, size), &mut y, epilogue)?;
        Ok(y)
    };
    let words = bits(&product(bench, &x, &w, &bias, Activation::Relu)?);
    let absolute = [&x, &w, &bias].map(|values| magnitude(values));
    let magnitudes = Rc::new(product(bench, &absolute[0], &absolute[1], &absolute[2], Activation::None)?);
    let mut arena = Arena::default();
    let inputs = [
        arena.floats(&[m as u32, size as u32], &x),
        arena.floats(&[size as u32; 2], &w),
        arena.floats(&[size as u32], &bias),
    ];
    let y = arena.result(&[m as u32, size as u32]);
    let expected = vec![Expected { operand: y, words, slack: Some(bound(magnitudes, size)) }];
    let work = Work::Operations(2.0 * (m * size * size) as f64);
    let case = Case { name, work, arena, scalars: Vec::new(), expected };
    let op = Op::Linear { activation: Activation::Relu, save_z: false };
    let prepared = bench.prepare(&step(op, &inputs.map(Some), &[y], &[]))?;
    let outcome = bench.measure(&case, &prepared)?;
    report.add(&case.name, "as chosen", work, outcome, None);
    Ok(())
}
