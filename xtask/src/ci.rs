// SPDX-License-Identifier: Apache-2.0
//! `ci`: every check once, in order, each with its time and its budget.
//!
//! A step that fails does not stop the others, so that one run tells everything.
//! The steps share one profile and one selection of features; a budget is the time on two cores
//! from cold, and going over it is reported without failing, for machines differ.

use std::time::Duration;
#[expect(
    clippy::disallowed_types,
    reason = "this tool has no tokio, and measures real time"
)]
use std::time::Instant;

use anyhow::bail;

use crate::findings::say;
use crate::test::Profile;
use crate::workspace::Workspace;
use crate::{bench, codegen, deny, each_crate, layers, lint, test, tidy};

/// What a step does; an error is its failure.
type Action = fn(&Workspace) -> anyhow::Result<()>;

struct Step {
    name: &'static str,
    budget: Duration,
    action: Action,
}

struct Outcome {
    name: &'static str,
    budget: Duration,
    took: Duration,
    error: Option<anyhow::Error>,
}

const fn step(name: &'static str, budget_s: u64, action: Action) -> Step {
    Step {
        name,
        budget: Duration::from_secs(budget_s),
        action,
    }
}

const STEPS: &[Step] = &[
    step("codegen", 120, |workspace| codegen::run(workspace, true)),
    step("layers", 15, |workspace| layers::run(workspace, false)),
    step("tidy", 5, |workspace| tidy::run(workspace, false)),
    step("lint", 420, lint::run),
    step("test", 780, |workspace| test::run(workspace, Profile::Ci)),
    step("each-crate", 300, each_crate::run),
    step("deny", 15, |workspace| deny::run(workspace, false)),
    step("bench smoke", 120, bench_smoke),
];

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let mut outcomes = Vec::new();
    for step in STEPS {
        say(format!("\n== {} ==", step.name));
        let (took, result) = timed(|| (step.action)(workspace));
        let error = result.err();
        if let Some(error) = &error {
            say(format!("error: {error:#}"));
        }
        outcomes.push(Outcome {
            name: step.name,
            budget: step.budget,
            took,
            error,
        });
    }
    say(format!("\n{}", table(&outcomes)));
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.error.is_some())
        .map(|outcome| outcome.name)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "failed: {}\n  fix: what each step says above; a step runs alone as `cargo xtask <step>`",
        failed.join(", ")
    )
}

fn bench_smoke(workspace: &Workspace) -> anyhow::Result<()> {
    bench::names(workspace)
        .iter()
        .try_for_each(|name| bench::smoke(workspace, name))
}

#[expect(
    clippy::disallowed_types,
    reason = "this tool has no tokio, and measures real time"
)]
fn timed<T>(action: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = action();
    (start.elapsed(), result)
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!("{:<12} {:>8} {:>8}  result\n", "step", "time", "budget");
    for outcome in outcomes {
        let result = match (&outcome.error, outcome.took > outcome.budget) {
            (Some(_), _) => "FAILED",
            (None, true) => "ok, over its budget",
            (None, false) => "ok",
        };
        text += &line(outcome.name, outcome.took, outcome.budget, result);
    }
    let took = outcomes.iter().map(|outcome| outcome.took).sum();
    let budget = outcomes.iter().map(|outcome| outcome.budget).sum();
    text += &line("all", took, budget, "");
    text
}

fn line(name: &str, took: Duration, budget: Duration, result: &str) -> String {
    let shown = format!(
        "{name:<12} {:>8} {:>8}  {result}",
        minutes(took),
        minutes(budget)
    );
    format!("{}\n", shown.trim_end())
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(took: u64, budget: u64, failed: bool) -> Outcome {
        Outcome {
            name: "lint",
            budget: Duration::from_secs(budget),
            took: Duration::from_secs(took),
            error: failed.then(|| anyhow::anyhow!("broken")),
        }
    }

    #[test]
    fn the_table_tells_failure_and_budget() {
        let text = table(&[
            outcome(75, 60, false),
            outcome(5, 60, false),
            outcome(1, 60, true),
        ]);
        let expected = "step             time   budget  result\n\
                        lint             1:15     1:00  ok, over its budget\n\
                        lint             0:05     1:00  ok\n\
                        lint             0:01     1:00  FAILED\n\
                        all              1:21     3:00\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_budgets_fit_into_half_an_hour() {
        let sum: Duration = STEPS.iter().map(|step| step.budget).sum();
        assert!(sum <= Duration::from_secs(30 * 60), "{sum:?}");
    }

    #[test]
    fn no_step_is_there_twice() {
        let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}
