//! The device as a whole, through streams. What kernels compute is tested beside them; here it is that every instruction
//! reaches its kernel, that results do not depend on who runs them, and where errors end up.

mod failures;
mod lifetime;
mod opcodes;
mod order;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::{Device, machine};
use crate::device::{Device as _, Done, Failure, Source, Target};
use crate::dtype::Dtype;
use crate::program::testing::{A, F32, I32, Random, Writer, random_program};

/// A device with what the tests need to talk to it.
struct Bench {
    device: Device,
    turn: u32,
}

impl Bench {
    fn new(threads: usize, fuse: bool) -> Self {
        Self::limited(threads, fuse, None)
    }

    fn limited(threads: usize, fuse: bool, limit: Option<u64>) -> Self {
        Self { device: Device::open(machine(threads).unwrap(), limit, fuse).unwrap(), turn: 0 }
    }

    /// Makes every later submission run on the device thread: uses up what may run on the caller's in this turn.
    fn on_its_own_thread(self) -> Self {
        let nothing = stream(&Writer::default(), &[], &[], &[], &[]);
        for _ in 0..5000 {
            self.device.submit(&nothing, self.turn).unwrap();
        }
        self
    }

    fn write(&self, slot: u32, data: &[f32]) {
        self.device.write(slot, &Source::F32(Cow::Borrowed(data))).unwrap();
    }

    fn write_i32(&self, slot: u32, data: &[i32]) {
        self.device.write(slot, &Source::I32(Cow::Borrowed(data))).unwrap();
    }

    fn submit(&self, stream: &[u32]) {
        self.device.submit(stream, self.turn).unwrap();
    }

    fn words(&self, slot: u32, len: usize, dtype: Dtype) -> Result<Vec<u32>, Arc<Failure>> {
        let mut bytes = vec![0_u8; len * 4];
        // SAFETY: `bytes` outlives the read, which ends before this returns.
        let mut target = unsafe { Target::new(bytes.as_mut_ptr(), len, dtype) };
        while !self.device.read_now(slot, &mut target, true)? {
            self.device.wait_idle(Duration::from_secs(1));
        }
        if dtype == Dtype::Bool {
            return Ok(bytes[..len].iter().map(|&byte| u32::from(byte)).collect());
        }
        Ok(bytes.as_chunks().0.iter().map(|&word| u32::from_ne_bytes(word)).collect())
    }

    fn read(&self, slot: u32, len: usize) -> Result<Vec<f32>, Arc<Failure>> {
        Ok(self.words(slot, len, F32)?.into_iter().map(f32::from_bits).collect())
    }

    fn code(&self, slot: u32, len: usize) -> &'static str {
        self.read(slot, len).map_or_else(|failure| failure.error.code(), |_| "no failure")
    }

    fn sync(&self) -> Result<(), Arc<Failure>> {
        let (send, receive) = channel();
        self.device.sync(Box::new(move |result| send.send(result).unwrap()));
        receive.recv().unwrap()
    }
}

/// A callback that puts what it is told where the test finds it.
fn told() -> (Done, std::sync::mpsc::Receiver<Result<(), Arc<Failure>>>) {
    let (send, receive) = channel();
    (Box::new(move |result| drop(send.send(result))), receive)
}

fn stream(writer: &Writer, inputs: &[u32], outputs: &[u32], frees: &[u32], scalars: &[f64]) -> Vec<u32> {
    assert_eq!((writer.inputs as usize, writer.outputs as usize), (inputs.len(), outputs.len()));
    let counts = [inputs.len(), outputs.len(), frees.len(), scalars.len(), writer.code.len()];
    let mut words = vec![crate::program::MAGIC];
    words.extend(counts.map(|count| count as u32));
    words.extend([inputs, outputs, frees].concat());
    words.extend(scalars.iter().flat_map(|s| [s.to_bits() as u32, (s.to_bits() >> 32) as u32]));
    words.extend(&writer.code);
    words
}

/// `input` of each shape, then what `body` makes of them, each of its results an output.
fn program(inputs: &[(Dtype, &[u32])], body: impl FnOnce(&mut Writer, &[u32]) -> Vec<u32>) -> Writer {
    let mut writer = Writer::default();
    let registers: Vec<u32> = inputs.iter().map(|(dtype, dims)| writer.input(*dtype, dims)).collect();
    for register in body(&mut writer, &registers) {
        writer.output(register);
    }
    writer
}
