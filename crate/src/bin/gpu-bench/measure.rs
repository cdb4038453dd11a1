//! Running a case: load, run once, compare with what `cpu` says, then time it.

use std::error::Error;
use std::time::{Duration, Instant};

use super::memory::Arena;
use super::options::Options;
use tilegrad::cpu::{Cpu, Isa, Pool};
use tilegrad::gpu::kernels::shader::Aligned;
use tilegrad::gpu::kernels::{Prepared, Target, prepare};
use tilegrad::gpu::lab::{Lab, Loaded, Settings};
use tilegrad::gpu::{Class, Traits};
use tilegrad::plan::{Operand, Step};

/// Why there is no measurement at all.
pub type Failure = Box<dyn Error>;

/// How long one submission is meant to last: far above what starting and ending it costs, far below any watchdog.
const SUBMISSION: f64 = 0.02;

/// The adapter, the processor, and what is asked for.
pub struct Bench {
    /// The adapter.
    pub lab: Lab,
    /// What results are compared with.
    pub cpu: Cpu,
    options: Options,
}

/// What a case does, for its rate.
#[derive(Clone, Copy)]
pub enum Work {
    /// Additions and multiplications of floats.
    Operations(f64),
    /// Bytes of operands and results, each counted once.
    Bytes(f64),
}

/// What a result must be.
pub struct Expected {
    /// Where it lies.
    pub operand: Operand,
    /// Its elements.
    pub words: Vec<u32>,
    /// How far an element may be off, by position and expected value; none: equal bits.
    pub slack: Option<Slack>,
}

/// See [`Expected::slack`].
pub type Slack = Box<dyn Fn(usize, f32) -> f32>;

/// Steps that compute the same thing from the same memory.
pub struct Case {
    /// What is computed.
    pub name: String,
    /// What that takes.
    pub work: Work,
    /// The memory, before.
    pub arena: Arena,
    /// Scalars of the run.
    pub scalars: Vec<f64>,
    /// The results.
    pub expected: Vec<Expected>,
}

/// What was measured.
pub struct Outcome {
    /// Seconds of the fastest run, and of the one in the middle.
    pub best: f64,
    /// See `best`.
    pub median: f64,
    /// Which result is wrong, if one is.
    pub wrong: Option<String>,
}

impl Bench {
    /// Ready to measure.
    pub fn new(lab: Lab, options: Options) -> Result<Self, Failure> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { lab, cpu: Cpu { isa: Isa::detect(), pool: Pool::new(threads)? }, options })
    }

    /// Whether a case is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.options.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Whether only a short run is asked for.
    pub fn is_quick(&self) -> bool {
        self.options.quick
    }

    /// Whether the adapter is the processor in disguise.
    pub fn is_software(&self) -> bool {
        self.lab.traits.class == Class::Software
    }

    /// What the adapter is.
    pub fn traits(&self) -> &Traits {
        &self.lab.traits
    }

    /// A step as the device would run it.
    pub fn prepare(&self, step: &Step) -> Result<Prepared, Failure> {
        Ok(prepare(step, Target { traits: self.traits(), aligned: Aligned::default() })?)
    }

    /// Runs, checks and times one way to compute a case.
    pub fn measure(&mut self, case: &Case, prepared: &Prepared) -> Result<Outcome, Failure> {
        let settings = Settings { scalars: &case.scalars, unchecked: self.traits().unchecked, closed: false };
        let loaded = self.lab.load(&case.arena.words, prepared.scratch, settings)?;
        self.lab.run(prepared, &loaded, settings, 1)?;
        let wrong = self.check(case, &loaded)?;
        let budget = Duration::from_millis(if self.is_quick() { 150 } else { 500 });
        let started = Instant::now();
        let once = self.lab.run(prepared, &loaded, settings, 1)?;
        let times = ((SUBMISSION / once) as usize).clamp(1, 1000);
        let mut seconds = vec![once];
        // One sample says little, but some kernels take seconds.
        while started.elapsed() < budget || (seconds.len() < 3 && once < 1.0) {
            seconds.push(self.lab.run(prepared, &loaded, settings, times)?);
        }
        self.lab.unload(loaded);
        seconds.sort_by(f64::total_cmp);
        Ok(Outcome { best: seconds[0], median: seconds[seconds.len() / 2], wrong })
    }

    fn check(&self, case: &Case, loaded: &Loaded) -> Result<Option<String>, Failure> {
        for (number, expected) in case.expected.iter().enumerate() {
            let Operand { location, numel, .. } = expected.operand;
            let words = self.lab.arena(loaded, location.offset, numel)?;
            for (position, (&word, &wanted)) in words.iter().zip(&expected.words).enumerate() {
                let (got, want) = (f32::from_bits(word), f32::from_bits(wanted));
                let right = match &expected.slack {
                    None => word == wanted,
                    Some(slack) => (got - want).abs() <= slack(position, want),
                };
                if !right {
                    return Ok(Some(format!("result {number} is {got} and not {want} at {position}")));
                }
            }
        }
        Ok(None)
    }
}
