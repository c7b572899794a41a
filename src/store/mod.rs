//! All SQL of the service. Postgres is the memory of Hearth: the tree reads
//! and writes it through the ports that [`Store`] implements.
//!
//! # Lock order
//! Every transaction takes its row locks in this order and never goes back:
//! node → arena → gate → session (to close it or put its files away) → turn or operation → prompts → task → queue entry → agent rests → messages → worktree → changes →
//! `agent_sessions` → `agent_links` → transcripts → their entries → untold → stream → frames. A claim alone starts in the middle of
//! the order, and takes gate, entry and task with `skip locked`: it never waits
//! for what another transaction holds.

mod arenas;
pub mod branches;
mod budgets;
mod cancel;
mod close;
mod contexts;
mod control;
mod detached;
mod doubt;
mod drafts;
pub mod embedded;
mod endings;
mod error;
mod family;
mod finish;
mod frames;
mod journal;
mod lease;
mod life;
mod limits;
mod listen;
mod migrate;
mod notices;
mod operations;
mod other_consumer;
mod prompts;
mod queue;
mod reap;
mod retention;
mod retry;
pub mod rows;
mod set_up;
mod snapshot;
mod text;
mod transcripts;
mod worktree_row;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hearth_actors::ids::{AgentName, NodeId};
use hearth_actors::limits::BudgetSettings;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgPool};
use uuid::Uuid;

pub use arenas::{CancelArena, CreatedArena, NewArena, NewContestant, NewGround, Select};
pub use cancel::CancelRequest;
pub use close::{Closed, Deleted};
pub use control::{Created, NewMessage, NewTask};
pub use drafts::{MAX_INPUT_CHARS, MAX_KEY_BYTES};
use endings::Endings;
pub use error::{StoreError, connect_cure};
pub use family::FamilyLimits;
pub use frames::{BYTES_PER_READ, Extent, FRAMES_PER_READ, FramePage};
pub use listen::{Listener, Signal};
pub use migrate::migrate;
pub use other_consumer::refuse_other_consumer;
pub use retention::Spent;
pub use retry::{Before, Interrupted, Retry};
pub use snapshot::Snapshot;

/// Length of a node's lease. A node that does not renew it for this long is
/// taken for dead.
pub const LEASE: Duration = Duration::from_secs(30);

/// By which the service is known in `pg_stat_activity`.
const APPLICATION_NAME: &str = "hearth";

/// How the store uses its database.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where the database is.
    pub connect: PgConnectOptions,
    /// Which data directory this process runs on.
    pub node: NodeId,
    /// Runs tasks that name no agent; none leaves them unclaimed.
    pub default_agent: Option<AgentName>,
    /// How far tasks may go in asking for others.
    pub family: FamilyLimits,
    /// What may be spent.
    pub budgets: BudgetSettings,
    /// Connections for reads and requests.
    pub connections: u32,
    /// Connections for the journals of running turns.
    pub journal_connections: u32,
    /// Connections for claims, apart from the others so that a claim never
    /// waits behind the journal.
    pub claim_connections: u32,
    /// Longest wait for a free connection.
    pub acquire_timeout: Duration,
    /// Longest run of one statement, enforced by the server.
    pub statement_timeout: Duration,
}

impl StoreOptions {
    /// The defaults: 6 connections for reads and requests, 6 for journals, 2 for
    /// claims, 5 s for a free one, 30 s a statement.
    #[must_use]
    pub fn new(connect: PgConnectOptions, node: NodeId) -> Self {
        Self {
            connect,
            node,
            default_agent: None,
            family: FamilyLimits::default(),
            budgets: BudgetSettings::default(),
            connections: 6,
            journal_connections: 6,
            claim_connections: 2,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

/// The database as the service sees it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    journal: PgPool,
    claims: PgPool,
    node: NodeId,
    default_agent: Option<AgentName>,
    family: FamilyLimits,
    budgets: BudgetSettings,
    /// This node's life; 0 while it holds no lease.
    incarnation: Arc<AtomicI64>,
    /// Claims that were sent and not answered. What they claimed is given back
    /// before the next one; so there are as many as claims in flight.
    unanswered_claims: Arc<Mutex<BTreeSet<Uuid>>>,
    /// Group commits that nobody can tell from not having happened.
    doubtful_writes: Arc<Mutex<BTreeSet<Uuid>>>,
    endings: Endings,
}

impl Store {
    /// Opens the pools. One connection is made at once, so that a wrong
    /// address or password is told here.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database does not answer within the
    /// acquire timeout, [`StoreError::Refused`] when it refuses us.
    pub async fn connect(options: StoreOptions) -> Result<Self, StoreError> {
        let base = session_settings(&options);
        let pool = pool_options(&options, options.connections)
            // Its callers do not try again: what slept may have died meanwhile.
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for > Duration::from_secs(1) {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(base.clone())
            .await
            .map_err(error::connect_error)?;
        let journal = pool_options(&options, options.journal_connections)
            .connect_lazy_with(probe_settings(base.clone()));
        let claims = pool_options(&options, options.claim_connections)
            .connect_lazy_with(probe_settings(base));
        Ok(Self {
            pool,
            journal,
            claims,
            node: options.node,
            default_agent: options.default_agent,
            family: options.family,
            budgets: options.budgets,
            incarnation: Arc::new(AtomicI64::new(0)),
            unanswered_claims: Arc::default(),
            doubtful_writes: Arc::default(),
            endings: Endings::default(),
        })
    }

    /// The pool for reads and writes of other rooms of the store.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The node this store speaks for.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Points every pool at another address: the private server may come back
    /// on another port.
    pub fn set_connect_options(&self, connect: &PgConnectOptions, statement_timeout: Duration) {
        let base = with_settings(connect.clone(), statement_timeout);
        self.pool.set_connect_options(base.clone());
        self.journal
            .set_connect_options(probe_settings(base.clone()));
        self.claims.set_connect_options(probe_settings(base));
    }

    /// Closes every connection, after what runs on them has ended.
    pub async fn close(&self) {
        self.claims.close().await;
        self.journal.close().await;
        self.pool.close().await;
    }

    fn incarnation(&self) -> i64 {
        self.incarnation.load(Ordering::Acquire)
    }
}

fn pool_options(options: &StoreOptions, connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(options.acquire_timeout)
        // A ping before each use would double the way of every statement; a
        // dead connection shows itself as an error that the caller retries.
        .test_before_acquire(false)
}

fn session_settings(options: &StoreOptions) -> PgConnectOptions {
    with_settings(options.connect.clone(), options.statement_timeout)
}

/// What every connection has in common. JIT compiles for longer than any of
/// our statements runs.
fn with_settings(connect: PgConnectOptions, statement_timeout: Duration) -> PgConnectOptions {
    connect.application_name(APPLICATION_NAME).options([
        (
            "statement_timeout",
            statement_timeout.as_millis().to_string(),
        ),
        ("jit", "off".to_owned()),
        // The default path begins with a schema of the user's name, and a user
        // named `hearth` has our own for it.
        ("search_path", "public".to_owned()),
    ])
}

/// Claims and the journal are all index probes. A queue that was just filled has
/// no statistics, and those of an hour ago are worse than none; planning their
/// long statements each time would take longer than running them. So a plan
/// follows the statement's structure, and is made once a connection.
fn probe_settings(base: PgConnectOptions) -> PgConnectOptions {
    base.options([
        // Known to the trigger that guards leased states.
        ("hearth.dispatches", "on"),
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
    ])
}
