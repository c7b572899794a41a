//! `send`: says something in a chat of the running service.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::args::Send;
use super::failure::{Exit, Failure};
use super::interrupt::Interrupts;
use super::run::screen::Screen;
use super::run::turn::{self, Following, OnInterrupt};
use super::{discover, ids, print, run};
use crate::store::rows::tasks::Task;

#[derive(Deserialize, Serialize)]
struct Accepted {
    task_id: Uuid,
    message_id: Uuid,
    chat_id: Uuid,
    session_id: Uuid,
}

pub(super) async fn send(
    args: &Send,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let prompt = run::prompt(&args.prompt)?;
    let client = discover::need(home, env).await?;
    let chat = ids::chat(&client, &args.to).await?;
    let mut body = json!({ "content": prompt });
    for (key, value) in [
        ("agent", &args.agent),
        ("model", &args.model),
        ("mode_id", &args.mode),
    ] {
        if let Some(value) = value {
            body[key] = json!(value);
        }
    }
    if args.interrupt {
        body["when_busy"] = json!("interrupt");
    }
    let address = format!("/api/chats/{chat}/messages");
    let key = Uuid::new_v4().to_string();
    let accepted: Accepted = client.post_once(&address, &key, &body).await?;
    if args.no_wait {
        if args.json {
            print(&format!("{}\n", json!(accepted)));
        } else {
            print(&format!("{}\n", accepted.task_id));
        }
        return Ok(Exit::Ok);
    }
    let queued: Task = client
        .get(&format!("/api/tasks/{}", accepted.task_id))
        .await?;
    let agent = queued.agent.as_deref().unwrap_or("the agent");
    let mut task = turn::Task::new(accepted.task_id, accepted.session_id, agent, Duration::ZERO);
    let mut screen = Screen::new(args.json, env.contains_key("NO_COLOR"));
    screen.phase("queued");
    let how = Following {
        json: args.json,
        on_interrupt: OnInterrupt::Cancel,
    };
    turn::follow(how, &client, &mut task, &mut screen, &mut interrupts).await
}
