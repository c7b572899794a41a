//! Arenas and their verdict tables.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Cursor, Slice};

/// One prompt for several agents, and how each did.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Arena {
    /// Its id.
    pub id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// The session whose files it starts from; the project's HEAD if none.
    pub session_id: Option<Uuid>,
    /// `preparing`, `running`, `judged`, `selected`, `cancelled` or `failed`.
    pub state: String,
    /// Why it failed.
    pub detail: Option<String>,
    /// The prompt of all.
    pub input: String,
    /// The command that judges, if one does.
    pub check_command: Option<Vec<String>>,
    /// Its longest run, in milliseconds.
    pub check_timeout_ms: Option<i64>,
    /// The commit that all start from, once it is known.
    pub base_commit: Option<String>,
    /// The task of the one that was chosen.
    pub winner: Option<Uuid>,
    /// A person ended it; what runs stops within seconds.
    pub cancelling: bool,
    /// Tokens in of all, cache included.
    pub input_tokens: i64,
    /// Tokens out of all, reasoning included.
    pub output_tokens: i64,
    /// US dollars of all, as far as agents report them.
    pub cost: f64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When the last verdict was there.
    pub ended_at: Option<DateTime<Utc>>,
    /// The verdict table, in the order in which they were named.
    #[schema(value_type = Vec<Contestant>)]
    pub contestants: Json<Vec<Contestant>>,
}

/// How a contestant did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Contestant {
    /// Its task.
    pub task_id: Uuid,
    /// Its workspace, which is in no list.
    pub session_id: Uuid,
    /// Who.
    pub agent: Option<String>,
    /// Wanted model.
    pub model: Option<String>,
    /// Wanted mode.
    pub mode_id: Option<String>,
    /// Of its task: `pending`, `running`, `blocked`, `completed`, `failed` or `cancelled`.
    pub state: String,
    /// The named reason why its turn ended.
    pub outcome: Option<String>,
    /// Why, in a sentence.
    pub outcome_detail: Option<String>,
    /// The beginning of its answer.
    pub summary: Option<String>,
    /// `waiting` for the end of its turn, `examining` (its check runs), `judged`.
    pub stage: String,
    /// `passed`, `failed`, `timed_out`, `not_started` or `skipped`; none without a check.
    pub check: Option<String>,
    /// The check's exit code.
    pub check_exit_code: Option<i32>,
    /// The signal that ended the check.
    pub check_signal: Option<i32>,
    /// Wall time of the check, in milliseconds.
    pub check_ms: Option<i64>,
    /// The end of what the check wrote; only of a single arena.
    pub check_log: Option<String>,
    /// Files that its turn changed.
    pub files: Option<i32>,
    /// Lines that it added.
    pub additions: Option<i64>,
    /// Lines that it took away.
    pub deletions: Option<i64>,
    /// Tokens in, cache included.
    pub input_tokens: i64,
    /// Tokens out, reasoning included.
    pub output_tokens: i64,
    /// US dollars, as far as the agent reports them.
    pub cost: f64,
    /// From the claim of its task to its end, in milliseconds.
    pub wall_ms: Option<i64>,
    /// The commit that holds its files as the turn left them.
    pub result_commit: Option<String>,
    /// Where it worked.
    pub worktree_path: Option<String>,
    /// What a person should know besides.
    pub note: Option<String>,
    /// Its session was closed and its worktree put away.
    pub archived: bool,
}

impl Arena {
    /// Its place in lists.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.created_at,
            id: self.id,
        }
    }
}

macro_rules! select_arenas {
    ($log:literal, $rest:literal) => {
        concat!(
            "select a.id, a.project_id, a.session_id, a.state, a.detail, a.input, a.check_command,
                a.check_timeout_ms, a.base_commit, a.winner, a.created_at, a.ended_at,
                a.cancel_requested_at is not null and a.ended_at is null as cancelling,
                coalesce(c.input_tokens, 0)::bigint as input_tokens,
                coalesce(c.output_tokens, 0)::bigint as output_tokens,
                coalesce(c.cost, 0) as cost, coalesce(c.rows, '[]') as contestants
             from hearth.arenas a
             left join lateral (
                select sum(u.input_tokens) as input_tokens, sum(u.output_tokens) as output_tokens,
                    sum(u.cost) as cost,
                    jsonb_agg(jsonb_build_object(
                        'task_id', c.task_id, 'session_id', c.session_id, 'agent', t.agent,
                        'model', t.model, 'mode_id', t.mode_id, 'state', t.state,
                        'outcome', last.outcome, 'outcome_detail', last.outcome_detail,
                        'summary', t.output_summary, 'stage', c.stage, 'check', c.check_result,
                        'check_exit_code', c.check_exit_code, 'check_signal', c.check_signal,
                        'check_ms', c.check_ms, 'check_log', ",
            $log,
            ",
                        'files', c.files, 'additions', c.additions, 'deletions', c.deletions,
                        'input_tokens', u.input_tokens, 'output_tokens', u.output_tokens,
                        'cost', u.cost,
                        'wall_ms', (extract(epoch from t.ended_at - t.started_at) * 1000)::bigint,
                        'result_commit', c.result_commit, 'worktree_path', t.worktree_path,
                        'note', c.note, 'archived', c.archived_at is not null)
                        order by c.place) as rows
                from hearth.contestants c
                    join tasks t on t.id = c.task_id
                    cross join lateral (
                        select coalesce(sum(u.input_tokens), 0)::bigint as input_tokens,
                            coalesce(sum(u.output_tokens), 0)::bigint as output_tokens,
                            coalesce(sum(u.cost), 0) as cost
                        from hearth.turns u where u.task_id = c.task_id) u
                    left join lateral (
                        select outcome, outcome_detail from hearth.turns u
                        where u.task_id = c.task_id order by u.attempt desc limit 1) last on true
                where c.arena_id = a.id) c on true ",
            $rest
        )
    };
}

/// Newest first, without the logs of checks.
///
/// # Errors
/// The database's.
pub async fn list(
    pool: &PgPool,
    project: Option<Uuid>,
    session: Option<Uuid>,
    slice: &Slice,
) -> sqlx::Result<Vec<Arena>> {
    sqlx::query_as(select_arenas!(
        "null::text",
        "where ($1::uuid is null or a.project_id = $1)
            and ($2::uuid is null or a.session_id = $2)
            and ($3::timestamptz is null or (a.created_at, a.id) < ($3, $4::uuid))
         order by a.created_at desc, a.id desc limit $5"
    ))
    .bind(project)
    .bind(session)
    .bind(slice.at())
    .bind(slice.id())
    .bind(slice.limit)
    .fetch_all(pool)
    .await
}

/// One arena.
///
/// # Errors
/// The database's.
pub async fn get(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Arena>> {
    sqlx::query_as(select_arenas!("c.check_log", "where a.id = $1"))
        .bind(id)
        .fetch_optional(pool)
        .await
}

/// How far an arena is, if it exists.
///
/// # Errors
/// The database's.
pub async fn state(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("select state from hearth.arenas where id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await
}

/// Session and task of the first contestant, in whose stream all frames of the
/// arena are.
///
/// # Errors
/// The database's.
pub async fn stream_place(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<(Uuid, Uuid)>> {
    sqlx::query_as(
        "select session_id, task_id from hearth.contestants
         where arena_id = $1 order by place limit 1",
    )
    .bind(id)
    .fetch_optional(pool)
    .await
}
