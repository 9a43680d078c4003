// SPDX-License-Identifier: Apache-2.0
//! The tasks of a channel, which are started again when they die.
//!
//! A task that panics is started again by itself, after a pause with full jitter. The channel is not
//! torn down for it: what its tasks share outlives them (the intake, the gossip membership and its
//! events, the queue of the publisher), so that the other tasks, and whoever waits for a height, do
//! not notice. Two of them have more to do on a new start: the writer, whose batch is lost, anchors
//! the buffer to the store (`writer::recover`); the pull loop opens a new stream at the chain's
//! position, as it does whenever a stream fails.
//!
//! A task that returns has ended for good, as its documentation says: the channel was cancelled, or
//! what it works on is closed. No panic is ever carried into whoever stops the channel.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use blocks_provider::full_jitter;
use futures::FutureExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// The bound of the first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// What a pause never exceeds. A task that ran for longer does not die again and again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A task that died so often in a row dies again and again.
const AGAIN_AND_AGAIN: u32 = 3;

/// A task of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Task {
    /// Stores what is due.
    Writer,
    /// Publishes what is stored.
    Publisher,
    /// Takes what comes on the gossip topic.
    Topic,
    /// Fetches ranges from other nodes.
    CatchUp,
    /// Examines blocks that orderers may have signed twice.
    Evidence,
    /// Pulls from the ordering service.
    Pull,
    /// Decides whether this node pulls.
    Election,
}

/// How the tasks of a channel do.
#[derive(Debug, Default)]
pub(crate) struct Supervision(Mutex<BTreeMap<Task, Watched>>);

#[derive(Debug, Default)]
struct Watched {
    deaths: u64,
    /// How often it died without having run for long.
    in_a_row: u32,
    /// When it was started last; `None` while it rests.
    running: Option<Instant>,
    /// It ended although nobody told it to.
    gone: bool,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 7] = [
        Self::Writer,
        Self::Publisher,
        Self::Topic,
        Self::CatchUp,
        Self::Evidence,
        Self::Pull,
        Self::Election,
    ];

    /// A short name, the same in every message and metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Publisher => "publisher",
            Self::Topic => "topic",
            Self::CatchUp => "catch-up",
            Self::Evidence => "evidence",
            Self::Pull => "pull",
            Self::Election => "election",
        }
    }
}

impl Supervision {
    /// Runs a task to its end. Where that was a panic it is counted, and after a pause the answer is
    /// whether to run the task again; `false` once `stop` is cancelled, and where it returned.
    pub(crate) async fn run(
        &self,
        task: Task,
        stop: &CancellationToken,
        running: impl Future<Output = ()>,
    ) -> bool {
        self.watched(task, |watched| watched.running = Some(Instant::now()));
        let Err(panic) = AssertUnwindSafe(running).catch_unwind().await else {
            if !stop.is_cancelled() {
                self.watched(task, |watched| watched.gone = true);
                error!(task = task.as_str(), "a task has ended for good");
            }
            return false;
        };
        let pause = self.died(task, Instant::now());
        error!(
            task = task.as_str(),
            panic = message(&*panic),
            ?pause,
            "a task has died; it is started again"
        );
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            () = sleep(pause) => true,
        }
    }

    /// Counts a panic in a part of a task, which the task itself survived.
    pub(crate) fn survived(&self, task: Task, panic: &(dyn Any + Send)) {
        error!(
            task = task.as_str(),
            panic = message(panic),
            "a part of a task has died"
        );
        self.watched(task, |watched| watched.deaths += 1);
    }

    /// How often tasks died, those that ever did.
    pub(crate) fn deaths(&self) -> BTreeMap<Task, u64> {
        let tasks = self.tasks();
        let died = tasks.iter().filter(|(_, watched)| watched.deaths > 0);
        died.map(|(task, watched)| (*task, watched.deaths))
            .collect()
    }

    /// A task that dies again and again, or has ended without being told.
    pub(crate) fn dying(&self, now: Instant) -> Option<Task> {
        let tasks = self.tasks();
        let mut dying = tasks.iter().filter(|(_, watched)| watched.is_dying(now));
        dying.next().map(|(task, _)| *task)
    }

    /// Notes a death, and draws the pause after it.
    fn died(&self, task: Task, now: Instant) -> Duration {
        let mut in_a_row = 0;
        self.watched(task, |watched| {
            watched.in_a_row = match watched.has_run_long(now) {
                true => 1,
                false => watched.in_a_row.saturating_add(1),
            };
            watched.deaths += 1;
            watched.running = None;
            in_a_row = watched.in_a_row;
        });
        full_jitter(FIRST_PAUSE, LONGEST_PAUSE, in_a_row.saturating_sub(1))
    }

    fn watched(&self, task: Task, change: impl FnOnce(&mut Watched)) {
        change(self.tasks().entry(task).or_default());
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<Task, Watched>> {
        // This lock above all must outlive a panic, and every state of the map is a good one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn has_run_long(&self, now: Instant) -> bool {
        self.running
            .is_some_and(|began| now.saturating_duration_since(began) >= LONGEST_PAUSE)
    }

    fn is_dying(&self, now: Instant) -> bool {
        self.gone || self.in_a_row >= AGAIN_AND_AGAIN && !self.has_run_long(now)
    }
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_dies_is_started_again_until_it_returns() {
        let (supervision, stop) = (Supervision::default(), CancellationToken::new());
        let mut runs = 0;
        let dies = async |run| {
            assert!(run > 3, "run {run}");
            stop.cancel();
        };
        loop {
            runs += 1;
            if !supervision.run(Task::Writer, &stop, dies(runs)).await {
                break;
            }
        }
        assert_eq!(runs, 4);
        assert_eq!(supervision.deaths(), BTreeMap::from([(Task::Writer, 3)]));
        let now = Instant::now();
        assert_eq!(supervision.dying(now), Some(Task::Writer));
        let later = now + LONGEST_PAUSE;
        assert_eq!(supervision.dying(later), None, "it has run since");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_untold_is_seen_and_one_that_was_told_is_not() {
        let supervision = Supervision::default();
        let stop = CancellationToken::new();
        assert!(!supervision.run(Task::Topic, &stop, async {}).await);
        assert_eq!(supervision.dying(Instant::now()), Some(Task::Topic));
        stop.cancel();
        let supervision = Supervision::default();
        assert!(!supervision.run(Task::Topic, &stop, async {}).await);
        assert_eq!(supervision.dying(Instant::now()), None);
        let late = async { panic!("late") };
        assert!(!supervision.run(Task::Topic, &stop, late).await);
        assert_eq!(supervision.deaths(), BTreeMap::from([(Task::Topic, 1)]));
    }

    #[test]
    fn a_task_that_ran_for_long_begins_anew() {
        let supervision = Supervision::default();
        let mut now = Instant::now();
        for _ in 0..10 {
            supervision.watched(Task::Pull, |watched| watched.running = Some(now));
            now += LONGEST_PAUSE;
            assert!(supervision.died(Task::Pull, now) <= FIRST_PAUSE);
            assert_eq!(supervision.dying(now), None);
        }
        for _ in 0..AGAIN_AND_AGAIN {
            supervision.watched(Task::Pull, |watched| watched.running = Some(now));
            supervision.died(Task::Pull, now);
        }
        assert_eq!(supervision.dying(now), Some(Task::Pull));
    }
}
