//! What the tests of programs and plans share: numbers from a seed, a writer of words, and random valid programs.

use super::decode::NONE;
use super::table::OPCODES;
use crate::dtype::Dtype;
use crate::shape::numel;

/// `SplitMix64`: the same numbers from the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        if bound == 0 { 0 } else { (self.next() % u64::from(bound)) as u32 }
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}

/// One attribute to be written.
#[derive(Clone, Copy)]
pub(crate) enum A<'a> {
    W(u32),
    F(f64),
    L(&'a [u32]),
}

pub(crate) const F32: Dtype = Dtype::F32;
pub(crate) const I32: Dtype = Dtype::I32;
pub(crate) const BOOL: Dtype = Dtype::Bool;

/// Writes code words.
#[derive(Default, Clone)]
pub(crate) struct Writer {
    pub(crate) code: Vec<u32>,
    pub(crate) registers: Vec<(Dtype, Vec<u32>)>,
    pub(crate) inputs: u32,
    pub(crate) outputs: u32,
    pub(crate) scalars: u32,
}

impl Writer {
    /// Appends an instruction and returns its first result.
    pub(crate) fn op(&mut self, name: &str, results: &[(Dtype, &[u32])], inputs: &[u32], attributes: &[A]) -> u32 {
        let row = OPCODES.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no opcode {name}"));
        let start = self.code.len();
        self.code.extend([0, results.len() as u32 | (inputs.len() as u32) << 8]);
        for (dtype, dims) in results {
            self.code.push(*dtype as u32 | (dims.len() as u32) << 8);
            self.code.extend(*dims);
        }
        self.code.extend(inputs);
        for attribute in attributes {
            match *attribute {
                A::W(word) => self.code.push(word),
                A::F(value) => self.code.extend([value.to_bits() as u32, (value.to_bits() >> 32) as u32]),
                A::L(list) => {
                    self.code.push(list.len() as u32);
                    self.code.extend(list);
                }
            }
        }
        self.code[start] = u32::from(row.code) | ((self.code.len() - start) as u32) << 16;
        self.inputs += u32::from(name == "input");
        self.outputs += u32::from(name == "output");
        self.registers.extend(results.iter().map(|(dtype, dims)| (*dtype, dims.to_vec())));
        (self.registers.len() - results.len()) as u32
    }

    pub(crate) fn input(&mut self, dtype: Dtype, dims: &[u32]) -> u32 {
        self.op("input", &[(dtype, dims)], &[], &[])
    }

    pub(crate) fn output(&mut self, register: u32) {
        self.op("output", &[], &[register], &[]);
    }

    /// An f32 instruction that keeps the shape of its first operand.
    pub(crate) fn like(&mut self, name: &str, inputs: &[u32], attributes: &[A]) -> u32 {
        let (dtype, dims) = self.registers[inputs[0] as usize].clone();
        self.op(name, &[(dtype, &dims)], inputs, attributes)
    }

    pub(crate) fn dims(&self, register: u32) -> Vec<u32> {
        self.registers[register as usize].1.clone()
    }

    fn scalar(&mut self) -> A<'static> {
        self.scalars += 1;
        A::W(self.scalars - 1)
    }

    /// The whole stream, slots numbered from 100 (inputs) and 200 (outputs).
    pub(crate) fn stream(&self) -> Vec<u32> {
        let mut words = vec![0x5447_4c31, self.inputs, self.outputs, 1, self.scalars, self.code.len() as u32];
        words.extend((0..self.inputs).map(|i| 100 + i));
        words.extend((0..self.outputs).map(|i| 200 + i));
        words.push(100);
        words.extend((0..self.scalars).flat_map(|i| {
            let bits = f64::from(i).to_bits();
            [bits as u32, (bits >> 32) as u32]
        }));
        words.extend(&self.code);
        words
    }
}

