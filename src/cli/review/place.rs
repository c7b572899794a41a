//! Which session is meant: the one that was named, else the one whose files one
//! stands in.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::cli::client::{Client, Page};
use crate::cli::failure::{Exit, Failure};
use crate::cli::ids;
use crate::store::rows::changes::Change;
use crate::store::rows::projects::Project;
use crate::store::rows::sessions::Session;

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

/// Splits what was typed into a session, where the first word means one, and
/// the rest.
pub(super) async fn split<'a>(
    client: &Client,
    words: &'a [String],
    status: &str,
) -> Result<(Uuid, &'a [String]), Failure> {
    if let Some((first, rest)) = words.split_first()
        && let Some(session) = ids::maybe_session(client, first).await?
    {
        return Ok((session, rest));
    }
    Ok((here(client, status).await?, words))
}

async fn here(client: &Client, status: &str) -> Result<Uuid, Failure> {
    let here = std::env::current_dir()
        .and_then(|here| here.canonicalize())
        .map_err(|error| {
            let what = format!("the present directory cannot be used: {error}");
            Failure::new(Exit::Usage, what, "go to a directory that exists")
        })?;
    let sessions: Vec<Session> = client.list("/api/sessions", MAX_ROWS).await?;
    if let Some(session) = sessions.iter().find(|session| works_in(session, &here)) {
        return Ok(session.id);
    }
    let projects: Vec<Project> = client.list("/api/projects", MAX_ROWS).await?;
    let around = projects
        .iter()
        .filter(|project| here.starts_with(&project.path))
        .max_by_key(|project| project.path.len());
    let Some(project) = around else {
        return Err(unnamed(&here));
    };
    let own: Vec<&Session> = sessions
        .iter()
        .filter(|session| session.project_id == project.id)
        .collect();
    if let [only] = own[..] {
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
    match fitting[..] {
        [only] => Ok(only.id),
        [] => Err(Failure::new(
            Exit::Usage,
            format!("no session of {} has {status} changes", project.path),
            "name one: `hearth ls` lists them",
        )),
        ref several => {
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
