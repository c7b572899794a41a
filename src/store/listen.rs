//! Wake-ups from the database. A notification carries no data that anyone
//! relies on: the tables are the truth, and every doubt is a scan.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::Store;

/// A new or requeued task. The payload is its id and is ignored.
const TASKS: &str = "tasks_new";
/// Verbs for the owner of a turn: `cancel <task>`, `chat_deleted <chat>`, `budget <session>`; and for
/// whoever has subscribers: `frame <session> <seq>`, of a frame that a trigger wrote.
const CONTROL: &str = "hearth_control";

/// A connection that died without a word is noticed by the scan that follows
/// this long a silence.
const SILENCE: Duration = Duration::from_secs(15);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// What the database told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Look at the queue: something came, or something may have been missed.
    Scan,
    /// A verb, as it was sent.
    Control(String),
}

/// Listens on a connection of its own.
pub struct Listener {
    pool: PgPool,
}

impl Store {
    /// A listener with its own connection, outside the pools.
    #[must_use]
    pub fn listener(&self) -> Listener {
        let options = self.pool.connect_options().as_ref().clone();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options);
        Listener { pool }
    }
}

impl Listener {
    /// Reports until the receiver is dropped. Begins with a scan once it
    /// listens, so that nothing falls between. Scans coalesce when the channel
    /// is full: with room for one, a burst of any size is at most two scans.
    pub async fn run(self, signals: mpsc::Sender<Signal>) {
        let mut backoff = FIRST_BACKOFF;
        while !signals.is_closed() {
            match self.listen().await {
                Ok(listener) => {
                    backoff = FIRST_BACKOFF;
                    if let Err(error) = relay(listener, &signals).await {
                        warn!(%error, "the connection that listens for tasks broke; listening again");
                    }
                }
                Err(error) => {
                    warn!(%error, retry_in = ?backoff, "cannot listen for tasks; polling goes on");
                }
            }
            tokio::select! {
                () = signals.closed() => return,
                () = sleep(backoff) => backoff = (backoff * 2).min(LONGEST_BACKOFF),
            }
        }
    }

    async fn listen(&self) -> sqlx::Result<PgListener> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        // `tasks_new` last: its statement is what other consumers look for.
        listener.listen(CONTROL).await?;
        listener.listen(TASKS).await?;
        Ok(listener)
    }
}

/// Ends `Ok` when nobody receives any more. A scan that finds the channel full
/// is remembered, and stands for all that follow until there is room.
async fn relay(mut listener: PgListener, signals: &mpsc::Sender<Signal>) -> sqlx::Result<()> {
    let mut scan = true;
    loop {
        tokio::select! {
            biased;
            () = signals.closed() => return Ok(()),
            Ok(room) = signals.reserve(), if scan => {
                room.send(Signal::Scan);
                scan = false;
            }
            received = timeout(SILENCE, listener.try_recv()) => match received {
                Ok(Ok(Some(verb))) if verb.channel() == CONTROL => {
                    // Fails only when nobody receives, which ends the loop.
                    let _ = signals.send(Signal::Control(verb.payload().to_owned())).await;
                }
                // A task, or a lost connection that has been replaced.
                Ok(Ok(Some(_) | None)) => scan = true,
                Ok(Err(error)) => return Err(error),
                Err(_silence) => {
                    ping(&mut listener).await?;
                    scan = true;
                }
            }
        }
    }
}

/// A peer that vanished without closing shows only when it has to answer.
async fn ping(listener: &mut PgListener) -> sqlx::Result<()> {
    match timeout(LONGEST_BACKOFF, sqlx::query("select 1").execute(listener)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