/// A random valid program of about `length` instructions in which every opcode may occur. Inputs that may be changed in
/// place occur only whole or as views.
pub(crate) fn random_program(random: &mut Random, length: u32) -> Writer {
    let mut writer = Writer::default();
    for _ in 0..=random.below(3) {
        let dims = random_dims(random);
        writer.input(F32, &dims);
    }
    for _ in 0..length {
        let x = any(random, &writer, F32);
        let dims = writer.dims(x);
        match random.below(29) {
            0..=6 => random_element(random, &mut writer, x),
            7 => random_view(random, &mut writer, x),
            8 => random_reduce(random, &mut writer, x),
            9 => random_product(random, &mut writer, x),
            10 => random_linear_grad(random, &mut writer, x),
            11 => random_loss(random, &mut writer, x),
            12 => random_movement(random, &mut writer, x),
            13 => random_gather(random, &mut writer, x),
            14 => random_optimiser(random, &mut writer, x),
            15 => random_change(random, &mut writer, x),
            16 => {
                let dims = random_dims(random);
                let value = writer.scalar();
                writer.op("full", &[(F32, &dims)], &[], &[value]);
            }
            17 => writer.output(x),
            18 => {
                writer.input(F32, &dims);
            }
            19 => {
                writer.op("squaredNorm", &[(F32, &[])], &[x, x], &[]);
            }
            20 => {
                let bigger: Vec<u32> = dims.iter().map(|&d| if d == 1 { 3 } else { d }).collect();
                writer.op("expand", &[(F32, &bigger)], &[x], &[]);
            }
            21 => {
                let inner = A::W(dims.iter().skip(1).product());
                let scalars: [A; 5] = std::array::from_fn(|_| writer.scalar());
                writer.op("uniform", &[(F32, &dims)], &[], &[&[inner][..], &scalars].concat());
            }
            22 => random_batch_norm(random, &mut writer, x),
            23 | 24 => random_norm(random, &mut writer, x),
            25 => {
                let inner = A::W(dims.iter().skip(1).product());
                let scalars: [A; 5] = std::array::from_fn(|_| writer.scalar());
                let numbers = [inner, A::W(random.below((1 << 24) + 1)), A::F(1.5)];
                writer.like("dropout", &[x], &[&numbers[..], &scalars].concat());
            }
            _ => {
                writer.like("relu", &[x], &[]);
            }
        }
    }
    for _ in 0..=random.below(3) {
        let x = random.below(writer.registers.len() as u32);
        writer.output(x);
    }
    writer
}

fn random_dims(random: &mut Random) -> Vec<u32> {
    let rank = random.below(4);
    let sizes: &[u32] = if random.chance(3) { &[0, 2] } else { &[1, 2, 3, 4, 4, 5, 7, 8] };
    (0..rank).map(|_| random.pick(sizes)).collect()
}

/// A register of a dtype, preferably a recent one; there is always one of f32.
fn any(random: &mut Random, writer: &Writer, dtype: Dtype) -> u32 {
    let found: Vec<u32> =
        (0..writer.registers.len() as u32).filter(|&r| writer.registers[r as usize].0 == dtype).collect();
    let recent = if random.chance(60) { found.len().saturating_sub(4) } else { 0 };
    random.pick(&found[recent..])
}

/// A register of exactly this type: an existing one or a new input.
fn of_type(random: &mut Random, writer: &mut Writer, dtype: Dtype, dims: &[u32]) -> u32 {
    let wanted = (dtype, dims.to_vec());
    let found: Vec<u32> =
        (0..writer.registers.len() as u32).filter(|&r| writer.registers[r as usize] == wanted).collect();
    if found.is_empty() || random.chance(20) { writer.input(dtype, dims) } else { random.pick(&found) }
}

