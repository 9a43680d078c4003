// SPDX-License-Identifier: Apache-2.0
//! From how a channel stands to its health.

use std::collections::BTreeMap;

use blocks_provider::{Mode, PullStats};

use super::*;

const PATIENCE: Patience = Patience {
    grace: Duration::from_secs(5),
    quiet: Duration::from_secs(30),
    withheld: Duration::from_secs(35),
};

fn report(state: PullState, failing: &[Reason], failing_since: Option<Instant>) -> PullReport {
    let failing = failing.iter().enumerate();
    PullReport {
        state,
        mode: Mode::Cft,
        failing: failing
            .map(|(index, reason)| (format!("o{index}:1").parse().unwrap(), *reason))
            .collect::<BTreeMap<_, _>>(),
        failing_since,
        suspicion: None,
        stats: PullStats::default(),
    }
}

fn streaming() -> PullState {
    PullState::Streaming("o9:1".parse().unwrap())
}

fn backing_off(reason: Option<Reason>) -> PullState {
    PullState::BackingOff {
        pause: Duration::from_secs(1),
        last_failure: reason.map(|reason| reason.to_string()),
        reason,
    }
}

fn signs(pull: Option<&PullReport>, grown_at: Instant) -> Signs<'_> {
    Signs {
        height: Height::new(7),
        grown_at,
        missing: None,
        pull,
        neighbours: Neighbours::Pulling,
        storage: None,
        appending: None,
        contradicted: false,
        dying: None,
    }
}

fn reason(health: Health) -> StuckReason {
    let Health::Stuck { reason, .. } = health else {
        panic!("{health:?}")
    };
    reason
}

#[test]
fn each_way_to_fail_has_its_reason() {
    let start = Instant::now();
    let rows: &[(&[Reason], StuckReason)] = &[
        (&[Reason::IdentityRefused], StuckReason::IdentityRefused),
        (&[Reason::RequestRefused], StuckReason::ClockSkew),
        (&[Reason::NotSigned], StuckReason::NotSigned),
        (&[Reason::UnknownChannel], StuckReason::OrdererOnboarding),
        (&[Reason::NoLeader, Reason::NoLeader], StuckReason::NoQuorum),
        (&[Reason::InvalidBlock], StuckReason::InvalidBlocks),
        (&[Reason::NotTaken], StuckReason::NotTaken),
        (&[Reason::Unreachable], StuckReason::NoOrdererReachable),
        (&[Reason::Broken], StuckReason::OrderersFail),
        (&[Reason::OtherStatus], StuckReason::OrderersFail),
        // Of several the one that names a mistake.
        (
            &[Reason::Unreachable, Reason::NoLeader],
            StuckReason::NoQuorum,
        ),
        (
            &[
                Reason::NoLeader,
                Reason::IdentityRefused,
                Reason::Unreachable,
            ],
            StuckReason::IdentityRefused,
        ),
    ];
    for (failing, expected) in rows {
        let report = report(backing_off(failing.last().copied()), failing, Some(start));
        let signs = signs(Some(&report), start);
        let early = judge(&signs, &PATIENCE, start + Duration::from_secs(4));
        assert_eq!(early, Health::Connecting, "{failing:?}");
        let late = judge(&signs, &PATIENCE, start + Duration::from_secs(5));
        assert_eq!(reason(late), *expected, "{failing:?}");
    }
    // Whoever has no more than the genesis block cannot know better.
    let report = report(
        backing_off(Some(Reason::UnknownChannel)),
        &[Reason::UnknownChannel],
        Some(start),
    );
    let new = Signs {
        height: Height::new(1),
        ..signs(Some(&report), start)
    };
    let late = judge(&new, &PATIENCE, start + Duration::from_secs(5));
    assert_eq!(reason(late), StuckReason::UnknownChannel);
}

#[test]
fn one_orderer_that_works_is_enough() {
    let start = Instant::now();
    let report = report(streaming(), &[Reason::IdentityRefused], None);
    let signs = signs(Some(&report), start);
    let day = start + Duration::from_secs(24 * 3600);
    assert_eq!(judge(&signs, &PATIENCE, day), Health::AtTip);
}

#[test]
fn before_the_first_stream_it_connects() {
    let start = Instant::now();
    for state in [
        PullState::Idle,
        PullState::Connecting("o1:1".parse().unwrap()),
    ] {
        let report = report(state, &[], None);
        let health = judge(&signs(Some(&report), start), &PATIENCE, start);
        assert_eq!(health, Health::Connecting);
    }
    let nobody = report(backing_off(None), &[], Some(start));
    let late = start + Duration::from_secs(6);
    let health = judge(&signs(Some(&nobody), start), &PATIENCE, late);
    assert_eq!(reason(health), StuckReason::NoOrderer);
}

