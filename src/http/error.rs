//! Every way a request can fail, as `application/problem+json` (RFC 9457).
//! `code` is stable: callers may branch on it; texts are for people.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hearth_actors::ports::OperationsError;
use hearth_actors::tree::handle::Refusal;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::store::StoreError;
use crate::store::rows::operations::Conflict;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $status:ident, $code:literal, $title:literal;)+) => {
        /// The stable codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $variant),+ }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// One short sentence that is the same every time.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            /// The status it answers with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }
        }
    };
}

codes! {
    /// An id in the path is no UUID.
    InvalidId = BAD_REQUEST, "invalid_id", "An id in the path is not a UUID";
    /// A query parameter is unknown or has a wrong value.
    InvalidQuery = BAD_REQUEST, "invalid_query", "The query parameters are not valid";
    /// A header has a wrong value.
    InvalidHeader = BAD_REQUEST, "invalid_header", "A header is not valid";
    /// The body is not JSON.
    MalformedJson = BAD_REQUEST, "malformed_json", "The body is not JSON";
    /// The body is JSON of the wrong shape or with values out of range.
    InvalidBody = UNPROCESSABLE_ENTITY, "invalid_body", "The body does not fit";
    /// An id in the body or query names nothing.
    UnknownReference = UNPROCESSABLE_ENTITY, "unknown_reference", "Something named in the request does not exist";
    /// The agent is not configured.
    UnknownAgent = UNPROCESSABLE_ENTITY, "unknown_agent", "There is no such agent";
    /// The prompt does not offer that answer.
    UnknownOption = UNPROCESSABLE_ENTITY, "unknown_option", "The prompt does not offer this answer";
    /// The path is no git repository that can be worked in.
    NotARepository = UNPROCESSABLE_ENTITY, "not_a_repository", "The path is not a usable git repository";
    /// The path is not below an allowed root.
    OutsideProjectRoots = UNPROCESSABLE_ENTITY, "outside_project_roots", "The path may not be registered";
    /// The token is missing or wrong.
    Unauthorized = UNAUTHORIZED, "unauthorized", "A valid token is needed";
    /// The ticket is unknown, used or too old.
    TicketInvalid = UNAUTHORIZED, "ticket_invalid", "A fresh ticket is needed";
    /// The Host header names somebody else.
    HostNotAllowed = FORBIDDEN, "host_not_allowed", "The Host header is not on the allow-list";
    /// The request was made by a page of another site.
    CrossSite = FORBIDDEN, "cross_site", "The request comes from another site";
    /// An agent's process asks for what only people may do.
    AgentNotAllowed = FORBIDDEN, "agent_not_allowed", "Agents may not do this";
    /// The thing in the path does not exist.
    NotFound = NOT_FOUND, "not_found", "There is no such thing";
    /// The path is no route.
    RouteNotFound = NOT_FOUND, "route_not_found", "There is no such route";
    /// The route has no such method.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method_not_allowed", "The route does not have this method";
    /// The task is over.
    TaskEnded = CONFLICT, "task_ended", "The task has ended";
    /// Somebody gave another answer.
    PromptAnswered = CONFLICT, "prompt_answered", "The prompt was answered otherwise";
    /// The turn that asked is over, or nobody answered in time.
    PromptClosed = GONE, "prompt_closed", "The prompt can no longer be answered";
    /// It is too late to choose or to end it.
    ArenaDecided = CONFLICT, "arena_decided", "The arena is decided";
    /// Nothing of the kind can be tried again.
    NotRetryable = CONFLICT, "not_retryable", "It cannot be tried again";
    /// It needs something else than to be forgotten.
    NotDismissable = CONFLICT, "not_dismissable", "It cannot be dismissed";
    /// A task asked for more tasks than it may.
    TooManyTasks = CONFLICT, "too_many_tasks", "The task may not ask for another task";
    /// A turn or another operation works on the files.
    WorktreeBusy = CONFLICT, "worktree_busy", "The files are being worked on";
    /// Files stand in the way.
    Conflict = CONFLICT, "conflict", "Files stand in the way";
    /// Later turns of other chats would lose their files.
    NeedsConsent = CONFLICT, "needs_consent", "Other chats worked on these files since";
    /// The change is no longer pending.
    NotPending = CONFLICT, "not_pending", "The change is not pending";
    /// The change is not applied.
    NotApplied = CONFLICT, "not_applied", "The change is not applied";
    /// Nobody knows what the change did.
    NotReviewable = CONFLICT, "not_reviewable", "The change was not found by Hearth";
    /// Nothing has run in the session.
    NoWorktree = CONFLICT, "no_worktree", "The session has no worktree";
    /// The files are on another node.
    OtherNode = CONFLICT, "other_node", "The files are on another node";
    /// The key was used for another request.
    IdempotencyConflict = CONFLICT, "idempotency_conflict", "The Idempotency-Key belongs to another request";
    /// No warm session has the key.
    NotWarm = NOT_FOUND, "not_warm", "There is no such warm session";
    /// A turn runs in it.
    TurnRunning = CONFLICT, "turn_running", "A turn is running";
    /// It is starting.
    Starting = CONFLICT, "starting", "The agent is starting";
    /// A human has not answered.
    OpenPrompt = CONFLICT, "open_prompt", "The agent waits for an answer";
    /// It is going away.
    Stopping = CONFLICT, "stopping", "The agent is stopping";
    /// It crashed too often.
    Cooling = CONFLICT, "cooling", "The agent cools down after too many crashes";
    /// The commit of a checkpoint was removed.
    CheckpointGone = GONE, "checkpoint_gone", "The checkpoint is no longer there";
    /// The files of a session cannot be worked with.
    WorktreeUnusable = CONFLICT, "worktree_unusable", "The files of the session cannot be used";
    /// No space is left for files.
    DiskFull = INSUFFICIENT_STORAGE, "disk_full", "The disk is full";
    /// The body is too big.
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large";
    /// The body is not declared as JSON.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Only application/json is understood";
    /// The route speaks WebSocket only.
    NotAWebSocket = UPGRADE_REQUIRED, "not_a_websocket", "A WebSocket handshake is needed";
    /// Too many requests or streams at a time.
    Busy = SERVICE_UNAVAILABLE, "busy", "Too much is going on";
    /// It took too long.
    Timeout = SERVICE_UNAVAILABLE, "timeout", "The request took too long";
    /// The database cannot be reached.
    DatabaseUnavailable = SERVICE_UNAVAILABLE, "database_unavailable", "The database cannot be reached";
    /// The supervision tree does not answer.
    TreeUnavailable = SERVICE_UNAVAILABLE, "tree_unavailable", "The supervision tree does not answer";
    /// Our own fault.
    Internal = INTERNAL_SERVER_ERROR, "internal", "Something went wrong in Hearth";
}