fn random_element(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    match random.below(8) {
        0 | 1 => {
            let name = random.pick(&["neg", "exp", "square", "tanh", "gelu", "floor", "isFinite"]);
            let dtype = if name == "isFinite" { BOOL } else { F32 };
            writer.op(name, &[(dtype, &dims)], &[x], &[]);
        }
        2 => {
            writer.like("softplus", &[x], &[A::F(1.0), A::F(20.0)]);
        }
        3 => {
            let (low, high) = (writer.scalar(), writer.scalar());
            writer.like("clip", &[x], &[low, high]);
        }
        4 => {
            let condition = of_type(random, writer, BOOL, &dims);
            let y = of_type(random, writer, F32, &dims);
            writer.op("where", &[(F32, &dims)], &[condition, x, y], &[]);
        }
        5 => {
            // Broadcast over the leading dimensions and one more.
            let mut small = dims.clone();
            if let Some(first) = small.first_mut() {
                *first = 1;
            }
            let small = if random.chance(50) { small } else { dims.get(1..).unwrap_or_default().to_vec() };
            let y = of_type(random, writer, F32, &small);
            let name = random.pick(&["add", "mul", "less", "pow"]);
            let operands = if random.chance(50) { [x, y] } else { [y, x] };
            writer.op(name, &[(if name == "less" { BOOL } else { F32 }, &dims)], &operands, &[]);
        }
        6 => {
            let y = of_type(random, writer, F32, &dims);
            writer.like(random.pick(&["reluGrad", "siluGrad"]), &[x, y], &[]);
        }
        _ => {
            let y = of_type(random, writer, F32, &dims);
            writer.like(random.pick(&["add", "sub", "mul", "maximum"]), &[x, y], &[]);
            if random.chance(20) {
                let z = writer.op("cast", &[(I32, &dims)], &[x], &[]);
                writer.like("add", &[z, z], &[]);
            }
        }
    }
}

fn random_view(random: &mut Random, writer: &mut Writer, x: u32) {
    let elements = numel(&writer.dims(x)).unwrap() as u32;
    let offset = if random.chance(50) { 0 } else { random.below(elements + 1) };
    let rest = elements - offset;
    let dims = match random.below(3) {
        0 => vec![rest],
        1 => vec![1, rest],
        _ => vec![random.below(rest + 1)],
    };
    writer.op("view", &[(F32, &dims)], &[x], &[A::W(offset)]);
}

fn random_reduce(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    let axis = random.below(dims.len() as u32 + 1) as usize;
    let product = |dims: &[u32]| dims.iter().product::<u32>();
    let (outer, count) = (product(&dims[..axis]), dims.get(axis).copied().unwrap_or(1));
    let inner = product(dims.get(axis + 1..).unwrap_or_default());
    let middle = [A::W(outer), A::W(count), A::W(inner)];
    match random.below(8) {
        7 => {
            let ways = [A::W(random.below(2)), A::W(random.below(2))];
            writer.like(random.pick(&["cumsum", "cumprod"]), &[x], &[&middle[..], &ways].concat())
        }
        6 => {
            let k = random.below(count + 1);
            let shape = [outer, k, inner];
            writer.op("topK", &[(F32, &shape), (I32, &shape), (I32, &shape)], &[x], &[&middle[..], &[A::W(k)]].concat())
        }
        0 => writer.like(random.pick(&["softmax", "logSoftmax"]), &[x], &middle),
        1 => writer.like(random.pick(&["softmaxGrad", "logSoftmaxGrad"]), &[x, x], &middle),
        2..=4 if count > 0 => {
            let name = random.pick(&["max", "argmin", "sum", "mean"]);
            let dtype = if name == "argmin" { I32 } else { F32 };
            // Often of something that nothing else needs.
            let x = if random.chance(60) { writer.like("exp", &[x], &[]) } else { x };
            writer.op(name, &[(dtype, &[outer, inner])], &[x], &middle)
        }
        _ => writer.op("variance", &[(F32, &[outer, 1, inner])], &[x], &[&middle[..], &[A::F(1.0)]].concat()),
    };
}

