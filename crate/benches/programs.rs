//! Whole programs on the `cpu` device, fused and one by one, and how long planning takes.
//!
//! `cargo bench --bench programs --no-default-features [-- filter [threads]]` prints the best and the median time of each
//! case from submitting to the end. It measures this crate only.
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::borrow::Cow;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tilegrad::cpu::device::{Device, default_threads, machine};
use tilegrad::device::{Device as _, Source};
use tilegrad::plan::{Options, Plan};
use tilegrad::program::table::OPCODES;
use tilegrad::program::{MAGIC, NONE, Program};

/// Time spent on each case.
const BUDGET: Duration = Duration::from_millis(300);

/// Words of a program over f32.
#[derive(Default)]
struct Code {
    words: Vec<u32>,
    registers: u32,
    inputs: Vec<usize>,
    outputs: u32,
    instructions: usize,
}

impl Code {
    fn op(&mut self, name: &str, results: &[&[u32]], inputs: &[u32], attributes: &[u32]) -> u32 {
        let code = OPCODES.iter().find(|row| row.name == name).map_or(0, |row| row.code);
        let start = self.words.len();
        self.words.extend([0, results.len() as u32 | (inputs.len() as u32) << 8]);
        for dims in results {
            self.words.push((dims.len() as u32) << 8);
            self.words.extend(*dims);
        }
        self.words.extend([inputs, attributes].concat());
        self.words[start] = u32::from(code) | ((self.words.len() - start) as u32) << 16;
        self.registers += results.len() as u32;
        self.instructions += 1;
        self.registers - results.len() as u32
    }

    fn input(&mut self, dims: &[u32]) -> u32 {
        self.inputs.push(dims.iter().map(|&size| size as usize).product());
        self.op("input", &[dims], &[], &[])
    }

    fn output(&mut self, register: u32) {
        self.outputs += 1;
        self.op("output", &[], &[register], &[]);
    }

    /// Inputs in slots from 0 on, outputs from 100 on.
    fn stream(&self) -> Vec<u32> {
        let inputs = self.inputs.len() as u32;
        let mut words = vec![MAGIC, inputs, self.outputs, 0, 0, self.words.len() as u32];
        words.extend(0..inputs);
        words.extend(100..100 + self.outputs);
        words.extend(&self.words);
        words
    }
}

