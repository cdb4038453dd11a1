//! A bench for a device as a whole, whichever it is, and the tests that every device has to pass: [`device_tests`] declares
//! them for one. What kernels compute is tested beside them; here it is that every instruction reaches its kernel, that jobs
//! keep their order, where errors end up, and what is promised to whoever waits.

pub(crate) mod compiled;
pub(crate) mod failures;
pub(crate) mod instructions;
pub(crate) mod lifetime;
pub(crate) mod order;
pub(crate) mod profile;

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{Device, Done, ProgramInfo, Source, Target, Told};
use crate::dtype::Dtype;
use crate::error::Result;
use crate::program::testing::{F32, Writer};

/// Declares the tests that every device has to pass. `$open` makes a [`Bench`] whose device has at most so many bytes, or
/// says aloud why there is none.
macro_rules! device_tests {
    ($open:expr) => {
        $crate::device::testing::device_tests! { @ $open,
            instructions { every_instruction_runs(None) }
            order { jobs_keep_their_order_over_many_turns(None), jobs_keep_their_order_in_one_turn(None) }
            compiled {
                a_compiled_program_gives_the_bits_of_its_stream(None),
                compiling_tells_what_a_run_will_take(None),
                a_program_that_is_not_there_fails_its_outputs(None),
                compiled_runs_keep_their_order_over_many_turns(None),
                compiled_runs_keep_their_order_in_one_turn(None),
                a_compiled_program_fails_where_its_stream_does(None),
                a_stream_that_does_not_fit_the_program_fails_its_outputs(None),
                words_that_are_no_program_are_not_compiled(None),
                damaged_streams_of_a_compiled_program_leave_the_device_working(None),
                a_closed_device_compiles_and_runs_nothing(None),
            }
            profile { a_profile_has_every_run_with_its_steps(None), a_plan_can_be_printed(None) }
            failures {
                a_bad_index_fails_what_depends_on_it_and_nothing_else(None),
                a_failure_spreads_over_programs_and_stops_updates(None),
                a_chain_computes_what_does_not_depend_on_the_missing_operand(None),
                a_missing_operand_spreads_through_instructions_with_chains_around_them(None),
                a_missing_operand_spreads_through_a_softmax_between_chains(None),
                sync_tells_the_first_unread_failure_once(None),
                slots_that_do_not_fit_the_program_fail_all_of_it(None),
                an_in_place_operand_must_not_be_read_through_another_slot(None),
                out_of_memory_leaves_the_device_working(Some(1 << 20)),
                a_listener_that_panics_does_not_stop_the_device(None),
            }
            lifetime {
                freed_slots_are_gone_and_their_memory_is_used_again(None),
                an_input_freed_by_the_program_that_reads_it_is_still_read(None),
                close_finishes_pending_work_and_frees_everything(None),
                trim_gives_back_what_nothing_needs_and_nothing_else(None),
                giving_up_drops_what_waits_and_returns_soon(None),
                a_long_queue_asks_the_caller_to_wait(None),
                a_batch_of_empty_products_costs_nothing_however_long(None),
            }
        }
    };
    (@ $open:expr, $($module:ident { $($name:ident($limit:expr)),* $(,)? })*) => { $($(
        #[test]
        fn $name() {
            if let Some(bench) = $open($limit) {
                $crate::device::testing::$module::$name(&bench);
            }
        }
    )*)* };
}
pub(crate) use device_tests;

/// A device with what the tests need to talk to it.
pub(crate) struct Bench {
    pub(crate) device: Box<dyn Device>,
    turn: Cell<u32>,
}

impl Bench {
    pub(crate) fn new(device: impl Device + 'static) -> Self {
        Self { device: Box::new(device), turn: Cell::new(0) }
    }

    /// Begins another turn of the event loop.
    pub(crate) fn next_turn(&self) {
        self.turn.set(self.turn.get() + 1);
    }

    /// Uses up what a device may do on the caller's thread in this turn: later submissions leave it.
    pub(crate) fn use_up_turn(&self) {
        let nothing = stream(&Writer::default(), &[], &[], &[], &[]);
        for _ in 0..5000 {
            self.submit(&nothing);
        }
    }

    pub(crate) fn write(&self, slot: u32, data: &[f32]) {
        self.device.write(slot, &Source::F32(Cow::Borrowed(data))).unwrap();
    }

    pub(crate) fn write_i32(&self, slot: u32, data: &[i32]) {
        self.device.write(slot, &Source::I32(Cow::Borrowed(data))).unwrap();
    }

    pub(crate) fn write_bool(&self, slot: u32, data: &[u8]) {
        self.device.write(slot, &Source::Bool(Cow::Borrowed(data))).unwrap();
    }

    pub(crate) fn submit(&self, stream: &[u32]) -> super::Pressure {
        self.device.submit(stream, self.turn.get()).unwrap()
    }

    pub(crate) fn compile(&self, program: u32, code: &[u32]) -> Result<ProgramInfo> {
        self.device.compile(program, code)
    }

    pub(crate) fn run(&self, program: u32, stream: &[u32]) -> super::Pressure {
        self.device.run(program, stream, self.turn.get()).unwrap()
    }

    pub(crate) fn words(&self, slot: u32, len: usize, dtype: Dtype) -> Told<Vec<u32>> {
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

    pub(crate) fn read(&self, slot: u32, len: usize) -> Told<Vec<f32>> {
        Ok(self.words(slot, len, F32)?.into_iter().map(f32::from_bits).collect())
    }

    pub(crate) fn code(&self, slot: u32, len: usize) -> &'static str {
        self.read(slot, len).map_or_else(|failure| failure.error.code(), |_| "no failure")
    }

    pub(crate) fn sync(&self) -> Told<()> {
        let (done, end) = told();
        self.device.sync(done);
        end.recv().unwrap()
    }
}

/// A callback that puts what it is told where the test finds it.
pub(crate) fn told() -> (Done, Receiver<Told<()>>) {
    let (send, receive) = channel();
    (Box::new(move |result| drop(send.send(result))), receive)
}

pub(crate) fn stream(writer: &Writer, inputs: &[u32], outputs: &[u32], frees: &[u32], scalars: &[f64]) -> Vec<u32> {
    assert_eq!((writer.inputs as usize, writer.outputs as usize), (inputs.len(), outputs.len()));
    let counts = [inputs.len(), outputs.len(), frees.len(), scalars.len(), writer.code.len()];
    let mut words = vec![crate::program::MAGIC];
    words.extend(counts.map(|count| count as u32));
    words.extend([inputs, outputs, frees].concat());
    words.extend(scalars.iter().flat_map(|s| [s.to_bits() as u32, (s.to_bits() >> 32) as u32]));
    words.extend(&writer.code);
    words
}

/// The stream without its code: for a program that has been compiled.
pub(crate) fn bare(stream: &[u32]) -> Vec<u32> {
    let mut words = stream[..stream.len() - stream[5] as usize].to_vec();
    words[5] = 0;
    words
}

/// `input` of each shape, then what `body` makes of them, each of its results an output.
pub(crate) fn program(inputs: &[(Dtype, &[u32])], body: impl FnOnce(&mut Writer, &[u32]) -> Vec<u32>) -> Writer {
    let mut writer = Writer::default();
    let registers: Vec<u32> = inputs.iter().map(|(dtype, dims)| writer.input(*dtype, dims)).collect();
    for register in body(&mut writer, &registers) {
        writer.output(register);
    }
    writer
}
