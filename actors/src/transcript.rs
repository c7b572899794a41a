//! Names of transcripts. They come from agents and from tables that others write,
//! and become paths and arguments of programs: what is named here cannot lead
//! anywhere else.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;

use crate::ids::NodeId;

/// Bytes of a folder's or a session's name. With its ending it is a name that every
/// file system takes (255).
const MAX_NAME: usize = 240;
/// Bytes of a whole subpath.
const MAX_SUBPATH: usize = 1024;
/// Folders in a subpath.
const MAX_DEPTH: usize = 8;
/// Characters of a uuid by which an entry is told from others; a longer one is none.
const MAX_UUID: usize = 64;

/// A name that is no key of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} {given:?}: {problem}")]
pub struct InvalidKey {
    /// Which part: `project_key`, `session_id` or `subpath`.
    pub field: &'static str,
    /// Its beginning, as it was given.
    pub given: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl InvalidKey {
    fn new(field: &'static str, given: &str, problem: &'static str) -> Self {
        let given = given.chars().take(80).collect();
        Self {
            field,
            given,
            problem,
        }
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $check:path;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the name if it is one.
            ///
            /// # Errors
            /// What is wrong with it.
            pub fn parse(text: &str) -> Result<Self, InvalidKey> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

names! {
    /// Which directory the sessions are of: 1 to 240 of `A-Z a-z 0-9 - _`.
    ProjectKey, project_key;
    /// One session of the agent: 1 to 240 of `A-Z a-z 0-9 - _`, not led by `-`.
    TranscriptId, session_id;
    /// A transcript beside the main one, such as `subagents/agent-1`: 1 to 8 names
    /// of `A-Z a-z 0-9 - _ .` with `/` between them, each up to 240 bytes and all up
    /// to 1024, none led by `.` or ending in `.jsonl`.
    Subpath, subpath;
}

fn project_key(text: &str) -> Result<(), InvalidKey> {
    let problem = name_problem(text, "-_");
    problem.map_or(Ok(()), |problem| {
        Err(InvalidKey::new("project_key", text, problem))
    })
}

fn session_id(text: &str) -> Result<(), InvalidKey> {
    let problem = if text.starts_with('-') {
        // It is an argument of a program too.
        Some("begins with `-`")
    } else {
        name_problem(text, "-_")
    };
    problem.map_or(Ok(()), |problem| {
        Err(InvalidKey::new("session_id", text, problem))
    })
}

fn subpath(text: &str) -> Result<(), InvalidKey> {
    let names = || text.split('/');
    let of_name = |name: &str| match name {
        _ if name.starts_with('.') => Some("a part of it begins with `.`"),
        // It would be the folder of one transcript and the file of another.
        _ if name.ends_with(".jsonl") => Some("a part of it ends in `.jsonl`"),
        _ => name_problem(name, "-_."),
    };
    let problem = if text.len() > MAX_SUBPATH {
        Some("is longer than 1024 bytes")
    } else if names().count() > MAX_DEPTH {
        Some("has more than 8 parts")
    } else {
        names().find_map(of_name)
    };
    problem.map_or(Ok(()), |problem| {
        Err(InvalidKey::new("subpath", text, problem))
    })
}

fn name_problem(name: &str, marks: &str) -> Option<&'static str> {
    let known = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    if name.is_empty() {
        Some("is empty, or a part of it is")
    } else if name.len() > MAX_NAME {
        Some("is longer than 240 bytes, or a part of it is")
    } else if !name.chars().all(known) {
        Some("has characters other than letters, digits and a few marks")
    } else {
        None
    }
}

/// One file of a session: the main transcript, or one beside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TranscriptKey {
    /// The directory.
    pub project_key: ProjectKey,
    /// The session.
    pub session_id: TranscriptId,
    /// Which transcript beside the main one; none is the main one.
    pub subpath: Option<Subpath>,
}

impl TranscriptKey {
    /// The main transcript of a session.
    #[must_use]
    pub fn main(project_key: ProjectKey, session_id: TranscriptId) -> Self {
        Self {
            project_key,
            session_id,
            subpath: None,
        }
    }

