//! The calls of a device.

use std::borrow::Cow;
use std::time::Duration;

use napi::bindgen_prelude::{Object, TypedArray, TypedArrayType};
use napi::{Env, JsValue};
use napi_derive::napi;

use super::failure::{Outcome, guard, refused};
use super::promise::{Before, promise};
use super::registry;
use crate::cpu;
use crate::device::{Failure, Pressure, Source, Target};
use crate::dtype::Dtype;
use crate::error::Error;

/// The longest that one call blocks: a worker can only be terminated between calls.
const SLICE: Duration = Duration::from_millis(20);

/// Opens a `cpu` device and returns its id. `threads` counts the device's own; 0 leaves the choice to the addon.
/// `memoryLimit` is in bytes; Infinity is none.
#[napi]
pub fn open_cpu(env: Env, threads: u32, memory_limit: f64, fuse: bool) -> napi::Result<u32> {
    guard(env, || {
        // Threads of ours may outlive the environment that loaded the addon.
        napi::bindgen_prelude::retain_current_module_for_unload_safety();
        let threads = if threads == 0 { cpu::device::default_threads() } else { threads as usize };
        let limit = memory_limit.is_finite().then_some(memory_limit as u64);
        let device = cpu::device::Device::open(cpu::device::machine(threads)?, limit, fuse)?;
        registry::insert(env, Box::new(device))
    })
}

/// Runs a stream after everything submitted before it; the words are copied. `turn` changes with every turn of the event
/// loop: short work runs on the calling thread for a bounded time per turn. True asks to call `waitForRoom` before more.
#[napi]
pub fn submit(env: Env, id: u32, stream: &[u32], turn: u32) -> napi::Result<bool> {
    guard(env, || {
        let entry = registry::get(id)?;
        let pressure = entry.device.submit(stream, turn)?;
        entry.report(env);
        Ok(pressure == Pressure::Wait)
    })
}

/// What is known of a compiled program.
#[napi(object)]
pub struct ProgramInfo {
    /// Steps of its plan: kernels and fused chains.
    pub steps: f64,
    /// Bytes of all intermediates together, as the plan lays them out.
    pub arena_bytes: f64,
    /// The most bytes of intermediates alive at one step: no layout needs less.
    pub live_bytes: f64,
    /// Milliseconds that decoding and planning took.
    pub plan_milliseconds: f64,
}

/// Decodes and plans code on this thread and keeps the plan under the number `program`, for any number of calls of `run`.
#[napi]
pub fn compile(env: Env, id: u32, program: u32, code: &[u32]) -> napi::Result<ProgramInfo> {
    guard(env, || {
        let info = registry::get(id)?.device.compile(program, code)?;
        Ok(ProgramInfo {
            steps: info.steps as f64,
            arena_bytes: info.arena_bytes as f64,
            live_bytes: info.live_bytes as f64,
            plan_milliseconds: info.planning.as_secs_f64() * 1e3,
        })
    })
}

/// Runs a compiled program after everything submitted before it: as `submit`, with a stream that has no code words.
#[napi]
pub fn run(env: Env, id: u32, program: u32, stream: &[u32], turn: u32) -> napi::Result<bool> {
    guard(env, || {
        let entry = registry::get(id)?;
        let pressure = entry.device.run(program, stream, turn)?;
        entry.report(env);
        Ok(pressure == Pressure::Wait)
    })
}

/// Forgets a compiled program, after what has been submitted.
#[napi]
pub fn release_program(env: Env, id: u32, program: u32) -> napi::Result<()> {
    guard(env, || {
        registry::get(id)?.device.release(program);
        Ok(())
    })
}

/// Creates a slot from a `Float32Array`, an `Int32Array` or a `Uint8Array` (bool), which is copied. True asks to call
/// `waitForRoom` before more.
#[napi]
pub fn write(env: Env, id: u32, slot: u32, data: TypedArray) -> napi::Result<bool> {
    guard(env, || {
        let entry = registry::get(id)?;
        let pressure = entry.device.write(slot, &source(&data)?)?;
        entry.report(env);
        Ok(pressure == Pressure::Wait)
    })
}

/// Waits until there is room for more work, at most 20 ms; true when there is still none.
#[napi]
pub fn wait_for_room(env: Env, id: u32) -> napi::Result<bool> {
    guard(env, || Ok(registry::get(id)?.device.wait(SLICE) == Pressure::Wait))
}

/// Waits until all work is done, at most 20 ms; true when it is.
#[napi]
pub fn wait_idle(env: Env, id: u32) -> napi::Result<bool> {
    guard(env, || Ok(registry::get(id)?.device.wait_idle(SLICE)))
}

/// Copies a slot into `into` if all work is done and the copy is short (or `anySize`); false means that nothing happened.
#[napi]
pub fn try_read(env: Env, id: u32, slot: u32, into: TypedArray, any_size: bool) -> napi::Result<bool> {
    guard(env, || {
        let entry = registry::get(id)?;
        let mut target = target(&into)?;
        let done = entry.device.read_now(slot, &mut target, any_size)?;
        entry.report(env);
        Ok(done)
    })
}

/// Copies a slot into `into`, off this thread, when all work before is done. Until then `into` must not be used,
/// transferred or resized.
#[napi(ts_return_type = "Promise<void>")]
pub fn read<'env>(env: &'env Env, id: u32, slot: u32, into: TypedArray<'env>) -> napi::Result<Object<'env>> {
    guard(*env, || {
        let (entry, target) = (registry::get(id)?, target(&into)?);
        let kept = Object::from_raw(env.raw(), into.raw()).create_ref::<false>().map_err(refused)?;
        let (done, promise) = promise(env, Some(kept), None)?;
        entry.device.read(slot, target, done);
        Ok(promise)
    })
}

