//! The event stream of one directory, for one session. It replays nothing: whoever
//! lost it must read what is stored before going on.

use std::path::Path;
use std::time::Duration;

use eventsource_client::{Client as _, ClientBuilder, Error, ReconnectOptions, SSE};
use futures::StreamExt;
use futures::stream::BoxStream;
use launchdarkly_sdk_transport::HyperTransport;
use serde_json::Value;

use super::client::{Client, USER};
use super::heard::Heard;

/// Longest silence: the server beats every 10 s.
const SILENCE: Duration = Duration::from_secs(25);
const CONNECT: Duration = Duration::from_secs(5);
/// Waits between two tries: the server is on this machine, so that only its own
/// trouble keeps it from answering.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(2);

/// What the stream brings.
#[derive(Debug)]
pub(super) enum News {
    /// It is open, for the first time or again: what came before was missed.
    Open,
    /// An event of some session of the directory.
    Heard(Heard),
}

/// See the module. The caller's loop is what reconnects.
pub(super) struct Events {
    client: Client,
    url: String,
    open: Option<BoxStream<'static, Result<SSE, Error>>>,
    tries: u32,
}

impl Events {
    pub(super) fn of(client: Client, directory: &Path) -> Self {
        Self {
            url: client.events_url(directory),
            client,
            open: None,
            tries: 0,
        }
    }

    /// The next of it; waits for as long as the server is away. Cancel-safe.
    pub(super) async fn next(&mut self) -> News {
        loop {
            if self.open.is_none() {
                tokio::time::sleep(self.delay()).await;
                self.tries = self.tries.saturating_add(1);
                match self.connect() {
                    Ok(stream) => self.open = Some(stream),
                    Err(error) => tracing::warn!(%error, "opencode's events cannot be read"),
                }
                continue;
            }
            let Some(stream) = &mut self.open else {
                continue;
            };
            let said = stream.next().await;
            match said {
                Some(Ok(said)) => {
                    self.client.count();
                    if let Some(news) = self.read(said) {
                        return news;
                    }
                }
                lost => {
                    tracing::debug!(?lost, "opencode's events were cut");
                    self.open = None;
                }
            }
        }
    }

    /// Opens it anew: what was missed could not be read, so that nothing after it may
    /// be heard either.
    pub(super) fn again(&mut self) {
        self.open = None;
        self.tries = self.tries.max(1);
    }

    fn read(&mut self, said: SSE) -> Option<News> {
        let SSE::Event(event) = said else { return None };
        let event: Value = serde_json::from_str(&event.data).ok()?;
        // Its first words; from here on nothing is missed.
        if event["type"] == "server.connected" {
            self.tries = 0;
            return Some(News::Open);
        }
        Heard::read(event).map(News::Heard)
    }

    fn delay(&self) -> Duration {
        match self.tries {
            0 => Duration::ZERO,
            tries => FIRST_DELAY
                .saturating_mul(1 << (tries - 1).min(10))
                .min(LAST_DELAY),
        }
    }

    fn connect(&self) -> Result<BoxStream<'static, Result<SSE, Error>>, String> {
        let transport = HyperTransport::builder()
            .disable_proxy()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build_http()
            .map_err(|error| error.to_string())?;
        let stream = ClientBuilder::for_url(&self.url)
            .and_then(|builder| builder.basic_auth(USER, self.client.password()))
            .map_err(|error| error.to_string())?
            .reconnect(ReconnectOptions::reconnect(false).build())
            .build_with_transport(transport)
            .stream();
        Ok(stream)
    }
}
