//! Sessions that are closed or deleted, and the reaper: nothing that is nowhere
//! else goes, and what went comes back.

use std::time::Duration;

use hearth_actors::ids::{CheckpointId, OperationId, SessionId, SessionKey};
use hearth_actors::operation::{Asked, Done};
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::ports::OperationsError;
use hearth_actors::reap::{Fate, OldCheckpoint, Reason, Report, Thing, ThingKind};
use hearth_actors::review::{Leave, Order};
use hearth_actors::risk::{Loss, Purpose};
use hearth_actors::rules::risk::losses;
use hearth_actors::testing::backend::Step;
use hearth_actors::testing::harness::{Harness, Setup};

const PATIENCE: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

async fn order(
    harness: &Harness,
    session: SessionId,
    order: Order,
) -> Result<Done, OperationsError> {
    let asked = Asked {
        id: OperationId::new(),
        session,
        order,
        caller: "test".into(),
    };
    let came = harness.tree.operate(asked, PATIENCE).await;
    came.expect("an end within its patience")
}

async fn archive(harness: &Harness, session: SessionId) -> Result<Done, OperationsError> {
    order(harness, session, Order::Archive(Leave::default())).await
}

/// A session after one turn.
async fn worked(harness: &Harness) -> (SessionId, SessionKey) {
    let (session, key) = harness.chat();
    turn(harness, session, &key).await;
    (session, key)
}

async fn turn(harness: &Harness, session: SessionId, key: &SessionKey) {
    harness.backend.next_turn(vec![Step::Say("x")]);
    let task = harness.enqueue(session, key, "x");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.state(key, "idle").await;
}

async fn reap(harness: &Harness, dry_run: bool) -> Report {
    harness.tree.reap(dry_run).await.expect("a report")
}

