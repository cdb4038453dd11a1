//! Pipelines by the text of their shaders, and bind groups by what they bind. Creating either is slow (milliseconds and
//! microseconds), and out of memory there loses the device, so both are kept: as many as a process needs that does not go
//! on making new programs, and of more than that those that were used last.
//!
//! All layouts are alike: some number of read-write storage buffers, and all immediates. So bind groups fit every pipeline
//! with as many bindings.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use super::adapter::ready;
use super::kernels::shader::{IMMEDIATE_WORDS, Shader};
use super::traits::Traits;
use crate::error::{Error, Result};

/// The layouts for one number of bindings.
struct Layout {
    group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// Part of a buffer that is bound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    /// The number of the buffer.
    pub buffer: u64,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub size: u64,
}

/// Where the windows of an operand begin in its buffer: small buffers are bound whole, so that few bind groups do.
pub fn first_byte(traits: &Traits, buffer_bytes: u64, start: usize) -> u64 {
    if buffer_bytes <= traits.binding_bytes {
        return 0;
    }
    let bytes = start as u64 * 4;
    bytes - bytes % u64::from(traits.alignment)
}

/// A window of a buffer of so many bytes. One that would lie behind its end, which no index reaches, shows its begin.
pub fn window(traits: &Traits, buffer: u64, buffer_bytes: u64, first_byte: u64, index: usize) -> Range {
    let offset = first_byte + index as u64 * traits.binding_bytes;
    match buffer_bytes.checked_sub(offset) {
        Some(left @ 1..) => Range { buffer, offset, size: left.min(traits.binding_bytes) },
        _ => Range { buffer, offset: 0, size: buffer_bytes.min(traits.binding_bytes) },
    }
}

/// Mixes words: ranges are looked up at every dispatch, and nobody chooses the numbers of buffers.
#[derive(Clone, Copy, Default)]
struct Mixer(u64);

type Mixing = BuildHasherDefault<Mixer>;

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        // The product mixes upwards only, and a table looks at both ends.
        self.0 ^ self.0 >> 32
    }
}

/// Something that is kept, and the clock when it was last asked for.
struct Kept<T> {
    kept: T,
    used: u64,
}

/// Bind groups kept. Each holds on to its buffers, so those of a destroyed buffer are dropped with it.
const GROUPS: usize = 4096;

/// Pipelines kept: those of some hundred programs.
const PIPELINES: usize = 4096;

/// What has been created on one device.
pub struct Pipelines {
    device: wgpu::Device,
    unchecked: bool,
    layouts: Vec<Option<Layout>>,
    by_shader: HashMap<Arc<Shader>, Kept<wgpu::ComputePipeline>>,
    groups: HashMap<Box<[Range]>, Kept<wgpu::BindGroup>, Mixing>,
    clock: u64,
    /// The most pipelines.
    most: usize,
}

impl Pipelines {
    /// Nothing yet. `unchecked` lets shaders that mask every access themselves run without bounds checks.
    pub fn new(device: wgpu::Device, unchecked: bool) -> Self {
        let (layouts, by_shader, groups) = (Vec::new(), HashMap::new(), HashMap::default());
        Self { device, unchecked, layouts, by_shader, groups, clock: 0, most: PIPELINES }
    }

    /// The pipeline of a shader.
    ///
    /// # Errors
    /// [`Error::Internal`] for a shader that the driver refuses.
    pub fn pipeline(&mut self, shader: &Arc<Shader>) -> Result<&wgpu::ComputePipeline> {
        self.clock += 1;
        if !self.by_shader.contains_key(shader) {
            if self.by_shader.len() >= self.most {
                evict(&mut self.by_shader);
            }
            let kept = self.create(shader)?;
            self.by_shader.insert(Arc::clone(shader), Kept { kept, used: 0 });
        }
        let found = self.by_shader.get_mut(shader).ok_or_else(|| Error::Internal("a pipeline is gone".into()))?;
        found.used = self.clock;
        Ok(&found.kept)
    }

    /// How many pipelines there are.
    pub fn len(&self) -> usize {
        self.by_shader.len()
    }

    /// Whether there is no pipeline yet.
    pub fn is_empty(&self) -> bool {
        self.by_shader.is_empty()
    }

