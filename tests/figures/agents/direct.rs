//! An agent without Hearth: its pipes, and the time at which a line comes out.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::real_agents::Agent;
use crate::real_agents::install::installed;

const BOUND: Duration = Duration::from_secs(60);
/// How claude is spoken with, and kept from going out: as Hearth does both.
const CLAUDE_ARGS: &[&str] = &[
    "--output-format=stream-json",
    "--input-format=stream-json",
    "--verbose",
    "--include-partial-messages",
    "--permission-prompt-tool=stdio",
    "--permission-mode=default",
    "--session-mirror",
];
const CLAUDE_ENV: &[&str] = &[
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    "DISABLE_AUTOUPDATER",
    "DISABLE_ERROR_REPORTING",
    "DISABLE_TELEMETRY",
];

pub(crate) struct Direct {
    agent: Agent,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    session: String,
    next: u64,
    _child: Child,
}

impl Direct {
    pub(crate) async fn start(agent: Agent, model: &str, home: &Path) -> Self {
        agent.furnish(home, model);
        let (program, args, env) = agent.launch(installed(), model);
        let mut command = Command::new(program);
        command.args(args);
        if agent == Agent::Claude {
            command.args(CLAUDE_ARGS);
        }
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_DATA_HOME", home.join(".local/share"))
            .env("XDG_STATE_HOME", home.join(".local/state"))
            .env("XDG_CACHE_HOME", home.join(".cache"))
            .envs(env)
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        if agent == Agent::Claude {
            command.envs(CLAUDE_ENV.iter().map(|name| (name, "1")));
        }
        let mut child = command.spawn().expect("the agent");
        let stdout = child.stdout.take().expect("a pipe");
        let mut direct = Self {
            agent,
            stdin: child.stdin.take().expect("a pipe"),
            lines: BufReader::new(stdout).lines(),
            session: String::new(),
            next: 0,
            _child: child,
        };
        if agent == Agent::Claude {
            let request = json!({"subtype": "initialize"});
            let hello = json!({"type": "control_request", "request_id": "1", "request": request});
            direct.write(&hello).await;
            direct
                .until(|line| line["type"] == "control_response")
                .await;
            return direct;
        }
        let hello = json!({"protocolVersion": 1, "clientCapabilities": {}});
        let id = direct.send("initialize", hello).await;
        direct.until(|line| line["id"] == id).await;
        let id = direct
            .send("session/new", json!({"cwd": home, "mcpServers": []}))
            .await;
        let answer = direct.until(|line| line["id"] == id).await;
        direct.session = answer["result"]["sessionId"]
            .as_str()
            .expect("a session")
            .to_owned();
        direct
    }

    /// Prompts; returns when the first text came out. The turn is over then too.
    pub(crate) async fn first_text(&mut self, prompt: &str) -> Instant {
        if self.agent == Agent::Claude {
            return self.first_text_of_claude(prompt).await;
        }
        let params = json!({
            "sessionId": self.session,
            "prompt": [{"type": "text", "text": prompt}],
        });
        let id = self.send("session/prompt", params).await;
        self.until(|line| {
            let update = &line["params"]["update"];
            update["sessionUpdate"] == "agent_message_chunk" && update["content"]["text"] != ""
        })
        .await;
        let first = Instant::now();
        self.until(|line| line["id"] == id && line.get("method").is_none())
            .await;
        first
    }

    async fn first_text_of_claude(&mut self, prompt: &str) -> Instant {
        let message = json!({"role": "user", "content": prompt});
        self.write(&json!({
            "type": "user", "message": message, "parent_tool_use_id": null,
            "session_id": "", "uuid": uuid::Uuid::new_v4(),
        }))
        .await;
        self.until(|line| line["event"]["delta"]["type"] == "text_delta")
            .await;
        let first = Instant::now();
        self.until(|line| line["type"] == "result").await;
        first
    }

    async fn send(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let request =
            json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params});
        self.write(&request).await;
        self.next.into()
    }

    async fn write(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.stdin.write_all(line.as_bytes()).await.expect("a pipe");
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = tokio::time::timeout(BOUND, self.lines.next_line()).await;
            let line = line.expect("the agent answers").expect("a pipe");
            let line = line.expect("the agent lives");
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if wanted(&line) {
                return line;
            }
        }
    }
}