fn random_product(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    let Some((&k, rows)) = dims.split_last() else { return };
    let n = 1 + random.below(5);
    let weight = of_type(random, writer, F32, &[k, n]);
    let mut y = rows.to_vec();
    y.push(n);
    let product = if random.chance(50) && !rows.is_empty() {
        let (weight, flip) = if random.chance(50) { (of_type(random, writer, F32, &[n, k]), 1) } else { (weight, 0) };
        writer.op("matmul", &[(F32, &y)], &[x, weight], &[A::W(0), A::W(flip)])
    } else {
        let bias = if random.chance(50) { of_type(random, writer, F32, &[n]) } else { NONE };
        let results: &[(Dtype, &[u32])] = &[(F32, &y), (F32, &y)];
        let z = random.below(2) as usize;
        let activation = A::W(random.below(11));
        writer.op("linear", results.get(..=z).unwrap(), &[x, weight, bias], &[activation, A::W(z as u32)])
    };
    if random.chance(50) {
        random_element(random, writer, product);
    }
}

fn random_linear_grad(random: &mut Random, writer: &mut Writer, dy: u32) {
    let dims = writer.dims(dy);
    let Some((&n, rows)) = dims.split_last() else { return };
    let (activation, wanted, k) = (random.below(11), 1 + random.below(7), 1 + random.below(4));
    let mut x_dims = rows.to_vec();
    x_dims.push(k);
    let saved = if activation == 0 { NONE } else { of_type(random, writer, F32, &dims) };
    let x = if wanted & 2 == 0 { NONE } else { of_type(random, writer, F32, &x_dims) };
    let weight = if wanted & 1 == 0 { NONE } else { of_type(random, writer, F32, &[k, n]) };
    let all: [(Dtype, &[u32]); 3] = [(F32, &x_dims), (F32, &[k, n]), (F32, &[n])];
    let results: Vec<_> = (0..3).filter(|i| wanted >> i & 1 == 1).map(|i| all[i]).collect();
    let gradient = writer.op("linearGrad", &results, &[dy, saved, x, weight], &[A::W(activation), A::W(wanted)]);
    if random.chance(50) {
        random_element(random, writer, gradient);
    }
}

/// A norm over the last axis, or of groups of the second, and often its gradient.
fn random_norm(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    let Some((&channels, leading)) = dims.split_last() else { return };
    let product = |dims: &[u32]| dims.iter().product::<u32>();
    let (name, sizes, per_row, by_channel) = match (&dims[..], random.below(3)) {
        ([outer, all, rest @ ..], 0) if *all > 0 => {
            let groups = if all.is_multiple_of(2) { 2 } else { 1 };
            let sizes = [*outer, groups, all / groups, product(rest)];
            ("groupNorm", sizes.map(A::W).to_vec(), outer * groups, *all)
        }
        (_, kind) => {
            let outer = product(leading);
            (if kind == 1 { "rmsNorm" } else { "layerNorm" }, vec![A::W(outer), A::W(channels)], outer, channels)
        }
    };
    let is_centred = name != "rmsNorm";
    let statistics = 1 + usize::from(is_centred);
    let weight = if random.chance(70) { of_type(random, writer, F32, &[by_channel]) } else { NONE };
    let per_row: (_, &[u32]) = (F32, &[per_row]);
    let mut operands = vec![x, weight];
    if is_centred {
        operands.push(if random.chance(70) { of_type(random, writer, F32, &[by_channel]) } else { NONE });
    }
    let eps = [&sizes[..], &[A::F(1e-5)]].concat();
    let y = writer.op(name, &[(F32, &dims[..]), per_row, per_row][..=statistics], &operands, &eps);
    if random.chance(60) {
        let mut operands = vec![y, x, weight];
        operands.extend((1..=statistics as u32).map(|i| y + i));
        let wanted = 1 | if weight == NONE { 0 } else { 2 } | if is_centred { 4 * random.below(2) } else { 0 };
        let all: [(Dtype, &[u32]); 3] = [(F32, &dims), (F32, &[by_channel]), (F32, &[by_channel])];
        let results: Vec<_> = (0..3).filter(|i| wanted >> i & 1 == 1).map(|i| all[i]).collect();
        writer.op(&format!("{name}Grad"), &results, &operands, &[&sizes[..], &[A::W(wanted)]].concat());
    }
}

