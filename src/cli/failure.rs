//! How a command ends.

use std::fmt;

/// Exit codes, as `hearth help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The turn failed, or a check did.
    Failed = 1,
    /// Wrong usage or settings; no such id; what is meant is over.
    Usage = 2,
    /// No service answers, or it refuses the token.
    Unreachable = 3,
    /// Files stand in the way.
    Conflict = 4,
    /// A turn or an order works there now.
    Busy = 5,
    /// Other chats would lose work.
    NeedsConsent = 6,
    /// Ctrl-C, as shells number it.
    Interrupted = 130,
}

/// Why a command did not do what was asked: what, and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to exit with.
    pub exit: Exit,
    /// What happened, and where.
    pub what: String,
    /// What to do about it.
    pub cure: Option<String>,
}

impl Failure {
    /// A failure with its cure.
    pub fn new(exit: Exit, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            cure: Some(cure.into()),
        }
    }

    /// A failure whose text holds its own cure.
    pub fn plain(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            cure: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.cure {
            Some(cure) => write!(f, "\n  cure: {cure}"),
            None => Ok(()),
        }
    }
}
