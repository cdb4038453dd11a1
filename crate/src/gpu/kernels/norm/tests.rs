//! Norms of rows and their gradients against `cpu`, the bits that other rows and places must not change, and texts through naga.

use super::super::canary::{Arena, bits, floats, kernel, prepare, words};
use super::super::shader::Call;
use super::super::testing::{Lab, Settings, operand, validate};
use super::*;
use crate::cpu::norm::{Affine, NormGradients, Normalized, Saved, norm, norm_grad};
use crate::cpu::{Cpu, Isa, Pool};
use crate::dtype::Dtype;
use crate::gpu::{Class, Traits};
use crate::plan::Operand;
use crate::program::Op;
use crate::program::op::NormKind;

const CLASSES: [Class; 2] = [Class::Discrete, Class::Software];

const EPS: f64 = 1e-5;

/// Nothing, one, primes, edges of vectors, lines, blocks and workgroups, rows that are held and rows that are not.
fn shapes() -> Vec<NormRows> {
    let layer = [1, 8, 9, 33, 100, 257, 1000, 1028, 4096, 9001].map(|channels| [3, 1, channels, 1]);
    let layer =
        layer.into_iter().chain([[0, 1, 3, 1], [3, 1, 0, 1], [300, 1, 12, 1], [65, 1, 64, 1], [1, 1, 20_003, 1]]);
    let group = [
        [0, 2, 3, 4],
        [3, 2, 0, 4],
        [3, 2, 4, 0],
        [2, 3, 1, 1],
        [70, 2, 4, 1],
        [70, 3, 5, 1],
        [5, 2, 3, 7],
        [3, 2, 4, 8],
        [2, 4, 2, 33],
        [2, 2, 3, 300],
        [1, 2, 2, 1200],
        [2, 1, 3, 4000],
    ];
    let rms = [[5, 1, 1, 1], [5, 1, 33, 1], [70, 1, 64, 1], [3, 1, 1100, 1], [2, 1, 8196, 1]];
    let of =
        |kind| move |[outer, groups, channels, inner]: [usize; 4]| NormRows { kind, outer, groups, channels, inner };
    layer.map(of(NormKind::Layer)).chain(group.map(of(NormKind::Group))).chain(rms.map(of(NormKind::Rms))).collect()
}

fn dims(rows: NormRows) -> [u32; 4] {
    [rows.outer, rows.groups, rows.channels, rows.inner].map(|size| size as u32)
}

/// What an instruction works on, and the expected results, from the `cpu` kernels.
struct Case {
    rows: NormRows,
    x: Vec<f32>,
    dy: Vec<f32>,
    weight: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    y: Vec<f32>,
    means: Vec<f32>,
    scales: Vec<f32>,
    dx: Vec<f32>,
    dweight: Vec<u32>,
    dbias: Vec<u32>,
}

