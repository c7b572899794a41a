//! What a project wants done in each of its worktrees before an agent works there,
//! and when the worktree goes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outcome::words;

/// Where a project says it, below its checkout.
pub const FILE: &str = ".hearth/worktree.toml";

/// Ports of one worktree's block.
pub const PORTS: u16 = 10;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUp {
    /// SHA-256 of the whole file, in hexadecimal: what people trust.
    pub hash: String,
    /// Files and folders of the checkout that a worktree gets too: paths below it,
    /// each part with `*`, `?` and `[…]`.
    pub copy: Vec<String>,
    /// A script for `/bin/sh -e`, in the worktree.
    pub set_up: Option<String>,
    /// The same, before the worktree goes.
    pub tear_down: Option<String>,
    /// Longest run of each.
    pub timeout: Duration,
}

/// What is there of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The project wants nothing.
    Nothing,
    /// The file cannot be understood, and why.
    Wrong(String),
    /// This.
    This(Box<SetUp>),
}

/// What a person decided about a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// It may run.
    Trusted,
    /// It may not; worktrees go without.
    Refused,
}

words!(Consent { Trusted => "trusted", Refused => "refused" });

/// What worktrees of a project do before they go, as it was trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TearDown {
    /// The script.
    pub script: String,
    /// Its longest run.
    pub timeout: Duration,
}

/// The variables that tell a script or an agent where it works: `HEARTH_WORKTREE`,
/// `HEARTH_PROJECT`, `HEARTH_SESSION`, and of its block `HEARTH_PORT`, the first,
/// and `HEARTH_PORTS`, how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Around {
    /// The worktree.
    pub worktree: PathBuf,
    /// The checkout; none where nobody knows it any more.
    pub project: Option<PathBuf>,
    /// The session, if it is a session's.
    pub session: Option<String>,
    /// The first port of its block, if there was one to be had.
    pub port: Option<u16>,
}

impl Around {
    /// The variables.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let path = |path: &PathBuf| path.display().to_string();
        let port = self.port.map(|port| port.to_string());
        let named = [
            ("HEARTH_WORKTREE", Some(path(&self.worktree))),
            ("HEARTH_PROJECT", self.project.as_ref().map(path)),
            ("HEARTH_SESSION", self.session.clone()),
            ("HEARTH_PORTS", port.as_ref().map(|_| PORTS.to_string())),
            ("HEARTH_PORT", port),
        ];
        let told = named.into_iter();
        told.filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}
