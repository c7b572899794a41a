//! Review on files in memory: whole files only, no merge of texts, no renames
//! to be found. What it promises is in [`super::contract_review`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::worktrees::{FakeWorktrees, Files};
use crate::ids::{ChangeId, CheckpointId};
use crate::ports::{Review, WorktreeError};
use crate::review::{
    Besides, Conflict, FileState, Leave, Order, Plan, Planned, Recorded, Step, Work,
};
use crate::rules::risk;

#[async_trait]
impl Review for FakeWorktrees {
    async fn plan(&self, work: &Work) -> Result<Planned, WorktreeError> {
        self.step().await?;
        let (root, back) = match &work.order {
            Order::Apply { .. } => (&work.project_path, false),
            Order::Rewind { .. } => (&work.project_path, true),
            Order::Adopt { .. } => (&work.worktree.path, false),
            Order::Reject { .. } => (&work.worktree.path, true),
            Order::Restore { .. } | Order::Retry { .. } => return self.restore(work),
            Order::Compare { .. } => {
                return Ok(Planned::Ready(Plan::nothing(
                    work.id,
                    work.worktree.clone(),
                )));
            }
            Order::Stash => return Ok(Planned::Ready(self.stash(work))),
            Order::Archive(leave) => return Ok(self.leave(work, *leave)),
        };
        let mut draft = Draft {
            files: self.files_at(root),
            baseline: self.baseline(&work.worktree.baseline),
            accounts: Vec::new(),
            conflicts: Vec::new(),
        };
        let before = draft.files.clone();
        let mut changes: Vec<&Recorded> = work.changes.iter().collect();
        if back {
            changes.reverse();
        }
        for change in changes {
            draft.take_up(change, &work.order);
        }
        if !draft.conflicts.is_empty() {
            return Ok(Planned::Refused(draft.conflicts));
        }
        Ok(Planned::Ready(Plan {
            id: work.id,
            root: root.clone(),
            worktree: work.worktree.clone(),
            steps: steps(&before, &draft.files),
            baseline: match work.order {
                Order::Reject { .. } | Order::Adopt { .. } => work.worktree.baseline.clone(),
                _ => self.keep_baseline(draft.baseline),
            },
            accounts: draft.accounts,
            notes: Vec::new(),
            undo: None,
            besides: None,
        }))
    }

    async fn carry_out(&self, plan: &Plan) -> Result<Vec<Conflict>, WorktreeError> {
        if let Some(Besides::Leave { aside }) = &plan.besides {
            self.step().await?;
            return Ok(self.move_aside(plan, aside));
        }
        for step in &plan.steps {
            self.step().await?;
            let now = self.state_at(&plan.root, &step.path);
            if now != step.from && now != step.to {
                return Ok(vec![moved(step)]);
            }
            self.set_state(&plan.root, &step.path, step.to.as_ref());
        }
        Ok(Vec::new())
    }

    async fn take_back(&self, plan: &Plan) -> Result<Vec<Conflict>, WorktreeError> {
        if let Some(Besides::Leave { aside }) = &plan.besides {
            self.step().await?;
            self.move_files(aside, &plan.root);
            return Ok(Vec::new());
        }
        let mut conflicts = Vec::new();
        for step in plan.steps.iter().rev() {
            self.step().await?;
            let now = self.state_at(&plan.root, &step.path);
            if now == step.to {
                self.set_state(&plan.root, &step.path, step.from.as_ref());
            } else if now != step.from {
                conflicts.push(moved(step));
            }
        }
        Ok(conflicts)
    }

    async fn settle(&self, plan: &Plan, done: bool) -> Result<(), WorktreeError> {
        self.step().await?;
        match &plan.besides {
            Some(Besides::Leave { aside }) if done => self.drop_aside(&plan.worktree, aside),
            Some(Besides::Stash { commit }) if done => self.push_stash(commit),
            _ => {}
        }
        Ok(())
    }
}

impl FakeWorktrees {
    /// Back to what the worktree started from.
    fn stash(&self, work: &Work) -> Plan {
        let (root, now) = (&work.worktree.path, self.files_at(&work.worktree.path));
        let taken = self.taken(&work.worktree, CheckpointId(work.id.0));
        Plan {
            steps: steps(&now, &self.first_files(root)),
            root: root.clone(),
            besides: Some(Besides::Stash {
                commit: taken.commit,
            }),
            ..Plan::nothing(work.id, work.worktree.clone())
        }
    }

    fn leave(&self, work: &Work, leave: Leave) -> Planned {
        let root = &work.worktree.path;
        let facts = self.look(&work.worktree);
        if !leave.force && !risk::losses(&facts, leave.purpose()).is_empty() {
            return Planned::AtRisk(Box::new(facts));
        }
        Planned::Ready(Plan {
            undo: Some(self.taken(&work.worktree, CheckpointId(work.id.0))),
            root: root.clone(),
            besides: Some(Besides::Leave {
                aside: root.with_extension("aside"),
            }),
            ..Plan::nothing(work.id, work.worktree.clone())
        })
    }

    /// As planned, or not at all.
    fn move_aside(&self, plan: &Plan, aside: &Path) -> Vec<Conflict> {
        if !self.files_at(aside).is_empty() {
            return Vec::new();
        }
        let planned = plan.undo.as_ref().map(|undo| &undo.tree);
        let now = self.taken(&plan.worktree, CheckpointId(plan.id.0));
        if planned != Some(&now.tree) {
            return vec![moved(&Step {
                path: plan.root.display().to_string(),
                from: None,
                to: None,
            })];
        }
        self.move_files(&plan.root, aside);
        Vec::new()
    }

