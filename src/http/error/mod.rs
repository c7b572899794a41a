//! Every way a request can fail, as `application/problem+json` (RFC 9457).
//! `code` is stable: callers may branch on it; texts are for people.

mod causes;
mod codes;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hearth_actors::ports::with_source;
use hearth_actors::risk::{Facts, Purpose};
use hearth_actors::rules::risk::beyond_a_checkpoint;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

pub use codes::Code;

use super::risk::WorktreeRisk;
use crate::store::rows::operations::Conflict;

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
    risk: Option<WorktreeRisk>,
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
    /// Of `worktree_at_risk`: what would be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<WorktreeRisk>,
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

    /// Adds what would be lost with a worktree.
    #[must_use]
    pub fn with_risk(self, facts: &Facts, purpose: Purpose) -> Self {
        let detail = match beyond_a_checkpoint(facts) {
            Some(_) => format!(
                "{}; not even a checkpoint could keep that: move it away or remove it yourself",
                self.detail
            ),
            None => format!(
                "{}; commit and merge it, stash it (worktree-stash), or delete with `force=true`, which keeps a checkpoint",
                self.detail
            ),
        };
        Self { detail, ..self }.at_stake(Stake {
            risk: Some(WorktreeRisk::of(facts, purpose)),
            ..Stake::default()
        })
    }

    fn at_stake(mut self, stake: Stake) -> Self {
        self.stake = Some(Box::new(stake));
        self
    }

    /// Our own fault: logged here with its cause, which the caller never sees.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %with_source(error), "a request failed");
        Self::new(
            Code::Internal,
            "the cause is in the log of the service; trying again may help",
        )
    }

    /// What happened, for a person.
    #[must_use]
    pub fn detail(self) -> String {
        self.detail
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
            risk: stake.risk,
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
