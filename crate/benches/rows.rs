//! Times everything but GEMM at the sizes that matter: elementwise loops, fused chains, rows, columns, optimisers, moves.
//! Best of many runs, on one thread and on all. `cargo bench -p tilegrad --no-default-features --bench rows [filter]`.
#![allow(clippy::print_stdout, reason = "its output is the result")]

use std::time::{Duration, Instant};

use tilegrad::cpu::elementwise::Chain;
use tilegrad::cpu::{Cpu, Isa, Pool, activation, batch_norm, gather, loss, norm, optim, reduce, shape, softmax};
use tilegrad::dtype::Dtype;
use tilegrad::plan::{self, Base, ChainOp, ChainOperand, ChainOutput, Location, Operand};
use tilegrad::program::op::{
    Adam, BinaryOp, Channels, ElementOp, Middle, NormKind, NormRows, ReduceOp, Segment, Sgd, Smoothed, UnaryOp,
};
use tilegrad::shape::{Dims, numel};

/// How long each line is repeated.
const PATIENCE: Duration = Duration::from_millis(200);

struct Bench {
    cpus: Vec<Cpu>,
    filter: Option<String>,
}

impl Bench {
    /// Prints the best time of `work` on each pool, and the rate of `words` words moved or computed.
    fn line(&self, name: &str, words: usize, mut work: impl FnMut(&Cpu)) {
        if self.filter.as_ref().is_some_and(|filter| !name.contains(filter)) {
            return;
        }
        print!("{name:<36}");
        for cpu in &self.cpus {
            let start = Instant::now();
            let mut best = Duration::MAX;
            while start.elapsed() < PATIENCE {
                let begin = Instant::now();
                work(cpu);
                best = best.min(begin.elapsed());
            }
            let micros = best.as_secs_f64() * 1e6;
            print!(" {:>2} × {micros:>9.1} µs {:>6.2} Gword/s", cpu.pool.threads(), words as f64 / micros / 1e3);
        }
        println!();
    }
}

fn floats(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 2_097_152.0 - 4.0).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn operand(dims: &[u32]) -> Operand {
    let location = Location { base: Base::Arena, offset: 0 };
    let (dims, numel) = (Dims::new(dims).unwrap_or_default(), numel(dims).unwrap_or(0));
    Operand { register: 0, value: 0, location, dtype: Dtype::F32, dims, numel }
}