impl Case {
    fn new(rows: NormRows, has_affine: bool) -> Self {
        let cpu = Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() };
        let x: Vec<f32> = floats(rows.numel(), 1).iter().map(|x| 2.0 * x + 0.5).collect();
        let dy = floats(rows.numel(), 2);
        let weight = has_affine.then(|| floats(rows.affine(), 3));
        let bias = (has_affine && rows.is_centred()).then(|| floats(rows.affine(), 4));
        let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        let (mut means, mut scales) = (vec![0.0; rows.rows()], vec![0.0; rows.rows()]);
        let (mut dweight, mut dbias) = (vec![0; rows.affine()], vec![0; rows.affine()]);
        let affine = Affine { weight: weight.as_deref(), bias: bias.as_deref() };
        let centred = rows.is_centred();
        let to = Normalized { y: &mut y, means: centred.then_some(&mut means[..]), scales: &mut scales };
        norm(&cpu, rows, EPS, &x, affine, to);
        let means_of = centred.then_some(&means[..]);
        let saved = Saved { dy: &dy, x: &x, weight: affine.weight, means: means_of, scales: &scales };
        let to = NormGradients { dx: Some(&mut dx), dweight: Some(&mut dweight), dbias: Some(&mut dbias) };
        norm_grad(&cpu, rows, saved, to);
        Self { rows, x, dy, weight, bias, y, means, scales, dx, dweight, dbias }
    }

    fn forward(&self, arena: &mut Arena, shift: usize) -> (Kernel, Vec<(Operand, Vec<f32>, f32)>) {
        let rows = self.rows;
        let affine = [rows.affine() as u32];
        let x = arena.read(Dtype::F32, &dims(rows), &bits(&self.x), shift);
        let mut by_channel =
            |values: &Option<Vec<f32>>| values.as_ref().map(|v| arena.read(Dtype::F32, &affine, &bits(v), shift));
        let (weight, bias) = (by_channel(&self.weight), by_channel(&self.bias));
        let mut results = vec![(arena.written(Dtype::F32, &dims(rows)), self.y.clone(), 5e-6)];
        let per_row = [rows.rows() as u32];
        if rows.is_centred() {
            results.push((arena.written(Dtype::F32, &per_row), self.means.clone(), 1e-6));
        }
        results.push((arena.written(Dtype::F32, &per_row), self.scales.clone(), 2e-6));
        let inputs = if rows.is_centred() { vec![Some(x), weight, bias] } else { vec![Some(x), weight] };
        let outputs: Vec<_> = results.iter().map(|(operand, ..)| *operand).collect();
        (kernel(Op::Norm { rows, eps: EPS }, &inputs, &outputs), results)
    }

    fn backward(&self, arena: &mut Arena, wanted: u32, shift: usize) -> (Kernel, Vec<(Operand, Vec<f32>, f32)>) {
        let rows = self.rows;
        let (affine, per_row) = ([rows.affine() as u32], [rows.rows() as u32]);
        let mut read = |dims: &[u32], values: &[f32]| arena.read(Dtype::F32, dims, &bits(values), shift);
        let (dy, x) = (read(&dims(rows), &self.dy), read(&dims(rows), &self.x));
        let weight = self.weight.as_ref().map(|weight| read(&affine, weight));
        let mut inputs = vec![Some(dy), Some(x), weight];
        if rows.is_centred() {
            inputs.push(Some(read(&per_row, &self.means)));
        }
        inputs.push(Some(read(&per_row, &self.scales)));
        let mut results = Vec::new();
        let sums = |words: &[u32]| words.iter().map(|&word| f32::from_bits(word)).collect::<Vec<_>>();
        if wanted & 1 != 0 {
            results.push((arena.written(Dtype::F32, &dims(rows)), self.dx.clone(), 5e-6));
        }
        // Terms are about 1, and each rounds the sum once.
        let budget = 5e-6 + 1e-7 * (rows.outer * rows.inner) as f32;
        if wanted & 2 != 0 {
            results.push((arena.written(Dtype::F32, &affine), sums(&self.dweight), budget));
        }
        if wanted & 4 != 0 {
            results.push((arena.written(Dtype::F32, &affine), sums(&self.dbias), budget));
        }
        let outputs: Vec<_> = results.iter().map(|(operand, ..)| *operand).collect();
        let wanted = Wanted { dx: wanted & 1 != 0, dweight: wanted & 2 != 0, dbias: wanted & 4 != 0 };
        (kernel(Op::NormGrad { rows, wanted }, &inputs, &outputs), results)
    }

    /// The gradients that there can be.
    fn wanted(&self) -> Vec<u32> {
        let all = if self.rows.is_centred() { 7 } else { 3 };
        let possible = |wanted: &u32| wanted & !all == 0 && (wanted & 2 == 0 || self.weight.is_some());
        (1..8).filter(possible).collect()
    }
}

/// Runs an instruction between canaries, as on a GPU and as on a processor that plays one.
fn run(lab: &mut Lab, arena: &Arena, kernel: &Kernel, results: &[(Operand, Vec<f32>, f32)], what: &str) {
    for class in CLASSES {
        let after = arena.run_as(lab, kernel, class, Settings::default());
        for (operand, want, budget) in results {
            let scale = want.iter().fold(1.0f32, |scale, x| scale.max(x.abs()));
            for (i, (got, want)) in words(&after, operand).iter().zip(want).enumerate() {
                let got = f32::from_bits(*got);
                let is_near = (got - want).abs() <= budget * scale || (got.is_nan() && want.is_nan());
                assert!(is_near, "{class:?} {what}, element {i} of {}: {got}, {want}", operand.dims);
            }
        }
    }
}

#[test]
fn results_are_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    for rows in shapes() {
        for has_affine in [false, true] {
            let case = Case::new(rows, has_affine);
            for shift in [0, 1] {
                let what = format!("{rows:?}, affine {has_affine}, shift {shift}");
                let mut arena = Arena::default();
                let (kernel, results) = case.forward(&mut arena, shift);
                run(&mut lab, &arena, &kernel, &results, &what);
                let all = *case.wanted().last().unwrap();
                let mut arena = Arena::default();
                let (kernel, results) = case.backward(&mut arena, all, shift);
                run(&mut lab, &arena, &kernel, &results, &what);
            }
        }
    }
}

#[test]
fn any_choice_of_gradients_is_the_cpu_s() {
    let Some(mut lab) = Lab::open() else { return };
    for rows in shapes().into_iter().filter(|rows| [5, 70].contains(&rows.outer)) {
        for has_affine in [false, true] {
            let case = Case::new(rows, has_affine);
            for wanted in case.wanted() {
                let mut arena = Arena::default();
                let (kernel, results) = case.backward(&mut arena, wanted, 0);
                run(&mut lab, &arena, &kernel, &results, &format!("{rows:?} {wanted}"));
            }
        }
    }
}

