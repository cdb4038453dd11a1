//! The device as a whole, on whatever adapter there is: the tests that every device has to pass, and what only a GPU can
//! suffer: its loss.

use super::handle::{Choice, Device};
use crate::device::testing::{Bench, device_tests};

/// A device on any adapter. Without one the tests cannot run, which `REQUIRE_DEVICES` with `gpu` turns into a failure.
fn open(limit: Option<u64>) -> Option<Bench> {
    let choice = Choice { software: true, adapter: None };
    match Device::open(&choice, limit, true) {
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
