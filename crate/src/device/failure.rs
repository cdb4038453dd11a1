//! Why a value does not exist. An execution error belongs to the values it prevented: it sits in their slots, spreads to
//! what is computed from them, and is told to whoever reads one. What nobody read is told by `sync` and `close`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// An error with the instruction it happened in.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub error: Error,
    /// Where, if it was inside a program.
    pub place: Option<Place>,
    seen: AtomicBool,
}

/// An instruction of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its position in the code, from 0.
    pub instruction: u32,
    /// Its name in the opcode table.
    pub op: &'static str,
    /// The instruction as text.
    pub line: String,
}

impl Failure {
    /// A failure that several values may share.
    pub fn new(error: Error, place: Option<Place>) -> Arc<Self> {
        Arc::new(Self { error, place, seen: AtomicBool::new(false) })
    }

    /// Notes that somebody has been told.
    pub fn mark_seen(&self) {
        self.seen.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has been told.
    pub fn is_seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }
}

impl From<Error> for Arc<Failure> {
    fn from(error: Error) -> Self {
        Failure::new(error, None)
    }
}

/// Failures that nobody has been told about, oldest first.
#[derive(Default)]
pub struct Unread {
    failures: Vec<Arc<Failure>>,
}

/// More unread failures than this are not kept: `sync` tells the first one only.
const KEPT: usize = 16;

impl Unread {
    /// Keeps a failure until it is read or told.
    pub fn push(&mut self, failure: &Arc<Failure>) {
        if self.failures.len() == KEPT {
            self.failures.retain(|f| !f.is_seen());
        }
        if self.failures.len() < KEPT {
            self.failures.push(Arc::clone(failure));
        }
    }

    /// The first failure nobody has been told about; all count as told from here on.
    pub fn take(&mut self) -> Option<Arc<Failure>> {
        let first = self.failures.iter().find(|f| !f.is_seen()).cloned();
        for failure in self.failures.drain(..) {
            failure.mark_seen();
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> Arc<Failure> {
        Failure::new(Error::Argument(text.into()), None)
    }

    #[test]
    fn the_first_unseen_failure_is_told_once() {
        let mut unread = Unread::default();
        let (a, b, c) = (failure("a"), failure("b"), failure("c"));
        for f in [&a, &b, &c] {
            unread.push(f);
        }
        a.mark_seen();
        assert_eq!(unread.take().unwrap().error.message(), "b");
        assert!(unread.take().is_none());
        assert!(c.is_seen());
    }

    #[test]
    fn a_flood_keeps_the_oldest() {
        let mut unread = Unread::default();
        for i in 0..1000 {
            unread.push(&failure(&i.to_string()));
        }
        assert_eq!(unread.failures.len(), KEPT);
        assert_eq!(unread.take().unwrap().error.message(), "0");
    }
}
