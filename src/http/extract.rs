//! What handlers take in: every refusal says what and where.

use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::error::{ApiError, Code, FieldError};
use crate::store::MAX_KEY_BYTES;

/// Largest body: 64 000 scalar values fit four times over.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

/// The id in the path.
pub(super) struct Id(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::new(Code::InvalidId, error.body_text()))?;
        parse_id(&text).map(Self)
    }
}

/// The two ids in the path.
pub(super) struct Ids(pub(super) Uuid, pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path((one, two)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::new(Code::InvalidId, error.body_text()))?;
        Ok(Self(parse_id(&one)?, parse_id(&two)?))
    }
}

/// An id out of the path.
pub(super) fn parse_id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::try_parse(text).map_err(|_| {
        let shown: String = text.chars().take(64).collect();
        ApiError::new(
            Code::InvalidId,
            format!("`{}` is not a UUID", shown.escape_debug()),
        )
    })
}

/// Query parameters; unknown ones are refused by the types themselves.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Query::<T>::from_request_parts(parts, state)
            .await
            .map(|Query(value)| Self(value))
            .map_err(|error| {
                let text = error.body_text();
                let detail = text
                    .strip_prefix("Failed to deserialize query string: ")
                    .unwrap_or(&text);
                ApiError::new(Code::InvalidQuery, detail)
            })
    }
}

/// A JSON body of at most [`MAX_BODY_BYTES`].
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| {
            if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                let detail = format!("at most {MAX_BODY_BYTES} bytes are accepted");
                ApiError::new(Code::BodyTooLarge, detail)
            } else {
                ApiError::new(Code::MalformedJson, error.body_text())
            }
        })?;
        if bytes.is_empty() {
            return Err(ApiError::new(
                Code::MalformedJson,
                "the body is empty; send a JSON object",
            ));
        }
        // Structs are also read from arrays, field by field, which nobody means.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(ApiError::new(
                Code::InvalidBody,
                "the body is an array; send a JSON object",
            ));
        }
        axum::Json::<T>::from_bytes(&bytes)
            .map(|axum::Json(value)| Self(value))
            .map_err(|error| refuse(&error))
    }
}

/// A body that may be left out: then nothing in it is said.
pub(super) struct MaybeBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        use axum::body::HttpBody as _;
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        let Body(value) = Body::from_request(request, state).await?;
        Ok(Self(value))
    }
}

/// The deserialiser tells a field's path in front of what is wrong with it, and
/// names a missing one in the text.
fn refuse(error: &JsonRejection) -> ApiError {
    let source = std::error::Error::source(error);
    let cause = source.map_or_else(|| error.body_text(), ToString::to_string);
    if !matches!(error, JsonRejection::JsonDataError(_)) {
        return ApiError::new(Code::MalformedJson, cause);
    }
    let missing = || cause.strip_prefix("missing field `")?.split_once('`');
    let (path, detail) = match (missing(), cause.split_once(": ")) {
        (Some((field, _)), _) => (field, cause.as_str()),
        (None, Some((path, detail))) if !path.contains(' ') => (path, detail),
        _ => return ApiError::new(Code::InvalidBody, cause),
    };
    let field = FieldError {
        pointer: format!("#/{}", path.replace('.', "/")),
        detail: detail.to_owned(),
    };
    ApiError::new(Code::InvalidBody, format!("`{path}`: {detail}")).with_errors(vec![field])
}

/// The `Idempotency-Key` of a creating request, if it carries one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if (1..=MAX_KEY_BYTES).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(ApiError::new(
            Code::InvalidHeader,
            format!("Idempotency-Key must be 1 to {MAX_KEY_BYTES} visible ASCII characters"),
        )),
    }
}

/// Collects what is wrong with the fields of a body.
#[derive(Default)]
pub(super) struct Check(Vec<FieldError>);

impl Check {
    /// `value` has from `low` to `high` Unicode scalar values.
    pub(super) fn chars(&mut self, name: &str, value: &str, low: usize, high: usize) -> &mut Self {
        let count = value.chars().count();
        if !(low..=high).contains(&count) {
            self.wrong(
                name,
                format!("has {count} characters; {low} to {high} are accepted"),
            );
        }
        self
    }

    /// A short name, if given: 1 to 200 characters, none of them a control.
    pub(super) fn name(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.chars(name, value, 1, 200);
            if value.chars().any(char::is_control) {
                self.wrong(name, "must not hold control characters".into());
            }
        }
        self
    }

    /// Something else about the field.
    pub(super) fn wrong(&mut self, name: &str, detail: String) {
        self.0.push(FieldError {
            pointer: format!("#/{name}"),
            detail,
        });
    }

    /// # Errors
    /// Everything that is wrong.
    pub(super) fn done(&mut self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ApiError::fields(std::mem::take(&mut self.0)))
        }
    }
}