/// Resolves when all work submitted so far is done; rejects with the first failure nobody has been told about.
#[napi(ts_return_type = "Promise<void>")]
pub fn sync(env: &Env, id: u32) -> napi::Result<Object<'_>> {
    guard(*env, || {
        let entry = registry::get(id)?;
        let (done, promise) = promise(env, None, None)?;
        entry.device.sync(done);
        Ok(promise)
    })
}

/// Does what `sync` does at once, if all work is done; false means that nothing happened.
#[napi]
pub fn try_sync(env: Env, id: u32) -> napi::Result<bool> {
    guard(env, || registry::get(id)?.device.sync_now())
}

/// Gives back all memory that only makes later work faster; resolves when that is done, after all work submitted so far.
#[napi(ts_return_type = "Promise<void>")]
pub fn trim(env: &Env, id: u32) -> napi::Result<Object<'_>> {
    guard(*env, || {
        let entry = registry::get(id)?;
        let (done, promise) = promise(env, None, None)?;
        entry.device.trim(done);
        Ok(promise)
    })
}

/// Finishes all work and frees everything; rejects with the first failure nobody has been told about. All later calls
/// fail with `ERR_DEVICE_LOST`.
#[napi(ts_return_type = "Promise<void>")]
pub fn close(env: &Env, id: u32) -> napi::Result<Object<'_>> {
    guard(*env, || {
        let entry = registry::get(id)?;
        let remove: Option<Before> =
            if entry.begin_closing() { Some(Box::new(move |env| registry::remove(env, id))) } else { None };
        let (done, promise) = promise(env, None, remove)?;
        entry.device.close(done);
        Ok(promise)
    })
}

/// Counters of a device; bytes unless said otherwise.
#[napi(object)]
pub struct DeviceStats {
    /// Slots that hold memory or a failure.
    pub live_slots: f64,
    /// Held by live slots, shared memory once.
    pub live_bytes: f64,
    /// Held by the arena and the scratch memory of programs, which are kept for the next run.
    pub arena_bytes: f64,
    /// Highest sum of live and arena bytes.
    pub peak_bytes: f64,
    /// Kept for reuse.
    pub pool_bytes: f64,
    /// Copies of weights in the order in which products read them.
    pub packed_bytes: f64,
    /// Outside of that: packing buffers of the threads of this process, or staging buffers of the GPU.
    pub scratch_bytes: f64,
    /// Jobs that wait or run.
    pub queued_jobs: f64,
    /// Of uploads among them.
    pub queued_bytes: f64,
    /// Plans in the cache.
    pub plans: f64,
    /// Streams that found their plan.
    pub plan_hits: f64,
    /// Streams that had to be planned.
    pub plan_misses: f64,
}

/// Counters of a device; while a program runs, those that are not bytes may be older.
#[napi]
pub fn stats(env: Env, id: u32) -> napi::Result<DeviceStats> {
    guard(env, || {
        let statistics = registry::get(id)?.device.statistics();
        Ok(DeviceStats {
            live_slots: statistics.live_slots as f64,
            live_bytes: statistics.memory.live as f64,
            arena_bytes: statistics.memory.arena as f64,
            peak_bytes: statistics.memory.peak as f64,
            pool_bytes: statistics.memory.pool as f64,
            packed_bytes: statistics.memory.packed as f64,
            scratch_bytes: statistics.scratch as f64,
            queued_jobs: statistics.queued_jobs as f64,
            queued_bytes: statistics.queued_bytes as f64,
            plans: statistics.plans as f64,
            plan_hits: statistics.plan_hits as f64,
            plan_misses: statistics.plan_misses as f64,
        })
    })
}

/// The elements of a typed array, by its kind.
fn source<'a>(data: &'a TypedArray) -> Outcome<Source<'a>> {
    match data.typed_array_type {
        TypedArrayType::Float32 => Ok(Source::F32(Cow::Borrowed(elements(data)?))),
        TypedArrayType::Int32 => Ok(Source::I32(Cow::Borrowed(elements(data)?))),
        TypedArrayType::Uint8 => Ok(Source::Bool(Cow::Borrowed(&data.arraybuffer))),
        other => Err(unsupported(other)),
    }
}

/// The bytes of a view as the numbers that they are.
fn elements<'a, T: Number>(data: &'a TypedArray) -> Outcome<&'a [T]> {
    // SAFETY: any bits are a valid `Number`.
    match unsafe { data.arraybuffer.align_to::<T>() } {
        ([], elements, []) => Ok(elements),
        _ => Err(Error::Internal("a typed array that is not aligned".into()).into()),
    }
}

/// Types of which any four bytes are a value.
trait Number {}
impl Number for f32 {}
impl Number for i32 {}

fn target(into: &TypedArray) -> Outcome<Target> {
    let (dtype, size) = match into.typed_array_type {
        TypedArrayType::Float32 => (Dtype::F32, 4),
        TypedArrayType::Int32 => (Dtype::I32, 4),
        TypedArrayType::Uint8 => (Dtype::Bool, 1),
        other => return Err(unsupported(other)),
    };
    let bytes: &[u8] = &into.arraybuffer;
    // SAFETY: the caller has just allocated the array and does not touch it before the read has ended (TypeScript's
    // part, see `read`); a reference keeps it alive until then; the cleanup hook abandons the device before the
    // environment frees its memory.
    Ok(unsafe { Target::new(bytes.as_ptr().cast_mut(), bytes.len() / size, dtype) })
}

fn unsupported(kind: TypedArrayType) -> std::sync::Arc<Failure> {
    Error::Program(format!("{} arrays hold no dtype of this device", kind.as_ref())).into()
}
