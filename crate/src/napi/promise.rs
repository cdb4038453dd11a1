//! Promises that the device thread settles. The deferred is guarded against teardown: after its environment has gone,
//! settling does nothing.

use std::sync::Arc;

use napi::bindgen_prelude::{Object, ObjectRef};
use napi::{Env, JsDeferred};

use super::failure::{Outcome, refused, to_js};
use crate::device::{Done, Failure};
use crate::error::Error;

type Settle = Box<dyn FnOnce(Env) -> napi::Result<()>>;

/// What runs on the JavaScript thread just before the promise is settled.
pub(super) type Before = Box<dyn FnOnce(Env) + Send>;

/// A promise that must be settled: dropped without that, it rejects.
struct Pending {
    deferred: Option<JsDeferred<(), Settle>>,
    kept: Option<ObjectRef<false>>,
    before: Option<Before>,
}

/// Makes a promise and what settles it. `kept` stays alive, and `before` waits, until then.
pub(super) fn promise(
    env: &Env,
    kept: Option<ObjectRef<false>>,
    before: Option<Before>,
) -> Outcome<(Done, Object<'_>)> {
    let (deferred, promise) = env.create_deferred::<(), Settle>().map_err(refused)?;
    let mut pending = Pending { deferred: Some(deferred), kept, before };
    Ok((Box::new(move |result| pending.settle(result)), promise))
}

impl Pending {
    fn settle(&mut self, result: Result<(), Arc<Failure>>) {
        let Some(deferred) = self.deferred.take() else { return };
        let (kept, before) = (self.kept.take(), self.before.take());
        deferred.resolve(Box::new(move |env| {
            if let Some(before) = before {
                before(env);
            }
            if let Some(kept) = kept {
                kept.unref(&env)?;
            }
            result.map_err(|failure| to_js(env, &failure))
        }));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let lost = Error::Lost("the device was closed before it came to this".into());
        self.settle(Err(Failure::new(lost, None)));
    }
}
