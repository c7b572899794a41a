//! Arenas of the real service: several agents, one prompt, one table.

mod choice;
mod cut_off;
mod refused;
mod stream;
mod verdicts;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::harness::{Chat, Service};

/// Three demo agents that answer one prompt each in its own way.
pub(super) async fn colours() -> Service {
    let agents: Vec<String> = ["red", "green", "blue"].into_iter().map(agent).collect();
    Service::with_config(Some(&agents.join("\n"))).await
}

fn agent(colour: &str) -> String {
    format!(
        "[agents.{colour}]\nprotocol = \"acp\"\ncommand = {:?}\nargs = [\"demo-agent\"]\n\
         permission = \"allow_all\"\nenv = {{ COLOUR = \"{colour}\" }}\n",
        env!("CARGO_BIN_EXE_hearth")
    )
}

impl Service {
    /// Begins an arena of these agents; gives its id and its tasks.
    pub(super) async fn arena(&self, agents: &[&str], rest: Value) -> (String, Vec<String>) {
        let contestants: Vec<Value> = agents.iter().map(|name| json!({ "agent": name })).collect();
        let mut body = json!({ "contestants": contestants });
        for (key, value) in rest.as_object().unwrap() {
            body[key] = value.clone();
        }
        let (status, accepted) = self.post("/api/arena", body).await;
        assert_eq!(status, 202, "{accepted}");
        let tasks = accepted["tasks"].as_array().unwrap().iter();
        (
            accepted["arena_id"].as_str().unwrap().to_owned(),
            tasks
                .map(|task| task["task_id"].as_str().unwrap().to_owned())
                .collect(),
        )
    }

    /// Waits until the arena is in this state.
    pub(super) async fn arena_is(&self, arena: &str, state: &str) -> Value {
        self.arena_shows(arena, state, |arena| arena["state"] == state)
            .await
    }

    pub(super) async fn arena_shows(
        &self,
        arena: &str,
        what: &str,
        seen: impl Fn(&Value) -> bool,
    ) -> Value {
        self.until(&format!("the arena is {what}"), async || {
            let shown = self.get(&format!("/api/arena/{arena}")).await;
            if seen(&shown) { Ok(shown) } else { Err(shown) }
        })
        .await
    }

    /// A chat whose session's worktree has `path` with this content, uncommitted.
    pub(super) async fn chat_with(&self, path: &str, content: &str) -> Chat {
        let chat = self.chat().await;
        let task = self
            .say_to("red", &chat, &format!("create {path} with {content}"))
            .await;
        assert_eq!(self.outcome(&task).await, "ok");
        chat
    }

    pub(super) async fn worktree_of(&self, session: &str) -> PathBuf {
        let session = self.get(&format!("/api/sessions/{session}")).await;
        session["worktree_path"].as_str().unwrap().into()
    }
}

pub(super) fn read(folder: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(folder.join(file)).ok()
}

/// The row of an agent.
pub(super) fn of<'a>(arena: &'a Value, agent: &str) -> &'a Value {
    let rows = arena["contestants"].as_array().unwrap();
    rows.iter().find(|row| row["agent"] == agent).unwrap()
}
