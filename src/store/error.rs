//! What goes wrong with the database, sorted by what the caller does about it.

use hearth_actors::ports::{JournalError, QueueError, Source};
use thiserror::Error;

/// Why the store did not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The statement was not carried out: try again later, with back-off.
    #[error("the database cannot be reached, or is too busy: {0}")]
    Unavailable(#[source] Source),
    /// The connection broke: nobody knows whether the statement was carried
    /// out. Look before trying again.
    #[error("the database cannot be reached, or the connection to it broke: {0}")]
    InDoubt(#[source] Source),
    /// Trying again would not help. Says what, where, and the cure.
    #[error("{0}")]
    Refused(String),
    /// What was named does not exist.
    #[error("no {what} has the id {id}")]
    NotFound {
        /// `chat`, `session`, `project` or `task`.
        what: &'static str,
        /// As it was given.
        id: String,
    },
    /// The request itself is wrong.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which of its fields.
        field: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A task asked for more tasks than it may. Says how many, and what to do.
    #[error("{0}")]
    TooManyTasks(String),
    /// A turn or something else holds the session's gate.
    #[error("{0}")]
    WorktreeBusy(String),
    /// The idempotency key was used for another request before.
    #[error("the idempotency key was used for a different request: send a new key")]
    KeyReused,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_in_doubt(&error) {
            Self::InDoubt(error.into())
        } else if is_transient(&error) {
            Self::Unavailable(error.into())
        } else {
            Self::Refused(format!("the database refused a statement: {error}"))
        }
    }
}

/// Why no first connection was made, and the cure where trying again would not
/// help.
pub(super) fn connect_error(error: sqlx::Error) -> StoreError {
    if is_tls(&error) || !is_transient(&error) {
        StoreError::Refused(format!("{error}\n  cure: {}", connect_cure(&error)))
    } else {
        // Nothing was asked for yet, so that nothing is in doubt.
        StoreError::Unavailable(error.into())
    }
}

/// A handshake that fails comes as trouble of the socket.
fn is_tls(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error
            .get_ref()
            .is_some_and(|inner| inner.is::<rustls::Error>()),
        _ => false,
    }
}

/// What to do about a connection to PostgreSQL that is refused (SQLSTATE from
/// PostgreSQL's appendix A) or not made.
#[must_use]
pub fn connect_cure(error: &sqlx::Error) -> &'static str {
    let state = error.as_database_error().and_then(|error| error.code());
    match state.as_deref() {
        Some("28P01") => "correct the user or the password in DATABASE_URL",
        Some("28000") => {
            "add sslmode=require to DATABASE_URL if the server wants TLS, else let us in by its pg_hba.conf"
        }
        Some("3D000") => "make the database with createdb, or correct DATABASE_URL",
        Some("53300") => "raise the server's max_connections: we use up to 15",
        _ if is_tls(error) => {
            "name the file of the server's certificate authority with sslrootcert, or encrypt without checking by sslmode=require"
        }
        _ => "start the database, or correct DATABASE_URL; without one there is a private database",
    }
}

/// The queue has no answer to a refused statement but to try again: both kinds
/// of trouble are one to its caller, and the source says which it was.
pub(super) fn queue_error(error: sqlx::Error) -> QueueError {
    QueueError::Unavailable(error.into())
}

/// The journal's caller ends the turn on refused data and retries the rest.
pub(super) fn journal_error(error: sqlx::Error) -> JournalError {
    if is_transient(&error) {
        JournalError::Unavailable(error.into())
    } else {
        JournalError::Refused(error.to_string())
    }
}

/// True when nobody can tell from the error whether the statement was committed:
/// the connection broke, and the answer with it. A pooler in between says so
/// with a state of class 08, the server itself with 40003.
pub(super) fn is_in_doubt(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(told) => told
            .code()
            .is_some_and(|code| code.starts_with("08") || code == "40003"),
        _ => false,
    }
}

/// True when the statement was cancelled, as the server does after
/// `statement_timeout`.
pub(super) fn is_cancelled(error: &sqlx::Error) -> bool {
    let told = error.as_database_error();
    told.is_some_and(|told| told.code().as_deref() == Some("57014"))
}

/// True when the same statement may succeed later.
pub(super) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_state(&code)),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        _ => false,
    }
}

/// By SQLSTATE (PostgreSQL's appendix A): connection trouble, transaction
/// roll-backs, full resources, shutdown and cancelled statements, a server that
/// is read-only for the length of a fail-over, a lock that was not free, and
/// errors of the machine beneath.
fn is_transient_state(code: &str) -> bool {
    let class = code.get(..2).unwrap_or_default();
    matches!(class, "08" | "40" | "53" | "57" | "58") || matches!(code, "25006" | "55P03")
}

#[cfg(test)]
mod tests {
    use super::is_transient_state;

    #[test]
    fn states_that_pass_are_told_from_those_that_stay() {
        for passing in [
            "08006", "57P01", "57014", "40001", "40P01", "53300", "25006", "55P03",
        ] {
            assert!(is_transient_state(passing), "{passing}");
        }
        for staying in ["22P05", "23505", "23503", "42P01", "42501", "22021", ""] {
            assert!(!is_transient_state(staying), "{staying}");
        }
    }
}
