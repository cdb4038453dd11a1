//! What a device has done and when, and its plans, for people who look for where time goes.

use std::time::Duration;

use napi::Env;
use napi_derive::napi;

use super::failure::guard;
use super::registry;
use crate::device::profile::{Event, Label, Subject, clock};

/// Something that a device has done.
#[napi(object)]
pub struct DeviceEvent {
    /// A whole run; a step, done; a step, handed to a GPU; what a GPU has done at once.
    #[napi(ts_type = "'run' | 'step' | 'recording' | 'submission'")]
    pub kind: String,
    /// Whether the JavaScript thread did it.
    pub inline: bool,
    /// Milliseconds by the clock of `profile`.
    pub start: f64,
    /// Milliseconds.
    pub duration: f64,
    /// The number of the compiled program, for its runs.
    pub program: Option<u32>,
    /// The name of a step.
    pub name: Option<String>,
    /// The operands of a step.
    pub detail: Option<String>,
    /// Multiplications and additions of a step's matrix products.
    pub flops: Option<f64>,
    /// Bytes of a step's operands.
    pub bytes: Option<f64>,
    /// Dispatches of a submission.
    pub dispatches: Option<u32>,
}

/// What has been noted.
#[napi(object)]
pub struct DeviceEvents {
    /// The events in the order in which they ended.
    pub events: Vec<DeviceEvent>,
    /// Events that there was no room for.
    pub dropped: f64,
}

/// Begins to note what the device does: at most so many events between two calls of `takeEvents`; 0 ends it. Forgets what
/// is there. Returns the milliseconds that the clock of the events shows.
#[napi]
pub fn profile(env: Env, id: u32, events: u32) -> napi::Result<f64> {
    guard(env, || {
        registry::get(id)?.device.profiler().set(events as usize);
        Ok(milliseconds(clock()))
    })
}

/// What has been noted since this was called last.
#[napi]
pub fn take_events(env: Env, id: u32) -> napi::Result<DeviceEvents> {
    guard(env, || {
        let notes = registry::get(id)?.device.profiler().take();
        Ok(DeviceEvents { events: notes.events.iter().map(told).collect(), dropped: notes.dropped as f64 })
    })
}

/// The plan of code words as text.
#[napi]
pub fn print_plan(env: Env, id: u32, code: &[u32]) -> napi::Result<String> {
    guard(env, || Ok(registry::get(id)?.device.print_plan(code)?))
}

fn told(event: &Event) -> DeviceEvent {
    let about = |kind: &str| DeviceEvent {
        kind: kind.to_owned(),
        inline: event.inline,
        start: milliseconds(event.start),
        duration: milliseconds(event.end.saturating_sub(event.start)),
        program: None,
        name: None,
        detail: None,
        flops: None,
        bytes: None,
        dispatches: None,
    };
    let step = |kind: &str, labels: &[Label], position: usize| match labels.get(position) {
        Some(Label { name, detail, flops, bytes }) => DeviceEvent {
            name: Some(name.clone()),
            detail: Some(detail.clone()),
            flops: Some(*flops as f64),
            bytes: Some(*bytes as f64),
            ..about(kind)
        },
        None => about(kind),
    };
    match &event.subject {
        Subject::Run(program) => DeviceEvent { program: *program, ..about("run") },
        Subject::Step(labels, position) => step("step", labels, *position),
        Subject::Recording(labels, position) => step("recording", labels, *position),
        Subject::Submission(dispatches) => DeviceEvent { dispatches: Some(*dispatches), ..about("submission") },
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
