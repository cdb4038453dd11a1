//! What kernels need to know of an adapter to choose and write their shaders. It is plain data, so that every choice can
//! be made and tested without a GPU.

/// What kind of machine computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the memory of the processor, or one that does not say.
    Integrated,
    /// The processor itself, behind a driver such as lavapipe.
    Software,
}

/// Facts about an adapter, and limits of the device opened on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traits {
    /// What kind of machine it is.
    pub class: Class,
    /// Invocations that run in step, where shaders may talk within such a subgroup and its size is always the same.
    pub subgroup: Option<u32>,
    /// Bytes that one binding reaches; a multiple of [`Traits::alignment`].
    pub binding_bytes: u64,
    /// Bytes of one buffer; a multiple of [`ALIGNMENT`](crate::device::class::ALIGNMENT).
    pub buffer_bytes: u64,
    /// Bytes that bindings begin at multiples of; a power of two of at least 16.
    pub alignment: u32,
    /// Storage buffers that one shader may use.
    pub bindings: u32,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_bytes: u32,
    /// Invocations of one workgroup.
    pub workgroup_size: u32,
    /// Workgroups along one axis of a dispatch.
    pub grid: u32,
    /// Whether shaders may index buffers without bounds checks. Only kernels whose every access is masked ask for it.
    pub unchecked: bool,
}

impl Traits {
    /// What every adapter that this crate accepts has: for tests of shaders, without a GPU.
    pub const fn least(class: Class) -> Self {
        Self {
            class,
            subgroup: None,
            binding_bytes: 128 << 20,
            buffer_bytes: 256 << 20,
            alignment: 256,
            bindings: 16,
            workgroup_bytes: 16 << 10,
            workgroup_size: 256,
            grid: 65_535,
            unchecked: false,
        }
    }

    /// As [`Traits::least`], with subgroups of eight: lavapipe.
    pub const fn software() -> Self {
        Self { subgroup: Some(8), ..Self::least(Class::Software) }
    }
}