fn chain(dims: &[u32], inputs: &[&[u32]], ops: &[(ElementOp, &[ChainOperand])]) -> Chain {
    let out = operand(dims);
    let last = ops.len() as u8 - 1;
    let ops = ops.iter().map(|&(op, operands)| {
        let mut all = [ChainOperand::None; 3];
        all[..operands.len()].copy_from_slice(operands);
        ChainOp { instruction: 0, op, operands: all, operand_dtype: Dtype::F32, dtype: Dtype::F32 }
    });
    Chain::new(&plan::Chain {
        dims: out.dims,
        numel: out.numel,
        inputs: inputs.iter().map(|dims| operand(dims)).collect(),
        ops: ops.collect(),
        outputs: vec![ChainOutput { op: last, operand: out, depends_on: 0, in_place_of: None }],
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let isa = std::env::var("ISA").ok().and_then(|name| Isa::available().into_iter().find(|i| i.name() == name));
    let isa = isa.unwrap_or_else(Isa::detect);
    let pools = if threads > 1 { vec![1, threads] } else { vec![1] };
    let cpus = pools.into_iter().filter_map(|n| Some(Cpu { isa, pool: Pool::new(n).ok()? })).collect();
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    println!("{}, {threads} threads", isa.name());
    let bench = Bench { cpus, filter };
    elementwise(&bench);
    rows(&bench);
    norms(&bench);
    columns(&bench);
    optimisers(&bench);
    moves(&bench);
}

fn elementwise(bench: &Bench) {
    use ChainOperand::{Input, Op};
    use activation::Activation::{Gelu, GeluTanh, Relu, Sigmoid, Softplus, Tanh};
    let unary = ElementOp::Unary;
    let act = |activation| ElementOp::Activation { activation, parameters: [1.0, 20.0] };
    let small = 1 << 13;
    for (name, op) in [
        ("exp", unary(UnaryOp::Exp)),
        ("expm1", unary(UnaryOp::Expm1)),
        ("log", unary(UnaryOp::Log)),
        ("log1p", unary(UnaryOp::Log1p)),
        ("erf", unary(UnaryOp::Erf)),
        ("relu", act(Relu)),
        ("sigmoid", act(Sigmoid)),
        ("tanh", act(Tanh)),
        ("gelu", act(Gelu)),
        ("geluTanh", act(GeluTanh)),
        ("softplus", act(Softplus)),
    ] {
        let chain = chain(&[small], &[&[small]], &[(op, &[Input(0)])]);
        let (x, mut y) = (bits(&floats(small as usize)), vec![0; small as usize]);
        bench.line(&format!("{name} 8K"), small as usize, |cpu| chain.run(cpu, &[&x], &mut [&mut y], &[]));
    }
    let [add, mul, pow] = [BinaryOp::Add, BinaryOp::Mul, BinaryOp::Pow].map(ElementOp::Binary);
    let lone_pow = chain(&[small], &[&[small], &[small]], &[(pow, &[Input(0), Input(1)])]);
    let (x, mut y) = (bits(&floats(small as usize)), vec![0; small as usize]);
    bench.line("pow 8K", small as usize, |cpu| lone_pow.run(cpu, &[&x, &x], &mut [&mut y], &[]));

    let million = 1 << 20;
    let (a, b) = (bits(&floats(million)), bits(&floats(million)));
    let mut out = vec![0; million];
    let dims = [million as u32];
    let tiny = chain(&[16], &[&[16], &[16]], &[(add, &[Input(0), Input(1)])]);
    bench.line("add 16", 16, |cpu| tiny.run(cpu, &[&a[..16], &b[..16]], &mut [&mut out[..16]], &[]));
    let lone = chain(&dims, &[&dims, &dims], &[(add, &[Input(0), Input(1)])]);
    bench.line("add 1M", 3 * million, |cpu| lone.run(cpu, &[&a, &b], &mut [&mut out], &[]));
    let biased = chain(&[1024, 1024], &[&[1024, 1024], &[1024]], &[(add, &[Input(0), Input(1)])]);
    bench.line("add [1024, 1024] + [1024]", 2 * million, |cpu| {
        biased.run(cpu, &[&a, &b[..1024]], &mut [&mut out], &[]);
    });
    let columns = [1 << 16, 16];
    let scaled = chain(&columns, &[&columns, &[1 << 16, 1]], &[(mul, &[Input(0), Input(1)])]);
    bench.line("mul [64K, 16] · [64K, 1]", 2 * million, |cpu| {
        scaled.run(cpu, &[&a, &b[..1 << 16]], &mut [&mut out], &[]);
    });
    let fused = chain(
        &dims,
        &[&dims, &dims, &[]],
        &[
            (mul, &[Input(0), Input(1)]),
            (add, &[Op(0), Input(2)]),
            (unary(UnaryOp::Square), &[Op(1)]),
            (add, &[Op(2), Input(0)]),
            (unary(UnaryOp::Abs), &[Op(3)]),
            (unary(UnaryOp::Sqrt), &[Op(4)]),
            (mul, &[Op(5), Input(1)]),
            (act(Relu), &[Op(6)]),
        ],
    );
    bench.line("chain of 8 1M", 3 * million, |cpu| fused.run(cpu, &[&a, &b, &b], &mut [&mut out], &[]));
}

fn rows(bench: &Bench) {
    let (rows, columns) = (4096, 1024);
    let size = rows * columns;
    let x = floats(size);
    let words = bits(&x);
    let mut y = vec![0.0; size];
    let axes = Middle { outer: rows, count: columns, inner: 1 };
    for log in [false, true] {
        let name = if log { "logSoftmax" } else { "softmax" };
        bench.line(&format!("{name} [4096, 1024]"), 2 * size, |cpu| softmax::softmax(cpu, log, axes, &x, &mut y));
        let mut dx = vec![0.0; size];
        bench.line(&format!("{name}Grad [4096, 1024]"), 3 * size, |cpu| {
            softmax::softmax_grad(cpu, log, axes, &x, &y, &mut dx);
        });
    }
    let short = Middle { outer: rows, count: 10, inner: 1 };
    bench.line("softmax [4096, 10]", 20 * rows, |cpu| softmax::softmax(cpu, false, short, &x, &mut y));
    let mut out = vec![0; rows];
    for (name, kind) in [
        ("sum", ReduceOp::Sum),
        ("max", ReduceOp::Max),
        ("argmax", ReduceOp::Argmax),
        ("variance", ReduceOp::Variance { correction: 0.0 }),
    ] {
        let by_column = Middle { outer: 1, count: rows, inner: columns };
        let narrow = Middle { outer: 1, count: size / 10, inner: 10 };
        let all = Middle { outer: 1, count: size, inner: 1 };
        for (shape, axes) in [("rows", axes), ("columns", by_column), ("10 columns", narrow), ("all", all)] {
            bench.line(&format!("{name} of {shape} 4M"), size, |cpu| {
                reduce::reduce(cpu, kind, axes, Dtype::F32, &words, &mut out);
            });
        }
    }
    let targets: Vec<i32> = (0..rows as i32).map(|i| i % 1024).collect();
    let digits: Vec<i32> = targets.iter().map(|t| t % 10).collect();
    let (mut losses, mut log_sums) = (vec![0.0; rows], vec![0.0; rows]);
    bench.line("crossEntropy [4096, 1024]", size, |cpu| {
        let _ = loss::cross_entropy(cpu, -100, &x, &targets, &mut losses, &mut log_sums);
    });
    bench.line("crossEntropy [4096, 10]", 10 * rows, |cpu| {
        let _ = loss::cross_entropy(cpu, -100, &x[..10 * rows], &digits, &mut losses, &mut log_sums);
    });
    bench.line("crossEntropyGrad [4096, 1024]", 2 * size, |cpu| {
        let _ = loss::cross_entropy_grad(cpu, -100, &x, &targets, &log_sums, &losses, &mut y);
    });
    let weight: Vec<f32> = (0..1024).map(|class| (class % 7) as f32 * 0.25 + 0.5).collect();
    let weights = loss::Weights { each: Some(&weight), sum: Some(weight.iter().sum()) };
    let rule = Smoothed { ignore_index: -100, smoothing: 0.1 };
    let mut weighed = vec![0.0; rows];
    bench.line("weightedCrossEntropy [4096, 1024]", size, |cpu| {
        let out = [&mut losses[..], &mut log_sums[..], &mut weighed[..]];
        let _ = loss::weighted_cross_entropy(cpu, rule, (&x, &targets), weights, out);
    });
    bench.line("weightedCrossEntropyGrad [4096, 1024]", 2 * size, |cpu| {
        let upstream = (&log_sums[..], &losses[..]);
        let _ = loss::weighted_cross_entropy_grad(cpu, rule, (&x, &targets), upstream, weights, &mut y);
    });
}

fn norms(bench: &Bench) {
    let most = 1 << 22;
    let (x, dy) = (floats(most), floats(most));
    let (mut y, mut dx) = (vec![0.0; most], vec![0.0; most]);
    let cases: [(&str, NormKind, [usize; 4]); 10] = [
        ("layerNorm [4096, 1024]", NormKind::Layer, [4096, 1, 1024, 1]),
        ("rmsNorm [4096, 1024]", NormKind::Rms, [4096, 1, 1024, 1]),
        ("layerNorm [65536, 64]", NormKind::Layer, [65_536, 1, 64, 1]),
        ("groupNorm [16, 64, 64, 64] 8", NormKind::Group, [16, 8, 8, 4096]),
        ("groupNorm [4096, 256, 2, 2] 8", NormKind::Group, [4096, 8, 32, 4]),
        ("groupNorm [1024, 256, 4, 4] 8", NormKind::Group, [1024, 8, 32, 16]),
        ("groupNorm [1024, 128, 5, 5] 8", NormKind::Group, [1024, 8, 16, 25]),
        ("groupNorm [1024, 64, 7, 7] 8", NormKind::Group, [1024, 8, 8, 49]),
        ("groupNorm [256, 64, 14, 14] 8", NormKind::Group, [256, 8, 8, 196]),
        ("groupNorm [1024, 64, 8, 8] 8", NormKind::Group, [1024, 8, 8, 64]),
    ];
    for (name, kind, [outer, groups, channels, inner]) in cases {
        let rows = NormRows { kind, outer, groups, channels, inner };
        let size = rows.numel();
        let (x, dy, y, dx) = (&x[..size], &dy[..size], &mut y[..size], &mut dx[..size]);
        let (weight, bias) = (floats(rows.affine()), floats(rows.affine()));
        let (mut means, mut scales) = (vec![0.0; rows.rows()], vec![0.0; rows.rows()]);
        let (mut dweight, mut dbias) = (vec![0; rows.affine()], vec![0; rows.affine()]);
        let centred = rows.is_centred();
        bench.line(name, 2 * size, |cpu| {
            let affine = norm::Affine { weight: Some(&weight), bias: centred.then_some(&bias[..]) };
            let means = centred.then_some(&mut means[..]);
            norm::norm(cpu, rows, 1e-5, x, affine, norm::Normalized { y, means, scales: &mut scales });
        });
        bench.line(&name.replacen(' ', "Grad ", 1), 3 * size, |cpu| {
            let (weight, means) = (Some(&weight[..]), centred.then_some(&means[..]));
            let saved = norm::Saved { dy, x, weight, means, scales: &scales };
            let dbias = centred.then_some(&mut dbias[..]);
            let to = norm::NormGradients { dx: Some(dx), dweight: Some(&mut dweight), dbias };
            norm::norm_grad(cpu, rows, saved, to);
        });
    }
}

/// Batch normalisation, channels side by side and each over a picture.
fn columns(bench: &Bench) {
    for (name, outer, channels, inner) in [("[4096, 1024]", 4096, 1024, 1), ("[64, 64, 32, 32]", 64, 64, 1024)] {
        let of = Channels { outer, channels, inner };
        let size = of.numel();
        let (x, dy) = (floats(size), floats(size));
        let [mut mean, mut m2] = [(); 2].map(|()| vec![0.0; channels]);
        bench.line(&format!("batchNormStatistics {name}"), size, |cpu| {
            batch_norm::statistics(cpu, of, &x, None, &mut mean, &mut m2);
        });
        let (istd, weight) = (vec![0.5; channels], vec![1.5; channels]);
        let with = batch_norm::Coefficients { mean: &mean, istd: &istd, weight: Some(&weight) };
        let mut y = vec![0.0; size];
        bench.line(&format!("batchNorm {name}"), 2 * size, |cpu| {
            batch_norm::forward(cpu, of, with, Some(&weight), &x, None, &mut y);
        });
        let [mut sums, mut products] = [(); 2].map(|()| vec![0.0; channels]);
        bench.line(&format!("batchNormGradSums {name}"), 2 * size, |cpu| {
            batch_norm::grad_sums(cpu, of, &dy, &x, &mean, &istd, None, &mut sums, &mut products);
        });
        bench.line(&format!("batchNormGrad {name}"), 3 * size, |cpu| {
            batch_norm::grad(cpu, of, with, [&sums, &products], 4096.0, &dy, &x, None, &mut y);
        });
    }
}

fn optimisers(bench: &Bench) {
    // The parameters of an MLP 784-512-256-10.
    let lengths = [784 * 512, 512, 512 * 256, 256, 2560, 10];
    let mut offset = 0;
    let segments: Box<[Segment]> = lengths
        .iter()
        .enumerate()
        .map(|(parameter, &length)| {
            offset += length;
            Segment { parameter: parameter as u32, offset: (offset - length) as u32 }
        })
        .collect();
    let size = offset;
    let gradients: Vec<_> = lengths.iter().map(|&n| floats(n)).collect();
    let slices: Vec<_> = gradients.iter().map(Vec::as_slice).collect();
    let words: Vec<_> = gradients.iter().map(|g| bits(g)).collect();
    let word_slices: Vec<_> = words.iter().map(Vec::as_slice).collect();
    let (mut p, mut m, mut v, mut steps) = (floats(size), vec![0.0; size], vec![0.0; size], vec![0; 6]);
    let gate = optim::Gate { scale: Some(0.5), ok: Some(true) };
    let rule = Adam {
        lr: 0,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        decoupled: true,
        segments: segments.clone(),
    };
    bench.line("adamw 535K", 7 * size, |cpu| {
        optim::adam(cpu, &rule, 1e-3, gate, [&mut p, &mut m, &mut v], None, &mut steps, &slices);
    });
    let rule = Sgd { lr: 0, momentum: 0.9, dampening: 0.0, weight_decay: 0.01, nesterov: false, segments };
    bench.line("sgd with momentum 535K", 5 * size, |cpu| {
        optim::sgd(cpu, &rule, 1e-3, gate, &mut p, Some(&mut m), &mut steps, &slices);
    });
    bench.line("squaredNorm 535K", size, |cpu| {
        std::hint::black_box(optim::squared_norm(cpu, &word_slices));
    });
}

fn moves(bench: &Bench) {
    let size = 1 << 22;
    let x = bits(&floats(size));
    let mut y = vec![0; size];
    bench.line("transpose [2048, 2048]", 2 * size, |cpu| shape::transpose(cpu, &[2048, 2048], &[1, 0], &x, &mut y));
    bench.line("transpose [32, 128, 16, 64] heads", 2 * size, |cpu| {
        shape::transpose(cpu, &[32, 128, 16, 64], &[0, 2, 1, 3], &x, &mut y);
    });
    bench.line("slice [2048, 1024] of [2048, 2048]", size, |cpu| {
        shape::slice(cpu, &[2048, 2048], &[0, 7], &[2048, 1024], &x, &mut y[..size / 2]);
    });
    bench.line("addInto 4M", 3 * size, |cpu| shape::add_into(cpu, Dtype::F32, &mut y, &x));
    let axis = gather::Axis { outer: 1, size: 8192, inner: 512 };
    let indices: Vec<i32> = (0..4096).map(|i| i * 7919 % 8192).collect();
    bench.line("gather 4096 of [8192, 512]", size, |cpu| {
        let _ = gather::gather(cpu, axis, &x, &indices, &mut y[..size / 2]);
    });
    let dy = &x[..size / 2];
    bench.line("scatterAdd 4096 to [8192, 512]", 2 * size, |cpu| {
        let _ = gather::scatter_add(cpu, axis, Dtype::F32, dy, &indices, &mut y);
    });
}
