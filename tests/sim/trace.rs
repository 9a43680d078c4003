// SPDX-License-Identifier: Apache-2.0
//! What happened in a run: who did what at which virtual time, and what nobody may do.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What happened, in order. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    events: Vec<Event>,
    violations: Vec<String>,
}

/// Something that somebody did.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    at: Duration,
    who: String,
    what: String,
}

impl Trace {
    /// Notes an event at the virtual time of whoever calls.
    pub(crate) fn tell(&self, who: &str, what: impl Into<String>) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.tell_at(at, who, what);
    }

    pub(crate) fn tell_at(&self, at: Duration, who: &str, what: impl Into<String>) {
        let (who, what) = (who.to_owned(), what.into());
        self.log().events.push(Event { at, who, what });
    }

    /// Notes that an invariant was broken.
    pub(crate) fn violated(&self, who: &str, what: impl fmt::Display) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let violation = format!("{} ms: {who}: {what}", at.as_millis());
        self.log().violations.push(violation);
    }

    pub(crate) fn is_violated(&self) -> bool {
        !self.log().violations.is_empty()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.log().violations.clone()
    }

    /// Everything, with what happened to one host at one moment in the order of its words: tasks
    /// that wait for one thing are woken in an order that tokio draws by lot.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut events = self.log().events.clone();
        events.sort();
        events
    }

    /// The last events, a line for each.
    pub(crate) fn tail(&self, count: usize) -> String {
        let events = self.events();
        let mut text = String::new();
        for event in events.iter().skip(events.len().saturating_sub(count)) {
            let _ = writeln!(text, "  {event}");
        }
        text
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    /// Whether it begins with these words.
    pub(crate) fn is(&self, words: &str) -> bool {
        self.what.starts_with(words)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, who, what } = self;
        write!(f, "{:>6} ms  {who:<9}  {what}", at.as_millis())
    }
}
