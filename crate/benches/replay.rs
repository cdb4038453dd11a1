//! Times runs of a compiled training step: an MLP 784-512-256-10 with `AdamW` at 32 rows. On `cpu`, the whole step, and what
//! of it is not kernels: the same instructions on next to no data, by the calling thread and through the device's. On
//! `gpu`, what the device's thread takes to record and encode the step, on every adapter; the driver's part of a submission
//! is not counted. The best of many rounds, in microseconds. `cargo bench -p tilegrad --no-default-features --bench replay [cpu | gpu]`.
#![allow(clippy::print_stdout, reason = "its output is the result")]

use std::time::{Duration, Instant};

use tilegrad::cpu;
use tilegrad::gpu::unthreaded::Unthreaded;
use tilegrad::gpu::{Description, enumerate};

#[path = "../tests/training/mod.rs"]
mod training;

use training::{PROGRAM, Step, run, wait};

const LAYERS: [u32; 4] = [784, 512, 256, 10];
const ROWS: u32 = 32;

/// Runs on a GPU.
const RUNS: u32 = 300;

fn main() {
    let only = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let wants = |kind: &str| only.as_ref().is_none_or(|only| only == kind);
    if wants("cpu") {
        let threads = cpu::device::logical_processors();
        for threads in if threads > 1 { vec![1, threads] } else { vec![1] } {
            on_cpu(threads);
        }
    }
    if !wants("gpu") {
        return;
    }
    for found in enumerate().unwrap_or_else(|error| panic!("{error}")) {
        if found.description.refusal.is_none() {
            let opened = Unthreaded::open(&found).unwrap_or_else(|error| panic!("{error}"));
            on_gpu(&found.description, opened);
        }
    }
}

/// Whose thread runs a step.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Caller,
    Device,
}

fn on_cpu(threads: usize) {
    let whole = time_on_cpu(threads, &mut Step::new(ROWS, &LAYERS), On::Device, [20, 30]);
    let alone = time_on_cpu(threads, &mut Step::new(1, &[1, 1, 1, 1]), On::Caller, [200, 300]);
    let apart = time_on_cpu(threads, &mut Step::new(1, &[1, 1, 1, 1]), On::Device, [200, 300]);
    println!(
        "cpu, {threads} threads: {whole:.1} µs a step; without data {alone:.2} µs by the caller, {apart:.2} µs by the device"
    );
}

/// Microseconds of a run among some that are queued one behind the other; the best of several rounds.
fn time_on_cpu(threads: usize, step: &mut Step, on: On, [runs, rounds]: [u32; 2]) -> f64 {
    let machine = cpu::device::machine(threads).unwrap_or_else(|error| panic!("{error}"));
    let device = cpu::device::Device::open(machine, None, true).unwrap_or_else(|error| panic!("{error}"));
    step.load(&device);
    let mut turn = 0;
    let mut round = || {
        let began = Instant::now();
        for _ in 0..runs {
            // The caller may do a little in every turn of its loop; without new turns the device has to.
            turn += u32::from(on == On::Caller);
            run(&device, step.next(), turn);
        }
        wait(&device);
        began.elapsed() / runs
    };
    // The first uses up the turn, too.
    round();
    let time = best((0..rounds).map(|_| round()));
    assert!(step.loss(&device).is_finite(), "it has computed");
    time
}

fn on_gpu(description: &Description, mut device: Unthreaded) {
    let mut step = Step::new(ROWS, &LAYERS);
    for (slot, source) in step.data() {
        device.write(slot, &source);
    }
    device.submit(&step.views());
    device.compile(PROGRAM, step.code()).unwrap_or_else(|error| panic!("{error}"));
    let before = device.recorded();
    let times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let time = device.run(PROGRAM, step.next()).unwrap_or_else(|error| panic!("{error}"));
            // With the GPU on the same processor, both would be measured.
            device.wait().unwrap_or_else(|failure| panic!("{}", failure.error));
            time
        })
        .collect();
    let dispatches = (device.recorded() - before) / u64::from(RUNS);
    println!(
        "gpu, {}: {:.1} µs to encode a step of {dispatches} dispatches, {:.1} µs in the median",
        description.name,
        best(times.iter().copied()),
        median(times)
    );
}

/// The middle one, in microseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

fn best(times: impl Iterator<Item = Duration>) -> f64 {
    times.min().map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
