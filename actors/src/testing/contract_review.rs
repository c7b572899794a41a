//! What every [`Review`] keeps to: run on the real one and on the fake.

use std::path::PathBuf;

use super::contract_worktrees::Scratch;
use crate::ids::{ChangeId, ChatId, CheckpointId, OperationId, SessionId};
use crate::model::{BlobRef, Checkpoint, FileChange, Worktree};
use crate::ports::{Review, Worktrees};
use crate::review::{Conflict, FileState, Order, Plan, Planned, Recorded, Work};

/// A project and its checkout, and hands on both sides.
pub trait Desk: Scratch {
    /// The project's checkout.
    fn project(&self) -> PathBuf;

    /// Writes a file of the checkout, as its owner does.
    fn put_here(&self, path: &str, content: &str);

    /// Removes a file of the checkout.
    fn remove_here(&self, path: &str);

    /// What a file of the checkout holds.
    fn here(&self, path: &str) -> Option<String>;

    /// What a file of a worktree holds.
    fn there(&self, worktree: &Worktree, path: &str) -> Option<String>;
}

/// Runs the whole suite.
///
/// # Panics
/// When a promise of the port is broken.
pub async fn check<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    planning_writes_nothing(port, desk).await;
    what_is_applied_is_pending_no_more(port, desk).await;
    one_of_many(port, desk).await;
    all_or_nothing(port, desk).await;
    equal_is_nothing_to_do(port, desk).await;
    every_call_can_be_repeated(port, desk).await;
    others_edits_stay(port, desk).await;
    rewound_is_pending_again(port, desk).await;
    several_changes_of_one_file(port, desk).await;
    a_reject_takes_out_what_was_recorded(port, desk).await;
    secrets_need_a_word(port, desk).await;
    a_restore_goes_back_and_leaves_a_way_forth(port, desk).await;
    a_restore_writes_over_nothing_that_it_did_not_see(port, desk).await;
}

/// A session at work: its files, and its rows as a journal would keep them.
struct Room<'a, P> {
    port: &'a P,
    desk: &'a dyn Desk,
    session: SessionId,
    worktree: Worktree,
    /// Prefix of this room's paths: all rooms share the checkout.
    own: String,
}

impl<'a, P: Worktrees + Review> Room<'a, P> {
    async fn new(port: &'a P, desk: &'a dyn Desk) -> Self {
        let session = SessionId::new();
        let worktree = port.ensure(&desk.spec(session)).await.expect("a worktree");
        Self {
            port,
            desk,
            session,
            worktree,
            own: format!("own-{session}"),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.own)
    }

    fn agent(&self, name: &str, content: &str) {
        self.desk.put(&self.worktree, &self.path(name), content);
    }

    fn user(&self, name: &str, content: &str) {
        self.desk.put_here(&self.path(name), content);
    }

    fn here(&self, name: &str) -> Option<String> {
        self.desk.here(&self.path(name))
    }

    fn there(&self, name: &str) -> Option<String> {
        self.desk.there(&self.worktree, &self.path(name))
    }

    /// What a diff would record now.
    async fn pending(&self) -> Vec<Recorded> {
        let diff = self.port.diff(&self.worktree).await.expect("a diff");
        diff.changes.iter().map(recorded).collect()
    }

    async fn names(&self) -> Vec<String> {
        let pending = self.pending().await;
        let name = |change: Recorded| change.path[self.own.len() + 1..].to_owned();
        pending.into_iter().map(name).collect()
    }

    fn work(&self, order: fn(Vec<ChangeId>) -> Order, changes: &[Recorded]) -> Work {
        Work {
            id: OperationId::new(),
            order: order(changes.iter().map(|change| change.id).collect()),
            session: self.session,
            worktree: self.worktree.clone(),
            project_path: self.desk.project(),
            changes: changes.to_vec(),
            checkpoint: None,
        }
    }

    async fn plan(
        &self,
        order: fn(Vec<ChangeId>) -> Order,
        changes: &[Recorded],
    ) -> Result<Plan, Vec<Conflict>> {
        let planned = self.port.plan(&self.work(order, changes)).await;
        match planned.expect("an answer") {
            Planned::Ready(plan) => Ok(plan),
            Planned::Refused(conflicts) => Err(conflicts),
            Planned::AtRisk(facts) => panic!("{facts:?}"),
        }
    }

