//! Which session is meant: the one that was named, else the one whose files one
//! stands in.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::cli::client::{Client, Page};
use crate::cli::failure::{Exit, Failure};
use crate::cli::ids;
use crate::store::rows::changes::Change;
use crate::store::rows::ids::Fitting;
use crate::store::rows::projects::Project;
use crate::store::rows::sessions::Session;
use crate::store::rows::tasks::Task;

/// Rows of each kind that are looked through.
const MAX_ROWS: usize = 1000;
/// Newest sessions of a project that are looked into: a request each.
const MAX_ASKED: usize = 50;
/// Sessions told when several could be meant.
const MAX_TOLD: usize = 5;

/// The session that `named` means, or that has changes in the state `status`
/// where one stands.
///
/// # Errors
/// None is meant, or several could be.
pub(super) async fn session(
    client: &Client,
    named: Option<&str>,
    status: &str,
) -> Result<Uuid, Failure> {
    match named {
        Some(named) => ids::session(client, named).await,
        None => here(client, status).await,
    }
}

/// Splits what was typed into a session and changes. A first word that means a
/// session is not among these; a change names its session.
pub(super) async fn split<'a>(
    client: &Client,
    words: &'a [String],
    status: &str,
) -> Result<(Uuid, &'a [String]), Failure> {
    let Some((first, rest)) = words.split_first() else {
        return Ok((here(client, status).await?, words));
    };
    match ids::session_or_change(client, first).await? {
        Some(found) if found.kind == "session" => Ok((found.id, rest)),
        Some(Fitting {
            session_id: Some(session),
            ..
        }) => Ok((session, words)),
        _ => Err(Failure::new(
            Exit::Usage,
            format!("there is no change or session `{}`", first.escape_debug()),
            "`hearth changes` shows the changes of a session, `hearth ls` lists sessions",
        )),
    }
}

/// The session that was asked last of those that could be meant where one stands.
///
/// # Errors
/// None could.
pub(in crate::cli) async fn last_asked(client: &Client) -> Result<Uuid, Failure> {
    let ground = ground(client).await?;
    if let Some(session) = ground.around {
        return Ok(session);
    }
    let path = format!("/api/tasks?project_id={}&limit=200", ground.project.id);
    let tasks: Page<Task> = client.get(&path).await?;
    let known = |task: &Task| {
        let mut own = ground.own.iter().map(|session| session.id);
        own.find(|id| task.session_id == Some(*id))
    };
    let asked = tasks.items.iter().find_map(known);
    asked
        .or_else(|| ground.own.first().map(|session| session.id))
        .ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("{} has no session yet", ground.project.path),
                "open one with: hearth run \"…\"",
            )
        })
}

/// What lies around the present directory.
struct Ground {
    project: Project,
    /// Its sessions, newest first.
    own: Vec<Session>,
    /// The session whose worktree it is in.
    around: Option<Uuid>,
}

async fn ground(client: &Client) -> Result<Ground, Failure> {
    let here = std::env::current_dir()
        .and_then(|here| here.canonicalize())
        .map_err(|error| {
            let what = format!("the present directory cannot be used: {error}");
            Failure::new(Exit::Usage, what, "go to a directory that exists")
        })?;
    let sessions: Vec<Session> = client.list("/api/sessions", MAX_ROWS).await?;
    let projects: Vec<Project> = client.list("/api/projects", MAX_ROWS).await?;
    let within = sessions.iter().find(|session| works_in(session, &here));
    let around = within.map(|session| session.id);
    let project = match within {
        Some(session) => projects
            .into_iter()
            .find(|project| project.id == session.project_id),
        None => projects
            .into_iter()
            .filter(|project| here.starts_with(&project.path))
            .max_by_key(|project| project.path.len()),
    };
    let project = project.ok_or_else(|| unnamed(&here))?;
    let own = sessions
        .into_iter()
        .filter(|session| session.project_id == project.id);
    Ok(Ground {
        own: own.collect(),
        project,
        around,
    })
}

async fn here(client: &Client, status: &str) -> Result<Uuid, Failure> {
    let Ground {
        project,
        own,
        around,
    } = ground(client).await?;
    if let Some(session) = around {
        return Ok(session);
    }
    if let [only] = &own[..] {
        return Ok(only.id);
    }
    let mut fitting = Vec::new();
    for session in own.into_iter().take(MAX_ASKED) {
        let path = format!(
            "/api/sessions/{}/pending?status={status}&limit=1",
            session.id
        );
        let page: Page<Change> = client.get(&path).await?;
        if !page.items.is_empty() {
            fitting.push(session);
        }
    }
    match &fitting[..] {
        [only] => Ok(only.id),
        [] => Err(Failure::new(
            Exit::Usage,
            format!("no session of {} has {status} changes", project.path),
            "name one: `hearth ls` lists them",
        )),
        several => {
            let told = several.iter().take(MAX_TOLD);
            let told: Vec<String> = told.map(|session| session.id.to_string()).collect();
            Err(Failure::new(
                Exit::Usage,
                format!(
                    "{} sessions of {} have {status} changes: {}",
                    several.len(),
                    project.path,
                    told.join(", ")
                ),
                "name one of them",
            ))
        }
    }
}

fn works_in(session: &Session, here: &Path) -> bool {
    let path = session.worktree_path.as_ref().map(PathBuf::from);
    path.is_some_and(|path| here.starts_with(path.canonicalize().unwrap_or(path)))
}

fn unnamed(here: &Path) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("{} is in no project that Hearth knows", here.display()),
        "go to a project or a session's worktree, or name a session: `hearth ls` lists them",
    )
}
