//! The devices of each environment. An environment (the main thread or a worker) lives on a thread of its own, so the
//! table is that thread's: no lock, and an id from another worker finds nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use napi::Env;

use super::failure::{Outcome, refused};
use crate::device::Device;
use crate::error::Error;

/// How long the end of an environment waits for a kernel that is running.
const PATIENCE: Duration = Duration::from_secs(1);
/// Changes of live memory below this are not yet told to V8: telling costs as much as a call.
const REPORT_STEP: i64 = 256 << 10;

thread_local! {
    static DEVICES: RefCell<Vec<Option<Rc<Entry>>>> = const { RefCell::new(Vec::new()) };
}

/// A device and what V8 has been told about its memory.
pub(super) struct Entry {
    pub(super) device: Box<dyn Device>,
    reported: Cell<i64>,
    closing: Cell<bool>,
}

impl Entry {
    /// Tells V8 how much live slots weigh, if that has changed enough. V8 collects sooner when it knows.
    pub(super) fn report(&self, env: Env) {
        let change = self.device.memory_pressure() as i64 - self.reported.get();
        if change.abs() >= REPORT_STEP {
            self.adjust(env, change);
        }
    }

    /// True the first time: whoever is told so closes the device and removes it from the table.
    pub(super) fn begin_closing(&self) -> bool {
        !self.closing.replace(true)
    }

    fn adjust(&self, env: Env, change: i64) {
        if env.adjust_external_memory(change).is_ok() {
            self.reported.set(self.reported.get() + change);
        }
    }
}

/// Enters a device and returns its id. The end of the environment ends the device.
pub(super) fn insert(env: Env, device: Box<dyn Device>) -> Outcome<u32> {
    let id = DEVICES.with_borrow(Vec::len);
    let hook = env.add_env_cleanup_hook(id, |id| {
        let entry = DEVICES.try_with(|devices| devices.borrow_mut().get_mut(id).and_then(Option::take));
        if let Ok(Some(entry)) = entry {
            entry.device.abandon(PATIENCE);
        }
    });
    // Without the hook, a thread could write into memory of an environment that is gone.
    hook.map_err(refused)?;
    DEVICES.with_borrow_mut(|devices| {
        devices.push(Some(Rc::new(Entry { device, reported: Cell::new(0), closing: Cell::new(false) })));
    });
    Ok(id as u32)
}

/// Forgets a closed device: its threads end here, unless other devices share them. The id is not used again.
pub(super) fn remove(env: Env, id: u32) {
    let entry = DEVICES.with_borrow_mut(|devices| devices.get_mut(id as usize).and_then(Option::take));
    if let Some(entry) = entry {
        entry.adjust(env, -entry.reported.get());
    }
}

/// The device with this id.
pub(super) fn get(id: u32) -> Outcome<Rc<Entry>> {
    DEVICES
        .with_borrow(|devices| devices.get(id as usize).cloned().flatten())
        .ok_or_else(|| Error::Lost(format!("this thread has no device {id}")).into())
}
