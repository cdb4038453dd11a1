//! What a device does and when, noted while somebody wants to know: runs, their steps, and what a GPU has been handed.
//! Nothing is noted otherwise, and finding that out is one load for each run. The list is bounded: what does not fit is
//! counted. Names and shapes are made once for each plan, as [`Label`]s.
//!
//! Whoever profiles decides when to begin and to end; what runs at that moment is noted in part.

use std::mem::take;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

pub use crate::plan::Label;

/// What an event is about.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A run from binding to results: of the compiled program with this number, or of a stream.
    Run(Option<u32>),
    /// A step of a plan, done: its label is the one at this position.
    Step(Arc<[Label]>, usize),
    /// A step of a plan, handed to a GPU.
    Recording(Arc<[Label]>, usize),
    /// What a GPU has been handed at once, of so many dispatches: from then on, or from the end of what it did before, to
    /// its own end.
    Submission(u32),
}

/// Something that has been done.
#[derive(Clone, Debug)]
pub struct Event {
    /// What.
    pub subject: Subject,
    /// Whether the thread that asked for the profile did it, and not one of the device's.
    pub inline: bool,
    /// When it began, by [`clock`].
    pub start: Duration,
    /// When it was done.
    pub end: Duration,
}

/// What has been noted.
#[derive(Default, Debug)]
pub struct Notes {
    /// The events in the order in which they ended.
    pub events: Vec<Event>,
    /// Events that there was no room for.
    pub dropped: u64,
}

#[derive(Default)]
struct State {
    notes: Notes,
    room: usize,
    caller: Option<ThreadId>,
}

/// Notes what one device does.
#[derive(Default)]
pub struct Profiler {
    on: AtomicBool,
    state: Mutex<State>,
}

impl Profiler {
    /// Begins to note at most so many events between two calls of [`Profiler::take`]; 0 ends it. Forgets what is there.
    pub fn set(&self, events: usize) {
        let caller = Some(thread::current().id());
        *self.state() = State { notes: Notes::default(), room: events, caller };
        self.on.store(events > 0, Ordering::Relaxed);
    }

    /// Whether anything is noted.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Now, if anything is noted.
    pub fn start(&self) -> Option<Instant> {
        self.is_on().then(Instant::now)
    }

    /// Notes what began then and ends now.
    pub fn note(&self, subject: Subject, start: Instant) {
        self.note_span(subject, start, Instant::now());
    }

    /// Notes what was done between two moments.
    pub fn note_span(&self, subject: Subject, start: Instant, end: Instant) {
        let (start, end) = (since_base(start), since_base(end));
        let mut state = self.state();
        let State { notes, room, caller } = &mut *state;
        if notes.events.len() >= *room || notes.events.try_reserve(1).is_err() {
            notes.dropped += 1;
            return;
        }
        let inline = *caller == Some(thread::current().id());
        notes.events.push(Event { subject, inline, start, end });
    }

    /// What has been noted since this was called last.
    pub fn take(&self) -> Notes {
        take(&mut self.state().notes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time since a moment that is the same for the whole process.
pub fn clock() -> Duration {
    since_base(Instant::now())
}

fn since_base(moment: Instant) -> Duration {
    static BASE: OnceLock<Instant> = OnceLock::new();
    moment.saturating_duration_since(*BASE.get_or_init(Instant::now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(notes: &Notes) -> Vec<Option<u32>> {
        let number = |event: &Event| if let Subject::Run(number) = event.subject { number } else { None };
        notes.events.iter().map(number).collect()
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let profiler = Profiler::default();
        assert!(!profiler.is_on() && profiler.start().is_none());
        profiler.set(2);
        let start = profiler.start().unwrap();
        for number in 0..5 {
            profiler.note(Subject::Run(Some(number)), start);
        }
        let notes = profiler.take();
        assert_eq!((runs(&notes), notes.dropped), (vec![Some(0), Some(1)], 3));
        // There is room again.
        profiler.note(Subject::Run(Some(7)), start);
        assert_eq!(runs(&profiler.take()), [Some(7)]);
        profiler.note(Subject::Run(None), start);
        profiler.set(0);
        assert!(!profiler.is_on() && profiler.take().events.is_empty());
    }

    #[test]
    fn events_tell_when_and_on_whose_thread() {
        let profiler = Profiler::default();
        let before = clock();
        profiler.set(10);
        let start = profiler.start().unwrap();
        profiler.note(Subject::Run(None), start);
        thread::scope(|scope| {
            scope.spawn(|| profiler.note(Subject::Run(None), start));
        });
        let notes = profiler.take();
        assert_eq!(notes.events.iter().map(|event| event.inline).collect::<Vec<_>>(), [true, false]);
        for event in &notes.events {
            assert!(before <= event.start && event.start <= event.end && event.end <= clock());
        }
    }
}
