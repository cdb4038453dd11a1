//! What the addon and the machine are.

use napi::Env;
use napi_derive::napi;

use super::failure::guard;
use crate::cpu::Isa;
use crate::cpu::device;
use crate::program::table::opcode_hash;

/// What must match between the addon and the SDK.
#[napi(object)]
pub struct Version {
    /// The package's version.
    pub version: String,
    /// Hash of the opcode table; docs/program.md says of what.
    pub opcode_hash: u32,
}

/// The version of the addon and of the programs it understands.
#[napi]
pub fn version(env: Env) -> napi::Result<Version> {
    guard(env, || Ok(Version { version: env!("CARGO_PKG_VERSION").to_owned(), opcode_hash: opcode_hash() }))
}

/// The processor as the kernels see it.
#[napi(object)]
pub struct CpuInfo {
    /// The instruction set the kernels use.
    pub isa: String,
    /// Physical cores that this process may use: the default number of threads.
    pub threads: u32,
    /// Logical processors that this process may use.
    pub logical: u32,
}

/// Asks the processor.
#[napi]
pub fn cpu_info(env: Env) -> napi::Result<CpuInfo> {
    guard(env, || {
        Ok(CpuInfo {
            isa: Isa::detect().name().to_owned(),
            threads: device::default_threads() as u32,
            logical: device::logical_processors() as u32,
        })
    })
}
