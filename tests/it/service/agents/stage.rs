//! A service with one real agent and the model it talks to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::models::openai::{Model, Seen};
pub(super) use crate::real_agents::Agent;
use crate::real_agents::install::{Installed, installed};
use crate::service::harness::{Chat, Service, id_of};

/// At most this many real agents' tests run at a time: each agent takes up to
/// half a gigabyte and a core while it starts.
const SEATS: usize = 2;

/// Longest wait for what a real agent should do: they take many seconds to start on a
/// busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longest wait for a seat: all other tests of this room before this one.
const SEAT_WAIT: Duration = Duration::from_secs(600);

const AGENTS: [Agent; 5] = [
    Agent::Goose,
    Agent::Qwen,
    Agent::Opencode,
    Agent::OpencodeServer,
    Agent::Claude,
];

/// See the module. Everything ends with it.
pub(super) struct Stage {
    pub(super) service: Service,
    pub(super) model: Model,
    pub(super) agent: Agent,
    _seat: File,
}

impl Stage {
    /// With the deadlines that nothing here should reach.
    pub(super) async fn set(agent: Agent) -> Self {
        Self::with(agent, "").await
    }

    /// With these lines at the head of `hearth.toml`.
    pub(super) async fn with(agent: Agent, settings: &str) -> Self {
        Self::of(agent, |installed, model| {
            let tables = AGENTS.map(|each| each.table(installed, model)).concat();
            format!("{settings}\n{tables}")
        })
        .await
    }

    /// With such a `hearth.toml`, written for the programs and the model's address.
    pub(super) async fn of(agent: Agent, config: impl FnOnce(&Installed, &str) -> String) -> Self {
        let seat = seat().await;
        let installed = tokio::task::spawn_blocking(installed).await.unwrap();
        let model = Model::start();
        let config = config(installed, model.url());
        let mut service = Service::with_config(Some(&config)).await;
        service.patience = PATIENCE;
        for each in AGENTS {
            each.furnish(&service.home.join("homes").join(each.name()), model.url());
        }
        Self {
            service,
            model,
            agent,
            _seat: seat,
        }
    }

    pub(super) async fn say(&self, chat: &Chat, content: &str) -> String {
        self.service.say_to(self.agent.name(), chat, content).await
    }

    /// The same under a policy of this message's own.
    pub(super) async fn say_under(&self, policy: &str, chat: &Chat, content: &str) -> String {
        let path = format!("/api/chats/{}/messages", chat.id);
        let body = json!({"content": content, "agent": self.agent.name(), "policy": policy});
        let (status, accepted) = self.service.post(&path, body).await;
        assert_eq!(status, 202, "{accepted}");
        accepted["task_id"].as_str().unwrap().to_owned()
    }

    /// Says it and waits for a turn that ends well; returns the task.
    pub(super) async fn turn(&self, chat: &Chat, content: &str) -> Value {
        self.turn_of(self.agent, chat, content).await
    }

    /// The same with this agent.
    pub(super) async fn turn_of(&self, agent: Agent, chat: &Chat, content: &str) -> Value {
        let task = self.service.say_to(agent.name(), chat, content).await;
        let task = self.service.ended(&task).await;
        assert_eq!(task["outcome"], "ok", "{task:#}\n{}", self.service.log());
        task
    }

    /// Waits for the agent of the chat; its process and its own session.
    pub(super) async fn live(&self, chat: &Chat) -> (i32, String) {
        self.live_of(self.agent, chat).await
    }

    /// The same of this agent.
    pub(super) async fn live_of(&self, agent: Agent, chat: &Chat) -> (i32, String) {
        let name = agent.name();
        self.service
            .until("a live agent", async || {
                let node = self.service.node_of(chat, name).await.unwrap_or_default();
                let child = node["children"]
                    .as_array()
                    .and_then(|nodes| nodes.iter().find(|node| node["pid"].is_i64()))
                    .cloned()
                    .ok_or_else(|| node.clone())?;
                let pid = i32::try_from(child["pid"].as_i64().unwrap_or_default());
                let session = child["detail"]["agent_session_id"].as_str();
                match (pid, session) {
                    (Ok(pid), Some(session)) => Ok((pid, session.to_owned())),
                    _ => Err(node),
                }
            })
            .await
    }

