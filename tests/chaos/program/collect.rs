//! From the database, the streams and the disk to the history of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::asked::nonce_in;
use super::cast::{PROJECTS, SESSIONS};
use super::desk::Desk;
use super::follower::Follower;
use super::history::{
    Answer, Change, Checkout, History, Operation, Session, Task, Turn, Witnessed,
};
use super::people::{Memory, Places};

/// Until all followers have heard the last frame.
const CATCH_UP: Duration = Duration::from_secs(120);
/// Files of worktrees are small.
const MAX_FILE: u64 = 4 << 20;

/// What the database says.
pub(crate) async fn rows(desk: &Desk, places: &Places) -> anyhow::Result<History> {
    let seats: BTreeMap<Uuid, usize> = places.sessions.iter().copied().zip(0..).collect();
    let seats = &seats;
    desk.with_database(async |connection| {
        let mut history = History::default();
        tasks(connection, seats, &mut history).await?;
        turns(connection, seats, &mut history).await?;
        operations(connection, seats, &mut history).await?;
        changes(connection, seats, &mut history).await?;
        history.sessions = vec![Session::default(); SESSIONS];
        for (id, seat) in seats {
            let stored: Vec<i64> =
                sqlx::query_scalar("select seq from hearth.frames where session_id = $1")
                    .bind(id)
                    .fetch_all(&mut *connection)
                    .await?;
            history.sessions[*seat].stored = stored.into_iter().collect();
        }
        Ok(history)
    })
    .await
}

async fn tasks(
    connection: &mut PgConnection,
    seats: &BTreeMap<Uuid, usize>,
    history: &mut History,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "select t.id, t.input, t.session_id, t.state, q.retry_of, t.created_at,
            (select count(*) from hearth.frames f where f.task_id = t.id and f.kind = 'task_updated'
                and f.data ->> 'state' in ('completed', 'failed', 'cancelled')
                and not f.data ? 'child') as ends_told,
            (select left(string_agg(left(f.data::text, 400), e'\n' order by f.seq), 2000)
                from hearth.frames f where f.task_id = t.id and f.kind like 'tool%') as tools
         from tasks t left join hearth.queue q on q.task_id = t.id order by t.created_at",
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let input: String = row.try_get("input")?;
        let session: Option<Uuid> = row.try_get("session_id")?;
        history.tasks.push(Task {
            id: row.try_get("id")?,
            nonce: nonce_in(&input).unwrap_or_default().to_owned(),
            session: seat(seats, session),
            state: row.try_get("state")?,
            retry_of: row.try_get("retry_of")?,
            ends_told: row.try_get("ends_told")?,
            tools: row.try_get::<Option<_>, _>("tools")?.unwrap_or_default(),
            created_at: row.try_get("created_at")?,
        });
    }
    Ok(())
}

async fn turns(
    connection: &mut PgConnection,
    seats: &BTreeMap<Uuid, usize>,
    history: &mut History,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "select t.*, exists (select 1 from hearth.prompts p
            where p.turn_id = t.id and p.detached_at is not null) as asks_on
         from hearth.turns t order by t.claimed_at",
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        history.turns.push(Turn {
            task: row.try_get("task_id")?,
            session: seat(seats, row.try_get("session_id")?),
            attempt: row.try_get("attempt")?,
            outcome: row.try_get("outcome")?,
            claimed_at: row.try_get("claimed_at")?,
            prompted_at: row.try_get("prompted_at")?,
            ended_at: row.try_get("ended_at")?,
            checkpoint: row.try_get("checkpoint_id")?,
            asks_on: row.try_get("asks_on")?,
        });
    }
    Ok(())
}

async fn operations(
    connection: &mut PgConnection,
    seats: &BTreeMap<Uuid, usize>,
    history: &mut History,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "select id, session_id, kind, state, asked, ended_at from hearth.operations
         where ended_at is not null order by ended_at",
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let asked: serde_json::Value = row.try_get("asked")?;
        let state: String = row.try_get("state")?;
        let id = |value: &serde_json::Value| value.as_str().and_then(|id| id.parse().ok());
        history.operations.push(Operation {
            id: row.try_get("id")?,
            session: seat(seats, row.try_get("session_id")?),
            kind: row.try_get("kind")?,
            done: state == "done",
            checkpoint: id(&asked["checkpoint"]),
            changes: asked["changes"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(id)
                .collect(),
            ended_at: row.try_get("ended_at")?,
        });
    }
    Ok(())
}

async fn changes(
    connection: &mut PgConnection,
    seats: &BTreeMap<Uuid, usize>,
    history: &mut History,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "select p.id, p.session_id, p.file_path, c.old_path, p.status,
            c.before_blob, c.after_blob
         from pending_changes p left join hearth.changes c on c.change_id = p.id
         order by p.created_at",
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        history.changes.push(Change {
            id: row.try_get("id")?,
            session: seat(seats, row.try_get("session_id")?),
            path: row.try_get("file_path")?,
            old_path: row.try_get("old_path")?,
            status: row.try_get("status")?,
            before_blob: row.try_get("before_blob")?,
            after_blob: row.try_get("after_blob")?,
        });
    }
    Ok(())
}

/// A session that the run did not open has a seat beyond all others.
fn seat(seats: &BTreeMap<Uuid, usize>, session: Option<Uuid>) -> usize {
    session
        .and_then(|id| seats.get(&id))
        .copied()
        .unwrap_or(usize::MAX)
}

