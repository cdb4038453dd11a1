//! Whether a device still lives. The callbacks run with wgpu's internals on the stack, on whatever thread polls: they note
//! what happened and do nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// What has happened to a device.
#[derive(Default)]
pub struct Health {
    lost: AtomicBool,
    reason: Mutex<Option<Error>>,
}

impl Health {
    /// Watches a device from before its first use.
    pub fn watch(device: &wgpu::Device) -> Arc<Self> {
        let health = Arc::new(Self::default());
        let callback = Arc::clone(&health);
        device.set_device_lost_callback(move |reason, text| callback.lose(&format!("{reason:?}: {text}")));
        let handler = Arc::clone(&health);
        // An error that no scope caught: nobody knows what else is wrong, so nothing is computed here any more.
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| handler.lose(&format!("unexpected: {error}"))));
        health
    }

    /// Notes that the device is lost.
    pub fn lose(&self, reason: &str) {
        self.end(Error::Lost(format!("the gpu device was lost ({}); open another one", reason.trim())));
    }

    /// Notes that the device is of no use any more. The first reason stays.
    pub fn end(&self, reason: Error) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.lost.store(true, Ordering::Release);
    }

    /// Whether it is lost.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// # Errors
    /// The reason, if it is lost: [`Error::Lost`], or [`Error::Timeout`] for a device that does not answer.
    pub fn check(&self) -> Result<()> {
        if !self.is_lost() {
            return Ok(());
        }
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(reason.unwrap_or_else(|| Error::Lost("the gpu device was lost".into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let health = Health::default();
        assert!(health.check().is_ok());
        health.lose("one");
        health.lose("two");
        let error = health.check().unwrap_err();
        assert_eq!(error.code(), "ERR_DEVICE_LOST");
        assert!(error.message().contains("one") && !error.message().contains("two"));
    }
}
