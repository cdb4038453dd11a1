//! The `cpu` device as a whole: what every device has to pass, and what is its own.

mod bits;
mod memory;

use super::{Device, machine};
use crate::device::testing::{Bench, device_tests, failures, instructions, lifetime, order, program, stream};
use crate::dtype::Dtype;
use crate::program::testing::{A, F32, Random, Writer, random_program};

fn bench(threads: usize, fuse: bool) -> Bench {
    limited(threads, fuse, None)
}

fn limited(threads: usize, fuse: bool, limit: Option<u64>) -> Bench {
    Bench::new(Device::open(machine(threads).unwrap(), limit, fuse).unwrap())
}

device_tests!(|limit| Some(limited(2, true, limit)));

#[test]
fn every_instruction_runs_unfused() {
    instructions::every_instruction_runs(&bench(2, false));
}

#[test]
fn damaged_streams_end_in_failures_and_leave_the_device_working() {
    failures::damaged_streams_end_in_failures_and_leave_the_device_working(&limited(2, true, Some(4 << 20)), 3000);
}