    /// Carries the plan out and makes its baseline the worktree's.
    async fn do_it(&mut self, plan: &Plan) {
        let conflicts = self.port.carry_out(plan).await.expect("an answer");
        assert_eq!(conflicts, []);
        self.port.settle(plan, true).await.expect("settled");
        self.worktree.baseline.clone_from(&plan.baseline);
    }

    /// Applies the changes; they as a journal keeps them then.
    async fn apply(&mut self, mut changes: Vec<Recorded>) -> Vec<Recorded> {
        let plan = self.plan(apply, &changes).await.expect("no conflict");
        self.do_it(&plan).await;
        for change in &mut changes {
            let mut accounts = plan.accounts.iter();
            let account = accounts.find(|(id, _)| *id == change.id);
            change.applied = account.expect("an account").1.clone();
        }
        changes
    }
}

fn apply(changes: Vec<ChangeId>) -> Order {
    Order::Apply {
        changes,
        secrets: false,
    }
}

fn apply_secrets(changes: Vec<ChangeId>) -> Order {
    Order::Apply {
        changes,
        secrets: true,
    }
}

fn reject(changes: Vec<ChangeId>) -> Order {
    Order::Reject { changes }
}

fn rewind(changes: Vec<ChangeId>) -> Order {
    Order::Rewind { changes }
}

/// A change as a journal records it.
#[must_use]
pub fn recorded(change: &FileChange) -> Recorded {
    let state = |side: &Option<BlobRef>| {
        side.as_ref().map(|side| FileState {
            blob: side.id.clone(),
            mode: side.mode,
        })
    };
    Recorded {
        id: ChangeId::new(),
        path: change.path.clone(),
        old_path: change.old_path.clone(),
        before: state(&change.before),
        after: state(&change.after),
        secret: change.secret,
        applied: Vec::new(),
        covered: false,
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn planning_writes_nothing<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let room = Room::new(port, desk).await;
    room.agent("a.txt", "a\n");
    let pending = room.pending().await;
    let plan = room.plan(apply, &pending).await.expect("no conflict");
    assert_eq!(plan.root, desk.project());
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(plan.steps[0].path, room.path("a.txt"));
    assert!(plan.steps[0].from.is_none() && plan.steps[0].to.is_some());
    assert_eq!(plan.accounts, [(pending[0].id, plan.steps.clone())]);
    assert_ne!(plan.baseline, room.worktree.baseline);
    assert_eq!(room.here("a.txt"), None);
    let plan = room.plan(reject, &pending).await.expect("no conflict");
    assert_eq!(plan.root, room.worktree.path);
    assert_eq!(plan.baseline, room.worktree.baseline);
    assert_eq!(room.there("a.txt"), some("a\n"));
}

async fn what_is_applied_is_pending_no_more<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let mut room = Room::new(port, desk).await;
    room.agent("edited.txt", "one\n");
    room.agent("deleted.txt", "gone soon\n");
    let pending = room.pending().await;
    room.apply(pending).await;
    assert_eq!(room.here("edited.txt"), some("one\n"));
    assert_eq!(room.names().await, [""; 0]);

    room.agent("edited.txt", "two\n");
    desk.remove(&room.worktree, &room.path("deleted.txt"));
    let pending = room.pending().await;
    assert_eq!(pending.len(), 2);
    room.apply(pending).await;
    assert_eq!(room.here("edited.txt"), some("two\n"));
    assert_eq!(room.here("deleted.txt"), None);
    assert_eq!(room.there("edited.txt"), some("two\n"));
    assert_eq!(room.names().await, [""; 0]);
}

async fn one_of_many<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let mut room = Room::new(port, desk).await;
    for name in ["a", "b", "c"] {
        room.agent(name, name);
    }
    let mut pending = room.pending().await;
    room.apply(vec![pending.remove(1)]).await;
    assert_eq!((room.here("a"), room.here("c")), (None, None));
    assert_eq!(room.here("b"), some("b"));
    assert_eq!(room.names().await, ["a", "c"]);
}

async fn all_or_nothing<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let room = Room::new(port, desk).await;
    room.agent("free", "agent's\n");
    room.agent("taken", "agent's\n");
    room.user("taken", "user's\n");
    let pending = room.pending().await;
    let conflicts = room.plan(apply, &pending).await.expect_err("a conflict");
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0].change, Some(pending[1].id));
    assert_eq!(conflicts[0].path, room.path("taken"));
    assert_eq!(room.here("free"), None);
    assert_eq!(room.here("taken"), some("user's\n"));
}

