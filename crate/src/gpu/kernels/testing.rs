//! What tests of kernels share: operands without a plan, validation by naga without a GPU, and [`Lab`], which runs
//! prepared steps on whatever adapter there is, without the device around them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Prepared;
use super::shader::{Call, Memory, Shader, Word};
use crate::cpu::elementwise::scalar;
use crate::dtype::Dtype;
use crate::gpu::adapter::{self, Opened};
use crate::gpu::pipeline::{Pipelines, Range, first_byte, window};
use crate::gpu::traits::Traits;
use crate::plan::{Base, Location, Operand};
use crate::shape::{Dims, numel};

/// An operand in the arena.
pub fn operand(dtype: Dtype, dims: &[u32], offset: usize) -> Operand {
    Operand {
        register: 0,
        value: 0,
        location: Location { base: Base::Arena, offset },
        dtype,
        dims: Dims::new(dims).unwrap(),
        numel: numel(dims).unwrap(),
    }
}

/// Parses and validates the shader of a call, and checks its use of immediates and workgroup memory.
pub fn validate(call: &Call) {
    let text = &call.shader.text;
    let module = match naga::front::wgsl::parse_str(text) {
        Ok(module) => module,
        Err(error) => panic!("{}\n{text}", error.emit_to_string(text)),
    };
    let capabilities = naga::valid::Capabilities::IMMEDIATES | naga::valid::Capabilities::SUBGROUP;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    if let Err(error) = validator.validate(&module) {
        panic!("{}\n{text}", error.emit_to_string(text));
    }
    assert_eq!(call.shader.bindings, call.windows.len());
    assert!(call.words.len() <= super::shader::IMMEDIATE_WORDS);
}

/// Words of a fault cell, and which cells the lab uses for [`Word::Cell`] and for an open [`Word::Gate`].
const CELL: u32 = 4;
const GATE: u32 = 0;

/// Numbers of buffers are never used twice, or a bind group of a former run would be found.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A device to run kernels on. All memory of operands is one arena of words.
pub struct Lab {
    opened: Opened,
    /// What the adapter is.
    pub traits: Traits,
    checked: Pipelines,
    unchecked: Pipelines,
    validated: HashSet<Arc<Shader>>,
}

/// What a run leaves.
pub struct Outcome {
    /// The arena.
    pub arena: Vec<u32>,
    /// The fault cell of the step: `[1 if there is a fault, position, index]`.
    pub cell: [u32; 3],
    /// Seconds between submission and completion.
    pub seconds: f64,
}

/// Settings of a run.
#[derive(Clone, Copy, Default)]
pub struct Settings<'a> {
    /// Scalars of the run.
    pub scalars: &'a [f64],
    /// Whether masked shaders run without bounds checks.
    pub unchecked: bool,
    /// Whether the gate is closed, so that in-place steps do nothing.
    pub closed: bool,
}