/// Every instruction there can be over such rows.
fn without_values(rows: NormRows, has_affine: bool, shift: usize) -> Vec<Kernel> {
    let mut end = 0;
    let mut place = |dims: &[u32], shift: usize| {
        let placed = operand(Dtype::F32, dims, end + shift);
        end += (placed.numel + 16).next_multiple_of(16);
        placed
    };
    let [x, dy, out, dx] = [shift, shift, 0, 0].map(|shift| place(&dims(rows), shift));
    let [weight, bias, dweight, dbias] = [shift, shift, 0, 0].map(|shift| place(&[rows.affine() as u32], shift));
    let [means, scales] = [(); 2].map(|()| place(&[rows.rows() as u32], 0));
    let weight = has_affine.then_some(weight);
    let forward = if rows.is_centred() {
        kernel(Op::Norm { rows, eps: EPS }, &[Some(x), weight, has_affine.then_some(bias)], &[out, means, scales])
    } else {
        kernel(Op::Norm { rows, eps: EPS }, &[Some(x), weight], &[out, scales])
    };
    let mut inputs = vec![Some(dy), Some(x), weight];
    inputs.extend(rows.is_centred().then_some(Some(means)));
    inputs.push(Some(scales));
    let possible = |bits: &u32| (bits & 2 == 0 || has_affine) && (bits & 4 == 0 || rows.is_centred());
    let backward = (1..8).filter(possible).map(|bits| {
        let wanted = Wanted { dx: bits & 1 != 0, dweight: bits & 2 != 0, dbias: bits & 4 != 0 };
        let results = [(wanted.dx, dx), (wanted.dweight, dweight), (wanted.dbias, dbias)];
        let results: Vec<_> = results.into_iter().filter_map(|(is, operand)| is.then_some(operand)).collect();
        kernel(Op::NormGrad { rows, wanted }, &inputs, &results)
    });
    std::iter::once(forward).chain(backward).collect()
}

#[test]
fn every_text_is_valid_and_none_depends_on_the_batch() {
    for class in CLASSES {
        for rows in shapes().into_iter().filter(|rows| rows.numel() > 0) {
            for has_affine in [false, true] {
                for shift in [0, 1] {
                    let texts = |outer| {
                        let kernels = without_values(NormRows { outer, ..rows }, has_affine, shift);
                        let calls = kernels.iter().flat_map(|kernel| prepare(kernel, &Traits::least(class)).calls);
                        let text = |call: Call| {
                            validate(&call);
                            // The last sums over the batch are those of any columns.
                            call.shader.name.starts_with("norm").then(|| call.shader.text.clone())
                        };
                        calls.filter_map(text).collect::<Vec<_>>()
                    };
                    assert_eq!(texts(130), texts(200), "{rows:?}");
                }
            }
        }
    }
}

#[test]
fn neither_other_rows_nor_places_change_a_bit() {
    let Some(mut lab) = Lab::open() else { return };
    for rows in shapes().into_iter().filter(|rows| rows.numel() > 0 && rows.outer > 1) {
        let case = Case::new(rows, true);
        let size = rows.groups * rows.count();
        let last = |all: &[f32]| all[all.len() - size..].to_vec();
        let single = Case {
            rows: NormRows { outer: 1, ..rows },
            x: last(&case.x),
            dy: last(&case.dy),
            y: last(&case.y),
            dx: last(&case.dx),
            means: last_of(&case.means, rows.groups),
            scales: last_of(&case.scales, rows.groups),
            ..Case::new(rows, true)
        };
        for class in CLASSES {
            let mut of = |case: &Case, is_forward: bool, shift| {
                let mut arena = Arena::default();
                let (kernel, results) =
                    if is_forward { case.forward(&mut arena, shift) } else { case.backward(&mut arena, 1, shift) };
                let after = arena.run_as(&mut lab, &kernel, class, Settings::default());
                let all = words(&after, &results[0].0);
                all[all.len() - size..].to_vec()
            };
            for is_forward in [false, true] {
                let want = of(&case, is_forward, 0);
                assert_eq!(of(&single, is_forward, 0), want, "{class:?} {rows:?}");
                assert_eq!(of(&single, is_forward, 1), want, "{class:?} {rows:?}");
            }
        }
    }
}

fn last_of(all: &[f32], count: usize) -> Vec<f32> {
    all[all.len() - count..].to_vec()
}

#[test]
fn rows_that_software_adapters_would_leave_early_are_refused() {
    let prepare = |channels: usize, class| {
        let x = operand(Dtype::F32, &[channels as u32], 0);
        let per_row = operand(Dtype::F32, &[1], 64);
        let rows = NormRows { kind: NormKind::Layer, outer: 1, groups: 1, channels, inner: 1 };
        let kernel = kernel(Op::Norm { rows, eps: EPS }, &[Some(x), None, None], &[x, per_row, per_row]);
        let traits = Traits::least(class);
        let target = Target { traits: &traits, aligned: crate::gpu::kernels::shader::Aligned::default() };
        super::super::prepare_kernel(&kernel, target).map(|prepared| prepared.calls.len())
    };
    let error = prepare(10_000_000, Class::Software).unwrap_err();
    assert_eq!(error.code(), "ERR_OUT_OF_MEMORY");
    assert!(error.message().contains("rounds of a loop"), "{}", error.message());
    assert_eq!(prepare(10_000_000, Class::Discrete), Ok(1));
    assert_eq!(prepare(5_000_000, Class::Software), Ok(1));
}
