//! What tests of kernels share: operands without a plan, validation by naga without a GPU, and [`Lab`], which runs
//! prepared steps on whatever adapter there is.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Prepared;
use super::shader::{Call, Shader};
use crate::dtype::Dtype;
use crate::gpu::adapter;
use crate::gpu::lab;
pub use crate::gpu::lab::Settings;
use crate::gpu::traits::Traits;
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

/// Parses and validates the shader of a call, and checks its use of immediates and workgroup memory.
pub fn validate(call: &Call) {
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
    assert_eq!(call.shader.bindings, call.windows.len());
    assert!(call.words.len() <= super::shader::IMMEDIATE_WORDS);
}

/// A [`lab::Lab`] that validates what it runs and panics when it fails.
pub struct Lab {
    inner: lab::Lab,
    /// What the adapter is.
    pub traits: Traits,
    validated: HashSet<Arc<Shader>>,
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
            Some(Mutex::new(Self { traits: inner.traits.clone(), inner, validated: HashSet::new() }))
        });
        if lab.is_none() {
            let required = std::env::var("REQUIRE_DEVICES").unwrap_or_default();
            assert!(!required.split(',').any(|kind| kind == "gpu"), "REQUIRE_DEVICES names gpu: there is no adapter");
            eprintln!("NOT TESTED on a gpu: there is no adapter");
        }
        lab.as_ref().map(|lab| lab.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a step on an arena. Scratch memory begins as NaN, fault cells as set.
    pub fn run(&mut self, prepared: &Prepared, arena: &[u32], settings: Settings) -> Outcome {
        for call in &prepared.calls {
            if self.validated.insert(Arc::clone(&call.shader)) {
                validate(call);
            }
        }
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
