//! Norms of rows and their gradients against formulas in f64, and the bits that threads, other rows and the choice of
//! gradients must not change.

use super::*;
use crate::cpu::{Cpu, Isa, Pool};
use crate::program::op::{NormKind, NormRows};

/// Kind, outer, groups, channels, inner: nothing, one, primes, edges of lanes, blocks, few positions and units; many examples,
/// long rows.
const SHAPES: [(NormKind, [usize; 4]); 33] = [
    (NormKind::Layer, [0, 1, 5, 1]),
    (NormKind::Layer, [3, 1, 0, 1]),
    (NormKind::Layer, [4, 1, 1, 1]),
    (NormKind::Layer, [5, 1, 7, 1]),
    (NormKind::Layer, [5, 1, 31, 1]),
    (NormKind::Layer, [5, 1, 32, 1]),
    (NormKind::Layer, [64, 1, 33, 1]),
    (NormKind::Layer, [65, 1, 64, 1]),
    (NormKind::Layer, [1000, 1, 33, 1]),
    (NormKind::Layer, [9, 1, 2047, 1]),
    (NormKind::Layer, [9, 1, 2048, 1]),
    (NormKind::Layer, [9, 1, 2049, 1]),
    (NormKind::Layer, [11, 1, 70_001, 1]),
    (NormKind::Rms, [0, 1, 5, 1]),
    (NormKind::Rms, [3, 1, 0, 1]),
    (NormKind::Rms, [5, 1, 1, 1]),
    (NormKind::Rms, [130, 1, 257, 1]),
    (NormKind::Group, [0, 2, 3, 4]),
    (NormKind::Group, [3, 2, 0, 4]),
    (NormKind::Group, [3, 2, 4, 0]),
    (NormKind::Group, [3, 1, 1, 1]),
    (NormKind::Group, [130, 3, 5, 1]),
    (NormKind::Group, [70, 2, 3, 7]),
    (NormKind::Group, [5, 4, 2, 31]),
    (NormKind::Group, [5, 4, 2, 32]),
    (NormKind::Group, [5, 4, 3, 33]),
    (NormKind::Group, [3, 2, 65, 16]),
    (NormKind::Group, [2, 1, 2, 5001]),
    (NormKind::Group, [5, 3, 5, 63]),
    (NormKind::Group, [130, 3, 5, 64]),
    (NormKind::Group, [130, 3, 5, 65]),
    (NormKind::Group, [3, 2, 70, 96]),
    (NormKind::Group, [70, 7, 300, 1]),
];

const EPS: f64 = 1e-5;

fn rows((kind, [outer, groups, channels, inner]): (NormKind, [usize; 4])) -> NormRows {
    NormRows { kind, outer, groups, channels, inner }
}

fn every_cpu() -> impl Iterator<Item = Cpu> {
    Isa::available().into_iter().map(|isa| Cpu { isa, pool: Pool::new(3).unwrap() })
}

fn floats(count: usize, seed: u32) -> Vec<f32> {
    let word = |i: u32| i.wrapping_mul(0x9e37_79b9).wrapping_add(seed.wrapping_mul(0x85eb_ca6b)) >> 8;
    (0..count as u32).map(|i| word(i) as f32 / 4_194_304.0 - 1.0).collect()
}

/// Everything that can be computed; gradients of what is absent are empty.
#[derive(Clone, PartialEq)]
struct Outcome {
    y: Vec<f32>,
    means: Vec<f32>,
    scales: Vec<f32>,
    dx: Vec<f32>,
    dweight: Vec<u32>,
    dbias: Vec<u32>,
}

impl Outcome {
    fn bits(&self) -> Vec<u32> {
        let floats = [&self.y, &self.means, &self.scales, &self.dx].into_iter().flatten().map(|x| x.to_bits());
        floats.chain(self.dweight.iter().copied()).chain(self.dbias.iter().copied()).collect()
    }
}

