//! Adapters, and devices on them.

use napi::Env;
use napi_derive::napi;

use super::failure::{Outcome, guard};
use super::registry;
use crate::gpu::{self, Choice, Description, Device, Limit};

/// Limits of an adapter that decide what fits.
#[napi(object)]
pub struct AdapterLimits {
    /// Bytes of one buffer: of one tensor, and of all intermediates of one flush together.
    pub buffer_bytes: f64,
    /// Bytes that one binding of a shader reaches; larger tensors take several.
    pub binding_bytes: f64,
    /// Storage buffers of one shader.
    pub bindings: u32,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_bytes: u32,
    /// Invocations of one workgroup.
    pub workgroup_size: u32,
    /// Invocations that run in step; 0 where that differs or shaders cannot use it.
    pub subgroup_size: u32,
}

/// A GPU, or something that plays one, as its driver describes it.
#[napi(object)]
pub struct AdapterInfo {
    /// Its name.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    #[napi(js_name = "type", ts_type = "'discrete' | 'integrated' | 'virtual' | 'software' | 'other'")]
    pub kind: String,
    /// The interface it is reached by.
    #[napi(ts_type = "'vulkan' | 'metal' | 'dx12'")]
    pub backend: String,
    /// The driver with its version.
    pub driver: String,
    /// Features that kernels can use.
    pub features: Vec<String>,
    /// What fits.
    pub limits: AdapterLimits,
    /// Why no device can be opened on it, whatever the options; absent if one can.
    pub refusal: Option<String>,
}

fn info(description: &Description) -> AdapterInfo {
    let Description { name, kind, backend, driver, features, limits, refusal } = description;
    AdapterInfo {
        name: name.clone(),
        kind: (*kind).to_owned(),
        backend: (*backend).to_owned(),
        driver: driver.clone(),
        features: features.iter().map(|&feature| feature.to_owned()).collect(),
        limits: AdapterLimits {
            buffer_bytes: limits.buffer_bytes as f64,
            binding_bytes: limits.binding_bytes as f64,
            bindings: limits.bindings,
            workgroup_bytes: limits.workgroup_bytes,
            workgroup_size: limits.workgroup_size,
            subgroup_size: limits.subgroup.unwrap_or(0),
        },
        refusal: refusal.clone(),
    }
}

/// All adapters of this machine, in the order in which they are tried.
#[napi]
pub fn adapters(env: Env) -> napi::Result<Vec<AdapterInfo>> {
    guard(env, || {
        // Drivers start threads that may outlive the environment that loaded the addon.
        napi::bindgen_prelude::retain_current_module_for_unload_safety();
        Ok(gpu::enumerate()?.iter().map(|found| info(&found.description)).collect())
    })
}

/// A device that has been opened on a GPU.
#[napi(object)]
pub struct OpenedGpu {
    /// Its id.
    pub id: u32,
    /// What it computes on.
    pub adapter: AdapterInfo,
}

/// Opens a `gpu` device: on the first adapter whose name contains `adapter` (empty: any), software adapters only if they
/// are allowed. Devices of a process on the same adapter share it. `memoryLimit` is in bytes; if it is Infinity,
/// `machineLimit` holds on adapters whose memory is the machine's, and none on others.
#[napi]
pub fn open_gpu(
    env: Env,
    allow_software: bool,
    adapter: String,
    memory_limit: f64,
    machine_limit: f64,
    fuse: bool,
) -> napi::Result<OpenedGpu> {
    guard(env, || -> Outcome<OpenedGpu> {
        // Threads of ours may outlive the environment that loaded the addon.
        napi::bindgen_prelude::retain_current_module_for_unload_safety();
        let adapter = Some(adapter).filter(|adapter| !adapter.is_empty());
        let [asked, of_machine] = [memory_limit, machine_limit].map(|limit| limit.is_finite().then_some(limit as u64));
        let device = Device::open(&Choice { software: allow_software, adapter }, Limit { asked, of_machine }, fuse)?;
        let adapter = info(device.description());
        Ok(OpenedGpu { id: registry::insert(env, Box::new(device))?, adapter })
    })
}

/// Loses the GPU of a device, as a failing driver would: for tests of what happens then, in builds with debug assertions.
#[cfg(debug_assertions)]
#[napi]
pub fn lose(env: Env, id: u32) -> napi::Result<()> {
    guard(env, || {
        registry::get(id)?.device.lose();
        Ok(())
    })
}
