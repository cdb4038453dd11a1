//! Finding adapters and opening a device on one. Every adapter gets a line with the reason why it is not taken, if so.
//!
//! The instance is made once per process and never dropped: dropping it unloads driver libraries that still have exit
//! handlers. GLES is not compiled in.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use super::health::Health;
use super::kernels::shader::IMMEDIATE_WORDS;
use super::traits::{Class, Traits};
use crate::device::class::ALIGNMENT;
use crate::error::{Error, Result};

/// Storage bindings that a shader must have at least: a chain of elementwise instructions needs about as many.
const BINDINGS: u32 = 16;

/// The most bytes that a binding may have on Vulkan and DX12, whatever an adapter says, rounded down to any alignment.
const BINDING_BYTES: u64 = (1 << 31) - 4096;

/// What an adapter says of itself.
#[derive(Clone, PartialEq, Debug)]
pub struct Description {
    /// `NVIDIA H200`.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// The driver with its version.
    pub driver: String,
    /// Features that kernels can use.
    pub features: Vec<&'static str>,
    /// Limits that decide what fits.
    pub limits: Traits,
    /// Why it cannot be used, if so.
    pub refusal: Option<String>,
}

impl Description {
    /// Whether it is the processor in disguise.
    pub fn is_software(&self) -> bool {
        self.limits.class == Class::Software
    }

    /// Whether its memory is the machine's.
    pub fn shares_memory(&self) -> bool {
        matches!(self.kind, "software" | "integrated")
    }
}

/// An adapter with its description.
pub struct Found {
    adapter: wgpu::Adapter,
    /// What it is.
    pub description: Description,
}

/// A device with its queue.
pub struct Opened {
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// Whether it still lives.
    pub health: Arc<Health>,
}

/// All adapters, in the order in which they are tried: discrete ones first, software last.
///
/// # Errors
/// [`Error::NoDevice`] when a driver fails so badly that the question cannot be asked.
pub fn enumerate() -> Result<Vec<Found>> {
    static INSTANCE: OnceLock<ManuallyDrop<wgpu::Instance>> = OnceLock::new();
    let found = catch_unwind(|| {
        let instance = INSTANCE.get_or_init(|| ManuallyDrop::new(wgpu::Instance::new(descriptor())));
        ready(instance.enumerate_adapters(backends()))
    });
    let adapters = found.map_err(|payload| {
        Error::NoDevice(format!("the graphics drivers failed: {}", Error::from_panic(&*payload)))
    })??;
    let mut found: Vec<Found> = adapters
        .into_iter()
        .map(|adapter| {
            let description = describe(&adapter);
            Found { adapter, description }
        })
        .collect();
    found.sort_by_key(|found| match found.description.kind {
        "discrete" => 0,
        "integrated" => 1,
        "software" => 3,
        _ => 2,
    });
    Ok(found)
}

fn backends() -> wgpu::Backends {
    wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12
}

fn descriptor() -> wgpu::InstanceDescriptor {
    wgpu::InstanceDescriptor {
        backends: backends(),
        // No validation layers: they are for whoever writes a driver, and slow everybody else down.
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    }
}

fn describe(adapter: &wgpu::Adapter) -> Description {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let (kind, class) = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => ("discrete", Class::Discrete),
        wgpu::DeviceType::IntegratedGpu => ("integrated", Class::Integrated),
        wgpu::DeviceType::VirtualGpu => ("virtual", Class::Integrated),
        wgpu::DeviceType::Cpu => ("software", Class::Software),
        wgpu::DeviceType::Other => ("other", Class::Integrated),
    };
    let backend = match info.backend {
        wgpu::Backend::Vulkan => "vulkan",
        wgpu::Backend::Metal => "metal",
        wgpu::Backend::Dx12 => "dx12",
        _ => "other",
    };
    let subgroups = features.contains(wgpu::Features::SUBGROUP);
    let same_size = info.subgroup_min_size == info.subgroup_max_size && info.subgroup_min_size > 0;
    let alignment = limits.min_storage_buffer_offset_alignment.max(16);
    let binding_bytes = limits.max_storage_buffer_binding_size.min(BINDING_BYTES).min(limits.max_buffer_size);
    let traits = Traits {
        class,
        subgroup: (subgroups && same_size).then_some(info.subgroup_min_size),
        binding_bytes: binding_bytes - binding_bytes % u64::from(alignment),
        buffer_bytes: limits.max_buffer_size - limits.max_buffer_size % ALIGNMENT as u64,
        alignment,
        bindings: limits.max_storage_buffers_per_shader_stage,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_size: limits.max_compute_invocations_per_workgroup,
        grid: limits.max_compute_workgroups_per_dimension,
        unchecked: true,
    };
    let wanted = [
        (wgpu::Features::SUBGROUP, "subgroup"),
        (wgpu::Features::IMMEDIATES, "immediates"),
        (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
        (wgpu::Features::SHADER_F16, "shader-f16"),
    ];
    let names = wanted.iter().filter(|(feature, _)| features.contains(*feature)).map(|(_, name)| *name);
    let driver = [info.driver, info.driver_info].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    Description {
        name: info.name,
        kind,
        backend,
        driver: driver.join(" "),
        features: names.collect(),
        refusal: refusal(features, &limits, &traits),
        limits: traits,
    }
}

/// Why kernels cannot run on an adapter.
fn refusal(features: wgpu::Features, limits: &wgpu::Limits, traits: &Traits) -> Option<String> {
    let least = Traits::least(traits.class);
    if !features.contains(wgpu::Features::IMMEDIATES) || limits.max_immediate_size < IMMEDIATE_WORDS as u32 * 4 {
        return Some(format!("its driver has fewer than {} bytes of immediates", IMMEDIATE_WORDS * 4));
    }
    let small = [
        ("storage buffers per shader", u64::from(traits.bindings), u64::from(BINDINGS)),
        ("bytes of workgroup memory", traits.workgroup_bytes.into(), least.workgroup_bytes.into()),
        ("invocations per workgroup", traits.workgroup_size.into(), least.workgroup_size.into()),
        ("bytes per binding", traits.binding_bytes, least.binding_bytes),
    ];
    let (what, has, needs) = small.into_iter().find(|(_, has, needs)| has < needs)?;
    Some(format!("it has {has} {what}, {needs} are needed"))
}

impl Found {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::NoDevice`] with the reason.
    pub fn open(&self) -> Result<Opened> {
        if let Some(refusal) = &self.description.refusal {
            return Err(Error::NoDevice(refusal.clone()));
        }
        let optional = wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY;
        let request = wgpu::DeviceDescriptor {
            label: Some("tilegrad"),
            required_features: wgpu::Features::IMMEDIATES | (self.adapter.features() & optional),
            required_limits: self.adapter.limits(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..wgpu::DeviceDescriptor::default()
        };
        let opened = catch_unwind(AssertUnwindSafe(|| ready(self.adapter.request_device(&request))))
            .map_err(|payload| Error::NoDevice(Error::from_panic(&*payload).message().to_owned()))??;
        let (device, queue) = opened.map_err(|error| Error::NoDevice(error.to_string()))?;
        let health = Health::watch(&device);
        Ok(Opened { device, queue, health })
    }
}

/// The result of a future that is ready at once, as those of native backends are.
///
/// # Errors
/// [`Error::Internal`] if it is not.
pub fn ready<T>(future: impl Future<Output = T>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err(Error::Internal("the graphics library answers later than it should".into())),
    }
}
