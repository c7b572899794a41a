//! What the routes read and create, one file per resource. A row's type is
//! also the resource that the API shows: there is nothing in between to drift.

pub mod agent_sessions;
pub mod arenas;
pub mod budgets;
pub mod changes;
pub mod chats;
pub mod checkpoints;
pub mod ids;
pub mod inbox;
pub mod messages;
pub mod operations;
pub mod projects;
pub mod prompts;
pub mod providers;
pub mod sessions;
pub mod stats;
pub mod tasks;
pub mod waiting;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The last row of a page: lists are ordered by creation, then id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the row was created, in whole microseconds, as the database keeps it.
    pub at: DateTime<Utc>,
    /// Which of those created then.
    pub id: Uuid,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Rows to read at most.
    pub limit: i64,
    /// Only what comes after this row.
    pub after: Option<Cursor>,
}

impl Slice {
    fn at(&self) -> Option<DateTime<Utc>> {
        self.after.map(|cursor| cursor.at)
    }

    fn id(&self) -> Option<Uuid> {
        self.after.map(|cursor| cursor.id)
    }
}
