//! GEMM alone, without Node: squares, relu(XW + b) at several batch sizes, the three products of a training step, and the
//! layers of an MLP one after the other.
//!
//! `cargo bench --bench gemm --no-default-features [-- filter [threads]]` prints the best and the median time of each
//! case. It measures this crate only; comparisons with other libraries run both in one interleaved session.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tilegrad::cpu::activation::Activation;
use tilegrad::cpu::gemm::{Epilogue, Matrix, PackedB, gemm};
use tilegrad::cpu::{Cpu, Isa, Pool};

/// Time spent on each case.
const BUDGET: Duration = Duration::from_millis(150);

struct Bench {
    cpu: Cpu,
    filter: String,
}

impl Bench {
    fn case(&self, name: &str, operations: usize, mut body: impl FnMut(&Cpu)) {
        if !name.contains(&self.filter) {
            return;
        }
        let begin = Instant::now();
        let mut times = Vec::new();
        while begin.elapsed() < BUDGET || times.len() < 5 {
            let start = Instant::now();
            body(&self.cpu);
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let rate = operations as f64 / times[0].as_secs_f64() / 1e9;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "{name:28} {:9.1} µs best {:9.1} median {rate:7.1} GFLOP/s",
            micros(times[0]),
            micros(times[times.len() / 2])
        );
    }
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 2_654_435_761 % 1021) as f32 / 1021.0 - 0.5).collect()
}

fn main() {
    // `cargo bench` adds flags of its own.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let filter = words.next().unwrap_or_default();
    let threads = words.next().and_then(|word| word.parse().ok());
    let threads = threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let Ok(pool) = Pool::new(threads) else { return };
    let bench = Bench { cpu: Cpu { isa: Isa::detect(), pool }, filter };
    println!("{} on {threads} threads", bench.cpu.isa.name());
    for n in [512, 1024, 2048] {
        let (a, b, mut c) = (values(n * n), values(n * n), vec![0.0; n * n]);
        let (a, b) = (Matrix::new(&a, n, n), Matrix::new(&b, n, n));
        bench.case(&format!("square {n}"), 2 * n * n * n, |cpu| {
            gemm(cpu, black_box(a), b, black_box(&mut c), Epilogue::NONE).unwrap();
        });
    }
    linear(&bench, 1024, 1024, &[1, 8, 32, 128, 512]);
    training(&bench, 32);
    training(&bench, 256);
    for m in [1, 32, 256] {
        inference(&bench, m);
    }
}

/// relu(XW + b) with W as it lies in memory and packed before.
fn linear(bench: &Bench, k: usize, n: usize, batches: &[usize]) {
    let (w, bias) = (values(k * n), values(n));
    let w = Matrix::new(&w, k, n);
    let Ok(packed) = PackedB::new(&bench.cpu, w) else { return };
    for &m in batches {
        let (x, mut y) = (values(m * k), vec![0.0; m * n]);
        let x = Matrix::new(&x, m, k);
        let epilogue = || Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::NONE };
        bench.case(&format!("relu(XW+b) {m} packed"), 2 * m * k * n, |cpu| {
            gemm(cpu, black_box(x), &packed, black_box(&mut y), epilogue()).unwrap();
        });
        bench.case(&format!("relu(XW+b) {m}"), 2 * m * k * n, |cpu| {
            gemm(cpu, black_box(x), w, black_box(&mut y), epilogue()).unwrap();
        });
    }
}

/// The products of an MLP 784-512-256-10 at one batch size.
fn training(bench: &Bench, m: usize) {
    for (k, n) in [(784, 512), (512, 256), (256, 10)] {
        let (x, w, dy, bias) = (values(m * k), values(k * n), values(m * n), values(n));
        let (x, w, dy) = (Matrix::new(&x, m, k), Matrix::new(&w, k, n), Matrix::new(&dy, m, n));
        let (mut y, mut dx, mut dw) = (vec![0.0; m * n], vec![0.0; m * k], vec![0.0; k * n]);
        let operations = 2 * m * k * n;
        bench.case(&format!("forward {m},{k},{n}"), operations, |cpu| {
            let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::NONE };
            gemm(cpu, black_box(x), w, black_box(&mut y), epilogue).unwrap();
        });
        bench.case(&format!("dX {m},{k},{n}"), operations, |cpu| {
            gemm(cpu, black_box(dy), w.t(), black_box(&mut dx), Epilogue::NONE).unwrap();
        });
        bench.case(&format!("dW {m},{k},{n}"), operations, |cpu| {
            gemm(cpu, black_box(x.t()), dy, black_box(&mut dw), Epilogue::NONE).unwrap();
        });
    }
}

/// An MLP 784-512-256-10 on weights packed before, layer by layer.
fn inference(bench: &Bench, m: usize) {
    let layers = [(784, 512), (512, 256), (256, 10)].map(|(k, n)| {
        let w = values(k * n);
        let packed = PackedB::new(&bench.cpu, Matrix::new(&w, k, n)).unwrap_or_else(|error| panic!("{error}"));
        (packed, values(n), vec![0.0; m * n])
    });
    let [mut one, mut two, mut three] = layers;
    let x = values(m * 784);
    bench.case(&format!("inference {m}"), 2 * m * (784 * 512 + 512 * 256 + 256 * 10), |cpu| {
        let layer = |x: &[f32], (packed, bias, y): &mut (PackedB, Vec<f32>, Vec<f32>), activation| {
            let epilogue = Epilogue { bias: Some(bias), activation, ..Epilogue::NONE };
            gemm(cpu, Matrix::new(black_box(x), m, packed.rows()), &*packed, y, epilogue).unwrap();
        };
        layer(&x, &mut one, Activation::Relu);
        layer(&one.2, &mut two, Activation::Relu);
        layer(&two.2, &mut three, Activation::None);
        black_box(&three.2);
    });
}
