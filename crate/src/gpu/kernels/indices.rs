//! The check of indices that come with the data: targets of a loss, indices of gather and its gradient. Kernels that use
//! them keep their accesses in bounds by themselves; this call only finds out, before them, whether there is a complaint.
//!
//! One workgroup looks through all of them, because the *first* bad one is reported and there is no order among workgroups.

use super::reduce::fill;
use super::shader::{Builder, Call, Memory, Type, Word};
use super::{Check, Prepared, Target};
use crate::error::Result;
use crate::gpu::Class;
use crate::plan::Operand;

/// What is known of indices that come with the data.
#[derive(Clone, Copy)]
pub(super) struct Rule<'a> {
    /// What they are called.
    pub(super) what: &'static str,
    /// They must lie in `[0, size)`,
    pub(super) size: usize,
    /// or be this.
    pub(super) ignore: Option<i32>,
    /// Where the number of those that are not `ignore` goes, as f32, if it is wanted. Integers are added: any order gives
    /// the same.
    pub(super) counted: Option<&'a Operand>,
}

/// The call that writes `[1 if there is one, position, index]` of the first of `indices` that breaks the rule to the fault
/// cell of the step.
///
/// # Errors
/// [`Error::OutOfMemory`](crate::error::Error::OutOfMemory) for more indices than the adapter can bind.
pub(super) fn check(target: Target, indices: &Operand, rule: Rule) -> Result<Call> {
    let Rule { size, ignore, counted, .. } = rule;
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
    // Whoever does not count has seen enough with his first bad one.
    let (mut zero, mut one, mut add, mut store, mut found) = ("", "", "", "", "break;");
    if let Some(counted) = counted {
        b.operand("counted", counted);
        b.item("var<workgroup> total: atomic<u32>;");
        zero = "atomicStore(&total, 0u);";
        one = if ignore.is_some() { "mine += select(0u, 1u, x(i) != p.ignored);" } else { "mine += 1u;" };
        add = "atomicAdd(&total, mine);";
        store = "counted_set(0u, f32(atomicLoad(&total)));";
        found = "";
    }
    // Barriers are dear where a processor plays the GPU, and it has no use for many invocations in one workgroup.
    let invocations = if target.traits.class == Class::Software { 32 } else { 256.min(target.traits.workgroup_size) };
    b.rounds(indices.numel.div_ceil(invocations as usize));
    b.item("var<workgroup> first: atomic<u32>;");
    let main = format!(
        "if (local == 0u) {{ atomicStore(&first, 0xffffffffu); {zero} }}
workgroupBarrier();
var mine = 0u;
for (var i = local; i < p.count; i += {invocations}u) {{
  {one}
  if ({bad}) {{ atomicMin(&first, i); {found} }}
}}
{add}
workgroupBarrier();
if (local == 0u) {{
  {store}
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

/// Puts the check, and the count if one is wanted, before the calls of a step.
///
/// # Errors
/// As [`check`].
pub(super) fn checked(target: Target, indices: &Operand, rule: Rule, mut prepared: Prepared) -> Result<Prepared> {
    if indices.numel > 0 {
        prepared.calls.insert(0, check(target, indices, rule)?);
        prepared.check = Some(Check::Range { what: rule.what, size: rule.size });
    } else if let Some(counted) = rule.counted {
        prepared.calls.insert(0, fill(1, Memory::Operand(*counted), 0, target)?);
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
            let counted = operand(Dtype::F32, &[], 64);
            for counted in [None, Some(&counted)] {
                let call = |count, ignore| {
                    let rule = Rule { what: "index", size: 10, ignore, counted };
                    check(target, &operand(Dtype::I32, &[count], 0), rule).unwrap()
                };
                validate(&call(7, None));
                validate(&call(7, Some(-100)));
                assert_eq!(call(7, Some(-100)).shader, call(7000, Some(3)).shader);
            }
        }
    }

    #[test]
    fn nothing_is_checked_without_indices() {
        let traits = Traits::least(Class::Software);
        let target = Target { traits: &traits, aligned: Aligned::default() };
        let prepare = |count| {
            let indices = operand(Dtype::I32, &[count], 0);
            let rule = Rule { what: "index", size: 10, ignore: None, counted: None };
            checked(target, &indices, rule, Prepared::default()).unwrap()
        };
        assert_eq!(prepare(0), Prepared::default());
        let some = prepare(1);
        assert_eq!((some.calls.len(), some.check), (1, Some(Check::Range { what: "index", size: 10 })));
    }
}
