//! Steps of optimisers and averages of weights over slabs: their numbers, and where each gradient belongs. The formulas are
//! in `cpu::optim` and `gpu::kernels::optim`; the validator has seen that segments are disjoint and inside the slab.

/// Where the gradient of one parameter belongs. Its length is the gradient's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Index into the step counters.
    pub parameter: u32,
    /// First element in the slab.
    pub offset: u32,
}

/// `[param slab, momentum slab?, steps, scale?, ok?, …gradients]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Sgd {
    /// Scalar: learning rate.
    pub lr: u32,
    /// Weight of the old velocity; 0 needs no slab.
    pub momentum: f64,
    /// 1 − weight of the gradient in the velocity.
    pub dampening: f64,
    /// Coupled L2.
    pub weight_decay: f64,
    /// Nesterov's form.
    pub nesterov: bool,
    /// One per gradient; disjoint, inside the slab.
    pub segments: Box<[Segment]>,
}

/// `[param slab, m slab, v slab, greatest v slab?, steps, scale?, ok?, …gradients]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Adam {
    /// Scalar: learning rate.
    pub lr: u32,
    /// Weight of the old first moment.
    pub beta1: f64,
    /// Weight of the old second moment.
    pub beta2: f64,
    /// Added after bias correction.
    pub eps: f64,
    /// Coupled L2, or the decay of the parameters themselves.
    pub weight_decay: f64,
    /// Which of the two.
    pub decoupled: bool,
    /// One per gradient; disjoint, inside the slab.
    pub segments: Box<[Segment]>,
}

/// `[param slab, v slab, mean slab?, velocity slab?, steps, scale?, ok?, …gradients]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Rmsprop {
    /// Scalar: learning rate.
    pub lr: u32,
    /// Weight of the old averages.
    pub alpha: f64,
    /// Added to the root.
    pub eps: f64,
    /// Coupled L2.
    pub weight_decay: f64,
    /// Weight of the old velocity; there is a slab unless it is 0.
    pub momentum: f64,
    /// One per gradient; disjoint, inside the slab.
    pub segments: Box<[Segment]>,
}

/// `[average slab, steps, scale?, ok?, …values]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Ema {
    /// Scalar: weight of the new value.
    pub weight: u32,
    /// One per value; disjoint, inside the slab.
    pub segments: Box<[Segment]>,
}
