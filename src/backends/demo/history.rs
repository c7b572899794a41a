//! What was said in earlier turns: one JSONL file a session.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use hearth_actors::rules::going_on::MARK;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A file is read from this many bytes before its end.
const MAX_READ: u64 = 1 << 20;

/// A file that reached this is not written to any more.
const MAX_FILE: u64 = 8 << 20;

/// Sessions that are kept; the oldest go first.
const MAX_SESSIONS: usize = 1_000;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    User,
    Agent,
    /// Hearth, about what others did.
    Told,
    /// Nobody's words: the number of the step at which a person was asked.
    Step,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) role: Role,
    pub(super) text: String,
}

/// The prompt that was not done when a person was asked, and at which of its
/// steps that was; none if nobody was.
pub(super) fn unfinished(history: &[Entry]) -> Option<(&str, usize)> {
    let asked = history.iter().rposition(|entry| entry.role == Role::Step)?;
    let step = history[asked].text.parse().ok()?;
    let mut before = history[..asked].iter().rev();
    let prompt = before.find(|entry| entry.role == Role::User && !entry.text.starts_with(MARK))?;
    Some((&prompt.text, step))
}

/// Where the sessions lie.
#[derive(Clone, Debug)]
pub(super) struct Archive(PathBuf);

impl Archive {
    /// `$XDG_STATE_HOME/hearth-demo`, else `$HOME/.local/state/hearth-demo`.
    ///
    /// # Errors
    /// Neither variable is set, or the directory cannot be made.
    pub(super) fn open() -> anyhow::Result<Self> {
        let state = match std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from(
                std::env::var_os("HOME").context("neither XDG_STATE_HOME nor HOME is set")?,
            )
            .join(".local/state"),
        };
        let path = state.join("hearth-demo");
        std::fs::create_dir_all(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }

    /// Begins a session.
    ///
    /// # Errors
    /// Its file cannot be made.
    pub(super) fn create(&self) -> io::Result<Uuid> {
        self.prune()?;
        let session = Uuid::new_v4();
        File::create_new(self.path(session))?;
        Ok(session)
    }

    /// The latest messages of a session, oldest first; none if there is no such
    /// session. Lines that cannot be read are passed over.
    pub(super) fn read(&self, session: Uuid) -> Option<Vec<Entry>> {
        let mut file = File::open(self.path(session)).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MAX_READ)))
            .ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(
            text.lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect(),
        )
    }

    /// Adds one message.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn append(&self, session: Uuid, entry: &Entry) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.path(session))?;
        if file.metadata()?.len() > MAX_FILE {
            return Ok(());
        }
        let mut line = serde_json::to_string(entry)?;
        line.push('\n');
        file.write_all(line.as_bytes())
    }

    /// Makes room for one more. Another process may prune at the same time: a
    /// file that is gone already is as good as removed.
    fn prune(&self) -> io::Result<()> {
        let files: Vec<PathBuf> = std::fs::read_dir(&self.0)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        let Some(too_many) = (files.len() + 1).checked_sub(MAX_SESSIONS) else {
            return Ok(());
        };
        let mut aged: Vec<_> = files
            .into_iter()
            .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file)))
            .collect();
        aged.sort();
        for (_, file) in aged.into_iter().take(too_many) {
            let _ = std::fs::remove_file(file);
        }
        Ok(())
    }

    fn path(&self, session: Uuid) -> PathBuf {
        self.0.join(format!("{session}.jsonl"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_unfinished_at_the_step_that_asked_last() {
        let entry = |role, text: &str| Entry {
            role,
            text: text.to_owned(),
        };
        let mut history = vec![entry(Role::User, "say a"), entry(Role::Agent, "a")];
        assert_eq!(unfinished(&history), None);
        history.extend([entry(Role::User, "ask b"), entry(Role::Step, "0")]);
        assert_eq!(unfinished(&history), Some(("ask b", 0)));
        let going_on = format!("{MARK} Go on.");
        history.extend([
            entry(Role::Agent, ""),
            entry(Role::User, &going_on),
            entry(Role::Step, "2"),
        ]);
        assert_eq!(unfinished(&history), Some(("ask b", 2)));
    }

    #[test]
    fn sessions_are_read_back_without_broken_lines_and_the_oldest_make_room() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let archive = Archive(directory.path().to_owned());
        let first = archive.create()?;
        let entry = Entry {
            role: Role::User,
            text: "zebra\n\"quoted\"".into(),
        };
        archive.append(first, &entry)?;
        OpenOptions::new()
            .append(true)
            .open(archive.path(first))?
            .write_all(b"{\"half\":\n\xff\n")?;
        archive.append(first, &entry)?;
        assert_eq!(archive.read(first), Some(vec![entry.clone(), entry]));
        assert_eq!(archive.read(Uuid::new_v4()), None);

        File::open(archive.path(first))?.set_modified(std::time::UNIX_EPOCH)?;
        for number in 1..MAX_SESSIONS {
            File::create(directory.path().join(format!("{number}.jsonl")))?;
        }
        let last = archive.create()?;
        assert_eq!(std::fs::read_dir(directory.path())?.count(), MAX_SESSIONS);
        assert_eq!(archive.read(first), None);
        assert_eq!(archive.read(last), Some(Vec::new()));
        Ok(())
    }
}
