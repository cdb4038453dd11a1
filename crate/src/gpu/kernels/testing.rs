//! What tests of kernels share: operands without a plan, validation by naga without a GPU, and [`Lab`], which runs
//! prepared steps on whatever adapter there is.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Prepared;
use super::shader::{Builder, Call, Memory, Shader, Type};
use crate::dtype::Dtype;
use crate::gpu::adapter;
use crate::gpu::lab;
pub use crate::gpu::lab::Settings;
use crate::gpu::traits::{Class, Traits};
use crate::plan::{Base, Location, Operand};
use crate::shape::{Dims, numel};

/// An operand in the arena.
pub fn operand(dtype: Dtype, dims: &[u32], offset: usize) -> Operand {
    Operand {
        register: 0,
        value: 0,
        location: Location { base: Base::Arena, offset },
        dtype,
        dims: Dims::new(dims).unwrap(),
        numel: numel(dims).unwrap(),
    }
}

/// Parses and validates the shader of a call, and checks its use of immediates and of the workgroup memory that every
/// adapter has.
pub fn validate(call: &Call) {
    validate_for(call, &Traits::least(Class::Discrete));
}

/// The same for an adapter that may have more workgroup memory.
pub fn validate_for(call: &Call, traits: &Traits) {
    let text = &call.shader.text;
    let module = match naga::front::wgsl::parse_str(text) {
        Ok(module) => module,
        Err(error) => panic!("{}\n{text}", error.emit_to_string(text)),
    };
    let capabilities = naga::valid::Capabilities::IMMEDIATES | naga::valid::Capabilities::SUBGROUP;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    if let Err(error) = validator.validate(&module) {
        panic!("{}\n{text}", error.emit_to_string(text));
    }
    let bytes = workgroup_bytes(&module);
    assert!(bytes <= traits.workgroup_bytes, "{bytes} bytes of workgroup memory\n{text}");
    assert_eq!(call.shader.bindings, call.windows.len());
    assert!(call.words.len() <= super::shader::IMMEDIATE_WORDS);
}

fn workgroup_bytes(module: &naga::Module) -> u32 {
    let mut layouts = naga::proc::Layouter::default();
    layouts.update(module.to_ctx()).unwrap();
    let shared = module.global_variables.iter().filter(|(_, it)| it.space == naga::AddressSpace::WorkGroup);
    // As drivers lay them out: one behind the other.
    shared.fold(0, |end, (_, it)| layouts[it.ty].alignment.round_up(end) + layouts[it.ty].size)
}

/// What a workgroup may find in its memory when it begins: a NaN of its own.
const POISON: u32 = 0x7fc0_dead;

/// A dispatch that leaves NaN in the workgroup memory of, most likely, every processor of the GPU: pipelines do not clear
/// theirs. It looks at what it has written, or it would be written by nobody.
fn poison(traits: &Traits) -> Call {
    let words = traits.workgroup_bytes / 4;
    let mut b = Builder::new(traits, "poison");
    b.buffer("faults", Memory::Faults, Type::U32);
    b.value("poison", POISON as usize);
    b.item(&format!("var<workgroup> all: array<u32, {words}>;"));
    let main = format!(
        "for (var i = local; i < {words}u; i += 64u) {{ all[i] = p.poison; }}
workgroupBarrier();
for (var i = local; i < {words}u; i += 64u) {{ if (all[{words}u - 1u - i] != p.poison) {{ faults_set(0u, 1u); }} }}"
    );
    // A GPU has at most some hundred processors, one that is played by a processor has its threads.
    let groups = if traits.class == Class::Software { 16 } else { 512 };
    b.finish(64, [groups, 1, 1], &main).unwrap()
}

/// A [`lab::Lab`] that validates what it runs and panics when it fails.
pub struct Lab {
    inner: lab::Lab,
    /// What the adapter is.
    pub traits: Traits,
    validated: HashSet<Arc<Shader>>,
    poison: Call,
}

/// What a run leaves.
pub struct Outcome {
    /// The arena.
    pub arena: Vec<u32>,
    /// The fault cell of the step: `[1 if there is a fault, position, index]`.
    pub cell: [u32; 3],
}

impl Lab {
    /// The device that all tests share, or `None`, said aloud, when there is no adapter. `REQUIRE_DEVICES` with `gpu`
    /// makes that a failure.
    pub fn open() -> Option<MutexGuard<'static, Self>> {
        static LAB: OnceLock<Option<Mutex<Lab>>> = OnceLock::new();
        let lab = LAB.get_or_init(|| {
            let found = adapter::enumerate().unwrap().into_iter().find(|found| found.description.refusal.is_none())?;
            let inner = lab::Lab::new(&found).unwrap();
            let (traits, poison) = (inner.traits.clone(), poison(&inner.traits));
            Some(Mutex::new(Self { traits, inner, validated: HashSet::new(), poison }))
        });
        if lab.is_none() {
            let required = std::env::var("REQUIRE_DEVICES").unwrap_or_default();
            assert!(!required.split(',').any(|kind| kind == "gpu"), "REQUIRE_DEVICES names gpu: there is no adapter");
            eprintln!("NOT TESTED on a gpu: there is no adapter");
        }
        lab.as_ref().map(|lab| lab.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a step on an arena. Scratch memory begins as NaN, and so does workgroup memory; fault cells begin as set.
    pub fn run(&mut self, prepared: &Prepared, arena: &[u32], settings: Settings) -> Outcome {
        let mut calls = Vec::with_capacity(2 * prepared.calls.len());
        for call in &prepared.calls {
            if self.validated.insert(Arc::clone(&call.shader)) {
                validate_for(call, &self.traits);
            }
            calls.extend([self.poison.clone(), call.clone()]);
        }
        let prepared = &Prepared { calls, ..*prepared };
        let lab = &mut self.inner;
        // Tests may have made its bindings smaller.
        lab.traits.clone_from(&self.traits);
        let loaded = lab.load(arena, prepared.scratch, settings).unwrap();
        lab.run(prepared, &loaded, settings, 1).unwrap();
        let (arena, cell) = (lab.arena(&loaded, 0, arena.len()).unwrap(), lab.cell(&loaded).unwrap());
        lab.unload(loaded);
        Outcome { arena, cell }
    }
}

mod tests {
    use super::*;

    /// A kernel that relies on workgroup memory being clear.
    fn careless(traits: &Traits, words: usize) -> Call {
        let mut b = Builder::new(traits, "careless");
        b.operand("y", &operand(Dtype::I32, &[64], 0));
        b.item(&format!("var<workgroup> sums: array<i32, {words}>;"));
        b.finish(64, [1, 1, 1], "sums[local] += i32(local);\ny_set(local, sums[local]);").unwrap()
    }

    #[test]
    fn kernels_that_do_not_write_workgroup_memory_first_find_poison() {
        let Some(mut lab) = Lab::open() else { return };
        // Only of software adapters it is known where workgroup memory lies.
        if lab.traits.class == Class::Software {
            let call = careless(&lab.traits, 64);
            let arena = lab.run(&vec![call].into(), &[0; 64], Settings::default()).arena;
            let expected: Vec<u32> = (0..64).map(|local| POISON + local).collect();
            assert_eq!(arena, expected);
        }
    }

    #[test]
    #[should_panic(expected = "20480 bytes of workgroup memory")]
    fn too_much_workgroup_memory_is_not_valid() {
        validate(&careless(&Traits::least(Class::Discrete), 5 << 10));
    }
}
