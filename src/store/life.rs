//! What only the newest life of this node may write.

use hearth_actors::ports::{ArenasError, ReapError};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::{Store, StoreError};

/// This life is the newest and holds its lease. Locks the node's row against a
/// take-over until the end of the transaction, so that nothing begins behind the
/// back of a newer life.
pub(super) const LIFE: &str = "\
    select true from hearth.nodes n
    where n.id = $1 and n.incarnation = $2 and n.lease_until > clock_timestamp()
    for share";

/// Why such a write did not happen.
pub(super) enum NotWritten {
    /// The lease is over.
    LeaseLost,
    /// The database would not.
    Store(StoreError),
}

impl Store {
    /// A transaction of the life that holds the lease.
    pub(super) async fn while_leased<T>(
        &self,
        write: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, NotWritten> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        let leased: Option<bool> = sqlx::query_scalar(LIFE)
            .bind(self.node.0)
            .bind(self.incarnation())
            .fetch_optional(&mut *tx)
            .await?;
        if leased.is_none() {
            return Err(NotWritten::LeaseLost);
        }
        let done = write(&mut tx).await?;
        tx.commit().await?;
        Ok(done)
    }
}

impl From<sqlx::Error> for NotWritten {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<StoreError> for NotWritten {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<NotWritten> for ReapError {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::LeaseLost => Self::LeaseLost,
            NotWritten::Store(error) => Self::Unavailable(error.into()),
        }
    }
}

impl From<NotWritten> for ArenasError {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::LeaseLost => Self::LeaseLost,
            NotWritten::Store(error) => Self::Unavailable(error.into()),
        }
    }
}
