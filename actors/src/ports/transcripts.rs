//! Where the transcripts of agents that keep theirs in files are kept as well, so
//! that a session goes on on any machine.

use async_trait::async_trait;
use serde_json::Value;
use thiserror::Error;

use super::Source;
use crate::transcript::{
    ListedTranscript, Owner, ProjectKey, Subpath, TranscriptId, TranscriptKey, Write,
};

/// The entries of transcripts, each file's in the order in which they were written.
///
/// A session has one owner, which alone appends to it: two processes on one session
/// lose a branch of it without a word. Who owns it next makes the last owner's
/// writes fail.
#[async_trait]
pub trait Transcripts: Send + Sync {
    /// Takes the session for this node. Whoever had it on this node is fenced off;
    /// another node keeps it for as long as its lease lives or until it gives it up.
    async fn own(&self, session: &TranscriptId) -> Result<Owner, TranscriptError>;

    /// Gives the session up, for any node to take. Nothing happens when somebody
    /// else has it already.
    async fn disown(&self, owner: &Owner) -> Result<(), TranscriptError>;

    /// Stores entries behind those that are there, all or none. An entry whose
    /// [uuid](crate::transcript::uuid_of) is stored under this key is left out, and
    /// so is a write whose number, or a higher one, this owner has written before:
    /// the same write may be tried until it is answered.
    async fn append(
        &self,
        write: &Write,
        key: &TranscriptKey,
        entries: &[Value],
    ) -> Result<(), TranscriptError>;

    /// The same in place of everything that is stored under this key.
    async fn replace(
        &self,
        write: &Write,
        key: &TranscriptKey,
        entries: &[Value],
    ) -> Result<(), TranscriptError>;

    /// All entries under this key, none twice by its uuid. None when the key is
    /// unknown.
    async fn load(&self, key: &TranscriptKey) -> Result<Option<Vec<Value>>, TranscriptError>;

    /// The sessions of a project that have a main transcript, the newest first.
    async fn list_sessions(
        &self,
        project: &ProjectKey,
    ) -> Result<Vec<ListedTranscript>, TranscriptError>;

    /// Deletes one subpath, or with a key of the main transcript the whole session;
    /// its owner is fenced off then. An unknown key is no error.
    async fn delete(&self, key: &TranscriptKey) -> Result<(), TranscriptError>;

    /// What is stored beside the main transcript, in the order of the names.
    async fn list_subkeys(
        &self,
        project: &ProjectKey,
        session: &TranscriptId,
    ) -> Result<Vec<Subpath>, TranscriptError>;
}

/// Why a transcript was not read or written.
#[derive(Debug, Error)]
pub enum TranscriptError {
    /// Try again later, with back-off. What was to be written may have been.
    #[error("the store of transcripts cannot be reached")]
    Unavailable(#[source] Source),
    /// A node that lives has the session: start no process for it here.
    #[error("the session {session} belongs to the node {node}")]
    Owned {
        /// Which session.
        session: TranscriptId,
        /// The node's id.
        node: String,
    },
    /// Somebody else took the session, or it was deleted: nothing was written.
    /// Stop its process.
    #[error("the session has another owner")]
    Fenced,
    /// Trying again would not help.
    #[error("the store of transcripts refused the data: {0}")]
    Refused(String),
}
