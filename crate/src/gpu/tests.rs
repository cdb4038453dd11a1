//! The device as a whole, on whatever adapter there is: what every device has to pass. What only a GPU can suffer stands
//! with its thread.

use super::handle::{Choice, Device, Limit};
use crate::device::testing::{Bench, device_tests, failures};

/// A device on any adapter. Without one the tests cannot run, which `REQUIRE_DEVICES` with `gpu` turns into a failure.
fn open(limit: Option<u64>) -> Option<Bench> {
    let choice = Choice { software: true, adapter: None };
    match Device::open(&choice, Limit { asked: limit, of_machine: None }, true) {
        Ok(device) => Some(Bench::new(device)),
        Err(error) => {
            let required = std::env::var("REQUIRE_DEVICES").unwrap_or_default();
            assert!(!required.split(',').any(|kind| kind == "gpu"), "REQUIRE_DEVICES names gpu: {error}");
            eprintln!("NOT TESTED on a gpu: {error}");
            None
        }
    }
}

device_tests! { open }

#[test]
fn damaged_streams_end_in_failures_and_leave_the_device_working() {
    if let Some(bench) = open(Some(4 << 20)) {
        // Fewer than on the cpu: many of them are new shaders.
        failures::damaged_streams_end_in_failures_and_leave_the_device_working(&bench, 150);
    }
}
