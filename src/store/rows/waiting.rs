//! What waits, in one look for all of it.

use sqlx::PgPool;

/// So many tasks, and the age of the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Waiting {
    /// Tasks that could run.
    pub ready: i64,
    /// Seconds since the oldest of them was created.
    pub ready_s: i64,
    /// Parked ones.
    pub parked: i64,
    /// As above.
    pub parked_s: i64,
    /// Those that run.
    pub running: i64,
    /// As above.
    pub running_s: i64,
    /// Those that wait for a human.
    pub blocked: i64,
    /// As above.
    pub blocked_s: i64,
    /// Prompts that nobody has answered.
    pub prompts: i64,
}

const LOOK: &str = "\
    with waits as (
        select (q.not_before is not null) as parked, t.created_at
        from hearth.queue q join tasks t on t.id = q.task_id
        where q.waiting and t.state = 'pending'),
    works as (select state, created_at from tasks where state in ('running', 'blocked')),
    age as (select clock_timestamp() as now)
    select
        (select count(*) from waits where not parked) as ready,
        (select coalesce(extract(epoch from age.now - min(created_at)), 0)::bigint
            from waits where not parked) as ready_s,
        (select count(*) from waits where parked) as parked,
        (select coalesce(extract(epoch from age.now - min(created_at)), 0)::bigint
            from waits where parked) as parked_s,
        (select count(*) from works where state = 'running') as running,
        (select coalesce(extract(epoch from age.now - min(created_at)), 0)::bigint
            from works where state = 'running') as running_s,
        (select count(*) from works where state = 'blocked') as blocked,
        (select coalesce(extract(epoch from age.now - min(created_at)), 0)::bigint
            from works where state = 'blocked') as blocked_s,
        (select count(*) from hearth.prompts where state = 'open') as prompts
    from age";

/// All of it, of all nodes.
///
/// # Errors
/// The database does not answer.
pub async fn look(pool: &PgPool) -> sqlx::Result<Waiting> {
    sqlx::query_as(LOOK).fetch_one(pool).await
}
