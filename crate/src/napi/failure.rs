//! Failures on their way into JavaScript: error objects with `code` and, for what happened inside a program, `op`,
//! `instruction` and `line`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use napi::bindgen_prelude::{JsObjectValue, Object};
use napi::{Env, JsValue, Status};

use crate::device::Failure;
use crate::error::Error;

/// The result of an export before its failure has become a JavaScript error.
pub(super) type Outcome<T> = Result<T, Arc<Failure>>;

/// Runs the body of an export. A failure is thrown as an error object, a panic as `ERR_INTERNAL`.
pub(super) fn guard<T>(env: Env, body: impl FnOnce() -> Outcome<T>) -> napi::Result<T> {
    let outcome =
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(Error::from_panic(&*payload).into()));
    outcome.map_err(|failure| to_js(env, &failure))
}

/// Node's refusal of something that should always work.
pub(super) fn refused(error: napi::Error) -> Arc<Failure> {
    let napi::Error { status, reason, .. } = error;
    Error::Internal(format!("Node refuses: {status} {reason}")).into()
}

/// The error that throws, or rejects with, a JavaScript error object. From here on the failure counts as told.
pub(super) fn to_js(env: Env, failure: &Failure) -> napi::Error {
    failure.mark_seen();
    match error_object(env, failure) {
        Ok(object) => napi::Error::from(object.to_unknown()),
        // Out of memory on the JavaScript side: what is left is text.
        Err(error) => napi::Error::new(Status::GenericFailure, format!("{} ({error})", failure.error)),
    }
}

fn error_object(env: Env, failure: &Failure) -> napi::Result<Object<'static>> {
    let plain = napi::Error::new(Status::GenericFailure, failure.error.message().to_owned());
    // The handle belongs to the scope of the running callback; `env` being passed by value hides that from the compiler.
    let mut object = Object::from_raw(env.raw(), env.create_error(plain)?.raw());
    object.set_named_property("code", failure.error.code())?;
    if let Some(place) = &failure.place {
        object.set_named_property("op", place.op)?;
        object.set_named_property("instruction", place.instruction)?;
        object.set_named_property("line", place.line.as_str())?;
    }
    Ok(object)
}
