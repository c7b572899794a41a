//! The real claude over its pipes, mirrored, without the rest of Hearth.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hearth::backends::claude::transcript::{Flushed, Mirror, Rebuilt, lines};
use hearth::store::Store;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use uuid::Uuid;

use crate::real_agents::install::installed;

/// Longest wait for one frame, on a busy machine.
const FRAME: Duration = Duration::from_secs(60);

/// A running claude. Dropping it kills it.
pub(super) struct Program {
    child: Child,
    stdin: ChildStdin,
    frames: Lines<BufReader<ChildStdout>>,
    mirror: Option<Mirror>,
    /// The file of each frame that was mirrored.
    pub(super) files: Vec<PathBuf>,
}

/// How its session begins.
pub(super) enum Session<'a> {
    New(&'a str),
    Resumed(&'a str, &'a Rebuilt),
    /// Resumed while nobody takes its frames.
    Unheard(&'a str),
}

impl Program {
    pub(super) fn start(
        store: &Store,
        config_dir: &Path,
        cwd: &Path,
        model: &str,
        session: &Session<'_>,
    ) -> Self {
        let (flag, mirror) = match session {
            Session::New(id) => (format!("--session-id={id}"), Some(None)),
            Session::Resumed(id, rebuilt) => (format!("--resume={id}"), Some(Some(*rebuilt))),
            Session::Unheard(id) => (format!("--resume={id}"), None),
        };
        let mirror =
            mirror.map(|rebuilt| Mirror::start(Arc::new(store.clone()), config_dir, rebuilt));
        let mut child = Command::new(&installed().claude)
            .args(["--output-format", "stream-json", "--verbose"])
            .args(["--input-format", "stream-json", "--session-mirror"])
            .args(["--model=claude-sonnet-4-5", "--permission-mode=default"])
            .args(["--permission-prompt-tool=stdio", "--setting-sources="])
            .args(["--include-partial-messages", &flag])
            .current_dir(cwd)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", config_dir)
            .env("CLAUDE_CONFIG_DIR", config_dir)
            .env("ANTHROPIC_BASE_URL", model)
            .env("ANTHROPIC_API_KEY", "none")
            .env("CLAUDE_CODE_ENTRYPOINT", "sdk-ts")
            .env("CLAUDE_CODE_MAX_RETRIES", "1")
            .envs(
                [
                    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
                    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS",
                    "DISABLE_AUTOUPDATER",
                    "DISABLE_TELEMETRY",
                    "DISABLE_ERROR_REPORTING",
                ]
                .map(|name| (name, "1")),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("claude starts");
        Self {
            stdin: child.stdin.take().expect("piped"),
            frames: BufReader::new(child.stdout.take().expect("piped")).lines(),
            child,
            mirror,
            files: Vec::new(),
        }
    }

    /// Prompts, without waiting; the uuid that the message has.
    pub(super) async fn prompt(&mut self, text: &str) -> String {
        let uuid = Uuid::new_v4().to_string();
        let message = json!({
            "type": "user", "uuid": uuid, "session_id": "", "parent_tool_use_id": null,
            "message": {"role": "user", "content": text},
        });
        self.write(&message).await;
        uuid
    }

    /// One whole turn, stored; the uuid of its prompt.
    pub(super) async fn turn(&mut self, text: &str) -> String {
        let uuid = self.prompt(text).await;
        let result = self.until(|frame| frame["type"] == "result").await;
        assert_eq!(result["is_error"], false, "{result:#}");
        assert_eq!(self.flush().await, Flushed::Stored);
        uuid
    }

    /// Reads until a frame is what is waited for.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.next().await.expect("claude runs");
            if wanted(&frame) {
                return frame;
            }
        }
    }

    pub(super) async fn flush(&self) -> Flushed {
        match &self.mirror {
            Some(mirror) => mirror.flush().await,
            None => Flushed::Stored,
        }
    }

    /// An orderly end: its input ends, its output is read to the end.
    pub(super) async fn end(mut self) {
        self.stdin.shutdown().await.unwrap();
        drop(self.stdin);
        loop {
            let line = timeout(FRAME, self.frames.next_line()).await;
            let Some(line) = line.expect("it ends").unwrap() else {
                break;
            };
            hear(self.mirror.as_ref(), &mut self.files, &line);
        }
        assert!(self.child.wait().await.unwrap().success());
        if let Some(mirror) = self.mirror {
            assert_eq!(mirror.close().await, Flushed::Stored);
        }
    }

    /// It and its mirror are gone at once.
    pub(super) async fn kill(mut self) {
        drop(self.mirror.take());
        self.child.kill().await.unwrap();
    }

    async fn next(&mut self) -> Option<Value> {
        let line = timeout(FRAME, self.frames.next_line()).await;
        let line = line.expect("a frame in time").unwrap()?;
        let frame = hear(self.mirror.as_ref(), &mut self.files, &line);
        if frame["type"] == "control_request" {
            let allowed = json!({"type": "control_response", "response": {
                "subtype": "success", "request_id": frame["request_id"],
                "response": {"behavior": "allow", "updatedInput": frame["request"]["input"]},
            }});
            self.write(&allowed).await;
        }
        Some(frame)
    }

    async fn write(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
    }
}

fn hear(mirror: Option<&Mirror>, files: &mut Vec<PathBuf>, line: &str) -> Value {
    let frame = lines::parse(line).expect("a frame");
    if frame["type"] == "transcript_mirror" {
        let file = PathBuf::from(frame["filePath"].as_str().expect("a path"));
        if let Some(mirror) = mirror {
            let entries = frame["entries"].as_array().cloned();
            mirror.take(&file, entries.expect("entries"));
        }
        files.push(file);
    }
    frame
}
