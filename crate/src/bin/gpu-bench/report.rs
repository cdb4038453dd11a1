//! What was measured: a line for each case on the terminal, and all of them as JSON.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::json::Object;
use super::measure::{Outcome, Work};
use super::peaks::Peaks;
use tilegrad::gpu::Description;

struct Line {
    name: String,
    how: String,
    outcome: Outcome,
    unit: &'static str,
    rate: f64,
    share: Option<f64>,
    against_naive: Option<f64>,
}

/// All results of a run.
pub struct Report {
    description: Description,
    peaks: Option<Peaks>,
    /// GB/s of a plain copy.
    copy: f64,
    has_clock: bool,
    lines: Vec<Line>,
}

impl Report {
    /// Nothing yet.
    pub fn new(description: &Description, peaks: Option<Peaks>, copy: f64, has_clock: bool) -> Self {
        Self { description: description.clone(), peaks, copy, has_clock, lines: Vec::new() }
    }

    /// Takes a result and prints it. `naive` is the time of the naive kernel for the same work.
    pub fn add(&mut self, name: &str, how: &str, work: Work, outcome: Outcome, naive: Option<f64>) {
        let (unit, rate, most) = match work {
            Work::Operations(operations) => {
                ("GFLOP/s", operations / outcome.best / 1e9, self.peaks.map(|peaks| peaks.tflops * 1e3))
            }
            Work::Bytes(bytes) => {
                ("GB/s", bytes / outcome.best / 1e9, Some(self.peaks.map_or(self.copy, |peaks| peaks.gigabytes)))
            }
        };
        let (share, against_naive) = (most.map(|most| rate / most), naive.map(|naive| naive / outcome.best));
        let mut text = format!(
            "{name:<34} {how:<22} {:>10.1} µs {:>10.1} median {rate:>9.1} {unit:<7}",
            outcome.best * 1e6,
            outcome.median * 1e6
        );
        if let Some(share) = share {
            let _ = write!(text, " {:>5.1} %", share * 100.0);
        }
        if let Some(times) = against_naive {
            let _ = write!(text, " {times:>6.1} × naive");
        }
        if let Some(wrong) = &outcome.wrong {
            let _ = write!(text, "  WRONG: {wrong}");
        }
        println!("{text}");
        let (name, how) = (name.to_owned(), how.to_owned());
        self.lines.push(Line { name, how, outcome, unit, rate, share, against_naive });
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How many results are wrong.
    pub fn wrong(&self) -> usize {
        self.lines.iter().filter(|line| line.outcome.wrong.is_some()).count()
    }

    /// Prints what all lines come to.
    pub fn summary(&self) {
        println!("\n{} measured, {} wrong", self.lines.len(), self.wrong());
    }

    /// Everything, for programs.
    pub fn json(&self) -> String {
        let Description { name, kind, backend, driver, features, .. } = &self.description;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let lines = self.lines.iter().map(|line| {
            let object = Object::default()
                .text("work", &line.name)
                .text("kernel", &line.how)
                .number("seconds", Some(line.outcome.best))
                .number("median", Some(line.outcome.median))
                .text("unit", line.unit)
                .number("rate", Some(line.rate))
                .number("share", line.share)
                .number("againstNaive", line.against_naive);
            match &line.outcome.wrong {
                Some(wrong) => object.text("wrong", wrong),
                None => object,
            }
        });
        Object::default()
            .text("tilegrad", env!("CARGO_PKG_VERSION"))
            .text("adapter", name)
            .text("kind", kind)
            .text("backend", backend)
            .text("driver", driver)
            .text("features", &features.join(" "))
            .text("system", &format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))
            .text("clock", if self.has_clock { "gpu" } else { "wall" })
            .number("unixSeconds", Some(now as f64))
            .number("peakGflops", self.peaks.map(|peaks| peaks.tflops * 1e3))
            .number("peakGigabytes", self.peaks.map(|peaks| peaks.gigabytes))
            .number("copyGigabytes", Some(self.copy))
            .list("lines", lines)
            .end()
            + "\n"
    }
}