    fn restore(&self, work: &Work) -> Result<Planned, WorktreeError> {
        let commit = work
            .checkpoint
            .as_ref()
            .map(|checkpoint| &checkpoint.commit);
        let Some(then) = commit.and_then(|commit| self.checkpointed(commit)) else {
            return Err(WorktreeError::Unusable(format!("{commit:?} is gone")));
        };
        let now = self.files_at(&work.worktree.path);
        Ok(Planned::Ready(Plan {
            id: work.id,
            root: work.worktree.path.clone(),
            worktree: work.worktree.clone(),
            steps: steps(&now, &then),
            baseline: work.worktree.baseline.clone(),
            accounts: Vec::new(),
            notes: Vec::new(),
            undo: Some(self.taken(&work.worktree, CheckpointId(work.id.0))),
            besides: None,
        }))
    }

    /// Writes a file of a checkout, as its owner would.
    pub fn put_at(&self, root: &Path, path: &str, content: &str) {
        self.set_state(root, path, Some(&state_of(content)));
    }

    /// Removes a file of a checkout, as its owner would.
    pub fn remove_at(&self, root: &Path, path: &str) {
        self.set_state(root, path, None);
    }

    /// What a file of a checkout or a worktree holds.
    pub fn content_at(&self, root: &Path, path: &str) -> Option<String> {
        self.state_at(root, path).map(|state| state.blob)
    }

    fn state_at(&self, root: &Path, path: &str) -> Option<FileState> {
        let content = self.files_at(root).remove(path);
        content.as_deref().map(state_of)
    }

    fn set_state(&self, root: &Path, path: &str, state: Option<&FileState>) {
        let place: (PathBuf, String) = (root.to_owned(), path.to_owned());
        self.with_files(|files| match state {
            Some(state) => files.insert(place, state.blob.clone()),
            None => files.remove(&place),
        });
    }
}

struct Draft {
    files: Files,
    baseline: Files,
    accounts: Vec<(ChangeId, Vec<Step>)>,
    conflicts: Vec<Conflict>,
}

impl Draft {
    fn take_up(&mut self, change: &Recorded, order: &Order) {
        let sides = Self::sides(change);
        let (account, why) = match order {
            Order::Apply { secrets, .. } if change.secret && !secrets => {
                let why = "its name is one of files that hold secrets";
                return self.refuse(change, &change.path, why);
            }
            Order::Apply { .. } => (sides.clone(), "the checkout has edits of its own here"),
            Order::Adopt { .. } => (sides.clone(), "the session has edits of its own here"),
            Order::Rewind { .. } if change.covered => {
                return self.refuse(change, &change.path, "was changed later, too");
            }
            Order::Rewind { .. } => (
                reversed(&change.applied),
                "is not what the apply wrote any more",
            ),
            _ => (reversed(&sides), "is not what was recorded any more"),
        };
        let mut moved = Vec::new();
        for step in account {
            let now = self.files.get(&step.path).map(|content| state_of(content));
            if now == step.to {
                continue;
            }
            if now != step.from {
                return self.refuse(change, &step.path, why);
            }
            set(&mut self.files, &step);
            moved.push(step);
        }
        match order {
            Order::Apply { .. } => sides.iter().for_each(|side| set(&mut self.baseline, side)),
            Order::Rewind { .. } => {
                let back = reversed(&sides);
                back.iter().for_each(|side| set(&mut self.baseline, side));
            }
            _ => {}
        }
        self.accounts.push((change.id, moved));
    }

    /// The way of the change's files from before to after.
    fn sides(change: &Recorded) -> Vec<Step> {
        let Recorded {
            path,
            old_path,
            before,
            after,
            ..
        } = change;
        let step = |path: &str, from: &Option<FileState>, to: &Option<FileState>| Step {
            path: path.to_owned(),
            from: from.clone(),
            to: to.clone(),
        };
        match old_path {
            Some(old) => vec![step(old, before, &None), step(path, &None, after)],
            None => vec![step(path, before, after)],
        }
    }

    fn refuse(&mut self, change: &Recorded, path: &str, why: &str) {
        self.conflicts.push(Conflict {
            change: Some(change.id),
            path: path.to_owned(),
            reason: format!("{path} {why}"),
            hunks: Vec::new(),
        });
    }
}

fn reversed(steps: &[Step]) -> Vec<Step> {
    let turned = |step: &Step| Step {
        path: step.path.clone(),
        from: step.to.clone(),
        to: step.from.clone(),
    };
    steps.iter().rev().map(turned).collect()
}

fn set(files: &mut Files, step: &Step) {
    match &step.to {
        Some(state) => files.insert(step.path.clone(), state.blob.clone()),
        None => files.remove(&step.path),
    };
}

fn steps(before: &Files, after: &Files) -> Vec<Step> {
    let paths: BTreeMap<&String, ()> = before.keys().chain(after.keys()).map(|p| (p, ())).collect();
    let state = |files: &Files, path: &str| files.get(path).map(|content| state_of(content));
    let step = |path: &String| Step {
        path: path.clone(),
        from: state(before, path),
        to: state(after, path),
    };
    let steps = paths.into_keys().map(step);
    steps.filter(|step| step.from != step.to).collect()
}

fn moved(step: &Step) -> Conflict {
    Conflict {
        change: None,
        path: step.path.clone(),
        reason: format!("{} has changed meanwhile", step.path),
        hunks: Vec::new(),
    }
}

fn state_of(content: &str) -> FileState {
    FileState {
        blob: content.to_owned(),
        mode: 0o100_644,
    }
}
