//! What people do with the files of [`FakeWorktrees`]: a file is its text, and
//! the project's checkout is a folder beside the worktrees.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;

use super::worktrees::{FakeWorktrees, Files, MODE};
use crate::ports::{Review, WorktreeError};
use crate::review::{Conflict, FileState, Order, Plan, Planned, Recorded, Step, Work};

#[async_trait]
impl Review for FakeWorktrees {
    async fn plan(&self, work: &Work) -> Result<Planned, WorktreeError> {
        self.reach().await?;
        self.break_if_told();
        let mut sketch = Sketch {
            there: BTreeMap::new(),
            steps: Vec::new(),
            conflicts: Vec::new(),
            baseline: self.baseline(&work.worktree.baseline),
            accounts: Vec::new(),
        };
        let root = match work.order {
            Order::Apply { .. } | Order::Rewind { .. } => &work.project_path,
            Order::Reject { .. } | Order::Restore { .. } | Order::Adopt { .. } => {
                &work.worktree.path
            }
        };
        sketch.there = self.files(root);
        for change in &work.changes {
            match &work.order {
                Order::Apply { secrets, .. } if change.secret && !secrets => {
                    sketch.refuse(change, "it is secret");
                }
                Order::Apply { .. } | Order::Adopt { .. } => sketch.apply(change),
                Order::Reject { .. } => sketch.reject(change),
                Order::Rewind { .. } => sketch.rewind(change),
                Order::Restore { .. } => {}
            }
        }
        if let Some(checkpoint) = &work.checkpoint {
            sketch.restore(&self.taken_files(&checkpoint.commit));
        }
        if !sketch.conflicts.is_empty() {
            return Ok(Planned::Refused(sketch.conflicts));
        }
        if matches!(work.order, Order::Adopt { .. }) {
            sketch.baseline = self.baseline(&work.worktree.baseline);
        }
        let same = sketch.baseline == self.baseline(&work.worktree.baseline);
        let baseline = if same {
            work.worktree.baseline.clone()
        } else {
            self.keep_baseline(&work.id.to_string(), sketch.baseline)
        };
        Ok(Planned::Ready(Plan {
            id: work.id,
            root: root.clone(),
            worktree: work.worktree.clone(),
            steps: sketch.steps,
            baseline,
            accounts: sketch.accounts,
            notes: Vec::new(),
        }))
    }

    async fn carry_out(&self, plan: &Plan) -> Result<Vec<Conflict>, WorktreeError> {
        for step in &plan.steps {
            self.reach().await?;
            self.break_if_told();
            let now = self.state_of(&plan.root, &step.path);
            if now == step.to {
                continue;
            }
            if now != step.from {
                return Ok(vec![in_the_way(&step.path)]);
            }
            self.set(&plan.root, step, &step.to);
        }
        Ok(Vec::new())
    }

    async fn take_back(&self, plan: &Plan) -> Result<Vec<Conflict>, WorktreeError> {
        let mut left = Vec::new();
        for step in plan.steps.iter().rev() {
            self.reach().await?;
            self.break_if_told();
            let now = self.state_of(&plan.root, &step.path);
            if now == step.to {
                self.set(&plan.root, step, &step.from);
            } else if now != step.from {
                left.push(in_the_way(&step.path));
            }
        }
        Ok(left)
    }

    async fn settle(&self, _plan: &Plan, _done: bool) -> Result<(), WorktreeError> {
        self.reach().await?;
        self.break_if_told();
        Ok(())
    }
}

impl FakeWorktrees {
    fn state_of(&self, root: &Path, path: &str) -> Option<FileState> {
        self.files(root).get(path).map(|content| state(content))
    }

    fn set(&self, root: &Path, step: &Step, to: &Option<FileState>) {
        self.write(
            root,
            &step.path,
            to.as_ref().map(|state| state.blob.as_str()),
        );
    }
}

struct Sketch {
    there: Files,
    steps: Vec<Step>,
    conflicts: Vec<Conflict>,
    baseline: Files,
    accounts: Vec<(crate::ids::ChangeId, Vec<Step>)>,
}

impl Sketch {
    fn now(&self, path: &str) -> Option<FileState> {
        self.there.get(path).map(|content| state(content))
    }

    fn apply(&mut self, change: &Recorded) {
        let now = self.now(&change.path);
        if now != change.before && now != change.after {
            return self.refuse(change, "the checkout has another one");
        }
        let mut account = Vec::new();
        if now != change.after {
            let step = Step {
                path: change.path.clone(),
                from: now,
                to: change.after.clone(),
            };
            account.push(step.clone());
            self.steps.push(step);
        }
        self.accounts.push((change.id, account));
        self.base(&change.path, &change.after);
    }

    fn reject(&mut self, change: &Recorded) {
        if self.now(&change.path) != change.after {
            return self.refuse(change, "it was changed since");
        }
        self.steps.push(Step {
            path: change.path.clone(),
            from: change.after.clone(),
            to: change.before.clone(),
        });
    }

    fn rewind(&mut self, change: &Recorded) {
        for step in &change.applied {
            if self.now(&step.path) != step.to {
                return self.refuse(change, "it was changed since");
            }
        }
        let back = change.applied.iter().map(|step| Step {
            path: step.path.clone(),
            from: step.to.clone(),
            to: step.from.clone(),
        });
        self.steps.extend(back);
        self.base(&change.path, &change.before);
    }

    fn restore(&mut self, files: &Files) {
        let mut paths: Vec<_> = self.there.keys().chain(files.keys()).collect();
        paths.sort();
        paths.dedup();
        for path in paths {
            let to = files.get(path).map(|content| state(content));
            let from = self.now(path);
            if from != to {
                let path = path.clone();
                self.steps.push(Step { path, from, to });
            }
        }
    }

    fn base(&mut self, path: &str, to: &Option<FileState>) {
        match to {
            Some(state) => self.baseline.insert(path.to_owned(), state.blob.clone()),
            None => self.baseline.remove(path),
        };
    }

    fn refuse(&mut self, change: &Recorded, reason: &str) {
        self.conflicts.push(Conflict {
            change: Some(change.id),
            path: change.path.clone(),
            reason: reason.to_owned(),
            hunks: Vec::new(),
        });
    }
}

fn state(content: &str) -> FileState {
    FileState {
        blob: content.to_owned(),
        mode: MODE,
    }
}

fn in_the_way(path: &str) -> Conflict {
    Conflict {
        change: None,
        path: path.to_owned(),
        reason: "it was changed since".into(),
        hunks: Vec::new(),
    }
}
