//! Everything that a run left behind, as plain values: what the checks look at.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::asked::Asked;
use super::follower::Heard;
use super::plan::Fault;

pub(crate) type Moment = DateTime<Utc>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) asked: Vec<Asked>,
    /// By the seat of their session in the run; of a task that is asked for again, too.
    pub(crate) tasks: Vec<Task>,
    pub(crate) turns: Vec<Turn>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) changes: Vec<Change>,
    /// Nonces of prompts as they reached the demo agent or a model, and when.
    pub(crate) witnessed: Vec<Witnessed>,
    pub(crate) sessions: Vec<Session>,
    /// Files of the checkouts, by project.
    pub(crate) checkouts: Vec<Checkout>,
    /// What people were told is answered: prompt, and what the row says now.
    pub(crate) answers: Vec<Answer>,
    /// Processes that nobody owns: at the end, and after it.
    pub(crate) orphans: Vec<String>,
    /// Directories where worktrees are, that no row names, and the other way round.
    pub(crate) leaked: Vec<String>,
    /// What did not come to its end in time.
    pub(crate) unsettled: Vec<String>,
    pub(crate) faults: Vec<Struck>,
}

/// A fault that found something to harm.
#[derive(Clone, Debug)]
pub(crate) struct Struck {
    pub(crate) at: Moment,
    /// When it was over, where it lasted.
    pub(crate) until: Moment,
    pub(crate) fault: Fault,
    pub(crate) about: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: Uuid,
    pub(crate) nonce: String,
    pub(crate) session: usize,
    pub(crate) state: String,
    pub(crate) retry_of: Option<Uuid>,
    /// Frames that tell its end.
    pub(crate) ends_told: i64,
    /// What its tools did, for people.
    pub(crate) tools: String,
    pub(crate) created_at: Moment,
}

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) task: Uuid,
    pub(crate) session: usize,
    pub(crate) attempt: i32,
    pub(crate) outcome: Option<String>,
    pub(crate) claimed_at: Moment,
    pub(crate) prompted_at: Option<Moment>,
    pub(crate) ended_at: Option<Moment>,
    pub(crate) checkpoint: Option<Uuid>,
    /// A question of it outlived it, so that its task goes on with the answer.
    pub(crate) asks_on: bool,
}

/// What people did with files, and came to an end.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) id: Uuid,
    pub(crate) session: usize,
    pub(crate) kind: String,
    /// Whether it was carried out; if not, nothing changed.
    pub(crate) done: bool,
    pub(crate) checkpoint: Option<Uuid>,
    pub(crate) changes: Vec<Uuid>,
    pub(crate) ended_at: Moment,
}

/// A row of what agents changed.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) id: Uuid,
    pub(crate) session: usize,
    pub(crate) path: String,
    /// Of a file that git takes for renamed: its content was that of another one.
    pub(crate) old_path: Option<String>,
    pub(crate) status: String,
    /// None of a new file.
    pub(crate) before_blob: Option<String>,
    /// None of a deleted one.
    pub(crate) after_blob: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Witnessed {
    pub(crate) nonce: String,
    /// None where only the fact is known.
    pub(crate) at: Option<Moment>,
}

/// A session's stream and worktree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    /// The seqs of its stored frames.
    pub(crate) stored: BTreeSet<i64>,
    /// The same frames, read from the begin when all was over.
    pub(crate) read: Vec<Heard>,
    /// What each follower heard, in the order in which it did.
    pub(crate) heard: Vec<Vec<Heard>>,
    /// None while it has no worktree.
    pub(crate) files: Option<BTreeMap<String, Vec<u8>>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Checkout {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Files that people wrote themselves.
    pub(crate) own: BTreeMap<String, Vec<u8>>,
    /// Lines that people added to the shared file.
    pub(crate) lines: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) prompt: Uuid,
    pub(crate) given: String,
    /// Kind of the stored answer.
    pub(crate) stored: Option<String>,
}

impl History {
    /// Faults that lasted or happened between two moments.
    pub(crate) fn faults_within(&self, from: Moment, to: Moment) -> impl Iterator<Item = &Struck> {
        self.faults
            .iter()
            .filter(move |struck| struck.at <= to && struck.until >= from)
    }

    pub(crate) fn task(&self, id: Uuid) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }
}
