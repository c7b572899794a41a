//! A session as it was before a prompt, under another id.
//!
//! The id is another one because the program's own file of the session still holds
//! what was said since, here and perhaps on other machines.

use hearth_actors::ports::{TranscriptError, Transcripts};
use hearth_actors::transcript::{TranscriptId, TranscriptKey, uuid_of};
use serde_json::Value;
use thiserror::Error;

use super::chain::Transcript;

/// What was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trimmed {
    /// The main transcript to [`rebuild()`](super::rebuild()) and resume.
    Session(TranscriptKey),
    /// Nothing was said before: begin a new session.
    Nothing,
}

/// Why a session was not trimmed.
#[derive(Debug, Error)]
pub enum TrimError {
    /// The store has no answer.
    #[error(transparent)]
    Store(#[from] TranscriptError),
    /// No transcript is stored under this key.
    #[error("the session {0} is not stored")]
    UnknownSession(TranscriptKey),
    /// The session has never seen the prompt.
    #[error("the session {session} has no message {prompt}")]
    UnknownPrompt {
        /// Which session.
        session: TranscriptKey,
        /// The uuid that the prompt was sent with.
        prompt: String,
    },
}

/// Stores what the session `main` was before `prompt` (the uuid that the message was
/// sent with) as the session `to`, which nobody uses, in the same directory. Done
/// twice it is the same.
///
/// # Errors
/// The store has no answer, or does not know session or prompt.
pub async fn trim_after(
    store: &dyn Transcripts,
    main: &TranscriptKey,
    prompt: &str,
    to: &TranscriptId,
) -> Result<Trimmed, TrimError> {
    let stored = store.load(main).await?;
    let stored = stored.ok_or_else(|| TrimError::UnknownSession(main.clone()))?;
    let kept =
        before(Transcript::of(stored).entries, prompt).ok_or_else(|| TrimError::UnknownPrompt {
            session: main.clone(),
            prompt: prompt.to_owned(),
        })?;
    if kept.iter().all(|entry| uuid_of(entry).is_none()) {
        return Ok(Trimmed::Nothing);
    }
    let trimmed = TranscriptKey::main(main.project_key.clone(), to.clone());
    let mut owner = store.own(to).await?;
    for subpath in store
        .list_subkeys(&main.project_key, &main.session_id)
        .await?
    {
        // As a whole, even if it went on later: nobody but its own agent reads it.
        if mentions(&kept, subpath.as_str()) {
            let beside = store.load(&main.beside(subpath.clone())).await?;
            let beside = renamed(beside.unwrap_or_default(), to);
            store
                .replace(&owner.write(), &trimmed.beside(subpath), &beside)
                .await?;
        }
    }
    // Last, because it makes the session one.
    store
        .replace(&owner.write(), &trimmed, &renamed(kept, to))
        .await?;
    store.disown(&owner).await?;
    Ok(Trimmed::Session(trimmed))
}

/// What was there before the prompt, in the order of the file: answers of tools that
/// ran side by side are no ancestors of each other.
fn before(mut entries: Vec<Value>, prompt: &str) -> Option<Vec<Value>> {
    let at = entries
        .iter()
        .position(|entry| uuid_of(entry) == Some(prompt))?;
    entries.truncate(at);
    // That the prompt was queued.
    while entries
        .last()
        .is_some_and(|entry| entry["type"] == "queue-operation")
    {
        entries.pop();
    }
    Some(entries)
}

/// Whether they speak of the agent whose transcript this is, such as `agent-a1`.
fn mentions(entries: &[Value], subpath: &str) -> bool {
    let name = subpath.rsplit('/').next().unwrap_or(subpath);
    let id = name.strip_prefix("agent-").unwrap_or(name);
    entries.iter().any(|entry| entry.to_string().contains(id))
}

fn renamed(mut entries: Vec<Value>, session: &TranscriptId) -> Vec<Value> {
    for entry in &mut entries {
        if let Some(id) = entry.get_mut("sessionId") {
            *id = session.as_str().into();
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_before_the_prompt_is_kept() {
        let queued = json!({"type": "queue-operation"});
        let said = |uuid: &str| json!({"type": "user", "uuid": uuid});
        let note = json!({"type": "last-prompt"});
        let all = vec![
            queued.clone(),
            said("a"),
            said("b"),
            note.clone(),
            queued.clone(),
            queued.clone(),
            said("c"),
            said("d"),
        ];
        let kept = before(all.clone(), "c").unwrap();
        assert_eq!(kept, [queued, said("a"), said("b"), note]);
        assert_eq!(before(all.clone(), "a").unwrap(), Vec::<Value>::new());
        assert_eq!(before(all, "x"), None);
    }
}
