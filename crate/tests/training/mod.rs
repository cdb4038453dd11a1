//! A training step in code words, as the SDK records it: a multilayer perceptron with relu, mean cross-entropy, its
//! gradients and one `AdamW` update of all parameters, which are views of one slab. What replays are tested and measured by.

use std::borrow::Cow;
use std::time::Duration;

use tilegrad::device::{Device, Pressure, Source, Target};
use tilegrad::dtype::Dtype;
use tilegrad::program::table::OPCODES;
use tilegrad::program::{MAGIC, NONE};

const F32: Dtype = Dtype::F32;
const I32: Dtype = Dtype::I32;
const RELU: u32 = 1;
/// Gradients that `linearGrad` can be asked for.
const DX: u32 = 1;
const DWEIGHT: u32 = 2;
const DBIAS: u32 = 4;
/// Targets of this value do not count: −100.
const IGNORED: u32 = 0xffff_ff9c;

/// Slots: x, targets, slab, its moments, counters; then the parameters, then what a run gives.
const DATA: [u32; 6] = [0, 1, 2, 3, 4, 5];
const PARAMETERS: u32 = 16;
const RESULTS: u32 = 64;

/// The number that the step is compiled under.
pub const PROGRAM: u32 = 1;

/// Words of a program.
#[derive(Default)]
struct Writer {
    code: Vec<u32>,
    registers: u32,
}

impl Writer {
    /// Appends an instruction; the number of its first result.
    fn op(&mut self, name: &str, results: &[(Dtype, &[u32])], inputs: &[u32], attributes: &[u32]) -> u32 {
        let row = OPCODES.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no opcode {name}"));
        let start = self.code.len();
        self.code.extend([0, results.len() as u32 | (inputs.len() as u32) << 8]);
        for (dtype, dims) in results {
            self.code.push(*dtype as u32 | (dims.len() as u32) << 8);
            self.code.extend(*dims);
        }
        self.code.extend(inputs);
        self.code.extend(attributes);
        self.code[start] = u32::from(row.code) | ((self.code.len() - start) as u32) << 16;
        self.registers += results.len() as u32;
        self.registers - results.len() as u32
    }

    fn input(&mut self, dtype: Dtype, dims: &[u32]) -> u32 {
        self.op("input", &[(dtype, dims)], &[], &[])
    }
}

/// The step for layers of these sizes and so many rows.
pub struct Step {
    rows: u32,
    layers: Vec<u32>,
    code: Vec<u32>,
    /// The stream of a run, and of the next: results go to slots in turn, and each run frees those of the one before.
    streams: [Vec<u32>; 2],
    turn: u32,
}

impl Step {
    /// The step for inputs of `layers[0]` numbers and `rows` of them.
    pub fn new(rows: u32, layers: &[u32]) -> Self {
        let mut step =
            Self { rows, layers: layers.to_vec(), code: Vec::new(), streams: [Vec::new(), Vec::new()], turn: 0 };
        step.code = step.write();
        let parameters = PARAMETERS..PARAMETERS + 2 * (layers.len() as u32 - 1);
        let inputs: Vec<u32> = DATA.into_iter().chain(parameters).collect();
        let lr = 1e-3_f64.to_bits();
        let one = 1_f64.to_bits();
        let scalars = [lr as u32, (lr >> 32) as u32, one as u32, (one >> 32) as u32];
        for (turn, stream) in step.streams.iter_mut().enumerate() {
            let results = |turn: usize| [0, 1].map(|i| RESULTS + 2 * turn as u32 + i);
            stream.extend([MAGIC, inputs.len() as u32, 2, 2, 2, 0]);
            stream.extend(&inputs);
            stream.extend(results(turn));
            stream.extend(results(1 - turn));
            stream.extend(scalars);
        }
        step
    }

    /// Where each weight and bias lies in the slab: offset and shape. Offsets are multiples of 16.
    fn segments(&self) -> Vec<(u32, Vec<u32>)> {
        let shapes = self.layers.windows(2).flat_map(|pair| [pair.to_vec(), vec![pair[1]]]);
        let mut offset = 0;
        let place = |shape: Vec<u32>| {
            let begin = offset;
            offset += shape.iter().product::<u32>().next_multiple_of(16);
            (begin, shape)
        };
        shapes.map(place).collect()
    }

    fn slab(&self) -> u32 {
        self.segments()
            .last()
            .map_or(0, |(offset, shape)| (offset + shape.iter().product::<u32>()).next_multiple_of(16))
    }

