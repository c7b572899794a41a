//! Two dispatchers on one queue would run tasks twice.

use sqlx::PgPool;

use super::{APPLICATION_NAME, StoreError};

/// A backend keeps no list of its channels that others can read. What shows is
/// its last statement, and a connection that listens has usually said nothing
/// since. The lease guard on `tasks` catches who slips through.
const LISTENERS: &str = "\
    select a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'),
        coalesce(host(a.client_addr), 'local')
    from pg_stat_activity a
    where a.datname = current_database() and a.pid <> pg_backend_pid()
        and a.query ~* '^\\s*listen\\s+\"?tasks_new\\y'
        and a.application_name <> $1
    order by a.pid limit 5";

/// Refuses to run beside a foreign session that listens on `tasks_new`. A
/// setting of the service skips the call.
///
/// # Errors
/// [`StoreError::Refused`] names the other sessions and the cure;
/// [`StoreError::Unavailable`].
pub async fn refuse_other_consumer(pool: &PgPool) -> Result<(), StoreError> {
    let others: Vec<(i32, String, String)> = sqlx::query_as(LISTENERS)
        .bind(APPLICATION_NAME)
        .fetch_all(pool)
        .await?;
    if others.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = others
        .iter()
        .map(|(pid, name, address)| format!("{name} (backend {pid}, from {address})"))
        .collect();
    Err(StoreError::Refused(format!(
        "another consumer of the task queue is connected: {}. Two of them would run the same \
         tasks: stop the other one (for BooCode, its coder service), then start Hearth again",
        names.join(", ")
    )))
}