fn report(name: &str, filter: &str, mut body: impl FnMut()) {
    if !name.contains(filter) {
        return;
    }
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed() < BUDGET || times.len() < 20 {
        let start = Instant::now();
        body();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!("{name:44} {:9.1} µs best {:9.1} median", micros(times[0]), micros(times[times.len() / 2]));
}

fn main() {
    // `cargo bench` adds flags of its own.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let filter = words.next().unwrap_or_default();
    let threads = words.next().and_then(|word| word.parse().ok()).unwrap_or_else(default_threads);
    let Ok(machine) = machine(threads) else { return };
    println!("{} on {threads} threads", machine.isa.name());
    let cases = [
        ("mean((a - b)²) 1M", squared_error(&[1 << 20], [1, 1 << 20, 1], &[])),
        ("mean((a - b)²) 64", squared_error(&[64], [1, 64, 1], &[])),
        ("mean((a - b)²) rows [1024, 1024]", squared_error(&[1024, 1024], [1024, 1024, 1], &[1024])),
        ("mean((a - b)²) columns [1024, 1024]", squared_error(&[1024, 1024], [1, 1024, 1024], &[1024])),
        ("mean((a - b)²) [64K, 16] to [16]", squared_error(&[1 << 16, 16], [1, 1 << 16, 16], &[16])),
        ("gelu(xW)·mask + residual [1, 1024]", layer(1, 1024, 1024)),
        ("gelu(xW)·mask + residual [32, 1024]", layer(32, 1024, 1024)),
        ("gelu(xW)·mask + residual [256, 1024]", layer(256, 1024, 1024)),
        ("gelu(xW)·mask + residual [4096, 256], K 64", layer(4096, 64, 256)),
        ("gelu(xW)·mask + residual [4096, 1024], K 128", layer(4096, 128, 1024)),
        ("scores·scale + mask [64, 128, 128], K 64", scores(64, 128, 64)),
    ];
    for (name, code) in &cases {
        for fuse in [true, false] {
            let Ok(device) = Device::open(machine.clone(), None, fuse) else { return };
            for (slot, &numel) in (0..).zip(&code.inputs) {
                let data: Vec<f32> = (0..numel).map(|i| (i * 2_654_435_761 % 1021) as f32 / 1021.0 - 0.5).collect();
                let _ = device.write(slot, &Source::F32(Cow::Owned(data)));
            }
            let stream = code.stream();
            let name = format!("{name}{}", if fuse { "" } else { ", unfused" });
            report(&name, &filter, || {
                let _ = device.submit(&stream, 0);
                let (done, end) = channel();
                device.sync(Box::new(move |result| {
                    let _ = done.send(result.is_ok());
                }));
                assert_eq!(end.recv(), Ok(true), "{name}");
            });
        }
    }
    planning(&filter);
}

/// mean((a − b)²) over the middle of `axes`.
fn squared_error(dims: &[u32], axes: [u32; 3], to: &[u32]) -> Code {
    let mut code = Code::default();
    let (a, b) = (code.input(dims), code.input(dims));
    let difference = code.op("sub", &[dims], &[a, b], &[]);
    let square = code.op("square", &[dims], &[difference], &[]);
    let mean = code.op("mean", &[to], &[square], &axes);
    code.output(mean);
    code
}

/// gelu(xW)·mask + residual.
fn layer(m: u32, k: u32, n: u32) -> Code {
    let mut code = Code::default();
    let [x, w, mask, residual] = [[m, k], [k, n], [m, n], [m, n]].map(|dims| code.input(&dims));
    let z = code.op("matmul", &[&[m, n]], &[x, w], &[0, 0]);
    let active = code.op("gelu", &[&[m, n]], &[z], &[]);
    let masked = code.op("mul", &[&[m, n]], &[active, mask], &[]);
    let result = code.op("add", &[&[m, n]], &[masked, residual], &[]);
    code.output(result);
    code
}

/// q·kᵀ·scale + mask for a batch, as in attention.
fn scores(batch: u32, length: u32, depth: u32) -> Code {
    let mut code = Code::default();
    let [q, k] = [[batch, length, depth]; 2].map(|dims| code.input(&dims));
    let (scale, mask) = (code.input(&[]), code.input(&[length, length]));
    let dims = [batch, length, length];
    let scores = code.op("matmul", &[&dims], &[q, k], &[0, 1]);
    let scaled = code.op("mul", &[&dims], &[scores, scale], &[]);
    let masked = code.op("add", &[&dims], &[scaled, mask], &[]);
    code.output(masked);
    code
}

/// The plan of a deep network's training step of about 300 instructions.
fn planning(filter: &str) {
    let mut code = Code::default();
    let (m, n) = (32, 64);
    let mut x = code.input(&[m, n]);
    let mut layers = Vec::new();
    for _ in 0..24 {
        let (w, b) = (code.input(&[n, n]), code.input(&[n]));
        let z = code.op("linear", &[&[m, n]], &[x, w, b], &[0, 0]);
        let a = code.op("gelu", &[&[m, n]], &[z], &[]);
        let y = code.op("add", &[&[m, n]], &[a, x], &[]);
        layers.push((x, w, z));
        x = y;
    }
    let mut dy = code.op("mul", &[&[m, n]], &[x, x], &[]);
    for (x, w, z) in layers.into_iter().rev() {
        let dz = code.op("geluGrad", &[&[m, n]], &[dy, z], &[]);
        let dx = code.op("linearGrad", &[&[m, n], &[n, n], &[n]], &[dz, NONE, x, w], &[0, 7]);
        dy = code.op("add", &[&[m, n]], &[dx, dy], &[]);
        code.output(dx + 1);
        code.output(dx + 2);
    }
    let name = format!("decode {} instructions", code.instructions);
    report(&name, filter, || assert!(Program::decode(&code.words).is_ok()));
    let Ok(program) = Program::decode(&code.words) else { return };
    let name = format!("plan {} instructions", code.instructions);
    report(&name, filter, || assert!(Plan::new(&program, Options::ALL).is_ok()));
}