async fn equal_is_nothing_to_do<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let mut room = Room::new(port, desk).await;
    room.agent("same", "same\n");
    room.user("same", "same\n");
    let pending = room.pending().await;
    let plan = room.plan(apply, &pending).await.expect("no conflict");
    assert_eq!(plan.steps, []);
    room.do_it(&plan).await;
    assert_eq!(room.names().await, [""; 0]);
}

async fn every_call_can_be_repeated<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let room = Room::new(port, desk).await;
    room.agent("a", "a\n");
    room.agent("b", "b\n");
    let pending = room.pending().await;
    let plan = room.plan(apply, &pending).await.expect("no conflict");
    let both = || (room.here("a"), room.here("b"));
    for _ in 0..2 {
        assert_eq!(port.take_back(&plan).await.expect("an answer"), []);
        assert_eq!(both(), (None, None));
        for _ in 0..2 {
            assert_eq!(port.carry_out(&plan).await.expect("an answer"), []);
            assert_eq!(both(), (some("a\n"), some("b\n")));
        }
        for _ in 0..2 {
            assert_eq!(port.take_back(&plan).await.expect("an answer"), []);
            assert_eq!(both(), (None, None));
        }
    }
    for _ in 0..2 {
        port.settle(&plan, false).await.expect("settled");
    }
    let again = room.plan(apply, &pending).await.expect("no conflict");
    assert_eq!(again.steps, plan.steps);
    assert_eq!(port.carry_out(&again).await.expect("an answer"), []);
    for _ in 0..2 {
        port.settle(&again, true).await.expect("settled");
    }
}

async fn others_edits_stay<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let room = Room::new(port, desk).await;
    room.agent("a", "a\n");
    room.agent("b", "b\n");
    let pending = room.pending().await;
    let plan = room.plan(apply, &pending).await.expect("no conflict");
    room.user("b", "user's\n");
    let conflicts = port.carry_out(&plan).await.expect("an answer");
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0].path, room.path("b"));
    let conflicts = port.take_back(&plan).await.expect("an answer");
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0].path, room.path("b"));
    assert_eq!(room.here("a"), None);
    assert_eq!(room.here("b"), some("user's\n"));
}

async fn rewound_is_pending_again<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let mut room = Room::new(port, desk).await;
    room.agent("a", "a\n");
    room.agent("b", "b\n");
    let pending = room.pending().await;
    let applied = room.apply(pending).await;

    room.user("a", "a\nuser's\n");
    let conflicts = room.plan(rewind, &applied).await.expect_err("a conflict");
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0].path, room.path("a"));
    assert_eq!(conflicts[0].change, Some(applied[0].id));
    room.user("a", "a\n");

    let plan = room.plan(rewind, &applied[..1]).await.expect("no conflict");
    room.do_it(&plan).await;
    assert_eq!(room.here("a"), None);
    assert_eq!(room.here("b"), some("b\n"));
    assert_eq!(room.there("a"), some("a\n"));
    assert_eq!(room.names().await, ["a"]);

    let pending = room.pending().await;
    room.apply(pending).await;
    assert_eq!(room.here("a"), some("a\n"));
    assert_eq!(room.names().await, [""; 0]);
}

async fn several_changes_of_one_file<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let mut room = Room::new(port, desk).await;
    let mut applied = Vec::new();
    for content in ["one\n", "two\n", "three\n"] {
        room.agent("a", content);
        let pending = room.pending().await;
        applied.extend(room.apply(pending).await);
    }
    let conflicts = room.plan(rewind, &applied[..1]).await;
    assert_eq!(conflicts.expect_err("a later one stands").len(), 1);
    let plan = room.plan(rewind, &applied[1..]).await.expect("no conflict");
    room.do_it(&plan).await;
    assert_eq!(room.here("a"), some("one\n"));
    assert_eq!(room.names().await, ["a"]);
    let plan = room.plan(rewind, &applied[..1]).await.expect("no conflict");
    room.do_it(&plan).await;
    assert_eq!(room.here("a"), None);
    assert_eq!(room.there("a"), some("three\n"));
}

