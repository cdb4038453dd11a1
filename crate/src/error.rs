//! The one error type of the crate. Codes are the ones users see; the closed list lives in `ts/errors.ts`.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why an operation, a program or a device failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A stream of words that is no valid program: only a bug or an attacker writes one.
    Program(String),
    /// A value that only the device can see is not allowed, such as a class index outside its range.
    Argument(String),
    /// A slot that was never made or has been freed.
    Disposed(String),
    /// The memory limit or the machine's memory is exhausted.
    OutOfMemory(String),
    /// The device was closed or lost while work was pending.
    Lost(String),
    /// The device does not answer.
    Timeout(String),
    /// No such device can be had here.
    NoDevice(String),
    /// Our own mistake: a caught panic or a broken invariant.
    Internal(String),
}

impl Error {
    /// The stable code of `TilegradError`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Program(_) => "ERR_PROGRAM",
            Self::Argument(_) => "ERR_ARGUMENT",
            Self::Disposed(_) => "ERR_DISPOSED",
            Self::OutOfMemory(_) => "ERR_OUT_OF_MEMORY",
            Self::Lost(_) => "ERR_DEVICE_LOST",
            Self::Timeout(_) => "ERR_TIMEOUT",
            Self::NoDevice(_) => "ERR_NO_DEVICE",
            Self::Internal(_) => "ERR_INTERNAL",
        }
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        match self {
            Self::Program(m)
            | Self::Argument(m)
            | Self::Disposed(m)
            | Self::OutOfMemory(m)
            | Self::Lost(m)
            | Self::Timeout(m)
            | Self::NoDevice(m)
            | Self::Internal(m) => m,
        }
    }
}

impl Error {
    /// What a caught panic said: an error if it carries one.
    pub fn from_panic(payload: &(dyn Any + Send)) -> Self {
        if let Some(error) = payload.downcast_ref::<Self>() {
            return error.clone();
        }
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("without a message");
        Self::Internal(format!("a panic: {text}"))
    }

    /// Runs `body`, where a panic is an error too. Whatever the body changes must be whole at any point, or not be used
    /// again.
    pub fn catch<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(Self::from_panic(&*payload)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message())
    }
}

impl std::error::Error for Error {}

/// The result of anything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;