impl Lab {
    /// The device that all tests share, or `None`, said aloud, when there is no adapter. `REQUIRE_DEVICES` with `gpu`
    /// makes that a failure.
    pub fn open() -> Option<MutexGuard<'static, Self>> {
        static LAB: OnceLock<Option<Mutex<Lab>>> = OnceLock::new();
        let lab = LAB.get_or_init(|| {
            let found = adapter::enumerate().unwrap().into_iter().find(|found| found.description.refusal.is_none())?;
            let opened = found.open().unwrap();
            let pipelines = |unchecked| Pipelines::new(opened.device.clone(), unchecked);
            let (checked, unchecked) = (pipelines(false), pipelines(true));
            Some(Mutex::new(Self {
                traits: found.description.limits,
                checked,
                unchecked,
                opened,
                validated: HashSet::new(),
            }))
        });
        if lab.is_none() {
            let required = std::env::var("REQUIRE_DEVICES").unwrap_or_default();
            assert!(!required.split(',').any(|kind| kind == "gpu"), "REQUIRE_DEVICES names gpu: there is no adapter");
            eprintln!("NOT TESTED on a gpu: there is no adapter");
        }
        lab.as_ref().map(|lab| lab.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a step on an arena. Scratch memory begins as NaN, fault cells as set.
    pub fn run(&mut self, prepared: &Prepared, arena: &[u32], settings: Settings) -> Outcome {
        self.repeat(prepared, arena, settings, 1)
    }

    /// The same, several times over in one submission: for measuring.
    pub fn repeat(&mut self, prepared: &Prepared, arena: &[u32], settings: Settings, times: usize) -> Outcome {
        let device = self.opened.device.clone();
        let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = |words: &[u32], usage| {
            let size = (words.len() as u64 * 4).next_multiple_of(64).max(64);
            let buffer =
                device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: true });
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            buffer.get_mapped_range_mut(..bytes.len() as u64).unwrap().copy_from_slice(&bytes);
            buffer.unmap();
            buffer
        };
        let faults = [u32::from(settings.closed), 0, 0, 0, 7, 7, 7, 7];
        let scratch = vec![f32::NAN.to_bits(); prepared.scratch];
        let buffers = [buffer(arena, storage), buffer(&scratch, storage), buffer(&faults, storage)];
        let pipelines = if settings.unchecked { &mut self.unchecked } else { &mut self.checked };
        let first = NUMBER.fetch_add(3, Ordering::Relaxed);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for call in std::iter::repeat_n(&prepared.calls, times).flatten() {
            if self.validated.insert(call.shader.clone()) {
                validate(call);
            }
            let place = |memory: usize| match &call.memory[memory] {
                Memory::Operand(operand) => {
                    assert!(operand.location.offset + operand.numel <= arena.len(), "{operand:?}");
                    (0, operand.location.offset)
                }
                Memory::Scratch { offset, words } => {
                    assert!(offset + words <= prepared.scratch);
                    (1, *offset)
                }
                Memory::Faults => (2, 0),
            };
            let begin = |(index, start): (usize, usize)| first_byte(&self.traits, buffers[index].size(), start);
            let ranges: Vec<Range> = call
                .windows
                .iter()
                .map(|bound| {
                    let (index, start) = place(bound.memory);
                    let size = buffers[index].size();
                    window(&self.traits, first + index as u64, size, begin((index, start)), bound.index)
                })
                .collect();
            let words: Vec<u32> = call
                .words
                .iter()
                .map(|word| match *word {
                    Word::Value(value) => value,
                    Word::Offset(memory) => place(memory).1 as u32 - (begin(place(memory)) / 4) as u32,
                    Word::Scalar(index, dtype) => scalar(settings.scalars, index, dtype),
                    Word::Cell => CELL,
                    Word::Gate => GATE,
                })
                .collect();
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            pass.set_pipeline(pipelines.pipeline(&call.shader).unwrap_or_else(|e| panic!("{e}\n{}", call.shader.text)));
            let group = pipelines.group(&ranges, |number| buffers.get((number - first) as usize)).unwrap();
            pass.set_bind_group(0, group, &[]);
            pass.set_immediates(0, &bytes);
            let [x, y, z] = call.grid;
            pass.dispatch_workgroups(x, y, z);
        }
        drop(pass);
        let started = std::time::Instant::now();
        self.opened.queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let seconds = started.elapsed().as_secs_f64() / times as f64;
        let read = |from: &wgpu::Buffer, words: usize| -> Vec<u32> {
            let size = (words as u64 * 4).max(4);
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let to =
                device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(from, 0, &to, 0, size);
            self.opened.queue.submit([encoder.finish()]);
            to.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
            device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            let view = to.get_mapped_range(..).unwrap();
            view.as_chunks().0.iter().take(words).map(|&word| u32::from_ne_bytes(word)).collect()
        };
        let outcome = read(&buffers[0], arena.len());
        let cells = read(&buffers[2], 8);
        self.opened.health.check().unwrap();
        pipelines.forget(|number| (first..first + 3).contains(&number));
        Outcome { arena: outcome, cell: [cells[4], cells[5], cells[6]], seconds }
    }
}
