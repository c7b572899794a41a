//! What people type for a task, a session, a chat and all else that has an id:
//! an id as the [`rule`] has it, or a session's name. The service knows which
//! ids a part fits.

mod rule;

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::client::Client;
use super::failure::{Exit, Failure};
use crate::store::rows::chats::Chat;
use crate::store::rows::ids::Fitting;
use crate::store::rows::sessions::Session;
use crate::store::rows::tasks::Task;
use rule::{FEWEST, Typed, one};
pub(super) use rule::{pick, short};

/// Newest sessions that a name is looked for in.
const MAX_ROWS: usize = 2000;
/// Tabs of a session that are looked through.
const MAX_CHATS: usize = 200;

/// A task or a session.
pub(super) enum Found {
    Task(Box<Task>),
    Session(Uuid),
}

/// The task of that id.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn task(client: &Client, typed: &str) -> Result<Task, Failure> {
    let found = fitting(client, typed, &["task"], None).await?;
    let found = found.ok_or_else(|| none(typed, "task"))?;
    client.get(&format!("/api/tasks/{}", found.id)).await
}

/// The session of that name, or the task or session of that id.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn task_or_session(client: &Client, typed: &str) -> Result<Found, Failure> {
    let found = meant(client, typed, &["session", "task"]).await?;
    let found = found.ok_or_else(|| none(typed, "task or session"))?;
    if found.kind == "session" {
        return Ok(Found::Session(found.id));
    }
    let task: Task = client.get(&format!("/api/tasks/{}", found.id)).await?;
    Ok(Found::Task(Box::new(task)))
}

/// The session of that id or name.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn session(client: &Client, typed: &str) -> Result<Uuid, Failure> {
    let found = meant(client, typed, &["session"]).await?;
    Ok(found.ok_or_else(|| none(typed, "session"))?.id)
}

/// The session of a project that is meant; none where the words can be the name
/// of a new one.
///
/// # Errors
/// Several fit, it is another project's, or the words look like an id and fit
/// none.
pub(super) async fn session_of(
    client: &Client,
    project: Uuid,
    typed: &str,
) -> Result<Option<Session>, Failure> {
    let address = format!("/api/sessions?project_id={project}");
    if let Some(found) = named(client, &address, typed).await? {
        return Ok(Some(found));
    }
    if Typed::read(typed, "session") == Typed::Other {
        return Ok(None);
    }
    let Some(found) = fitting(client, typed, &["session"], None).await? else {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "there is no session `{}`, and it looks like an id",
                typed.escape_debug()
            ),
            "`hearth ls` lists sessions; a new one gets a name that is not of hexadecimal \
             digits alone, or leave --session out",
        ));
    };
    let session: Session = client.get(&format!("/api/sessions/{}", found.id)).await?;
    if session.project_id != project {
        return Err(Failure::new(
            Exit::Usage,
            format!("session {} belongs to another repository", session.id),
            "go there, or leave --session out",
        ));
    }
    Ok(Some(session))
}

/// The session, or the change that may name one; none where the words fit none.
///
/// # Errors
/// Several fit.
pub(super) async fn session_or_change(
    client: &Client,
    typed: &str,
) -> Result<Option<Fitting>, Failure> {
    meant(client, typed, &["session", "change"]).await
}

/// The change of that id, of this session.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn change(client: &Client, typed: &str, of: Uuid) -> Result<Uuid, Failure> {
    let found = fitting(client, typed, &["change"], Some(of)).await?;
    let found = found.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("session {of} has no change `{}`", typed.escape_debug()),
            format!("`hearth changes {of}` shows what there is"),
        )
    })?;
    Ok(found.id)
}

/// The checkpoint of that id, and its session: this one, if one is named.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn checkpoint(
    client: &Client,
    typed: &str,
    of: Option<&str>,
) -> Result<(Uuid, Uuid), Failure> {
    let of = match of {
        Some(named) => Some(session(client, named).await?),
        None => None,
    };
    let found = fitting(client, typed, &["checkpoint"], of).await?;
    let of = found.as_ref().and_then(|found| found.session_id);
    match (found, of) {
        (Some(found), Some(of)) => Ok((found.id, of)),
        _ => Err(Failure::new(
            Exit::Usage,
            format!("there is no checkpoint `{}`", typed.escape_debug()),
            "`hearth checkpoints SESSION` lists them",
        )),
    }
}

