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

pub(crate) struct Direct {
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
        let mut child = Command::new(program)
            .args(args)
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
            .kill_on_drop(true)
            .spawn()
            .expect("the agent");
        let stdout = child.stdout.take().expect("a pipe");
        let mut direct = Self {
            stdin: child.stdin.take().expect("a pipe"),
            lines: BufReader::new(stdout).lines(),
            session: String::new(),
            next: 0,
            _child: child,
        };
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

    async fn send(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let request =
            json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params});
        let line = format!("{request}\n");
        self.stdin.write_all(line.as_bytes()).await.expect("a pipe");
        self.next.into()
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