/// The answers that were taken, as they are stored.
pub(crate) async fn answers(desk: &Desk, memory: &Memory) -> anyhow::Result<Vec<Answer>> {
    let given: Vec<(Uuid, String)> = memory.answers.clone().into_iter().collect();
    let ids: Vec<Uuid> = given.iter().map(|(id, _)| *id).collect();
    let ids = &ids;
    let rows: Vec<(Uuid, Option<serde_json::Value>)> = desk
        .with_database(async |connection| {
            sqlx::query_as("select id, answer from hearth.prompts where id = any($1)")
                .bind(ids)
                .fetch_all(connection)
                .await
        })
        .await?;
    let stored: BTreeMap<_, _> = rows.into_iter().collect();
    let answers = given.into_iter().map(|(prompt, given)| {
        let stored = stored.get(&prompt).and_then(Option::as_ref);
        let stored = stored.map(|answer| answer.to_string());
        Answer {
            prompt,
            // The demo agent's options are called as their kinds.
            stored: stored.map(|text| {
                if text.contains(&given) {
                    given.clone()
                } else {
                    text
                }
            }),
            given,
        }
    });
    Ok(answers.collect())
}

/// What the followers heard, once they have caught up or will not.
pub(crate) async fn streams(
    desk: &Desk,
    places: &Places,
    followers: &[Follower],
    history: &mut History,
) {
    let fresh: Vec<Follower> = places
        .sessions
        .iter()
        .enumerate()
        .map(|(seat, session)| follow(desk, *session, seat))
        .collect();
    let started = Instant::now();
    let last =
        |history: &History, seat: usize| history.sessions[seat].stored.last().copied().unwrap_or(0);
    while followers
        .iter()
        .chain(&fresh)
        .any(|follower| follower.last() < last(history, follower.session))
        && started.elapsed() < CATCH_UP
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for follower in followers.iter().chain(&fresh) {
        let last = last(history, follower.session);
        if follower.last() < last {
            let (seat, heard, visits) = (follower.session, follower.last(), follower.visits());
            let what = format!("a reader of session {seat} is at {heard} of {last}: {visits:?}");
            history.unsettled.push(what);
        }
    }
    for follower in followers {
        let heard = follower.heard();
        history.sessions[follower.session].heard.push(heard);
    }
    for follower in &fresh {
        history.sessions[follower.session].read = follower.heard();
    }
}

/// A reader of one session's stream.
pub(crate) fn follow(desk: &Desk, session: Uuid, seat: usize) -> Follower {
    let url = format!("{}/api/sessions/{session}/stream", desk.url);
    Follower::start(desk.http.clone(), url, desk.token.clone(), seat)
}

/// Files of worktrees and checkouts, and directories that are no worktree's.
pub(crate) async fn disk(
    desk: &Desk,
    places: &Places,
    memory: &Memory,
    history: &mut History,
) -> anyhow::Result<()> {
    let rows: Vec<(String, String)> = desk
        .with_database(async |connection| {
            sqlx::query_as("select path, status from worktrees")
                .fetch_all(connection)
                .await
        })
        .await?;
    let active = rows.iter().filter(|(_, status)| status == "active");
    let active: BTreeSet<PathBuf> = active.map(|(path, _)| PathBuf::from(path)).collect();
    let there = worktrees_below(&desk.home.join("worktrees"))?;
    for path in there.difference(&active) {
        history
            .leaked
            .push(format!("{} has no row", path.display()));
    }
    for path in active.difference(&there) {
        history
            .leaked
            .push(format!("{} has a row, and is not there", path.display()));
    }
    for (number, checkout) in places.checkouts.iter().enumerate() {
        let prunable = super::hearth::git(checkout, &["worktree", "list", "--porcelain"])?;
        if prunable.contains("\nprunable") {
            history.leaked.push(format!(
                "{}: git knows a worktree that is gone: {prunable}",
                checkout.display()
            ));
        }
        let own = memory
            .own
            .iter()
            .filter(|((project, _), _)| *project == number);
        let lines = memory
            .lines
            .iter()
            .filter(|(project, _)| *project == number);
        history.checkouts.push(Checkout {
            files: files(checkout)?,
            own: own
                .map(|((_, path), content)| (path.clone(), content.clone()))
                .collect(),
            lines: lines.map(|(_, line)| line.clone()).collect(),
        });
    }
    ensure!(
        history.checkouts.len() == PROJECTS,
        "every checkout was read"
    );
    for (seat, worktree) in places.worktrees.iter().enumerate() {
        if worktree.exists() {
            history.sessions[seat].files = Some(files(worktree)?);
        }
    }
    Ok(())
}

/// Directories in which git has a worktree, or anything else is, two levels down.
fn worktrees_below(root: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    if !root.exists() {
        return Ok(found);
    }
    for project in std::fs::read_dir(root)? {
        let project = project?;
        if !project.file_type()?.is_dir() || project.file_name().to_string_lossy().starts_with('.')
        {
            continue;
        }
        for worktree in std::fs::read_dir(project.path())? {
            found.insert(worktree?.path());
        }
    }
    Ok(found)
}

/// Ordinary files below a folder with what they hold, git's own left out.
fn files(root: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name() == ".git" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if entry.metadata()?.len() <= MAX_FILE {
                let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
                found.insert(name, std::fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// Prompts as they reached the demo agent: a line each.
pub(crate) fn demo_witness(path: &Path) -> Vec<Witnessed> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(|line| Witnessed {
        nonce: line.trim().to_owned(),
        at: None,
    });
    lines.collect()
}