/// The arena of that id.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn arena(client: &Client, typed: &str) -> Result<Uuid, Failure> {
    let found = fitting(client, typed, &["arena"], None).await?;
    let found = found.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("there is no arena `{}`", typed.escape_debug()),
            "`hearth arena show` lists them",
        )
    })?;
    Ok(found.id)
}

/// The chat of that id, or the default chat of the session of that id or name.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn chat(client: &Client, typed: &str) -> Result<Uuid, Failure> {
    let found = meant(client, typed, &["session", "chat"]).await?;
    let found = found.ok_or_else(|| none(typed, "chat or session"))?;
    if found.kind == "session" {
        return default_chat(client, found.id).await;
    }
    Ok(found.id)
}

/// The tab that messages for a whole session go to: an open one, or that which was
/// closed with its session; made where there is neither.
///
/// # Errors
/// The service's.
pub(super) async fn default_chat(client: &Client, session: Uuid) -> Result<Uuid, Failure> {
    #[derive(Deserialize)]
    struct Made {
        id: Uuid,
    }
    let address = format!("/api/sessions/{session}/chats");
    let chats: Vec<Chat> = client.list(&address, MAX_CHATS).await?;
    let open = |chat: &&Chat| chat.closed_at.is_none();
    let existing = chats
        .iter()
        .filter(open)
        .find(|chat| chat.is_default)
        .or_else(|| chats.iter().find(open));
    if let Some(chat) = existing {
        return Ok(chat.id);
    }
    let of: Session = client.get(&format!("/api/sessions/{session}")).await?;
    let closed = chats.iter().find(|chat| chat.is_default).or(chats.first());
    if let (Some(chat), Some(_)) = (closed, of.closed_at) {
        return Ok(chat.id);
    }
    let made: Made = client.post(&address, &json!({ "name": "main" })).await?;
    Ok(made.id)
}

/// The session of that name, else the one thing of these kinds whose id fits.
async fn meant(client: &Client, typed: &str, kinds: &[&str]) -> Result<Option<Fitting>, Failure> {
    if let Some(session) = named(client, "/api/sessions", typed).await? {
        return Ok(Some(Fitting {
            kind: "session".into(),
            id: session.id,
            session_id: Some(session.id),
        }));
    }
    fitting(client, typed, kinds, None).await
}

/// The only session of that name.
async fn named(client: &Client, address: &str, typed: &str) -> Result<Option<Session>, Failure> {
    if matches!(Typed::read(typed, "session"), Typed::Whole(_)) {
        return Ok(None);
    }
    let mut sessions: Vec<Session> = client.list(address, MAX_ROWS).await?;
    sessions.retain(|session| session.name == typed);
    one(typed, sessions, false, |session| session.id)
}

/// The one thing of these kinds whose id fits; none where none does.
async fn fitting(
    client: &Client,
    typed: &str,
    kinds: &[&str],
    session: Option<Uuid>,
) -> Result<Option<Fitting>, Failure> {
    #[derive(Deserialize)]
    struct Candidates {
        items: Vec<Fitting>,
        more: bool,
    }
    let prefix = kinds.last().copied().unwrap_or_default();
    let digits = match Typed::read(typed, prefix) {
        Typed::Whole(id) => id.simple().to_string(),
        Typed::Part(digits) => digits,
        Typed::Other => return Ok(None),
    };
    let mut address = format!("/api/ids/{digits}?kind={}", kinds.join(","));
    if let Some(session) = session {
        address.push_str(&format!("&session_id={session}"));
    }
    let found: Candidates = client.get(&address).await?;
    one(typed, found.items, found.more, |found| found.id)
}

fn none(typed: &str, what: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("there is no {what} `{}`", typed.escape_debug()),
        format!(
            "`hearth ls` lists sessions and their open tasks; of an id, {FEWEST} or more of its \
             first or last digits are enough"
        ),
    )
}