#[tokio::test(start_paused = true)]
async fn a_clean_worktree_goes_and_comes_back_at_its_path() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = worked(&harness).await;
    let worktree = harness.worktree(session);
    archive(&harness, session).await.expect("archived");
    assert!(!harness.worktrees.is_made(&worktree.path));
    assert_eq!(harness.backend.alive(), 0, "nobody is left in the folder");
    turn(&harness, session, &key).await;
    assert_eq!(harness.worktree(session), worktree);
    assert!(harness.worktrees.is_made(&worktree.path));
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn work_is_not_lost_without_consent_and_comes_back_with_it() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = worked(&harness).await;
    let worktree = harness.worktree(session);
    harness.worktrees.put(&worktree, "new.txt", "work");
    match archive(&harness, session).await {
        Err(OperationsError::AtRisk(facts, purpose)) => {
            assert_eq!(losses(&facts, purpose), [Loss::Untracked]);
            assert_eq!(purpose, Purpose::Archive);
            assert_eq!(facts.untracked.names, ["new.txt"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        harness.worktrees.content_at(&worktree.path, "new.txt"),
        Some("work".into())
    );
    let forced = Leave {
        force: true,
        ..Leave::default()
    };
    order(&harness, session, Order::Archive(forced))
        .await
        .expect("archived");
    assert!(!harness.worktrees.is_made(&worktree.path));
    turn(&harness, session, &key).await;
    assert_eq!(
        harness.worktrees.content_at(&worktree.path, "new.txt"),
        Some("work".into())
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stash_takes_what_is_new_and_a_worktree_that_is_used_stays() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = worked(&harness).await;
    let worktree = harness.worktree(session);
    harness.worktrees.put(&worktree, "new.txt", "work");
    order(&harness, session, Order::Stash)
        .await
        .expect("stashed");
    assert_eq!(harness.worktrees.stash_list().len(), 1);
    assert_eq!(
        harness.worktrees.content_at(&worktree.path, "new.txt"),
        None
    );
    harness
        .backend
        .next_turn(vec![Step::Say("x"), Step::Wait(Duration::from_secs(60))]);
    let task = harness.enqueue(session, &key, "x");
    harness.state(&key, "running").await;
    let busy = archive(&harness, session).await;
    assert!(matches!(busy, Err(OperationsError::Busy(_))), "{busy:?}");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    archive(&harness, session).await.expect("archived");
    harness.shutdown().await;
}

/// A close at the moment when a turn starts: it is ended, and nothing runs behind it.
#[tokio::test(start_paused = true)]
async fn a_close_meets_a_turn_at_any_moment() {
    for moment in 0..40 {
        let harness = Harness::start(Setup::default()).await;
        harness.store.break_it(|faults| {
            faults.latency = Duration::from_millis(5);
        });
        let (session, key) = harness.chat();
        harness.backend.next_turn(vec![Step::Hang]);
        let task = harness.enqueue(session, &key, "x");
        tokio::time::sleep(Duration::from_millis(moment)).await;
        for _ in 0..2 {
            harness.store.close_session(session);
            harness.tree.close_session(session);
        }
        harness
            .until("the task is cancelled", |harness| {
                (harness.task(task).state == TaskState::Cancelled).then_some(())
            })
            .await;
        harness
            .until("nobody is warm", |harness| {
                (harness.backend.alive() == 0).then_some(())
            })
            .await;
        harness.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_reaper_takes_what_is_closed_or_idle_and_keeps_what_holds_work() {
    let harness = Harness::start(Setup::default()).await;
    let (closed, _) = worked(&harness).await;
    let (dirty, dirty_key) = worked(&harness).await;
    let (used, used_key) = worked(&harness).await;
    let trees = [closed, dirty, used].map(|session| harness.worktree(session));
    harness.worktrees.put(&trees[1], "new.txt", "work");
    harness.store.close_session(closed);
    let dry = reap(&harness, true).await;
    let fates: Vec<_> = dry
        .lines
        .iter()
        .map(|line| (line.reason, line.fate))
        .collect();
    assert_eq!(fates, [(Reason::SessionClosed, Fate::Done)]);
    assert!(
        harness.worktrees.is_made(&trees[0].path),
        "a dry run only looks"
    );
    reap(&harness, false).await;
    assert!(!harness.worktrees.is_made(&trees[0].path));

    tokio::time::sleep(71 * HOUR).await;
    turn(&harness, used, &used_key).await;
    tokio::time::sleep(2 * HOUR).await;
    let report = reap(&harness, false).await;
    let fates: Vec<_> = report
        .lines
        .iter()
        .map(|line| (line.session, line.fate))
        .collect();
    assert_eq!(fates, [(Some(dirty), Fate::Kept)]);
    assert!(harness.worktrees.is_made(&trees[1].path), "work is kept");
    assert!(
        harness.worktrees.is_made(&trees[2].path),
        "somebody uses it"
    );
    let notices = harness.store.with(|rows| rows.kept.clone());
    let notice = notices
        .get(&trees[1].id.to_string())
        .expect("people are told");
    assert!(notice.detail.contains("new.txt"), "{notice:?}");

    // What holds it is gone: so is the notice, and then the worktree.
    harness.worktrees.remove(&trees[1], "new.txt");
    reap(&harness, false).await;
    assert!(!harness.worktrees.is_made(&trees[1].path));
    assert!(harness.store.with(|rows| rows.kept.is_empty()));
    turn(&harness, dirty, &dirty_key).await;
    assert_eq!(harness.worktree(dirty), trees[1], "and comes back");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn leftovers_are_cleared_and_what_nobody_knows_stays() {
    let harness = Harness::start(Setup::default()).await;
    let (session, _) = worked(&harness).await;
    let gone = harness.worktree(session);
    harness.worktrees.lose(&gone);
    let unknown = Thing {
        kind: ThingKind::Folder,
        path: "/worktrees/who".into(),
        session: None,
        worktree: None,
        age: 2 * HOUR,
    };
    let half = Thing {
        kind: ThingKind::HalfMade,
        path: "/worktrees/.making-1".into(),
        ..unknown.clone()
    };
    harness.worktrees.leave_behind(unknown);
    harness.worktrees.leave_behind(half);
    let id = CheckpointId::new();
    harness.store.with(|rows| {
        rows.old_checkpoints.push(OldCheckpoint {
            id,
            project_path: "/project".into(),
        });
    });
    tokio::time::sleep(2 * HOUR).await;
    let report = reap(&harness, false).await;
    let fates: Vec<_> = report
        .lines
        .iter()
        .map(|line| (line.reason, line.fate))
        .collect();
    assert!(fates.contains(&(Reason::Orphan, Fate::Kept)), "{fates:?}");
    // The looks of the last hours took the rest.
    assert!(harness.worktrees.released().contains(&id.to_string()));
    assert!(harness.store.with(|rows| rows.worktrees.is_empty()));
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_project_whose_checkout_is_gone_keeps_no_others_checkpoints() {
    let harness = Harness::start(Setup::default()).await;
    worked(&harness).await;
    harness.worktrees.lose_checkout("/gone".as_ref());
    let other = CheckpointId::new();
    harness.store.with(|rows| {
        // More than one look reads, and older than the other.
        let old = (0..250).map(|_| (CheckpointId::new(), "/gone"));
        let old = old.chain([(other, "/project")]);
        rows.old_checkpoints
            .extend(old.map(|(id, path)| OldCheckpoint {
                id,
                project_path: path.into(),
            }));
    });
    let report = reap(&harness, false).await;
    assert_eq!(report.checkpoints, 1);
    assert_eq!(harness.worktrees.released(), [other.to_string()]);
    let left = harness.store.with(|rows| rows.old_checkpoints.len());
    assert_eq!(left, 250, "they stay until it is there again");
    harness.shutdown().await;
}

/// What cannot be done is tried again after ten minutes, not every minute.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_now_is_not_tried_every_minute() {
    let harness = Harness::start(Setup::default()).await;
    let (session, _) = worked(&harness).await;
    let worktree = harness.worktree(session);
    let others = harness.backend.others.clone();
    others.lock().expect("a lock").push("77 bash".into());
    harness.store.close_session(session);
    let minute = Duration::from_secs(60);
    tokio::time::sleep(2 * minute).await;
    others.lock().expect("a lock").clear();
    tokio::time::sleep(5 * minute).await;
    assert!(
        harness.worktrees.is_made(&worktree.path),
        "it was tried once"
    );
    tokio::time::sleep(10 * minute).await;
    assert!(!harness.worktrees.is_made(&worktree.path), "and once more");
    harness.shutdown().await;
}

/// Whatever call of the journal breaks: it is archived with all it held, or there.
#[tokio::test(start_paused = true)]
async fn an_archive_survives_every_fault_of_its_journal() {
    for calls in 0..8 {
        for lost in [true, false] {
            let harness = Harness::start(Setup::default()).await;
            let (session, key) = worked(&harness).await;
            let worktree = harness.worktree(session);
            harness.worktrees.put(&worktree, "new.txt", "work");
            harness.store.break_operations_after(calls, lost);
            let forced = Leave {
                force: true,
                ..Leave::default()
            };
            let _ = order(&harness, session, Order::Archive(forced)).await;
            let harness = harness.start_over(Duration::ZERO, Setup::default()).await;
            turn(&harness, session, &key).await;
            assert_eq!(
                harness.worktrees.content_at(&worktree.path, "new.txt"),
                Some("work".into()),
                "{calls} {lost}"
            );
            assert!(
                harness.store.with(|rows| rows.gates.is_empty()),
                "{calls} {lost}"
            );
            harness.shutdown().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_elses_process_loses_its_folder() {
    let harness = Harness::start(Setup::default()).await;
    let (session, _) = worked(&harness).await;
    let worktree = harness.worktree(session);
    let others = harness.backend.others.clone();
    others.lock().expect("a lock").push("77 bash".into());
    let refused = archive(&harness, session).await;
    assert!(
        matches!(&refused, Err(OperationsError::Conflicts(found))
        if found[0].reason.contains("77 bash")),
        "{refused:?}"
    );
    assert!(harness.worktrees.is_made(&worktree.path));
    others.lock().expect("a lock").clear();
    archive(&harness, session).await.expect("archived");
    harness.shutdown().await;
}
