//! The npm client as a child process that is driven by lines.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::super::harness::{Chat, SOON, Service};
use crate::npm;

/// How it reaches the service.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Stdio,
    Http,
}

/// One client, connected.
pub(super) struct Mcp {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// Notices of progress so far.
    pub(super) progress: usize,
}

async fn installed() -> PathBuf {
    let installed = tokio::task::spawn_blocking(|| npm::installed("mcp"));
    installed.await.unwrap()
}

fn arguments(service: &Service, way: Way, installed: &Path) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/client.mjs");
    let (way, to, with) = match way {
        Way::Http => (
            "http",
            format!("{}/mcp", service.url()),
            service.token().to_owned(),
        ),
        Way::Stdio => (
            "stdio",
            env!("CARGO_BIN_EXE_hearth").to_owned(),
            service.home.display().to_string(),
        ),
    };
    let paths = [script, installed.to_owned()].map(|path| path.display().to_string());
    paths
        .into_iter()
        .chain([way.to_owned(), to, with])
        .collect()
}

impl Mcp {
    pub(super) async fn open(service: &Service, way: Way) -> Self {
        let installed = installed().await;
        let mut child = Command::new("node")
            .args(arguments(service, way, &installed))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut opened = Self {
            child,
            input,
            lines,
            progress: 0,
        };
        let hello = opened.line().await.expect("it connects");
        assert_eq!(hello["server"]["name"], "hearth", "{hello}");
        assert!(
            hello["instructions"]
                .as_str()
                .is_some_and(|text| text.contains("task_follow"))
        );
        opened
    }

    async fn line(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(SOON * 2, self.lines.next_line()).await;
        let line = line.expect("a line in time").unwrap()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Result or error of one operation.
    pub(super) async fn ask(&mut self, op: Value) -> Value {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{op}\n").as_bytes()).await.unwrap();
        loop {
            let line = self.line().await.expect("an answer");
            if line.get("progress").is_none() {
                return line;
            }
            self.progress += 1;
        }
    }

    pub(super) async fn tools(&mut self) -> Vec<Value> {
        let tools = self.ask(serde_json::json!({ "op": "list" })).await;
        tools["result"]["tools"].as_array().unwrap().clone()
    }

    async fn answer(&mut self, name: &str, arguments: Value, progress: bool) -> (bool, Value) {
        let op = serde_json::json!({ "op": "call", "name": name, "arguments": arguments, "progress": progress });
        let answer = self.ask(op).await;
        let result = &answer["result"];
        let content = result["structuredContent"].clone();
        assert!(content.is_object(), "{name}: {answer}");
        // Clients that know no structure read the same as text.
        let text = result["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), content);
        (result["isError"] == true, content)
    }

    /// What a tool answers.
    pub(super) async fn call(&mut self, name: &str, arguments: Value) -> Value {
        let (failed, answer) = self.answer(name, arguments, false).await;
        assert!(!failed, "{name}: {answer}");
        answer
    }

    pub(super) async fn call_with_progress(&mut self, name: &str, arguments: Value) -> Value {
        let (failed, answer) = self.answer(name, arguments, true).await;
        assert!(!failed, "{name}: {answer}");
        answer
    }

    /// Why a tool refuses.
    pub(super) async fn fault(&mut self, name: &str, arguments: Value) -> Value {
        let (failed, answer) = self.answer(name, arguments, false).await;
        assert!(failed, "{name}: {answer}");
        answer
    }

    /// Closes it; what it had left to say.
    pub(super) async fn end(mut self) -> Vec<Value> {
        drop(self.input.take());
        let mut rest = Vec::new();
        while let Some(line) = self.line().await {
            rest.push(line);
        }
        let status = tokio::time::timeout(SOON, self.child.wait()).await;
        assert!(status.expect("it ends").unwrap().success());
        rest
    }
}

/// The same client below the demo agent's turn: the task, and what it printed.
pub(super) async fn by_an_agent(
    service: &Service,
    chat: &Chat,
    way: Way,
    ops: &[Value],
) -> (String, Vec<Value>) {
    let installed = installed().await;
    let dir = tempfile::tempdir().unwrap();
    let (script, out) = (dir.path().join("script"), dir.path().join("out"));
    let quoted: Vec<String> = arguments(service, way, &installed)
        .iter()
        .map(|argument| format!("'{argument}'"))
        .collect();
    let input: String = ops.iter().map(|op| format!("{op}\n")).collect();
    let text = format!(
        "node {} >{} <<'END'\n{input}END\n",
        quoted.join(" "),
        out.display()
    );
    std::fs::write(&script, text).unwrap();
    let task = service
        .say(chat, &format!("run bash {}", script.display()))
        .await;
    let lines = service
        .until("what the agent's program printed", async || {
            let text = std::fs::read_to_string(&out).unwrap_or_default();
            let lines: Vec<Value> = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            if lines.len() > ops.len() {
                Ok(lines)
            } else {
                Err(text)
            }
        })
        .await;
    assert_eq!(service.outcome(&task).await, "ok");
    (task, lines)
}
