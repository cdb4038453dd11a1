//! Measures the kernels of the `gpu` device on one adapter and checks every result against the kernels of `cpu`. It needs
//! no Node. It times steps alone: recording, planning and reading back belong to `npm run bench`.
//!
//! `cargo run --release --bin gpu-bench -- [--adapter <part of its name>] [--software] [--quick] [--only <part of a case>]
//! [--json <file>]`
//!
//! Times come from the GPU's clock where it has one, around many runs in one submission; else from the wall, around the
//! submission. The best and the median are told. A share is that of the adapter's peak where it is known ([`peaks`]),
//! for memory otherwise that of a plain copy measured in the same run. Exits with 1 when a result is wrong.
#![allow(clippy::print_stdout, reason = "its output is the result")]

mod copies;
mod json;
mod measure;
mod memory;
mod moves;
mod optimiser;
mod options;
mod peaks;
mod plain;
mod products;
mod report;
mod rows;

use std::process::ExitCode;

use measure::{Bench, Failure};
use options::Options;
use tilegrad::gpu::lab::Lab;
use tilegrad::gpu::{Choice, Description, enumerate};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("gpu-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all results are right.
fn run(options: Options) -> Result<bool, Failure> {
    let choice = Choice { software: options.software, adapter: options.adapter.clone() };
    let mut taken = None;
    for found in enumerate()? {
        let refusal = choice.refusal(&found.description);
        let state = match &refusal {
            Some(refusal) => format!("not taken: {refusal}"),
            None if taken.is_some() => "not taken: one before it is".to_owned(),
            None => "taken".to_owned(),
        };
        println!("{}; {state}", line(&found.description));
        if refusal.is_none() && taken.is_none() {
            taken = Some(found);
        }
    }
    let found = taken.ok_or("no adapter to measure; --software takes those that are the processor in disguise")?;
    let json = options.json.clone();
    let mut bench = Bench::new(Lab::new(&found)?, options)?;
    println!("\ntimes by the {}\n", if bench.lab.has_clock() { "gpu's clock" } else { "wall clock" });
    let copy = copies::run(&mut bench)?;
    let peaks = peaks::of(&found.description.name);
    let mut report = report::Report::new(&found.description, peaks, copy, bench.lab.has_clock());
    products::run(&mut bench, &mut report)?;
    rows::run(&mut bench, &mut report)?;
    moves::run(&mut bench, &mut report)?;
    optimiser::run(&mut bench, &mut report)?;
    if report.is_empty() {
        return Err("--only names no case".into());
    }
    report.summary();
    if let Some(path) = json {
        std::fs::write(&path, report.json())?;
        println!("written to {}", path.display());
    }
    Ok(report.wrong() == 0)
}

fn line(description: &Description) -> String {
    let Description { name, kind, backend, driver, .. } = description;
    format!("{name} ({kind}, {backend}, {driver})")
}
