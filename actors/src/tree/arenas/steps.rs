//! What a step does. It may be cut off anywhere and is safe to be repeated.

use std::time::Duration;

use tokio::time::timeout;

use crate::arena::{Archived, Arena, Base, CheckEnd, CheckResult, Contestant, Ground};
use crate::ids::{CheckpointId, TaskId};
use crate::model::WorktreeSpec;
use crate::outcome::Outcome;
use crate::ports::{ArenasError, WorktreeError};
use crate::rules::arena::Step;
use crate::tree::addr::Addr;
use crate::tree::pool;
use crate::tree::ready;
use crate::tree::shared::{Shared, until_written, with_source};

/// Longest wait for agents to stop: the ladder of one that ignores it.
const QUIET_BOUND: Duration = Duration::from_secs(20);
/// Longest work on a worktree.
const WORKTREE_BOUND: Duration = Duration::from_secs(600);

/// How a step ended.
pub(in crate::tree) enum Ended {
    /// It is done: look what is next.
    Done,
    /// Something stands in its way: try again later.
    NotNow,
}

pub(super) async fn carry_out(
    shared: &Shared,
    pool: &Addr<pool::Msg>,
    arena: &Arena,
    step: Step,
) -> Result<Ended, ArenasError> {
    let arenas = &shared.ports.arenas;
    let of = |task: TaskId| arena.contestants.iter().find(|one| one.task == task);
    let frames = match (step, step.task().and_then(of)) {
        (Step::Begin, _) => match base(shared, arena).await {
            Ok(base) => arenas.begin(arena.id, &base).await?,
            Err(why) => {
                tracing::warn!(arena = %arena.id, %why, "an arena cannot begin");
                arenas.fail(arena.id, &why).await?
            }
        },
        (Step::Stop(task), _) => {
            let (frames, running) = arenas.stop(task).await?;
            shared.hub.publish(frames);
            if running {
                pool.cast(pool::Msg::Cancel(task));
                return Ok(Ended::NotNow);
            }
            Vec::new()
        }
        (Step::Examine { check, .. }, Some(one)) => {
            return examine(shared, arena, one, check).await;
        }
        (Step::Archive(_), Some(one)) => return archive(shared, pool, one).await,
        (Step::Conclude(state), _) => arenas.conclude(arena.id, state).await?,
        (Step::Examine { .. } | Step::Archive(_), None) => Vec::new(),
    };
    shared.hub.publish(frames);
    Ok(Ended::Done)
}

/// The commit that all start from, or why there is none.
async fn base(shared: &Shared, arena: &Arena) -> Result<Base, String> {
    let worktrees = &shared.ports.worktrees;
    let found = async {
        match &arena.ground {
            Ground::Project(path) => Ok(Base {
                commit: worktrees.head(path).await?,
                source: None,
            }),
            Ground::Session(spec) => of_session(shared, arena, spec).await,
        }
    };
    match timeout(WORKTREE_BOUND, found).await {
        Ok(found) => found.map_err(|error| with_source(&error)),
        Err(_) => Err(format!("its base was not found within {WORKTREE_BOUND:?}")),
    }
}

/// Uncommitted files of the session are in its base: a shadow commit of all.
async fn of_session(
    shared: &Shared,
    arena: &Arena,
    spec: &WorktreeSpec,
) -> Result<Base, WorktreeError> {
    let worktrees = &shared.ports.worktrees;
    let worktree = worktrees.ensure(spec).await?;
    let id = CheckpointId(arena.id.0);
    let taken = worktrees.checkpoint(&worktree, id, None).await?;
    Ok(Base {
        commit: taken.commit,
        source: Some(worktree),
    })
}

/// Files first, check second: a check may write, and what it writes is not the
/// contestant's.
async fn examine(
    shared: &Shared,
    arena: &Arena,
    one: &Contestant,
    check: bool,
) -> Result<Ended, ArenasError> {
    let arenas = &shared.ports.arenas;
    if !arenas.examine(one.task, check).await? {
        return Ok(Ended::NotNow);
    }
    let note = keep(shared, one).await?;
    let end = match (&arena.check, &one.worktree) {
        (None, _) => None,
        (Some(command), Some(worktree)) if check => {
            let checks = &shared.ports.checks;
            Some(checks.run(one.task, command, &worktree.path).await)
        }
        (Some(_), _) => Some(CheckEnd::without_run(
            CheckResult::Skipped,
            why_skipped(arena, one),
        )),
    };
    // A check may have taken long: it is not run again because the database is
    // away at its end.
    let frames = until_written(|| arenas.judge(one.task, end.as_ref(), note.as_deref())).await?;
    shared.hub.publish(frames);
    Ok(Ended::Done)
}

/// Keeps the files as the turn left them; says why where it cannot.
async fn keep(shared: &Shared, one: &Contestant) -> Result<Option<String>, ArenasError> {
    let (Some(worktree), None) = (&one.worktree, &one.result) else {
        return Ok(None);
    };
    let id = CheckpointId(one.task.0);
    let taking = shared.ports.worktrees.checkpoint(worktree, id, None);
    let why = match timeout(WORKTREE_BOUND, taking).await {
        Ok(Ok(result)) => {
            shared.ports.arenas.keep(one.task, &result).await?;
            return Ok(None);
        }
        Ok(Err(error)) => with_source(&error),
        Err(_) => format!("not within {WORKTREE_BOUND:?}"),
    };
    Ok(Some(format!("its files could not be kept: {why}")))
}

fn why_skipped(arena: &Arena, one: &Contestant) -> &'static str {
    if arena.cancelled || arena.winner.is_some() {
        "the arena was over"
    } else if one.outcome != Some(Outcome::Ok) {
        "the turn did not end well"
    } else if one.worktree.is_none() {
        "the turn left no worktree"
    } else {
        "Hearth ended too often while it ran"
    }
}

/// The gate is held, so that no turn begins; whoever is still warm there would hold
/// on to a folder that goes.
async fn archive(
    shared: &Shared,
    pool: &Addr<pool::Msg>,
    one: &Contestant,
) -> Result<Ended, ArenasError> {
    let arenas = &shared.ports.arenas;
    if !arenas.archive(one.task).await? {
        return Ok(Ended::NotNow);
    }
    let emptied = pool
        .call(|reply| pool::Msg::Empty(one.session, reply), QUIET_BOUND)
        .await;
    if emptied.is_none() {
        return Ok(Ended::NotNow);
    }
    let note = match &one.worktree {
        None => None,
        Some(worktree) => {
            let untorn = ready::tear_down(shared, one.session, worktree).await;
            let going = shared.ports.worktrees.archive(worktree);
            match timeout(WORKTREE_BOUND, going).await {
                Ok(Ok(Archived::Removed(_))) => untorn,
                Ok(Ok(Archived::Left(why))) => Some(format!("its files stay: {why}")),
                Ok(Err(error)) => Some(format!("its files stay: {}", with_source(&error))),
                Err(_) => Some(format!(
                    "its files stay: not removed within {WORKTREE_BOUND:?}"
                )),
            }
        }
    };
    arenas.archived(one.task, note.as_deref()).await?;
    Ok(Ended::Done)
}