/// The operands of a test.
struct Operands {
    x: Vec<f32>,
    dy: Vec<f32>,
    weight: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl Operands {
    fn new(rows: NormRows, has_weight: bool, has_bias: bool) -> Self {
        let affine = |is: bool, seed| is.then(|| floats(rows.affine(), seed));
        let bias = affine(has_bias && rows.is_centred(), 4);
        Self { x: floats(rows.numel(), 1), dy: floats(rows.numel(), 2), weight: affine(has_weight, 3), bias }
    }

    /// Results begin as NaN.
    fn run(&self, cpu: &Cpu, rows: NormRows) -> Outcome {
        let nan = |count: usize| vec![f32::NAN; count];
        let words = |is: bool| vec![f32::NAN.to_bits(); if is { rows.affine() } else { 0 }];
        let means = nan(if rows.is_centred() { rows.rows() } else { 0 });
        let (y, dx, scales) = (nan(rows.numel()), nan(rows.numel()), nan(rows.rows()));
        let (dweight, dbias) = (words(self.weight.is_some()), words(rows.is_centred()));
        let mut out = Outcome { y, means, scales, dx, dweight, dbias };
        let weight = self.weight.as_deref();
        let means = rows.is_centred().then_some(&mut out.means[..]);
        let to = Normalized { y: &mut out.y, means, scales: &mut out.scales };
        norm(cpu, rows, EPS, &self.x, Affine { weight, bias: self.bias.as_deref() }, to);
        let means = rows.is_centred().then_some(&out.means[..]);
        let saved = Saved { dy: &self.dy, x: &self.x, weight, means, scales: &out.scales };
        let dweight = weight.map(|_| &mut out.dweight[..]);
        let dbias = rows.is_centred().then_some(&mut out.dbias[..]);
        norm_grad(cpu, rows, saved, NormGradients { dx: Some(&mut out.dx), dweight, dbias });
        out
    }
}

/// Fails unless `got` is `want` to within `budget`.
fn near(got: f32, want: f64, budget: f64, what: &str) {
    assert!((f64::from(got) - want).abs() <= budget, "{what}: {got} instead of {want}, allowed {budget}");
}

fn check(rows: NormRows, of: &Operands, out: &Outcome, what: &str) {
    let NormRows { groups, channels, inner, .. } = rows;
    let count = rows.count();
    let affine = |values: &Option<Vec<f32>>, channel: usize, absent| {
        values.as_ref().map_or(absent, |values| f64::from(values[channel]))
    };
    let mut slopes = vec![[0.0f64; 4]; rows.affine()];
    for row in 0..rows.rows() {
        let channel = |i: usize| row % groups * channels + i / inner;
        let [x, dy] = [&of.x, &of.dy]
            .map(|all| all[row * count..(row + 1) * count].iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
        let mean = if rows.is_centred() { x.iter().sum::<f64>() / count as f64 } else { 0.0 };
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count as f64;
        let scale = 1.0 / (variance + EPS).sqrt();
        if count == 0 {
            assert!(out.scales[row].is_nan());
            continue;
        }
        if rows.is_centred() {
            near(out.means[row], mean, 1e-6, what);
        }
        near(out.scales[row], scale, 1e-6 * scale, what);
        let normal: Vec<f64> = x.iter().map(|x| (x - mean) * scale).collect();
        let g: Vec<f64> = (0..count).map(|i| dy[i] * affine(&of.weight, channel(i), 1.0)).collect();
        let of_rows = |term: &dyn Fn(usize) -> f64| (0..count).map(term).sum::<f64>() / count as f64;
        let centre = if rows.is_centred() { of_rows(&|i| g[i]) } else { 0.0 };
        let along = of_rows(&|i| g[i] * normal[i]);
        let size = of_rows(&|i| g[i].abs()) + of_rows(&|i| (g[i] * normal[i]).abs());
        for i in 0..count {
            let want = normal[i] * affine(&of.weight, channel(i), 1.0) + affine(&of.bias, channel(i), 0.0);
            near(out.y[row * count + i], want, 4e-6 * (1.0 + scale), what);
            let want = scale * (g[i] - centre - normal[i] * along);
            let budget = 2e-6 * scale * (g[i].abs() + (1.0 + normal[i].abs()) * size + scale);
            near(out.dx[row * count + i], want, budget, what);
            let slope = &mut slopes[channel(i)];
            slope[0] += dy[i] * normal[i];
            slope[1] += dy[i].abs() * (normal[i].abs() + scale);
            slope[2] += dy[i];
            slope[3] += dy[i].abs();
        }
    }
    for (channel, slope) in slopes.iter().enumerate() {
        if of.weight.is_some() {
            near(f32::from_bits(out.dweight[channel]), slope[0], 2e-6 * slope[1], what);
        }
        if rows.is_centred() {
            near(f32::from_bits(out.dbias[channel]), slope[2], 1e-6 * slope[3], what);
        }
    }
}

#[test]
fn forward_and_backward_follow_the_formulas() {
    for cpu in every_cpu() {
        for shape in SHAPES {
            for (has_weight, has_bias) in [(true, true), (true, false), (false, true), (false, false)] {
                let rows = rows(shape);
                let operands = Operands::new(rows, has_weight, has_bias);
                check(rows, &operands, &operands.run(&cpu, rows), &format!("{shape:?} {has_weight} {has_bias}"));
            }
        }
    }
}

#[test]
fn any_choice_of_gradients_gives_the_same_bits() {
    for cpu in every_cpu() {
        for shape in
            [(NormKind::Layer, [70, 1, 33, 1]), (NormKind::Group, [70, 2, 3, 7]), (NormKind::Group, [70, 2, 3, 70])]
        {
            let rows = rows(shape);
            let operands = Operands::new(rows, true, true);
            let all = operands.run(&cpu, rows);
            for wanted in 1..7 {
                let has = |bit| wanted & bit != 0;
                let mut dx = vec![f32::NAN; rows.numel()];
                let [mut dweight, mut dbias] = [vec![7; rows.affine()], vec![7; rows.affine()]];
                let to = NormGradients {
                    dx: has(1).then_some(&mut dx[..]),
                    dweight: has(2).then_some(&mut dweight[..]),
                    dbias: has(4).then_some(&mut dbias[..]),
                };
                let saved = Saved {
                    dy: &operands.dy,
                    x: &operands.x,
                    weight: operands.weight.as_deref(),
                    means: Some(&all.means),
                    scales: &all.scales,
                };
                norm_grad(&cpu, rows, saved, to);
                assert!(!has(1) || dx == all.dx);
                assert!(!has(2) || dweight == all.dweight);
                assert!(!has(4) || dbias == all.dbias);
            }
        }
    }
}

#[test]
fn neither_threads_nor_other_rows_change_a_bit() {
    for isa in Isa::available() {
        let [one, three] = [1, 3].map(|threads| Cpu { isa, pool: Pool::new(threads).unwrap() });
        for shape in SHAPES {
            let rows = rows(shape);
            let operands = Operands::new(rows, true, true);
            let all = operands.run(&three, rows);
            assert!(all.bits() == operands.run(&one, rows).bits() || rows.count() == 0, "{shape:?}");
            if rows.numel() == 0 {
                continue;
            }
            let size = rows.groups * rows.count();
            let last = NormRows { outer: 1, ..rows };
            let alone = |all: &[f32]| all[all.len() - size..].to_vec();
            let single = Operands { x: alone(&operands.x), dy: alone(&operands.dy), ..operands };
            let single = single.run(&three, last);
            assert!(single.y == alone(&all.y) && single.dx == alone(&all.dx), "{shape:?}");
        }
    }
}

#[test]
fn appended_examples_without_a_gradient_change_no_bit_of_what_is_summed() {
    for cpu in every_cpu() {
        for shape in [
            (NormKind::Layer, [70, 1, 33, 1]),
            (NormKind::Group, [70, 2, 3, 7]),
            (NormKind::Group, [70, 2, 3, 70]),
            (NormKind::Rms, [3, 1, 5, 1]),
        ] {
            let rows = rows(shape);
            let mut operands = Operands::new(rows, true, true);
            let before = operands.run(&cpu, rows);
            let longer = NormRows { outer: rows.outer + 500, ..rows };
            operands.x = [operands.x, floats(longer.numel() - rows.numel(), 9)].concat();
            operands.dy.resize(longer.numel(), 0.0);
            let after = operands.run(&cpu, longer);
            assert!(after.dweight == before.dweight && after.dbias == before.dbias, "{shape:?}");
        }
    }
}

#[test]
fn the_known_values() {
    for cpu in every_cpu() {
        let (mut y, mut means, mut scales) = ([0.0; 4], [0.0], [0.0]);
        let rows = NormRows { kind: NormKind::Layer, outer: 1, groups: 1, channels: 4, inner: 1 };
        let none = Affine { weight: None, bias: None };
        let to = Normalized { y: &mut y, means: Some(&mut means), scales: &mut scales };
        norm(&cpu, rows, 1e-5, &[1.0, 2.0, 3.0, 4.0], none, to);
        for (y, want) in y.iter().zip([-1.341_635, -0.447_212, 0.447_212, 1.341_635]) {
            assert!((y - want).abs() < 1e-6);
        }
        assert_eq!(means, [2.5]);
        let rows = NormRows { kind: NormKind::Rms, channels: 2, ..rows };
        let to = Normalized { y: &mut y[..2], means: None, scales: &mut scales };
        norm(&cpu, rows, 0.0, &[3.0, 4.0], none, to);
        assert!((y[0] - 0.848_528).abs() < 1e-6 && (y[1] - 1.131_371).abs() < 1e-6);
    }
}
