//! From what went wrong within to what is said of it.

use hearth_actors::ports::{OperationsError, with_source};
use hearth_actors::tree::handle::Refusal;

use super::{ApiError, Code, Stake};
use crate::store::StoreError;
use crate::store::rows::operations::Conflict;

/// The store alone knows which trouble of the database passes.
impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

/// Nothing is claimed about what was changed: a request may be more than the
/// statement that failed.
fn database_away(error: &StoreError) -> ApiError {
    tracing::warn!(error = %with_source(error), "the database cannot be used");
    let detail = if matches!(error, StoreError::InDoubt(_)) {
        "the connection to the database broke; it is not known whether the request was done: look, or repeat it with the same Idempotency-Key"
    } else {
        "the database cannot be reached, or is too busy; try again in a moment, with the same Idempotency-Key if you gave one"
    };
    ApiError::unavailable(Code::DatabaseUnavailable, detail)
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::InDoubt(_) => database_away(&error),
            StoreError::Refused(_) => Self::internal(&error),
            StoreError::NotFound { what, id } => Self::field(
                Code::UnknownReference,
                &format!("{what}_id"),
                format!("names no {what}: there is no {id}"),
            ),
            StoreError::Invalid { field, problem } => {
                Self::field(Code::InvalidBody, field, problem)
            }
            StoreError::TooManyTasks(detail) => Self::new(Code::TooManyTasks, detail),
            StoreError::WorktreeBusy(detail) => Self::new(Code::WorktreeBusy, detail),
            StoreError::KeyReused => Self::new(
                Code::IdempotencyConflict,
                "the key was used for another request: send a new key",
            ),
        }
    }
}

impl From<OperationsError> for ApiError {
    fn from(error: OperationsError) -> Self {
        let detail = with_source(&error);
        match error {
            OperationsError::Busy(detail) => Self::new(Code::WorktreeBusy, detail),
            OperationsError::Wrong { code, what } => match code {
                "not_found" => Self::new(Code::NotFound, what),
                "unknown_change" => Self::field(Code::UnknownReference, "change_ids", what),
                "not_applied" => Self::new(Code::NotApplied, what),
                "not_retryable" => Self::new(Code::NotRetryable, what),
                "not_reviewable" => Self::new(Code::NotReviewable, what),
                "arena_decided" => Self::new(Code::ArenaDecided, what),
                "turn_running" => Self::new(Code::TurnRunning, what),
                "no_worktree" => Self::new(Code::NoWorktree, what),
                "other_node" => Self::new(Code::OtherNode, what),
                _ => Self::new(Code::NotPending, what),
            },
            OperationsError::NeedsConsent(chats) => {
                let detail = format!("{detail}; send `\"consent\": true` if it may");
                Self::new(Code::NeedsConsent, detail).at_stake(Stake {
                    chats: chats.into_iter().map(|chat| chat.0).collect(),
                    ..Stake::default()
                })
            }
            OperationsError::Conflicts(conflicts) => {
                let detail = format!("{detail}; nothing was written");
                Self::new(Code::Conflict, detail).at_stake(Stake {
                    conflicts: conflicts.iter().map(Conflict::from).collect(),
                    ..Stake::default()
                })
            }
            OperationsError::AtRisk(facts, purpose) => {
                Self::new(Code::WorktreeAtRisk, detail).with_risk(&facts, purpose)
            }
            OperationsError::TearDown(why) => {
                let detail = format!("{why}; `skip_teardown=true` lets it go without");
                Self::new(Code::TeardownFailed, detail)
            }
            OperationsError::Failed(why) => Self::new(Code::WorktreeUnusable, why),
            OperationsError::Unavailable(_) | OperationsError::TooLong(_) => {
                Self::unavailable(Code::TreeUnavailable, &detail)
            }
            OperationsError::Fenced => Self::unavailable(
                Code::TreeUnavailable,
                "the service began a new life meanwhile, which ends the operation; look at the changes, then repeat this",
            ),
            OperationsError::Refused(_) => Self::internal(&error),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::NotWarm(_) => Code::NotWarm,
            Refusal::TurnRunning => Code::TurnRunning,
            Refusal::Starting => Code::Starting,
            Refusal::OpenPrompt => Code::OpenPrompt,
            Refusal::Stopping => Code::Stopping,
            Refusal::UnstoredOutput => Code::UnstoredOutput,
            Refusal::QueuedMessage => Code::QueuedMessage,
            Refusal::BackgroundWork => Code::BackgroundWork,
            Refusal::NotResumable => Code::NotResumable,
            Refusal::Unknown => Code::NeedUnknown,
            Refusal::Cooling => Code::Cooling,
            Refusal::NoPrompt => Code::PromptClosed,
            Refusal::Unavailable(_) => Code::TreeUnavailable,
        };
        Self::new(code, refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{StatusCode, header};
    use axum::response::IntoResponse as _;

    use super::*;

    /// An error as the server words it.
    #[derive(Debug)]
    struct Told(&'static str);

    impl std::fmt::Display for Told {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Told {}

    impl sqlx::error::DatabaseError for Told {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    fn told(state: &'static str) -> ApiError {
        ApiError::from(sqlx::Error::Database(Box::new(Told(state))))
    }

    #[test]
    fn what_the_store_calls_passing_is_a_503_to_be_tried_again() {
        let passing = [
            "40001", "40P01", "53300", "55P03", "57014", "57P01", "25006",
        ];
        let away = passing.map(told).into_iter();
        for error in away.chain([ApiError::from(sqlx::Error::PoolTimedOut)]) {
            assert_eq!(error.code(), Code::DatabaseUnavailable);
            assert!(!error.detail.contains("not known"), "{}", error.detail);
            assert!(!error.detail.contains("nothing was changed"));
            let answer = error.into_response();
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
        }
        for error in [told("23505"), ApiError::from(sqlx::Error::RowNotFound)] {
            assert_eq!(error.code(), Code::Internal);
        }
    }

    #[test]
    fn a_lost_answer_is_not_taken_for_a_no() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for error in [sqlx::Error::Io(broken).into(), told("08006"), told("40003")] {
            let error: ApiError = error;
            assert_eq!(error.code(), Code::DatabaseUnavailable);
            assert!(error.detail.contains("not known"), "{}", error.detail);
            assert!(error.detail.contains("Idempotency-Key"));
            assert_eq!(error.into_response().headers()[header::RETRY_AFTER], "1");
        }
    }
}
