//! What would be lost with a worktree.

use std::path::PathBuf;

use hearth_actors::review::Leave;
use hearth_actors::risk::{Facts, Loss, MAX_NAMES, Named, Purpose};
use hearth_actors::rules::risk::{beyond_a_checkpoint, losses, refuses, told};
use proptest::prelude::*;

fn named() -> impl Strategy<Value = Named> {
    prop_oneof![
        3 => Just(Named::default()),
        1 => (1_usize..50).prop_map(|n| (0..n).map(|i| format!("file-{i}")).collect()),
    ]
}

fn facts() -> impl Strategy<Value = Facts> {
    let word = || prop::option::weighted(0.2, Just("rebase".to_owned()));
    let parts = (
        prop::bool::weighted(0.1),
        word(),
        word(),
        [named(), named(), named(), named(), named(), named()],
    );
    parts.prop_map(|(gone, unreadable, unfinished, lists)| {
        let [modified, untracked, staged, unkept, unmerged, unpushed] = lists;
        Facts {
            worktree: None,
            path: PathBuf::from("/w"),
            gone,
            branch: Some("session-1".into()),
            default_branch: Some("main".into()),
            unreadable,
            unfinished,
            modified,
            untracked,
            staged,
            unkept,
            merged_files: 0,
            unmerged,
            unpushed,
        }
    })
}

#[test]
fn what_is_gone_or_clean_may_go() {
    for purpose in [Purpose::Archive, Purpose::Delete] {
        assert!(losses(&Facts::default(), purpose).is_empty());
        let gone = Facts {
            gone: true,
            unreadable: Some("not there".into()),
            ..Facts::default()
        };
        assert!(losses(&gone, purpose).is_empty());
    }
}

#[test]
fn a_pushed_commit_is_safe_from_an_archive_alone() {
    let pushed = Facts {
        unmerged: ["abc one"].into_iter().collect(),
        ..Facts::default()
    };
    assert!(losses(&pushed, Purpose::Archive).is_empty());
    assert_eq!(losses(&pushed, Purpose::Delete), [Loss::Unmerged]);
}

#[test]
fn names_are_bounded_and_numbers_are_not() {
    let many: Named = (0..1000).map(|n| n.to_string()).collect();
    assert_eq!((many.total, many.names.len()), (1000, MAX_NAMES));
    let facts = Facts {
        untracked: many,
        ..Facts::default()
    };
    let told = told(&facts, Purpose::Archive);
    assert_eq!(told, "untracked: 0, 1, 2, 3, 4 and 995 more");
}

proptest! {
    /// Beside a plain reading of the promise: it may go exactly when nothing at all
    /// is there that nothing else has.
    #[test]
    fn nothing_that_is_alone_may_go(facts in facts()) {
        let alone = facts.unreadable.is_some()
            || facts.unfinished.is_some()
            || facts.modified.total + facts.untracked.total + facts.staged.total
                + facts.unkept.total + facts.unpushed.total > 0;
        let safe = |purpose| losses(&facts, purpose).is_empty();
        prop_assert_eq!(safe(Purpose::Archive), facts.gone || !alone);
        let alone = alone || facts.unmerged.total > 0;
        prop_assert_eq!(safe(Purpose::Delete), facts.gone || !alone);
    }

    /// Consent gives up what a commit keeps, and nothing else.
    #[test]
    fn consent_is_about_what_a_commit_keeps(facts in facts(), delete: bool) {
        let leave = |force| Leave { force, delete, skip_teardown: false };
        let lost = !losses(&facts, leave(false).purpose()).is_empty();
        prop_assert_eq!(refuses(&facts, leave(false)), lost);
        let keepable = facts.unreadable.is_none() && facts.unkept.total == 0;
        prop_assert_eq!(refuses(&facts, leave(true)), !facts.gone && !keepable);
    }

    /// A deletion never loses less than an archive, every loss is told, and what no
    /// checkpoint holds is one.
    #[test]
    fn the_words_fit_the_losses(facts in facts()) {
        let archive = losses(&facts, Purpose::Archive);
        let delete = losses(&facts, Purpose::Delete);
        prop_assert!(archive.iter().all(|loss| delete.contains(loss)));
        prop_assert_eq!(told(&facts, Purpose::Delete).is_empty(), delete.is_empty());
        prop_assert_eq!(told(&facts, Purpose::Archive).is_empty(), archive.is_empty());
        if beyond_a_checkpoint(&facts).is_some() {
            prop_assert!(archive.contains(&Loss::Unreadable) || archive.contains(&Loss::Unkept));
        }
    }
}
