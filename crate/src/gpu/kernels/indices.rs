//! The check of indices that come with the data: targets of a loss, indices of gather and its gradient. Kernels that use
//! them keep their accesses in bounds by themselves; this call only finds out, before them, whether there is a complaint.
//!
//! One workgroup looks through all of them, because the *first* bad one is reported and there is no order among workgroups.

use super::shader::{Builder, Call, Memory, Type, Word};
use super::{Check, Prepared, Target};
use crate::error::Result;
use crate::gpu::Class;
use crate::plan::Operand;

/// The call that writes `[1 if there is one, position, index]` of the first of `indices` outside `[0, size)` that is not
/// `ignore` to the fault cell of the step.
///
/// # Errors
/// [`Error::OutOfMemory`](crate::error::Error::OutOfMemory) for more indices than the adapter can bind.
pub(super) fn check(target: Target, indices: &Operand, size: usize, ignore: Option<i32>) -> Result<Call> {
    let mut b = Builder::new(target.traits, "check_indices").masked();
    b.operand("x", indices);
    b.buffer("cells", Memory::Faults, Type::U32);
    b.value("count", indices.numel);
    b.value("size", size);
    b.word("cell", "u32", Word::Cell);
    let mut bad = "bitcast<u32>(x(i)) >= p.size".to_owned();
    if let Some(ignore) = ignore {
        b.word("ignored", "i32", Word::Value(ignore as u32));
        bad += " && x(i) != p.ignored";
    }
    // Barriers are dear where a processor plays the GPU, and it has no use for many invocations in one workgroup.
    let invocations = if target.traits.class == Class::Software { 32 } else { 256.min(target.traits.workgroup_size) };
    b.rounds(indices.numel.div_ceil(invocations as usize));
    b.item("var<workgroup> first: atomic<u32>;");
    let main = format!(
        "if (local == 0u) {{ atomicStore(&first, 0xffffffffu); }}
workgroupBarrier();
for (var i = local; i < p.count; i += {invocations}u) {{
  if ({bad}) {{ atomicMin(&first, i); break; }}
}}
workgroupBarrier();
if (local == 0u) {{
  let at = atomicLoad(&first);
  if (at < p.count) {{
    cells_set(p.cell, 1u); cells_set(p.cell + 1u, at); cells_set(p.cell + 2u, bitcast<u32>(x(at)));
  }} else {{
    cells_set(p.cell, 0u); cells_set(p.cell + 1u, 0u); cells_set(p.cell + 2u, 0u);
  }}
}}"
    );
    b.finish(invocations, [1, 1, 1], &main)
}

/// Puts the check before the calls of a step.
///
/// # Errors
/// As [`check`].
pub(super) fn checked(
    what: &'static str,
    target: Target,
    indices: &Operand,
    size: usize,
    ignore: Option<i32>,
    mut prepared: Prepared,
) -> Result<Prepared> {
    if indices.numel > 0 {
        prepared.calls.insert(0, check(target, indices, size, ignore)?);
        prepared.check = Some(Check::Range { what, size });
    }
    Ok(prepared)
}

#[cfg(test)]
mod tests {
    use super::super::shader::Aligned;
    use super::super::testing::{operand, validate};
    use super::*;
    use crate::dtype::Dtype;
    use crate::gpu::Traits;

    #[test]
    fn texts_are_valid_and_know_no_number() {
        for class in [Class::Discrete, Class::Software] {
            let traits = Traits::least(class);
            let target = Target { traits: &traits, aligned: Aligned::default() };
            let call = |count, ignore| check(target, &operand(Dtype::I32, &[count], 0), 10, ignore).unwrap();
            validate(&call(7, None));
            validate(&call(7, Some(-100)));
            assert_eq!(call(7, Some(-100)).shader, call(7000, Some(3)).shader);
        }
    }

    #[test]
    fn nothing_is_checked_without_indices() {
        let traits = Traits::least(Class::Software);
        let target = Target { traits: &traits, aligned: Aligned::default() };
        let prepare = |count| {
            let indices = operand(Dtype::I32, &[count], 0);
            checked("index", target, &indices, 10, None, Prepared::default()).unwrap()
        };
        assert_eq!(prepare(0), Prepared::default());
        let some = prepare(1);
        assert_eq!((some.calls.len(), some.check), (1, Some(Check::Range { what: "index", size: 10 })));
    }
}