fn random_loss(random: &mut Random, writer: &mut Writer, logits: u32) {
    let dims = writer.dims(logits);
    let Some((&classes, items)) = dims.split_last() else { return };
    if classes == 0 {
        return;
    }
    let targets = of_type(random, writer, I32, items);
    let ignore = A::W((-100_i32).cast_unsigned());
    let loss = writer.op("crossEntropy", &[(F32, items), (F32, items), (F32, &[])], &[logits, targets], &[ignore]);
    if random.chance(30) {
        let weight = of_type(random, writer, F32, &[classes]);
        let sum = of_type(random, writer, F32, &[]);
        let (operands, attributes) = ([logits, targets, weight, sum], [ignore, A::F(0.25)]);
        let weighted = writer.op("weightedCrossEntropy", &[(F32, items); 3], &operands, &attributes);
        let operands = [logits, targets, weighted + 1, weighted, weight, sum];
        writer.like("weightedCrossEntropyGrad", &operands, &attributes);
    }
    if random.chance(50) {
        writer.like("crossEntropyGrad", &[logits, targets, loss + 1, loss], &[ignore]);
    }
}

fn random_movement(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    let rank = dims.len() as u32;
    match random.below(4) {
        0 => {
            let permutation: Vec<u32> = (0..rank).rev().collect();
            let turned: Vec<u32> = dims.iter().rev().copied().collect();
            writer.op("transpose", &[(F32, &turned)], &[x], &[A::L(&permutation)]);
        }
        1 if rank > 0 => {
            let axis = random.below(rank);
            let y = of_type(random, writer, F32, &dims);
            let mut longer = dims;
            longer[axis as usize] *= 2;
            writer.op("concat", &[(F32, &longer)], &[x, y], &[A::W(axis)]);
        }
        2 => {
            let starts: Vec<u32> = dims.iter().map(|&d| random.below(d + 1)).collect();
            let rest: Vec<u32> = dims.iter().zip(&starts).map(|(&d, &s)| random.below(d - s + 1)).collect();
            writer.op("slice", &[(F32, &rest)], &[x], &[A::L(&starts)]);
        }
        _ => {
            let before: Vec<u32> = dims.iter().map(|_| random.below(2)).collect();
            let wider: Vec<u32> = dims.iter().map(|d| (d + 1).min(12)).collect();
            if dims.iter().all(|&d| d < 12) {
                let value = writer.scalar();
                writer.op("pad", &[(F32, &wider)], &[x], &[A::L(&before), value]);
            }
        }
    }
}

fn random_gather(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    let Some(axis) = (0..dims.len()).find(|&axis| dims[axis] > 0 && !dims.contains(&0)) else { return };
    let indices = of_type(random, writer, I32, &[3]);
    let mut taken = dims.clone();
    taken[axis] = 3;
    let y = writer.op("gather", &[(F32, &taken)], &[x, indices], &[A::W(axis as u32), A::W(0)]);
    if random.chance(50) {
        writer.op("scatterAdd", &[(F32, &dims)], &[y, indices], &[A::W(axis as u32), A::W(0)]);
    }
}