async fn a_reject_takes_out_what_was_recorded<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let mut room = Room::new(port, desk).await;
    room.agent("a", "one\n");
    let pending = room.pending().await;
    room.apply(pending).await;
    room.agent("a", "two\n");
    room.agent("b", "b\n");
    let pending = room.pending().await;
    room.agent("b", "later\n");
    let conflicts = room.plan(reject, &pending).await.expect_err("a conflict");
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0].path, room.path("b"));
    assert_eq!(room.there("a"), some("two\n"));

    let pending = room.pending().await;
    let plan = room.plan(reject, &pending).await.expect("no conflict");
    room.do_it(&plan).await;
    assert_eq!(room.there("a"), some("one\n"));
    assert_eq!(room.there("b"), None);
    assert_eq!(room.here("a"), some("one\n"));
    assert_eq!(room.names().await, [""; 0]);
}

async fn secrets_need_a_word<P: Worktrees + Review>(port: &P, desk: &dyn Desk) {
    let mut room = Room::new(port, desk).await;
    room.agent(".env", "KEY=1\n");
    let mut pending = room.pending().await;
    pending[0].secret = true;
    let conflicts = room.plan(apply, &pending).await.expect_err("a conflict");
    assert_eq!(conflicts.len(), 1);
    assert!(!conflicts[0].reason.contains("KEY"));
    let plan = room.plan(apply_secrets, &pending).await;
    room.do_it(&plan.expect("no conflict")).await;
    assert_eq!(room.here(".env"), some("KEY=1\n"));
}

impl<P: Worktrees + Review> Room<'_, P> {
    async fn checkpoint(&self) -> Checkpoint {
        let taken = self
            .port
            .checkpoint(&self.worktree, CheckpointId::new(), None);
        taken.await.expect("a checkpoint")
    }

    async fn plan_restore(&self, to: &Checkpoint) -> Plan {
        let order = Order::Restore {
            checkpoint: to.id,
            chat: ChatId::new(),
            consent: false,
            retries: None,
        };
        let work = Work {
            order,
            checkpoint: Some(to.clone()),
            ..self.work(reject, &[])
        };
        match self.port.plan(&work).await.expect("an answer") {
            Planned::Ready(plan) => plan,
            other => panic!("{other:?}"),
        }
    }
}

async fn a_restore_goes_back_and_leaves_a_way_forth<P: Worktrees + Review>(
    port: &P,
    desk: &dyn Desk,
) {
    let mut room = Room::new(port, desk).await;
    room.agent("same", "same\n");
    room.agent("edited", "one\n");
    room.agent("deleted", "there\n");
    let first = room.checkpoint().await;
    room.agent("edited", "two\n");
    desk.remove(&room.worktree, &room.path("deleted"));
    room.agent("later", "later\n");
    let second = room.checkpoint().await;

    let plan = room.plan_restore(&first).await;
    assert_eq!(plan.steps.len(), 3, "{:?}", plan.steps);
    assert_eq!(plan.baseline, room.worktree.baseline);
    room.do_it(&plan).await;
    assert_eq!(room.there("same"), some("same\n"));
    assert_eq!(room.there("edited"), some("one\n"));
    assert_eq!(room.there("deleted"), some("there\n"));
    assert_eq!(room.there("later"), None);
    let undo = plan.undo.expect("a checkpoint of what was there");
    assert_eq!((undo.id.0, &undo.tree), (plan.id.0, &second.tree));

    let forth = room.plan_restore(&undo).await;
    room.do_it(&forth).await;
    assert_eq!(room.checkpoint().await.tree, second.tree);
    for _ in 0..2 {
        assert_eq!(port.take_back(&forth).await.expect("an answer"), []);
        assert_eq!(room.checkpoint().await.tree, first.tree);
    }
    let nothing = room.plan_restore(&first).await;
    assert_eq!(nothing.steps, []);
}

async fn a_restore_writes_over_nothing_that_it_did_not_see<P: Worktrees + Review>(
    port: &P,
    desk: &dyn Desk,
) {
    let room = Room::new(port, desk).await;
    room.agent("a", "one\n");
    let first = room.checkpoint().await;
    room.agent("a", "two\n");
    let plan = room.plan_restore(&first).await;
    room.agent("a", "somebody else's\n");
    let conflicts = port.carry_out(&plan).await.expect("an answer");
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0].path, room.path("a"));
    assert_eq!(room.there("a"), some("somebody else's\n"));
}