    fn create(&mut self, shader: &Shader) -> Result<wgpu::ComputePipeline> {
        let device = self.device.clone();
        let scopes = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory]
            .map(|filter| device.push_error_scope(filter));
        let unchecked = self.unchecked;
        let layout = self.layout(shader.bindings);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(shader.name),
            source: wgpu::ShaderSource::Wgsl(shader.text.as_str().into()),
        };
        // Loops end by counters that the host has checked, and divisors are sizes above 0; what stays on without
        // `masked` is what keeps accesses inside their buffers.
        let mut checks = wgpu::ShaderRuntimeChecks::unchecked();
        checks.bounds_checks = !(unchecked && shader.masked);
        // SAFETY: all shaders are this crate's own. Their loops are bounded, they divide by no zero, and those that run
        // without bounds checks mask every access; tests run them with the checks and with canaries around their results.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&layout.pipeline),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Kernels write workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: None,
        });
        let mut failure = None;
        for scope in scopes.into_iter().rev() {
            failure = failure.or(ready(scope.pop())?);
        }
        match failure {
            Some(error) => Err(Error::Internal(format!("the shader {} was refused: {error}", shader.name))),
            None => Ok(pipeline),
        }
    }

    fn layout(&mut self, bindings: usize) -> &Layout {
        if self.layouts.len() <= bindings {
            self.layouts.resize_with(bindings + 1, || None);
        }
        let device = &self.device;
        self.layouts[bindings].get_or_insert_with(|| {
            let entry = |binding| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: false },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            };
            let entries: Vec<_> = (0..bindings as u32).map(entry).collect();
            let group =
                device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
            let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: IMMEDIATE_WORDS as u32 * 4,
            });
            Layout { group, pipeline }
        })
    }

    /// The bind group of these ranges; `buffer` finds a buffer by its number.
    ///
    /// # Errors
    /// [`Error::Internal`] for a buffer that is not there.
    pub fn group<'b>(
        &mut self,
        ranges: &[Range],
        buffer: impl Fn(u64) -> Option<&'b wgpu::Buffer>,
    ) -> Result<&wgpu::BindGroup> {
        self.clock += 1;
        if !self.groups.contains_key(ranges) {
            if self.groups.len() >= GROUPS {
                evict(&mut self.groups);
            }
            let mut entries = Vec::with_capacity(ranges.len());
            for (binding, range) in ranges.iter().enumerate() {
                let buffer = buffer(range.buffer).ok_or_else(|| Error::Internal("a buffer is gone".into()))?;
                let size = wgpu::BufferSize::new(range.size);
                let resource =
                    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: range.offset, size });
                entries.push(wgpu::BindGroupEntry { binding: binding as u32, resource });
            }
            let device = self.device.clone();
            let layout = &self.layout(ranges.len()).group;
            let kept = device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
            self.groups.insert(ranges.into(), Kept { kept, used: 0 });
        }
        let found = self.groups.get_mut(ranges).ok_or_else(|| Error::Internal("a bind group is gone".into()))?;
        found.used = self.clock;
        Ok(&found.kept)
    }

    /// Forgets everything, on a device that is lost.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.by_shader.clear();
    }

    /// Forgets the bind groups of buffers that are about to be destroyed.
    pub fn forget(&mut self, is_gone: impl Fn(u64) -> bool) {
        self.groups.retain(|ranges, _| !ranges.iter().any(|range| is_gone(range.buffer)));
    }
}

/// Forgets the half that was not asked for the longest.
fn evict<K: Eq + Hash, T, S: BuildHasher>(all: &mut HashMap<K, Kept<T>, S>) {
    let mut uses: Vec<u64> = all.values().map(|kept| kept.used).collect();
    let middle = uses.len() / 2;
    let (_, &mut median, _) = uses.select_nth_unstable(middle);
    all.retain(|_, kept| kept.used > median);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::adapter::enumerate;

    #[test]
    fn pipelines_that_were_used_last_are_kept() {
        let found = enumerate().unwrap().into_iter().find(|found| found.description.refusal.is_none());
        let Some(opened) = found.map(|found| found.open().unwrap()) else { return };
        let mut pipelines = Pipelines::new(opened.device, false);
        pipelines.most = 4;
        let shader = |k: u32| {
            let text = format!(
                "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
                @compute @workgroup_size(1) fn main() {{ x[0] = {k}u; }}"
            );
            Arc::new(Shader { name: "number", text, bindings: 1, masked: false })
        };
        let first = shader(0);
        for k in 0..20 {
            pipelines.pipeline(&shader(k)).unwrap();
            pipelines.pipeline(&first).unwrap();
            assert!(pipelines.len() <= 4 && pipelines.by_shader.contains_key(&first));
        }
    }
}
