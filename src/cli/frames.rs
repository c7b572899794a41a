//! A stream of the service that survives cuts: it goes on behind the last seq.

use std::time::Duration;

use eventsource_client::{Client as _, ClientBuilder, Error, ReconnectOptions, SSE};
use futures::StreamExt;
use futures::stream::BoxStream;
use launchdarkly_sdk_transport::HyperTransport;
use serde_json::Value;
use tokio::time::Instant;

use super::client::CONNECT_TIMEOUT;
use super::failure::{Exit, Failure};

/// Longest silence: the service shows a sign of life every 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(45);
/// Failed tries in a row before the service counts as gone: about 20 s.
const MAX_TRIES: u32 = 8;
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// `delta`, `task_updated`, `tree`, …
    pub(super) kind: String,
    /// Its JSON.
    pub(super) data: Value,
}

pub(super) struct Frames {
    url: String,
    token: String,
    last_seq: Option<i64>,
    tries: u32,
    /// When the next try is due: kept here, so that a caller who stops waiting
    /// does not start the wait again.
    due: Instant,
    open: Option<BoxStream<'static, Result<SSE, Error>>>,
    /// It does not answer, as far as is known.
    away: bool,
    /// What the reader was told of that.
    told: bool,
}

impl Frames {
    pub(super) fn new(url: String, token: String) -> Self {
        Self {
            url,
            token,
            last_seq: None,
            tries: 0,
            due: Instant::now(),
            open: None,
            away: false,
            told: false,
        }
    }

    /// What a person should hear: once that the stream is cut and that it is waited
    /// for, and once that it goes on.
    pub(super) fn heard_of_cut(&mut self) -> Option<&'static str> {
        let changed = self.away != std::mem::replace(&mut self.told, self.away);
        changed.then_some(match self.away {
            true => "  the service went away; waiting for it to come back",
            false => "  the service is back",
        })
    }

    /// The same, behind what was seen before.
    pub(super) fn after(mut self, seq: Option<i64>) -> Self {
        self.last_seq = seq;
        self
    }

    /// Where the stream would go on.
    pub(super) fn last_seq(&self) -> Option<i64> {
        self.last_seq
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// The service refuses, stays away, or ends the stream again and again.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.next_or_end().await? {
                return Ok(event);
            }
        }
    }

    /// The next event; none where the stream came to its end, which the next call
    /// opens again. Cancel-safe.
    ///
    /// # Errors
    /// As [`Frames::next`].
    pub(super) async fn next_or_end(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if self.open.is_none() {
                tokio::time::sleep_until(self.due).await;
                self.open = Some(self.connect()?);
                self.tries += 1;
                self.due = Instant::now() + delay(self.tries);
            }
            let Some(stream) = &mut self.open else {
                continue;
            };
            let next = stream.next().await;
            self.away = matches!(&next, Some(Err(error)) if !matches!(error, Error::Eof));
            match next {
                Some(Ok(SSE::Event(event))) => {
                    self.tries = 0;
                    if let Some(seq) = event.id.as_deref().and_then(|id| id.parse().ok()) {
                        self.last_seq = Some(seq);
                    }
                    if let Ok(data) = serde_json::from_str(&event.data) {
                        return Ok(Some(Event {
                            kind: event.event_type,
                            data,
                        }));
                    }
                }
                // A stream on which little happens is alive, too.
                Some(Ok(SSE::Comment(_))) => self.tries = 0,
                Some(Ok(SSE::Connected(_))) => {}
                // How the library says that the body ended whole.
                None | Some(Err(Error::Eof)) => {
                    self.open = None;
                    if self.tries >= MAX_TRIES {
                        return Err(self.cut());
                    }
                    return Ok(None);
                }
                Some(Err(error)) => self.failed(&error)?,
            }
        }
    }

    fn failed(&mut self, error: &Error) -> Result<(), Failure> {
        self.open = None;
        let refused = match error {
            Error::UnexpectedResponse(answer, _) => Some(answer.status()),
            _ => None,
        };
        match refused {
            Some(status) if status != 503 => Err(Failure::plain(
                Exit::Unreachable,
                format!("the service refuses the stream {} ({status})", self.url),
            )),
            _ if self.tries >= MAX_TRIES => Err(self.cut()),
            _ => Ok(()),
        }
    }

    fn cut(&self) -> Failure {
        Failure::new(
            Exit::Unreachable,
            format!("the stream {} was cut and does not come back", self.url),
            "look at the service's log; the turn goes on without this terminal",
        )
    }

    fn connect(&self) -> Result<BoxStream<'static, Result<SSE, Error>>, Failure> {
        let transport = HyperTransport::builder()
            .disable_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build_http()
            .map_err(|error| self.unusable(&error))?;
        let mut builder = ClientBuilder::for_url(&self.url)
            .and_then(|builder| builder.header("Authorization", &format!("Bearer {}", self.token)))
            .map_err(|error| self.unusable(&error))?
            .reconnect(ReconnectOptions::reconnect(false).build());
        if let Some(seq) = self.last_seq {
            builder = builder.last_event_id(seq.to_string());
        }
        Ok(builder.build_with_transport(transport).stream())
    }

    fn unusable(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::plain(
            Exit::Unreachable,
            format!("the stream {} cannot be opened: {error}", self.url),
        )
    }
}

/// 0.2, 0.4, … 5 s.
fn delay(tries: u32) -> Duration {
    FIRST_DELAY
        .saturating_mul(1 << (tries - 1).min(10))
        .min(LAST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_up_to_a_bound() {
        assert_eq!(delay(1), FIRST_DELAY);
        assert_eq!(delay(3), FIRST_DELAY * 4);
        assert_eq!(delay(100), LAST_DELAY);
    }
}
