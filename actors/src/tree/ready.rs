//! A worktree that an agent may work in: made, and set up as its project wants.
//! And what comes before it goes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use crate::ids::SessionId;
use crate::limits::{ParkReason, Parked};
use crate::model::{Worktree, WorktreeSpec};
use crate::ports::{SetUpError, WorktreeError};
use crate::rules::set_up::{self, Step};
use crate::set_up::{Around, Found, SetUp};
use crate::tree::shared::{Backoff, Shared, with_source};

/// Longest work on the files of a worktree: a large repository on a cold disk.
pub(in crate::tree) const FILES_BOUND: Duration = Duration::from_secs(600);
/// Between two looks whether there is room again, and whether anybody decided:
/// who decides wakes those who wait.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A worktree, and what is to be told to whoever works there.
pub(in crate::tree) struct Ready {
    pub(in crate::tree) worktree: Worktree,
    pub(in crate::tree) env: BTreeMap<String, String>,
}

/// Why there is none.
pub(in crate::tree) enum NotReady {
    /// It may come to be: the task waits.
    Later(Parked),
    /// Somebody has to do something about it.
    Failed(String),
}

impl From<WorktreeError> for NotReady {
    fn from(error: WorktreeError) -> Self {
        let told = with_source(&error);
        match error {
            WorktreeError::DiskLow { .. } | WorktreeError::DiskFull { .. } => {
                Self::Later(waits(ParkReason::DiskLow, told))
            }
            WorktreeError::Unusable(_) | WorktreeError::Failed { .. } => Self::Failed(told),
        }
    }
}

fn waits(reason: ParkReason, why: String) -> Parked {
    Parked {
        open_ended: true,
        ..Parked::until(reason, LOOK_AGAIN).because(why)
    }
}

/// Makes the session's worktree and sets it up, as far as that is not done.
///
/// # Errors
/// Nobody may work there.
pub(in crate::tree) async fn ready(
    shared: &Shared,
    spec: &WorktreeSpec,
) -> Result<Ready, NotReady> {
    let ports = &shared.ports;
    let worktree = within("the worktree was not ready", ports.worktrees.ensure(spec)).await?;
    let port = read(|| ports.set_up_rows.port(spec.session)).await;
    let around = Around {
        worktree: worktree.path.clone(),
        project: Some(spec.project_path.clone()),
        session: Some(spec.session.to_string()),
        port,
    };
    let env = around.variables();
    let files = &ports.set_up_files;
    if !within("the worktree was not looked at", files.is_due(&worktree)).await? {
        return Ok(Ready { worktree, env });
    }
    let found = files.wanted(&spec.project_path).await;
    let consent = match &found {
        Found::This(this) => read(|| ports.set_up_rows.consent(spec.project, &this.hash)).await,
        Found::Nothing | Found::Wrong(_) => None,
    };
    let worktree = match set_up::step(&found, consent) {
        Step::GoWithout => {
            within("the worktree was not noted", files.done(&worktree, None)).await?
        }
        Step::SetUp(this) => set_it_up(shared, spec, &worktree, &this, &env).await?,
        Step::Wait(why) => return Err(NotReady::Later(waits(ParkReason::SetUp, why))),
    };
    Ok(Ready { worktree, env })
}

async fn set_it_up(
    shared: &Shared,
    spec: &WorktreeSpec,
    worktree: &Worktree,
    this: &SetUp,
    env: &BTreeMap<String, String>,
) -> Result<Worktree, NotReady> {
    let files = &shared.ports.set_up_files;
    let copying = files.begin(worktree, &spec.project_path, &this.copy);
    within("its files were not copied", copying).await?;
    if let Some(script) = &this.set_up
        && let Some(why) = run(shared, "set-up", script, this.timeout, env, worktree).await
    {
        return Err(NotReady::Failed(format!(
            "{why}; mend {}, trust it, then try again",
            crate::set_up::FILE
        )));
    }
    let done = files.done(worktree, Some(&this.hash));
    let worktree = within("its baseline was not moved", done).await?;
    tracing::info!(session = %spec.session, path = %worktree.path.display(), "a worktree is set up");
    Ok(worktree)
}

/// The hash of what the worktree was set up by; else why that is not known.
pub(in crate::tree) async fn set_up_by(
    shared: &Shared,
    worktree: &Worktree,
    bound: Duration,
) -> Result<Option<String>, String> {
    let by = timeout(bound, shared.ports.set_up_files.set_up_by(worktree));
    by.await
        .map_err(|_| format!("by what it was set up was not known within {bound:?}"))
}

/// Runs what is to come before the worktree goes. None: it may go; else why its
/// script failed.
pub(in crate::tree) async fn tear_down(
    shared: &Shared,
    session: SessionId,
    worktree: &Worktree,
) -> Option<String> {
    let ports = &shared.ports;
    let by = match set_up_by(shared, worktree, FILES_BOUND).await {
        Ok(by) => by?,
        Err(why) => return Some(why),
    };
    let wanted = read(|| ports.set_up_rows.tear_down(session, &by)).await?;
    let around = Around {
        worktree: worktree.path.clone(),
        project: None,
        session: Some(session.to_string()),
        port: read(|| ports.set_up_rows.port(session)).await,
    };
    let (script, bound) = (&wanted.script, wanted.timeout);
    let env = around.variables();
    let failed = run(shared, "teardown", script, bound, &env, worktree).await;
    if failed.is_none()
        && let Err(error) = ports.set_up_files.torn_down(worktree).await
    {
        return Some(with_source(&error));
    }
    failed
}

async fn run(
    shared: &Shared,
    what: &str,
    script: &str,
    bound: Duration,
    env: &BTreeMap<String, String>,
    worktree: &Worktree,
) -> Option<String> {
    let ports = &shared.ports;
    let path = &worktree.path;
    let end = ports.checks.script(what, script, env, bound, path).await;
    let kept = ports.set_up_files.keep_log(worktree, &end.log).await;
    let why = set_up::failure(what, &end)?;
    tracing::warn!(path = %path.display(), what, result = %end.result, "a project's script failed");
    Some(match kept {
        Some(log) => format!("{why} (its log: {})", log.display()),
        None => why,
    })
}

async fn within<T>(
    late: &str,
    work: impl Future<Output = Result<T, WorktreeError>>,
) -> Result<T, NotReady> {
    match timeout(FILES_BOUND, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(NotReady::Failed(format!(
            "{late} within {} s",
            FILES_BOUND.as_secs()
        ))),
    }
}

/// Asks again while the database is away, for as long as the lease lets whoever
/// asks live.
async fn read<T, F>(mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, SetUpError>>,
{
    let mut backoff = Backoff::new();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(error) => tracing::debug!(error = %with_source(&error), "asking again"),
        }
        backoff.wait().await;
    }
}
