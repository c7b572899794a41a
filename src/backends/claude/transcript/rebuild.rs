//! The files of a session as they must be before it is resumed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_actors::ports::{TranscriptError, Transcripts};
use hearth_actors::transcript::{Owner, TranscriptKey};
use thiserror::Error;

use super::chain::{Standing, Transcript, compare};
use super::local::Local;

/// Waits before the store is asked again.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];

/// What was found about a session, and done about it.
#[derive(Debug)]
pub struct Rebuilt {
    /// The right to go on with it, for its [`Mirror`](super::Mirror). None when the
    /// store was not asked.
    pub owner: Option<Owner>,
    /// Whether there is a main transcript to resume from.
    pub resumable: bool,
    /// Its transcripts, the main one first.
    pub files: Vec<(TranscriptKey, Found)>,
}

/// What was done about one transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// File and store knew the same.
    Same,
    /// The file was missing or behind the store, and is as it is stored.
    Written,
    /// The file knows more than the store. It stays; the mirror brings the rest.
    Newer,
    /// Two processes have gone on from one place. The store's branch is what
    /// Hearth told and what another machine may have gone on from, so that it
    /// counts; the file's lies beside it, under this name.
    Diverged(PathBuf),
}

/// Why a session cannot be resumed.
#[derive(Debug, Error)]
pub enum RebuildError {
    /// The store has no answer, or another node has the session.
    #[error(transparent)]
    Store(#[from] TranscriptError),
    /// The file cannot be read or written.
    #[error("the transcript {key}: {source}")]
    File {
        /// Of which transcript.
        key: TranscriptKey,
        /// What the system says.
        source: io::Error,
    },
}

impl Rebuilt {
    /// What is behind in the store.
    pub(super) fn behind(&self) -> impl Iterator<Item = &TranscriptKey> {
        let newer = self
            .files
            .iter()
            .filter(|(_, found)| *found == Found::Newer);
        newer.map(|(key, _)| key)
    }

    /// For a session that goes on although the store does not answer: what its
    /// files hold is stored when it does.
    ///
    /// # Errors
    /// The files cannot be listed.
    pub async fn without_store(
        config_dir: &Path,
        main: &TranscriptKey,
    ) -> Result<Self, RebuildError> {
        let local = Local::new(config_dir);
        // One that was cut to nothing is nothing to go on from.
        let held = read(&local, main).await?;
        let held = held.is_some_and(|held| held != Transcript::default());
        let mut keys = vec![main.clone()];
        keys.extend(beside(&local, main).await?);
        Ok(Self {
            owner: None,
            resumable: held,
            files: keys.into_iter().map(|key| (key, Found::Newer)).collect(),
        })
    }
}

/// Takes the session and makes the files in `config_dir` fit to resume it. Its
/// process must not run.
///
/// # Errors
/// The store has no answer, somebody else has the session, or a file cannot be read
/// or written. Files may have been written by then, each as a whole.
pub async fn rebuild(
    store: &dyn Transcripts,
    config_dir: &Path,
    main: &TranscriptKey,
) -> Result<Rebuilt, RebuildError> {
    let local = Local::new(config_dir);
    let owner = patiently(|| store.own(&main.session_id)).await?;
    let mut keys = beside(&local, main).await?;
    let stored = patiently(|| store.list_subkeys(&main.project_key, &main.session_id)).await?;
    keys.extend(stored.into_iter().map(|subpath| main.beside(subpath)));
    keys.sort();
    keys.dedup();
    keys.insert(0, main.clone());
    let mut rebuilt = Rebuilt {
        owner: Some(owner),
        resumable: false,
        files: Vec::new(),
    };
    for key in keys {
        let stored = patiently(|| store.load(&key)).await?;
        let stored = stored.map(Transcript::of);
        let found = read(&local, &key).await?;
        let Some(found) = rebuild_file(&local, &key, stored, found).await? else {
            continue;
        };
        rebuilt.resumable |= key == *main;
        rebuilt.files.push((key, found));
    }
    Ok(rebuilt)
}

/// None when nobody knows the transcript.
async fn rebuild_file(
    local: &Local,
    key: &TranscriptKey,
    stored: Option<Transcript>,
    found: Option<Transcript>,
) -> Result<Option<Found>, RebuildError> {
    let (stored, found) = match (stored, found) {
        (None, None) => return Ok(None),
        (None, Some(found)) if found == Transcript::default() => return Ok(None),
        (None, Some(_)) => return Ok(Some(Found::Newer)),
        (Some(stored), None) => {
            write(local, key, stored).await?;
            return Ok(Some(Found::Written));
        }
        (Some(stored), Some(found)) => (stored, found),
    };
    Ok(Some(match compare(&stored, &found) {
        Standing::Same => Found::Same,
        Standing::Newer(_) | Standing::Fuller => Found::Newer,
        Standing::Older => {
            write(local, key, stored).await?;
            Found::Written
        }
        Standing::Diverged => {
            let (folder, of) = (local.clone(), key.clone());
            let aside = blocking(key, move || folder.set_aside(&of)).await?;
            tracing::warn!(%key, aside = %aside.display(), "a transcript had gone on in two places: the stored one counts");
            write(local, key, stored).await?;
            Found::Diverged(aside)
        }
    }))
}

async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, TranscriptError>
where
    F: Future<Output = Result<T, TranscriptError>>,
{
    for pause in PAUSES {
        match ask().await {
            Err(TranscriptError::Unavailable(_)) => tokio::time::sleep(pause).await,
            answer => return answer,
        }
    }
    ask().await
}

pub(super) async fn beside(
    local: &Local,
    main: &TranscriptKey,
) -> Result<Vec<TranscriptKey>, RebuildError> {
    let (folder, key) = (local.clone(), main.clone());
    let found = blocking(main, move || folder.beside(&key)).await?;
    Ok(found
        .into_iter()
        .map(|subpath| main.beside(subpath))
        .collect())
}

pub(super) async fn read(
    local: &Local,
    key: &TranscriptKey,
) -> Result<Option<Transcript>, RebuildError> {
    let (folder, of) = (local.clone(), key.clone());
    blocking(key, move || folder.read(&of)).await
}

async fn write(local: &Local, key: &TranscriptKey, stored: Transcript) -> Result<(), RebuildError> {
    let (folder, of) = (local.clone(), key.clone());
    blocking(key, move || folder.write(&of, &stored)).await
}

async fn blocking<T: Send + 'static>(
    key: &TranscriptKey,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RebuildError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|ended| Err(io::Error::other(ended)))
        .map_err(|source| RebuildError::File {
            key: key.clone(),
            source,
        })
}
