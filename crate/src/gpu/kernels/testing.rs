//! What tests of shaders share: operands without a plan, and validation by naga, both without a GPU.

use super::shader::Call;
use crate::dtype::Dtype;
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
