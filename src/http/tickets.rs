//! Tickets: what a browser opens a stream with. A page cannot send a header with
//! an `EventSource` or a `WebSocket`, and a token in an address would stay in
//! histories and logs. A ticket opens one stream once, within half a minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult, ProblemBody};
use super::state::AppState;
use crate::access::random_secret;

/// Tickets that wait to be used; each is some hundred bytes.
const MAX_OPEN: usize = 1024;
/// How long a ticket can be used, unless the service is told otherwise.
pub(super) const TTL: Duration = Duration::from_secs(30);

/// The tickets that were given and not used yet, by their digest: neither a
/// memory dump nor the time of a comparison tells one.
#[derive(Debug)]
pub(super) struct Tickets {
    ttl: Duration,
    open: Mutex<BTreeMap<[u8; 32], Instant>>,
}

impl Tickets {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            open: Mutex::default(),
        }
    }

    /// A new ticket; none while too many wait.
    fn issue(&self, now: Instant) -> Option<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, until| *until > now);
        if open.len() >= MAX_OPEN {
            return None;
        }
        let ticket = random_secret();
        open.insert(digest(&ticket), now + self.ttl);
        Some(ticket)
    }

    /// Uses it up. False when it is unknown, used or too old.
    pub(super) fn redeem(&self, ticket: &str, now: Instant) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&digest(ticket))
            .is_some_and(|until| until > now)
    }
}

fn digest(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket.as_bytes()).into()
}

/// A ticket for one stream.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ticket {
    /// Goes into the address of a stream: `?ticket=…`.
    ticket: String,
    /// Seconds in which it can be used, once.
    expires_in: u64,
}

/// A ticket that opens one stream (server-sent events or WebSocket) once, for
/// pages: `?ticket=…`. To open a stream again takes a new one.
#[utoipa::path(post, path = "/api/tickets", tag = "streams",
    responses((status = 201, body = Ticket),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn create(State(state): State<AppState>) -> ApiResult<(StatusCode, Json<Ticket>)> {
    let ticket = state
        .tickets
        .issue(Instant::now())
        .ok_or_else(|| ApiError::busy("unused tickets"))?;
    let expires_in = state.tickets.ttl.as_secs();
    Ok((StatusCode::CREATED, Json(Ticket { ticket, expires_in })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_not_for_long() {
        let tickets = Tickets::new(TTL);
        let now = Instant::now();
        let ticket = tickets.issue(now).expect("a ticket");
        assert!(!tickets.redeem(&ticket[1..], now));
        assert!(tickets.redeem(&ticket, now + TTL - Duration::from_millis(1)));
        assert!(!tickets.redeem(&ticket, now), "it is used");
        let late = tickets.issue(now).expect("a ticket");
        assert!(!tickets.redeem(&late, now + TTL));
    }

    #[test]
    fn their_number_is_bounded_and_old_ones_make_room() {
        let tickets = Tickets::new(TTL);
        let now = Instant::now();
        for _ in 0..MAX_OPEN {
            assert!(tickets.issue(now).is_some());
        }
        assert_eq!(tickets.issue(now), None);
        assert!(tickets.issue(now + TTL).is_some());
    }
}