    /// Another transcript of the same session.
    #[must_use]
    pub fn beside(&self, subpath: Subpath) -> Self {
        Self {
            subpath: Some(subpath),
            ..self.clone()
        }
    }
}

impl fmt::Display for TranscriptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project_key, self.session_id)?;
        match &self.subpath {
            Some(subpath) => write!(f, "/{subpath}"),
            None => Ok(()),
        }
    }
}

/// A session that has a main transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTranscript {
    /// Which.
    pub session_id: TranscriptId,
    /// When its main transcript grew last, in ms since 1970 by the store's clock.
    pub mtime_ms: i64,
}

/// The right to write one session's transcripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Which session.
    pub session_id: TranscriptId,
    /// Who has it.
    pub node: NodeId,
    /// Raised by whoever takes it.
    pub epoch: i64,
    /// Writes numbered so far.
    writes: i64,
}

impl Owner {
    /// As the store gives it, before the first write.
    #[must_use]
    pub fn new(session_id: TranscriptId, node: NodeId, epoch: i64) -> Self {
        Self {
            session_id,
            node,
            epoch,
            writes: 0,
        }
    }

    /// The next write. It is tried until it is stored or refused before another
    /// one is begun.
    pub fn write(&mut self) -> Write {
        self.writes += 1;
        Write {
            session_id: self.session_id.clone(),
            epoch: self.epoch,
            number: self.writes,
        }
    }
}

/// One write of an owner, however often it is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Of which session.
    pub session_id: TranscriptId,
    /// Of which owner.
    pub epoch: i64,
    /// 1 for the owner's first.
    pub number: i64,
}

/// By what an entry is told from others of its transcript: its `uuid` of up to 64
/// characters. Notes such as `queue-operation` have none.
#[must_use]
pub fn uuid_of(entry: &Value) -> Option<&str> {
    let uuid = entry.get("uuid")?.as_str()?;
    (!uuid.is_empty() && uuid.len() <= MAX_UUID).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_none() {
        let long = "x".repeat(MAX_NAME + 1);
        for bad in ["", "..", "a/b", "a b", "a.b", "a\0", "é", long.as_str()] {
            assert!(ProjectKey::parse(bad).is_err(), "{bad:?}");
            assert!(TranscriptId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ProjectKey::parse("-home-me").is_ok());
        assert!(TranscriptId::parse("--resume").is_err());
        let deep = "a/".repeat(MAX_DEPTH) + "a";
        let wide = ["a".repeat(MAX_NAME).as_str(); 5].join("/");
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "a/../b",
            "..",
            "a/.b",
            "a\\b",
            "a\0b",
            "a.jsonl/b",
            "a.jsonl",
            &deep,
            &wide,
            &long,
        ] {
            let problem = Subpath::parse(bad).expect_err(bad);
            assert_eq!(problem.field, "subpath");
        }
        assert!(Subpath::parse("subagents/agent-a1.2_x").is_ok());
    }

    #[test]
    fn a_key_says_where_it_is() {
        let main = TranscriptKey::main(
            ProjectKey::parse("-p").unwrap(),
            TranscriptId::parse("s").unwrap(),
        );
        let beside = main.beside(Subpath::parse("subagents/agent-1").unwrap());
        assert_eq!(beside.to_string(), "-p/s/subagents/agent-1");
        let problem = Subpath::parse("../x").unwrap_err().to_string();
        assert_eq!(problem, "subpath \"../x\": a part of it begins with `.`");
    }

    #[test]
    fn only_a_short_text_is_a_uuid() {
        assert_eq!(uuid_of(&json!({"uuid": "a"})), Some("a"));
        for none in [
            json!({}),
            json!({"uuid": null}),
            json!({"uuid": ""}),
            json!({"uuid": "x".repeat(65)}),
        ] {
            assert_eq!(uuid_of(&none), None, "{none}");
        }
    }
}
