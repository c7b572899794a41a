//! Whether a worktree may be worked in, against all that can be the case.

use std::time::Duration;

use hearth_actors::arena::{CheckEnd, CheckResult};
use hearth_actors::rules::set_up::{Step, failure, step};
use hearth_actors::set_up::{Around, Consent, Found, SetUp};

fn this() -> Box<SetUp> {
    Box::new(SetUp {
        hash: "0123456789abcdef".into(),
        copy: vec![".env".into()],
        set_up: Some("make".into()),
        tear_down: None,
        timeout: Duration::from_secs(1),
    })
}

/// Only what somebody trusts runs, and nobody works where something is open.
#[test]
fn nothing_runs_that_nobody_trusts_and_nobody_works_where_that_is_open() {
    let all = [
        Found::Nothing,
        Found::Wrong("line 1".into()),
        Found::This(this()),
    ];
    for found in &all {
        for consent in [None, Some(Consent::Trusted), Some(Consent::Refused)] {
            let step = step(found, consent);
            let is_this = matches!(found, Found::This(_));
            assert_eq!(
                matches!(step, Step::SetUp(_)),
                is_this && consent == Some(Consent::Trusted),
                "{found:?} {consent:?}"
            );
            assert_eq!(
                matches!(step, Step::Wait(_)),
                matches!(found, Found::Wrong(_)) || (is_this && consent.is_none()),
                "{found:?} {consent:?}"
            );
        }
    }
}

#[test]
fn who_waits_is_told_for_what() {
    let Step::Wait(why) = step(&Found::This(this()), None) else {
        panic!("it waits");
    };
    assert!(
        why.contains("(0123456789ab)") && why.contains("hearth setup --trust"),
        "{why}"
    );
    let Step::Wait(why) = step(&Found::Wrong("line 3".into()), None) else {
        panic!("it waits");
    };
    assert!(why.contains("line 3"), "{why}");
}

#[test]
fn a_script_that_failed_says_how_with_the_end_of_its_words() {
    let end = |result, exit_code, signal, log: &str| CheckEnd {
        result,
        exit_code,
        signal,
        wall: Duration::from_secs(9),
        log: log.into(),
    };
    assert_eq!(
        failure("set-up", &end(CheckResult::Passed, Some(0), None, "x")),
        None
    );
    let log = format!("{}last word", "é".repeat(5000));
    let failed = end(CheckResult::Failed, Some(3), None, &log);
    let why = failure("set-up", &failed).expect("a reason");
    assert!(
        why.starts_with("the set-up of the worktree ended with code 3: é"),
        "{why}"
    );
    assert!(
        why.ends_with("last word") && why.chars().count() < 1100,
        "{why}"
    );
    let late = end(CheckResult::TimedOut, None, Some(15), "");
    let why = failure("teardown", &late).expect("a reason");
    assert_eq!(
        why,
        "the teardown of the worktree did not end within its time (9 s)"
    );
    let killed = failure("set-up", &end(CheckResult::Failed, None, Some(9), ""));
    assert_eq!(
        killed.as_deref(),
        Some("the set-up of the worktree was ended by signal 9")
    );
}

#[test]
fn only_what_is_known_is_told() {
    let around = Around {
        worktree: "/w".into(),
        project: None,
        session: None,
        port: None,
    };
    assert_eq!(
        around.variables().into_keys().collect::<Vec<_>>(),
        ["HEARTH_WORKTREE"]
    );
    let around = Around {
        port: Some(20_010),
        ..around
    };
    let told = around.variables();
    assert_eq!(
        (&*told["HEARTH_PORT"], &*told["HEARTH_PORTS"]),
        ("20010", "10")
    );
}
