//! The first call of a step: whether it is applied, its constants, and for every parameter what follows from its step
//! counter. All in scratch memory as f32, so that no hyperparameter is in a shader's text and the updates, which change
//! the counters, need not read them.

use crate::dtype::Dtype;
use crate::error::Result;
use crate::gpu::kernels::Target;
use crate::gpu::kernels::shader::{Builder, Call, Memory, Type, Word};
use crate::plan::Operand;

/// Words before those of the parameters: 1 if the step is applied, the scale, the constants.
pub(super) const HEADER: usize = 16;

/// Words of each parameter.
pub(super) const OWN: usize = 2;

/// Constants of SGD: rate, decay, μ, 1 − dampening. A parameter's: whether it has a velocity.
pub(super) const SGD: &str = "if (i == 0u) { put(0u, p.lr); put(1u, p.k0); put(2u, p.k1); put(3u, p.k2); }
own(i, 0u, select(0.0, 1.0, steps(i) > 0));";

/// Constants of Adam: what decay leaves, the weights of both moments, eps, coupled decay. A parameter's: rate and root.
pub(super) const ADAM: &str = "if (i == 0u) {
  put(0u, 1.0 - p.lr * p.k5); put(1u, p.k0); put(2u, p.k1); put(3u, p.k2); put(4u, p.k3); put(5u, p.k4);
  put(6u, p.k8);
}
let t = f32(steps(i)) + 1.0;
own(i, 0u, p.lr / correction(t * p.k6));
own(i, 1u, 1.0 / sqrt(correction(t * p.k7)));";

/// Constants of `RMSprop`: rate, decay, α, 1 − α, eps, μ.
pub(super) const RMSPROP: &str = "if (i == 0u) {
  put(0u, p.lr); put(1u, p.k0); put(2u, p.k1); put(3u, p.k2); put(4u, p.k3); put(5u, p.k4);
}";

/// A parameter's: the weight of its new value, 1 for its first.
pub(super) const EMA: &str = "own(i, 0u, select(1.0, p.lr, steps(i) > 0));";

/// 1 − exp(x) for x ≤ 0 without cancellation: its series up to x⁹ where x ≥ −½, and above by
/// 1 − e²ˣ = (1 − eˣ)(2 − (1 − eˣ)), which makes errors smaller. At −32 it is 1.
const CORRECTION: &str = "fn correction(x: f32) -> f32 {
  var y = max(x, -32.0);
  var doublings = 0u;
  while (y < -0.5) { y *= 0.5; doublings++; }
  var c = 1.0 + y * (1.0 / 9.0);
  c = 1.0 + y * 0.125 * c;
  c = 1.0 + y * (1.0 / 7.0) * c;
  c = 1.0 + y * (1.0 / 6.0) * c;
  c = 1.0 + y * 0.2 * c;
  c = 1.0 + y * 0.25 * c;
  c = 1.0 + y * (1.0 / 3.0) * c;
  c = 1.0 + y * 0.5 * c;
  c *= -y;
  for (; doublings > 0u; doublings--) { c *= 2.0 - c; }
  return c;
}";

/// What the step is made of.
pub(super) struct State<'a> {
    pub(super) name: &'static str,
    /// The counters of applied steps.
    pub(super) steps: &'a Operand,
    /// Multiplies every gradient.
    pub(super) scale: Option<Operand>,
    /// Whether the step is applied.
    pub(super) ok: Option<Operand>,
    /// Scalar: learning rate, or the weight of a new value.
    pub(super) rate: u32,
}

impl State<'_> {
    /// Words of scratch memory.
    pub(super) fn words(&self) -> usize {
        (HEADER + OWN * self.steps.numel).next_multiple_of(64)
    }

    /// The call. `constants` are `k0` and on in `body`, which runs for each parameter `i`.
    pub(super) fn call(&self, target: Target, constants: &[f64], body: &str) -> Result<Call> {
        let mut b = Builder::new(target.traits, self.name).masked();
        b.buffer("faults", Memory::Faults, Type::U32);
        b.word("gate", "u32", Word::Gate);
        b.buffer("state", Memory::Scratch { offset: 0, words: self.words() }, Type::F32);
        b.operand("steps", self.steps);
        b.value("count", self.steps.numel);
        b.word("lr", "f32", Word::Scalar(self.rate, Dtype::F32));
        for (i, &constant) in constants.iter().enumerate() {
            b.word(&format!("k{i}"), "f32", Word::Value((constant as f32).to_bits()));
        }
        let mut apply = "faults(p.gate) == 0u".to_owned();
        if let Some(ok) = &self.ok {
            b.operand("ok", ok);
            apply += " && ok(0u) != 0u";
        }
        let mut scale = "1.0";
        if let Some(operand) = &self.scale {
            b.operand("scale", operand);
            scale = "scale(0u)";
        }
        b.item(CORRECTION);
        b.item(&format!(
            "fn put(i: u32, value: f32) {{ state_set(i + 2u, value); }}\n\
             fn own(i: u32, j: u32, value: f32) {{ state_set({HEADER}u + i * {OWN}u + j, value); }}"
        ));
        let main = format!(
            "let i = group() * 64u + local;\n\
             if (i >= p.count) {{ return; }}\n\
             if (i == 0u) {{ state_set(0u, select(0.0, 1.0, {apply})); state_set(1u, {scale}); }}\n{body}"
        );
        b.finish(64, [self.steps.numel.div_ceil(64), 1, 1], &main)
    }
}
