//! MCP over streamable HTTP. The face asks this service's own routes, behind
//! their guards, in the name of whoever sent the request; there are no MCP
//! sessions, so that nothing of them can be used up, expire or be lost.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header, request};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, any_service};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use rmcp::model::Extensions;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::Value;
use sse_stream::SseStream;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code};
use super::extract::MAX_BODY_BYTES;
use super::guard::Caller;
use super::operator::Ends;
use super::state::AppState;
use super::stream;
use crate::mcp::api::{Api, Ask, Event, Fault};
use crate::mcp::{Door, Face};

pub(super) const PATH: &str = "/mcp";

/// Largest answer of a route that a tool passes on: a page of 200 tasks with
/// the longest prompts.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Longest refusal that is read.
const MAX_REFUSAL_BYTES: usize = 4096;

/// The server; its tools ask `api`.
pub(super) fn service(api: Router, state: &AppState) -> MethodRouter<AppState> {
    let face = Face::new(Inside(api));
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        // The guards before it have a list that settings can change.
        .disable_allowed_hosts()
        .with_max_request_body_bytes(MAX_BODY_BYTES)
        .with_cancellation_token(state.closing.child_token());
    let manager = Arc::new(NeverSessionManager::default());
    let server = StreamableHttpService::new(move || Ok(face.clone()), manager, config);
    any_service(server).layer(from_fn_with_state(state.clone(), seated))
}

/// Each request may be answered by a stream, and takes one's seat before it does
/// anything.
async fn seated(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> ApiResult<Response> {
    let caller = request.extensions().get::<Caller>();
    let seat = state
        .streams
        .admit(caller.and_then(|caller| caller.address));
    let seat = seat.ok_or_else(|| ApiError::busy("streams"))?;
    let response = next.run(request).await;
    let response = worded(response).await?;
    Ok(stream::hold(seat, response))
}

/// What the protocol's own server refuses before it speaks JSON-RPC, in the words
/// of all routes.
async fn worded(response: Response) -> ApiResult<Response> {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !status.is_client_error() || kind.contains("json") {
        return Ok(response);
    }
    let said = to_bytes(response.into_body(), MAX_REFUSAL_BYTES).await;
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    Err(match status {
        StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            Code::MethodNotAllowed,
            "nothing is kept between requests: send each one by POST",
        )
        .with_header(header::ALLOW, "POST"),
        StatusCode::NOT_ACCEPTABLE => ApiError::new(
            Code::NotAcceptable,
            "send `Accept: application/json, text/event-stream`: an answer may be either",
        ),
        // So it calls a body that is no message.
        StatusCode::UNSUPPORTED_MEDIA_TYPE if said.starts_with("fail to deserialize") => {
            ApiError::new(Code::MalformedJson, said)
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::new(
            Code::UnsupportedMediaType,
            "send `Content-Type: application/json`",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
            Code::BodyTooLarge,
            format!("at most {MAX_BODY_BYTES} bytes are accepted"),
        ),
        _ if said.contains("Header") || said.contains("header") || said.contains("Version") => {
            ApiError::new(Code::InvalidHeader, said)
        }
        _ => ApiError::new(Code::MalformedJson, said),
    })
}

struct Inside(Router);

impl Door for Inside {
    fn api(&self, request: &Extensions) -> Result<Arc<dyn Api>, Fault> {
        let parts = request.get::<request::Parts>();
        let parts = parts.ok_or_else(|| Fault::new("internal", "the request has no head"))?;
        let headers = [header::HOST, header::AUTHORIZATION, header::USER_AGENT];
        let headers = headers.into_iter().filter_map(|name| {
            let value = parts.headers.get(&name)?.clone();
            Some((name, value))
        });
        Ok(Arc::new(Own {
            router: self.0.clone(),
            headers: headers.collect(),
            ends: parts.extensions.get::<Ends>().copied(),
        }))
    }
}

/// The service's own routes, for one caller.
struct Own {
    router: Router,
    headers: HeaderMap,
    ends: Option<Ends>,
}

impl Own {
    async fn send(&self, ask: Ask) -> Result<Response, Fault> {
        let (method, body) = match &ask.body {
            Some(body) => (Method::POST, Body::from(body.to_string())),
            None => (Method::GET, Body::empty()),
        };
        let mut request = Request::builder().method(method).uri(&ask.target);
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&self.headers);
        }
        if ask.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &ask.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(ends) = self.ends {
            request = request.extension(ends);
        }
        let request = request
            .body(body)
            .map_err(|error| Fault::new("invalid_arguments", error.to_string()))?;
        let Ok(response) = self.router.clone().oneshot(request).await;
        Ok(response)
    }

    async fn read(response: Response) -> Result<Value, Fault> {
        let status = response.status();
        let body = to_bytes(response.into_body(), MAX_ANSWER_BYTES).await;
        let body = body.map_err(|error| Fault::unreadable(&error))?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            Ok(body)
        } else {
            Err(Fault::problem(status.as_u16(), body))
        }
    }
}

#[async_trait]
impl Api for Own {
    async fn ask(&self, ask: Ask) -> Result<Value, Fault> {
        Self::read(self.send(ask).await?).await
    }

    async fn frames(
        &self,
        task: Uuid,
        after: i64,
    ) -> Result<BoxStream<'static, Result<Event, Fault>>, Fault> {
        let path = ["api", "tasks", &task.to_string(), "stream"];
        let ask = Ask::get(&path, &[("after", Some(after.to_string()))]);
        let response = self.send(ask).await?;
        if !response.status().is_success() {
            return Self::read(response)
                .await
                .map(|_| futures::stream::empty().boxed());
        }
        let events = SseStream::from_bytes_stream(response.into_body().into_data_stream());
        Ok(events
            .filter_map(async |event| {
                let event = match event {
                    Ok(event) => event,
                    Err(error) => return Some(Err(Fault::unreadable(&error))),
                };
                let data = serde_json::from_str(&event.data?).ok()?;
                let kind = event.event?;
                Some(Ok(Event { kind, data }))
            })
            .boxed())
    }
}