    fn write(&self) -> Vec<u32> {
        let mut w = Writer::default();
        let (rows, slab, segments) = (self.rows, self.slab(), self.segments());
        let classes = self.layers.last().copied().unwrap_or(1);
        let x = w.input(F32, &[rows, self.layers[0]]);
        let targets = w.input(I32, &[rows]);
        let slabs = [0; 3].map(|_| w.input(F32, &[slab]));
        let counters = w.input(I32, &[segments.len() as u32]);
        let parameters: Vec<u32> = segments.iter().map(|(_, shape)| w.input(F32, shape)).collect();

        let last = self.layers.len() - 2;
        let mut values = vec![x];
        for (layer, &size) in self.layers[1..].iter().enumerate() {
            let operands = [values[layer], parameters[2 * layer], parameters[2 * layer + 1]];
            let activation = if layer < last { RELU } else { 0 };
            values.push(w.op("linear", &[(F32, &[rows, size])], &operands, &[activation, 0]));
        }
        let logits = values[last + 1];
        let item = (F32, &[rows][..]);
        let losses = w.op("crossEntropy", &[item, item, (F32, &[])], &[logits, targets], &[IGNORED]);
        let (norms, count) = (losses + 1, losses + 2);
        let sum = w.op("sum", &[(F32, &[])], &[losses], &[1, rows, 1]);
        let mean = w.op("div", &[(F32, &[])], &[sum, count], &[]);

        let one = w.op("full", &[(F32, &[])], &[], &[1]);
        let share = w.op("div", &[(F32, &[])], &[one, count], &[]);
        let shares = w.op("expand", &[item], &[share], &[]);
        let logits_shape: (Dtype, &[u32]) = (F32, &[rows, classes]);
        let mut dy = w.op("crossEntropyGrad", &[logits_shape], &[logits, targets, norms, shares], &[IGNORED]);
        let mut gradients = vec![0; parameters.len()];
        for layer in (0..=last).rev() {
            let (from, to) = ([rows, self.layers[layer]], self.layers[layer + 1]);
            let saved = if layer < last { values[layer + 1] } else { NONE };
            let activation = if layer < last { RELU } else { 0 };
            let (weight_shape, bias_shape) = ([from[1], to], [to]);
            let parts: [(Dtype, &[u32]); 3] = [(F32, &from), (F32, &weight_shape), (F32, &bias_shape)];
            let (results, wanted) = if layer > 0 { (&parts[..], DX) } else { (&parts[1..], 0) };
            let weight = if layer > 0 { parameters[2 * layer] } else { NONE };
            let operands = [dy, saved, values[layer], weight];
            let first = w.op("linearGrad", results, &operands, &[activation, wanted | DWEIGHT | DBIAS]);
            let dweight = first + u32::from(layer > 0);
            (gradients[2 * layer], gradients[2 * layer + 1]) = (dweight, dweight + 1);
            dy = first;
        }
        let [params, first, second] = slabs;
        let operands = [&[params, first, second, NONE, counters, NONE, NONE][..], &gradients].concat();
        let numbers = [0.9_f64, 0.999, 1e-8, 0.01].map(f64::to_bits);
        let mut attributes = vec![0];
        attributes.extend(numbers.iter().flat_map(|bits| [*bits as u32, (bits >> 32) as u32]));
        attributes.push(1);
        attributes.push(2 * segments.len() as u32);
        attributes.extend(segments.iter().enumerate().flat_map(|(number, (offset, _))| [number as u32, *offset]));
        w.op("adam", &[], &operands, &attributes);
        w.op("output", &[], &[mean], &[]);
        w.op("output", &[], &[logits], &[]);
        w.code
    }

    /// The code of the step.
    pub fn code(&self) -> &[u32] {
        &self.code
    }

    /// What slots hold before the first run.
    pub fn data(&self) -> Vec<(u32, Source<'static>)> {
        let slab = self.slab() as usize;
        let noise = |count: usize, scale: f32| -> Vec<f32> {
            (0..count as u32).map(|i| ((i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 8_388_608.0 - 1.0) * scale).collect()
        };
        let classes = self.layers.last().copied().unwrap_or(1);
        let targets: Vec<i32> = (0..self.rows).map(|row| (row % classes).cast_signed()).collect();
        let [x, labels, params, first, second, counters] = DATA;
        vec![
            (x, Source::F32(Cow::Owned(noise((self.rows * self.layers[0]) as usize, 1.0)))),
            (labels, Source::I32(Cow::Owned(targets))),
            (params, Source::F32(Cow::Owned(noise(slab, 0.05)))),
            (first, Source::F32(Cow::Owned(vec![0.0; slab]))),
            (second, Source::F32(Cow::Owned(vec![0.0; slab]))),
            (counters, Source::I32(Cow::Owned(vec![0; self.segments().len()]))),
        ]
    }

    /// The stream that makes the parameters views of the slab, once it has been written.
    pub fn views(&self) -> Vec<u32> {
        let mut views = Writer::default();
        let from = views.input(F32, &[self.slab()]);
        let segments = self.segments();
        for (offset, shape) in &segments {
            let view = views.op("view", &[(F32, shape)], &[from], &[*offset]);
            views.op("output", &[], &[view], &[]);
        }
        let count = segments.len() as u32;
        let mut stream = vec![MAGIC, 1, count, 0, 0, views.code.len() as u32, DATA[2]];
        stream.extend(PARAMETERS..PARAMETERS + count);
        stream.extend(views.code);
        stream
    }

    /// Gives a device the data and the compiled step.
    pub fn load(&self, device: &dyn Device) {
        for (slot, source) in self.data() {
            done(device.write(slot, &source));
        }
        done(device.submit(&self.views(), 0));
        done(device.compile(PROGRAM, self.code()));
        wait(device);
    }

    /// The stream of the next run.
    pub fn next(&mut self) -> &[u32] {
        self.turn += 1;
        &self.streams[(self.turn % 2) as usize]
    }

    /// The loss of the last run.
    pub fn loss(&self, device: &dyn Device) -> f32 {
        let mut loss = [0.0_f32];
        // SAFETY: `loss` outlives the read, which ends before this returns.
        let mut target = unsafe { Target::new(loss.as_mut_ptr().cast(), 1, F32) };
        while !device.read_now(RESULTS + 2 * (self.turn % 2), &mut target, true).unwrap_or_else(|f| panic!("{f:?}")) {
            device.wait_idle(Duration::from_millis(20));
        }
        loss[0]
    }
}

/// Waits until a device is idle.
pub fn wait(device: &dyn Device) {
    while !device.wait_idle(Duration::from_secs(1)) {}
}

/// Takes a result, and waits where the device asks for it.
pub fn run(device: &dyn Device, stream: &[u32], turn: u32) {
    if done(device.run(PROGRAM, stream, turn)) == Pressure::Wait {
        while device.wait(Duration::from_millis(20)) == Pressure::Wait {}
    }
}

fn done<T>(result: tilegrad::error::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
