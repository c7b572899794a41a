//! What people type for an id: all of it, a beginning that fits only one, or a
//! session's name.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::client::Client;
use super::failure::{Exit, Failure};
use crate::store::rows::chats::Chat;
use crate::store::rows::sessions::Session;
use crate::store::rows::tasks::Task;

/// Newest rows of a kind that a beginning is looked for in.
const MAX_ROWS: usize = 2000;
/// Newest sessions whose tabs are looked through: a request each.
const MAX_TABBED: usize = 100;
/// Tabs of a session that are looked through.
const MAX_CHATS: usize = 200;
/// A shorter beginning is a slip of the finger more often than an id.
const MIN_CHARS: usize = 4;
/// Candidates shown when several fit.
const MAX_SHOWN: usize = 5;

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
    let found = match Uuid::try_parse(typed) {
        Ok(id) => client.look_up(&format!("/api/tasks/{id}")).await?,
        Err(_) => one(typed, tasks(client, typed).await?, |task| task.id)?,
    };
    found.ok_or_else(|| none(typed, "task"))
}

/// The task or session of that id, or the session of that name.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn task_or_session(client: &Client, typed: &str) -> Result<Found, Failure> {
    if let Ok(id) = Uuid::try_parse(typed) {
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

/// The chat of that id, or the default chat of the session of that id or name.
///
/// # Errors
/// None fits, or several do.
pub(super) async fn chat(client: &Client, typed: &str) -> Result<Uuid, Failure> {
    if let Ok(id) = Uuid::try_parse(typed) {
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
    if !is_beginning(typed) {
        return Err(none(typed, "chat or session"));
    }
    let newest: Vec<Session> = client.list("/api/sessions", MAX_TABBED).await?;
    let mut chats = Vec::new();
    for session in newest.iter().take(MAX_TABBED) {
        let path = format!("/api/sessions/{}/chats", session.id);
        let own: Vec<Chat> = client.list(&path, MAX_CHATS).await?;
        chats.extend(own.into_iter().filter(|chat| begins(chat.id, typed)));
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
    if !is_beginning(typed) {
        return Ok(Vec::new());
    }
    let mut tasks: Vec<Task> = client.list("/api/tasks", MAX_ROWS).await?;
    tasks.retain(|task| begins(task.id, typed));
    Ok(tasks)
}

/// By name, else by the beginning of the id.
async fn sessions(client: &Client, typed: &str) -> Result<Vec<Session>, Failure> {
    let all: Vec<Session> = client.list("/api/sessions", MAX_ROWS).await?;
    let (named, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|session| session.name == typed);
    if !named.is_empty() || !is_beginning(typed) {
        return Ok(named);
    }
    let begun = others.into_iter();
    Ok(begun.filter(|session| begins(session.id, typed)).collect())
}

fn is_beginning(typed: &str) -> bool {
    typed.len() >= MIN_CHARS && typed.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn begins(id: Uuid, typed: &str) -> bool {
    id.to_string().starts_with(&typed.to_ascii_lowercase())
}

/// The only one, none, or a failure that lists them.
fn one<T>(typed: &str, mut found: Vec<T>, id: impl Fn(&T) -> Uuid) -> Result<Option<T>, Failure> {
    if found.len() < 2 {
        return Ok(found.pop());
    }
    let shown: Vec<_> = found
        .iter()
        .take(MAX_SHOWN)
        .map(|it| id(it).to_string())
        .collect();
    let more = if found.len() > MAX_SHOWN { ", …" } else { "" };
    Err(Failure::new(
        Exit::Usage,
        format!("`{}` fits {} ids", typed.escape_debug(), found.len()),
        format!("give more of it: {}{more}", shown.join(", ")),
    ))
}

fn none(typed: &str, what: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("there is no {what} `{}`", typed.escape_debug()),
        format!(
            "`hearth ls` lists sessions, GET /api/tasks lists tasks; a beginning of an id needs \
             {MIN_CHARS} characters or more"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_must_be_long_enough_and_fit_only_one() {
        assert!(is_beginning("0199") && is_beginning("0199A2c4-1"));
        assert!(!is_beginning("019") && !is_beginning("notes"));
        let ids: Vec<Uuid> = [
            "0199a2c4-0000-7000-8000-000000000001",
            "0199a2c5-0000-7000-8000-000000000002",
        ]
        .map(|id| id.parse().expect("an id"))
        .into();
        let fitting = |typed: &str| {
            let found = ids
                .iter()
                .copied()
                .filter(|id| begins(*id, typed))
                .collect();
            one(typed, found, |id| *id)
        };
        assert_eq!(fitting("0199A2C4"), Ok(Some(ids[0])));
        assert_eq!(fitting("beef"), Ok(None));
        let several = fitting("0199").expect_err("two fit");
        assert_eq!(several.exit, Exit::Usage);
        assert!(several.cure.is_some_and(|cure| cure.contains("0199a2c5")));
    }
}