fn random_batch_norm(random: &mut Random, writer: &mut Writer, x: u32) {
    let dims = writer.dims(x);
    if dims.is_empty() {
        return;
    }
    let axis = random.below(dims.len() as u32) as usize;
    let product = |dims: &[u32]| dims.iter().product::<u32>();
    let (outer, channels, inner) = (product(&dims[..axis]), dims[axis], product(&dims[axis + 1..]));
    let view = [A::W(outer), A::W(channels), A::W(inner)];
    let each: (Dtype, &[u32]) = (F32, &[channels]);
    let mask = if random.chance(50) { of_type(random, writer, BOOL, &[outer, inner]) } else { NONE };
    let weight = if random.chance(50) { of_type(random, writer, F32, &[channels]) } else { NONE };
    let count = writer.op("batchNormStatistics", &[(F32, &[]), each, each], &[x, mask], &view);
    let (mean, m2) = (count + 1, count + 2);
    let variance = writer.op("batchNormVariance", &[each, each], &[m2, count], &[A::F(1e-5)]);
    let istd = variance + 1;
    let y = writer.like("batchNorm", &[x, mean, istd, weight, NONE, mask], &view);
    if random.chance(50) {
        let sums = writer.op("batchNormGradSums", &[each, each], &[y, x, mean, istd, mask], &view);
        writer.like("batchNormGrad", &[y, x, mean, istd, weight, sums, sums + 1, count, mask], &view);
    }
    if random.chance(50) {
        let running = [writer.input(F32, &[channels]), writer.input(F32, &[channels])];
        let updates = if random.chance(50) { writer.input(I32, &[]) } else { NONE };
        let ok = if random.chance(50) { of_type(random, writer, BOOL, &[]) } else { NONE };
        let operands = [running[0], running[1], updates, mean, variance, count, ok];
        let momentum = writer.scalar();
        writer.op("batchNormUpdate", &[], &operands, &[momentum, A::W(random.below(2)), A::W(random.below(2))]);
    }
}

fn random_optimiser(random: &mut Random, writer: &mut Writer, gradient: u32) {
    let size = numel(&writer.dims(gradient)).unwrap() as u32;
    let slab_dims = [2 * size + 3];
    let slabs: Vec<u32> = (0..4).map(|_| writer.input(F32, &slab_dims)).collect();
    let steps = writer.input(I32, &[2]);
    let scale = if random.chance(50) { of_type(random, writer, F32, &[]) } else { NONE };
    let ok = if random.chance(50) { of_type(random, writer, BOOL, &[]) } else { NONE };
    let (lr, segments) = (writer.scalar(), A::L(&[1, size, 0, 0]));
    let momentum = if random.chance(50) { (0.9, slabs[1]) } else { (0.0, NONE) };
    let rest = [steps, scale, ok, gradient, gradient];
    match random.below(4) {
        0 => {
            let attributes = [lr, A::F(momentum.0), A::F(0.0), A::F(0.0), A::W(0), segments];
            writer.op("sgd", &[], &[&[slabs[0], momentum.1], &rest[..]].concat(), &attributes);
        }
        1 => {
            let greatest = if random.chance(50) { slabs[3] } else { NONE };
            let decoupled = A::W(random.below(2));
            let attributes = [lr, A::F(0.9), A::F(0.99), A::F(1e-8), A::F(0.01), decoupled, segments];
            let operands = [&[slabs[0], slabs[1], slabs[2], greatest], &rest[..]].concat();
            writer.op("adam", &[], &operands, &attributes);
        }
        2 => {
            let mean = if random.chance(50) { slabs[3] } else { NONE };
            let attributes = [lr, A::F(0.9), A::F(1e-8), A::F(0.01), A::F(momentum.0), segments];
            let operands = [&[slabs[0], slabs[2], mean, momentum.1], &rest[..]].concat();
            writer.op("rmsprop", &[], &operands, &attributes);
        }
        _ => {
            writer.op("ema", &[], &[&slabs[..1], &rest[..]].concat(), &[lr, segments]);
        }
    }
}

/// `assign` or `addInto` of a register to a new input or a view of it.
fn random_change(random: &mut Random, writer: &mut Writer, source: u32) {
    let dims = writer.dims(source);
    let size = numel(&dims).unwrap() as u32;
    let target = writer.input(F32, &[size + 2]);
    let view = writer.op("view", &[(F32, &dims)], &[target], &[A::W(random.below(3))]);
    writer.op(random.pick(&["assign", "addInto"]), &[], &[view, source], &[]);
}