#[test]
fn a_node_whose_orderers_fail_is_well_while_other_nodes_feed_it() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let report = report(
        backing_off(Some(Reason::Unreachable)),
        &[Reason::Unreachable],
        Some(start),
    );
    let fed = signs(Some(&report), at(20));
    assert_eq!(judge(&fed, &PATIENCE, at(49)), Health::AtTip);
    let reason_later = reason(judge(&fed, &PATIENCE, at(50)));
    assert_eq!(reason_later, StuckReason::NoOrdererReachable);
    // What was in the buffer when the stream ended is no sign of it.
    let unfed = signs(Some(&report), at(1));
    assert!(!judge(&unfed, &PATIENCE, at(5)).is_well());
}

#[test]
fn two_signed_blocks_of_one_number_are_an_alarm() {
    let start = Instant::now();
    let report = report(streaming(), &[], None);
    let contradicted = Signs {
        contradicted: true,
        ..signs(Some(&report), start)
    };
    let health = judge(&contradicted, &PATIENCE, start);
    assert_eq!(reason(health), StuckReason::Equivocation);
}

#[test]
fn missing_blocks_are_counted_and_withheld_ones_told() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let report = report(streaming(), &[], None);
    let missing = Missing {
        highest: BlockNumber::new(9),
        since: at(10),
    };
    let behind = Signs {
        missing: Some(missing),
        ..signs(Some(&report), at(5))
    };
    let catching_up = Health::CatchingUp {
        blocks: 3,
        behind: Duration::from_secs(4),
    };
    assert_eq!(judge(&behind, &PATIENCE, at(14)), catching_up);
    let number = BlockNumber::new(9);
    let withheld = reason(judge(&behind, &PATIENCE, at(45)));
    assert_eq!(withheld, StuckReason::Withheld { number });
    let moves = Signs {
        grown_at: at(40),
        ..behind
    };
    assert!(judge(&moves, &PATIENCE, at(45)).is_well());
}

#[test]
fn a_node_that_does_not_pull_needs_one_that_does() {
    let start = Instant::now();
    let rows = [
        (Neighbours::None(start), StuckReason::NoPeer),
        (Neighbours::Idle(start), StuckReason::NobodyPulls),
    ];
    for (neighbours, expected) in rows {
        let signs = Signs {
            neighbours,
            ..signs(None, start)
        };
        assert_eq!(judge(&signs, &PATIENCE, start), Health::Connecting);
        let late = judge(&signs, &PATIENCE, start + Duration::from_secs(5));
        assert_eq!(reason(late), expected);
    }
    let fed = signs(None, start);
    assert_eq!(judge(&fed, &PATIENCE, start), Health::AtTip);
}

#[test]
fn what_keeps_blocks_from_being_stored_is_worst() {
    let start = Instant::now();
    let report = report(
        backing_off(Some(Reason::Unreachable)),
        &[Reason::Unreachable],
        Some(start),
    );
    let late = start + Duration::from_secs(100);
    let rows = [
        (StorageFailureKind::Full, StuckReason::DiskFull),
        (StorageFailureKind::Failed, StuckReason::StoreFailed),
        (StorageFailureKind::Unusable, StuckReason::StoreUnusable),
        (
            StorageFailureKind::ConfigNotApplied,
            StuckReason::ConfigNotApplied,
        ),
    ];
    for (kind, expected) in rows {
        let failure = StorageFailure {
            kind,
            message: "the disk".to_owned(),
        };
        let signs = Signs {
            storage: Some(&failure),
            dying: Some(Task::Topic),
            ..signs(Some(&report), start)
        };
        let health = judge(&signs, &PATIENCE, late);
        assert!(
            matches!(&health, Health::Stuck { detail: Some(detail), .. } if detail == "the disk")
        );
        assert_eq!(reason(health), expected);
    }
    let hanging = Signs {
        appending: Some(late - PATIENCE.withheld),
        ..signs(Some(&report), start)
    };
    assert_eq!(
        reason(judge(&hanging, &PATIENCE, late)),
        StuckReason::StoreHangs
    );
    for task in Task::ALL {
        let signs = Signs {
            dying: Some(task),
            ..signs(Some(&report), start)
        };
        assert_eq!(
            reason(judge(&signs, &PATIENCE, late)),
            StuckReason::TaskDies { task }
        );
    }
}
