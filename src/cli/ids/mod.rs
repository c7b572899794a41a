//! What people type for a task, a session or a chat: an id as the [`rule`] has it,
//! or a session's name.

mod rule;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::client::Client;
use super::failure::{Exit, Failure};
use crate::store::rows::chats::Chat;
use crate::store::rows::sessions::Session;
use crate::store::rows::tasks::Task;
use rule::{FEWEST, Typed, one};
pub(super) use rule::{pick, short};

/// Newest rows of a kind that a part of an id is looked for in.
const MAX_ROWS: usize = 2000;
/// Newest sessions whose tabs are looked through: a request each.
const MAX_TABBED: usize = 100;
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
    let found = match Typed::read(typed, "task") {
        Typed::Whole(id) => client.look_up(&format!("/api/tasks/{id}")).await?,
        _ => one(typed, tasks(client, typed).await?, |task| task.id)?,
    };
    found.ok_or_else(|| none(typed, "task"))
}

/// The task or session of that id, or the session of that name.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn task_or_session(client: &Client, typed: &str) -> Result<Found, Failure> {
    if let Typed::Whole(id) = Typed::read(typed, "task") {
        let task: Option<Task> = client.look_up(&format!("/api/tasks/{id}")).await?;
        if let Some(task) = task {
            return Ok(Found::Task(Box::new(task)));
        }
        let session: Option<Session> = client.look_up(&format!("/api/sessions/{id}")).await?;
        return match session {
            Some(session) => Ok(Found::Session(session.id)),
            None => Err(none(typed, "task or session")),
        };
    }
    let sessions = sessions(client, typed).await?.into_iter();
    let found = sessions.map(|session| Found::Session(session.id));
    let tasks = tasks(client, typed).await?.into_iter();
    let found = found.chain(tasks.map(|task| Found::Task(Box::new(task))));
    let id = |found: &Found| match found {
        Found::Task(task) => task.id,
        Found::Session(id) => *id,
    };
    one(typed, found.collect(), id)?.ok_or_else(|| none(typed, "task or session"))
}

/// The session of that id or name.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn session(client: &Client, typed: &str) -> Result<Uuid, Failure> {
    let found = maybe_session(client, typed).await?;
    found.ok_or_else(|| none(typed, "session"))
}

/// The session of that id or name; none when none fits.
///
/// # Errors
/// Several do.
pub(super) async fn maybe_session(client: &Client, typed: &str) -> Result<Option<Uuid>, Failure> {
    if let Typed::Whole(id) = Typed::read(typed, "session") {
        let session: Option<Session> = client.look_up(&format!("/api/sessions/{id}")).await?;
        return Ok(session.map(|session| session.id));
    }
    let named = sessions(client, typed).await?;
    Ok(one(typed, named, |session| session.id)?.map(|session| session.id))
}

/// The sessions that something without a session is looked for in.
///
/// # Errors
/// The service's.
pub(super) async fn newest_sessions(client: &Client) -> Result<Vec<Uuid>, Failure> {
    let newest: Vec<Session> = client.list("/api/sessions", MAX_TABBED).await?;
    let ids = newest.iter().map(|session| session.id);
    Ok(ids.take(MAX_TABBED).collect())
}

/// The chat of that id, or the default chat of the session of that id or name.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn chat(client: &Client, typed: &str) -> Result<Uuid, Failure> {
    if let Typed::Whole(id) = Typed::read(typed, "chat") {
        let session: Option<Session> = client.look_up(&format!("/api/sessions/{id}")).await?;
        if session.is_some() {
            return default_chat(client, id).await;
        }
        let messages = format!("/api/chats/{id}/messages?limit=1");
        let chat: Option<Value> = client.look_up(&messages).await?;
        return chat
            .map(|_| id)
            .ok_or_else(|| none(typed, "chat or session"));
    }
    let named = sessions(client, typed).await?;
    if let Some(session) = one(typed, named, |session| session.id)? {
        return default_chat(client, session.id).await;
    }
    let part = Typed::read(typed, "chat");
    if part == Typed::Other {
        return Err(none(typed, "chat or session"));
    }
    let newest: Vec<Session> = client.list("/api/sessions", MAX_TABBED).await?;
    let mut chats = Vec::new();
    for session in newest.iter().take(MAX_TABBED) {
        let path = format!("/api/sessions/{}/chats", session.id);
        let own: Vec<Chat> = client.list(&path, MAX_CHATS).await?;
        chats.extend(own.into_iter().filter(|chat| part.fits(chat.id)));
    }
    let chat = one(typed, chats, |chat| chat.id)?;
    chat.map(|chat| chat.id)
        .ok_or_else(|| none(typed, "chat or session"))
}

/// The open tab that messages for a whole session go to; made where none is.
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
    let made: Made = client
        .post(&address, &serde_json::json!({ "name": "main" }))
        .await?;
    Ok(made.id)
}

async fn tasks(client: &Client, typed: &str) -> Result<Vec<Task>, Failure> {
    let part = Typed::read(typed, "task");
    if part == Typed::Other {
        return Ok(Vec::new());
    }
    let mut tasks: Vec<Task> = client.list("/api/tasks", MAX_ROWS).await?;
    tasks.retain(|task| part.fits(task.id));
    Ok(tasks)
}

/// By name, else by a part of the id.
async fn sessions(client: &Client, typed: &str) -> Result<Vec<Session>, Failure> {
    let all: Vec<Session> = client.list("/api/sessions", MAX_ROWS).await?;
    let (named, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|session| session.name == typed);
    if !named.is_empty() {
        return Ok(named);
    }
    let part = Typed::read(typed, "session");
    let others = others.into_iter();
    Ok(others.filter(|session| part.fits(session.id)).collect())
}

fn none(typed: &str, what: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("there is no {what} `{}`", typed.escape_debug()),
        format!(
            "`hearth ls` lists sessions, GET /api/tasks lists tasks; the first or last digits of \
             an id need to be {FEWEST} or more"
        ),
    )
}