/// A failed request.
#[derive(Clone, Debug)]
pub struct ApiError {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    stake: Option<Box<Stake>>,
    headers: Vec<(HeaderName, &'static str)>,
}

/// What an order about files would touch and may not.
#[derive(Clone, Debug, Default)]
struct Stake {
    conflicts: Vec<Conflict>,
    chats: Vec<Uuid>,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer into the body (`#/content`), or the name of a parameter.
    #[schema(example = "#/content")]
    pub pointer: String,
    /// What is wrong there, and what would be right.
    pub detail: String,
}

/// The body of every failure (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// `urn:hearth:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One short sentence, the same for every occurrence of the code.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and the cure.
    pub detail: String,
    /// Stable: may be branched on.
    pub code: &'static str,
    /// The fields that are wrong, if fields are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Of `conflict`: the files that stand in the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Conflict>,
    /// Of `needs_consent`: the chats whose later turns would lose files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chats: Vec<Uuid>,
}

/// What handlers return.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// A failure with its explanation.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            stake: None,
            headers: Vec::new(),
        }
    }

    /// `kind` of the path does not exist.
    #[must_use]
    pub fn not_found(kind: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {kind} {id}"))
    }

    /// A field of the body, by name, is wrong.
    #[must_use]
    pub fn field(code: Code, name: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let error = FieldError {
            pointer: format!("#/{name}"),
            detail: detail.clone(),
        };
        Self::new(code, format!("`{name}` {detail}")).with_errors(vec![error])
    }

    /// Several fields are wrong.
    #[must_use]
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail = errors
            .iter()
            .map(|error| format!("{}: {}", error.pointer, error.detail))
            .collect::<Vec<_>>()
            .join("; ");
        Self::new(Code::InvalidBody, detail).with_errors(errors)
    }

    /// Adds the fields that are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// The wrong fields are those of a part of the body, at `path`.
    #[must_use]
    pub fn below(mut self, path: &str) -> Self {
        for error in &mut self.errors {
            let rest = error.pointer.strip_prefix("#/").map(str::to_owned);
            if let Some(rest) = rest {
                error.pointer = format!("#/{path}/{rest}");
            }
        }
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn at_stake(mut self, stake: Stake) -> Self {
        self.stake = Some(Box::new(stake));
        self
    }

    /// Our own fault: logged here with its cause, which the caller never sees.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %chain(error), "a request failed");
        Self::new(
            Code::Internal,
            "the cause is in the log of the service; trying again may help",
        )
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    fn unavailable(code: Code, detail: &str) -> Self {
        Self::new(code, detail).with_header(header::RETRY_AFTER, "1")
    }

    /// Too many of `what` at a time.
    #[must_use]
    pub fn busy(what: &str) -> Self {
        Self::unavailable(
            Code::Busy,
            &format!("there are too many {what} at a time; try again in a moment"),
        )
    }

    /// The request took longer than `seconds`.
    #[must_use]
    pub fn timeout(seconds: u64) -> Self {
        Self::unavailable(
            Code::Timeout,
            &format!("no answer within {seconds} s; try again in a moment"),
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let stake = self.stake.map(|stake| *stake).unwrap_or_default();
        let body = ProblemBody {
            kind: format!("urn:hearth:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: self.detail,
            code: self.code.as_str(),
            errors: self.errors,
            conflicts: stake.conflicts,
            chats: stake.chats,
        };
        let mut response = (self.code.status(), Json(body)).into_response();
        let own = (header::CONTENT_TYPE, "application/problem+json");
        for (name, value) in self.headers.into_iter().chain([own]) {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The store alone knows which trouble of the database passes.
impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

/// Nothing is claimed about what was changed: a request may be more than the
/// statement that failed.
fn database_away(error: &StoreError) -> ApiError {
    tracing::warn!(error = %chain(error), "the database cannot be used");
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
        let detail = chain(&error);
        match error {
            OperationsError::Busy(detail) => Self::new(Code::WorktreeBusy, detail),
            OperationsError::Wrong { code, what } => match code {
                "not_found" => Self::new(Code::NotFound, what),
                "unknown_change" => Self::field(Code::UnknownReference, "change_ids", what),
                "not_applied" => Self::new(Code::NotApplied, what),
                "not_reviewable" => Self::new(Code::NotReviewable, what),
                "arena_decided" => Self::new(Code::ArenaDecided, what),
                "turn_running" => Self::new(Code::TurnRunning, what),
                "no_worktree" => Self::new(Code::NoWorktree, what),
                "other_node" => Self::new(Code::OtherNode, what),
                _ => Self::new(Code::NotPending, what),
            },
            OperationsError::NeedsConsent(chats) => {
                let detail = format!("{detail}, with `\"consent\": true`");
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
            OperationsError::Failed(why) => Self::new(Code::WorktreeUnusable, why),
            OperationsError::Unavailable(_) => Self::unavailable(Code::TreeUnavailable, &detail),
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
            Refusal::Cooling => Code::Cooling,
            Refusal::NoPrompt => Code::PromptClosed,
            Refusal::Unavailable(_) => Code::TreeUnavailable,
        };
        Self::new(code, refusal.to_string())
    }
}

/// An error with its causes, each once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_say_which_class_they_are() {
        let table: Vec<String> = Code::ALL
            .iter()
            .map(|code| format!("{} {}", code.status().as_u16(), code.as_str()))
            .collect();
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        insta::assert_snapshot!(table.join("\n"));
    }

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