    /// Waits until a request about this reached the model.
    pub(super) async fn asked(&self, words: &str) -> Seen {
        self.service
            .until(&format!("a request about {words}"), async || {
                let asked = self.model.asked_about(words).pop();
                asked.ok_or("the model was not asked")
            })
            .await
    }

    /// The same until it answered something.
    pub(super) async fn answering(&self, words: &str) {
        self.service
            .until(&format!("an answer about {words}"), async || {
                let asked = self.model.asked_about(words).pop();
                let spoke = asked.and_then(|seen| seen.first_word);
                spoke.ok_or("the model said nothing")
            })
            .await;
    }

    /// The stored frames of the task, in order: kind and fields.
    pub(super) async fn frames(&self, task: &str) -> Vec<(String, Value)> {
        let query = "select kind, data from hearth.frames where task_id = $1::uuid order by seq";
        sqlx::query_as(query)
            .bind(task)
            .fetch_all(&self.service.pool().await)
            .await
            .unwrap()
    }

    /// All text of the frames of this kind.
    pub(super) async fn streamed(&self, task: &str, kind: &str) -> String {
        let frames = self.frames(task).await;
        let texts = frames.iter().filter(|(of, _)| of == kind);
        texts
            .filter_map(|(_, data)| data["text"].as_str())
            .collect()
    }

    /// A second chat of the same session.
    pub(super) async fn neighbour(&self, chat: &Chat) -> Chat {
        let path = format!("/api/sessions/{}/chats", chat.session);
        let (status, made) = self.service.post(&path, json!({"name": "second"})).await;
        assert_eq!(status, 201, "{made}");
        Chat {
            id: id_of(&made),
            session: chat.session.clone(),
        }
    }

    /// The absolute path of a file in the chat's worktree, as some tools want it.
    pub(super) async fn below(&self, chat: &Chat, file: &str) -> String {
        let path = format!("/api/sessions/{}", chat.session);
        let session = self.service.get(&path).await;
        let project = session["project_id"].as_str().unwrap();
        let worktrees = self.service.home.join("worktrees");
        let path = worktrees.join(project).join(&chat.session).join(file);
        path.to_str().unwrap().to_owned()
    }

    /// The repository that the chat's session works on.
    pub(super) async fn repository(&self, chat: &Chat) -> PathBuf {
        let path = format!("/api/sessions/{}", chat.session);
        let session = self.service.get(&path).await;
        let projects = self.service.get("/api/projects").await;
        let mut projects = projects["items"].as_array().unwrap().iter();
        let found = projects.find(|found| found["id"] == session["project_id"]);
        found.unwrap()["path"].as_str().unwrap().into()
    }

    /// What the service's health tells of the agent's server, once `seen` is content.
    pub(super) async fn server(&self, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let name = self.agent.name();
        self.service
            .until(what, async || {
                let health = self.service.get("/api/health").await;
                let servers = health["servers"].as_array().cloned().unwrap_or_default();
                let server = servers.into_iter().find(|server| server["name"] == name);
                let server = server.unwrap_or(health);
                if seen(&server) {
                    Ok(server)
                } else {
                    Err(server)
                }
            })
            .await
    }

    pub(super) async fn cancel(&self, task: &str) {
        let path = format!("/api/tasks/{task}/cancel");
        let (status, body) = self.service.post(&path, json!({})).await;
        assert!(status < 300, "{status} {body}");
    }

    /// What waits for review in the chat's session: path and operation.
    pub(super) async fn pending(&self, chat: &Chat) -> Vec<(String, String)> {
        let path = format!("/api/sessions/{}/pending", chat.session);
        let pending = self.service.get(&path).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = pending["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|item| (text(&item["file_path"]), text(&item["operation"])))
            .collect()
    }

    /// Stops the service and looks for what it left behind: processes that carry
    /// its mark, whatever group or session they are in.
    pub(super) async fn strike(mut self) {
        self.service.terminate().await;
        let service = &self.service;
        service
            .until("no process is left", async || {
                let left = service.processes();
                left.is_empty().then_some(()).ok_or(left)
            })
            .await;
    }
}

/// A place among the tests that run now, in whatever process.
async fn seat() -> File {
    let started = Instant::now();
    loop {
        for number in 0..SEATS {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("seat-{number}"));
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .unwrap();
            if file.try_lock().is_ok() {
                return file;
            }
        }
        assert!(
            started.elapsed() < SEAT_WAIT,
            "no real agent's test ended within {SEAT_WAIT:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
