//! What every request passes before its handler: bounds, Host, Origin, token.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use super::error::{ApiError, Code};
use super::hosts::HostRules;
use super::operator::AgentCaller;
use super::places::Place;
use super::state::AppState;
use super::{operator, stream};

/// Longest handling of a request; a stream's body may flow on.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Routes that answer without a token: they show the bare status only.
const OPEN_ROUTES: &[&str] = &["/api/health", "/api/health/live", "/api/health/ready"];

/// What is known of the caller. In the extensions of every request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// It showed the token, or a ticket where one is enough.
    pub(super) trusted: bool,
    /// It is known to be a process of an agent, which may not choose policies.
    pub(super) agent: Option<AgentCaller>,
    /// Where it calls from.
    pub(super) address: Option<IpAddr>,
}

/// Bounds in number and time, and an answer even when a handler panics.
pub(super) async fn bound(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let Ok(_permit) = state.requests.clone().try_acquire_owned() else {
        return ApiError::busy("requests").into_response();
    };
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(REQUEST_TIMEOUT, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!("a handler panicked; the panic itself is logged above");
            ApiError::new(
                Code::Internal,
                "the cause is in the log of the service; trying again may help",
            )
            .into_response()
        }
        Err(_) => ApiError::timeout(REQUEST_TIMEOUT.as_secs()).into_response(),
    }
}

/// Host, Origin, content type, token, and whether an agent asks.
pub(super) async fn admit(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    check_host(&state.hosts, &request)?;
    let streams = is_stream(&request);
    if streams || changes_something(request.method()) {
        check_site(&request)?;
    }
    if changes_something(request.method()) {
        check_media_type(request.headers())?;
    }
    let trusted = match presented(request.headers()) {
        Some(token) => state.token.matches(token),
        None if streams => redeem(&state, &request)?,
        None => false,
    };
    if !trusted && !OPEN_ROUTES.contains(&request.uri().path()) {
        return Err(unauthorized(request.headers()));
    }
    if let Some(place) = request.extensions().get::<Arc<Place>>().filter(|_| trusted) {
        place.known();
    }
    let address = operator::ends(&request).map(|ends| ends.caller());
    let agent = operator::check(&state, &request);
    let caller = Caller {
        trusted,
        agent: agent.await?,
        address,
    };
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// What browsers are told of every answer: to run and frame nothing of it, to
/// guess no type, to tell nobody where it came from, and to show it to no other
/// site. A page says by itself what it needs beyond that.
pub(super) async fn sealed(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// A stream can be opened by a page without the token in a header.
fn is_stream(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>();
    path.is_some_and(|path| stream::ROUTES.contains(&path.as_str()))
}

/// Uses up the ticket in the address. False when there is none.
fn redeem(state: &AppState, request: &Request) -> Result<bool, ApiError> {
    let query = request.uri().query().unwrap_or_default();
    let ticket = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("ticket="));
    match ticket {
        None => Ok(false),
        Some(ticket) if state.tickets.redeem(ticket, Instant::now()) => Ok(true),
        Some(_) => Err(ApiError::new(
            Code::TicketInvalid,
            "the ticket is unknown, used or too old: each opens one stream once; POST /api/tickets gives a new one",
        )),
    }
}

fn changes_something(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized(headers: &HeaderMap) -> ApiError {
    let detail = if headers.contains_key(header::AUTHORIZATION) {
        "the token is not ours: it is in the file `token` of the data directory, or what HEARTH_TOKEN says"
    } else {
        "send `Authorization: Bearer <token>`: it is in the file `token` of the data directory"
    };
    ApiError::new(Code::Unauthorized, detail)
        .with_header(header::WWW_AUTHENTICATE, "Bearer realm=\"hearth\"")
}

/// The name the caller meant: HTTP/2 has it in the address, HTTP/1.1 in `Host`.
fn authority(request: &Request) -> Option<&str> {
    request.uri().authority().map_or_else(
        || request.headers().get(header::HOST)?.to_str().ok(),
        |authority| Some(authority.as_str()),
    )
}

fn check_host(rules: &HostRules, request: &Request) -> Result<(), ApiError> {
    // Of several, a proxy before us may have looked at another one.
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        return Err(ApiError::new(
            Code::HostNotAllowed,
            "there is more than one Host header: send one",
        ));
    }
    match authority(request) {
        Some(host) if rules.allow(host) => Ok(()),
        Some(host) => Err(ApiError::new(
            Code::HostNotAllowed,
            format!(
                "`{}` is not a name of this service: add it to allowed_hosts if it should be",
                host.escape_debug()
            ),
        )),
        None => Err(ApiError::new(
            Code::HostNotAllowed,
            "the Host header is missing",
        )),
    }
}

/// Browsers say where a request comes from; other programs need not.
fn check_site(request: &Request) -> Result<(), ApiError> {
    let text = |name| request.headers().get(name).map(|value| value.to_str());
    let refused = |what: &str| {
        Err(ApiError::new(
            Code::CrossSite,
            format!("{what}: changes and streams are for the service's own pages and for programs"),
        ))
    };
    match text(HeaderName::from_static("sec-fetch-site")) {
        None | Some(Ok("same-origin" | "none")) => {}
        _ => return refused("Sec-Fetch-Site names another site"),
    }
    match text(header::ORIGIN) {
        None => Ok(()),
        Some(Ok(origin)) if is_own(origin, authority(request)) => Ok(()),
        _ => refused("Origin names another site"),
    }
}

fn is_own(origin: &str, host: Option<&str>) -> bool {
    let address = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    matches!((address, host), (Some(address), Some(host)) if address.eq_ignore_ascii_case(host))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if has_body && !is_json {
        return Err(ApiError::new(
            Code::UnsupportedMediaType,
            "send the body with `Content-Type: application/json`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_own_only_when_it_is_the_host_itself() {
        assert!(is_own("http://localhost:9502", Some("localhost:9502")));
        assert!(!is_own("http://localhost:3000", Some("localhost:9502")));
        assert!(!is_own("null", Some("localhost:9502")));
    }
}
