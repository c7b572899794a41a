//! `opencode serve` without Hearth: its requests, its event stream, its memory.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::real_agents::Agent;
use crate::real_agents::install::installed;
use crate::stream::Stream;

const BOUND: Duration = Duration::from_secs(60);
const PASSWORD: &str = "figures";

/// One server; everything happens in its home.
pub(crate) struct Served {
    http: reqwest::Client,
    url: String,
    events: Stream,
    session: String,
    home: PathBuf,
    child: Child,
    _output: Lines<BufReader<ChildStdout>>,
}

impl Served {
    /// With a first session.
    pub(crate) async fn start(model: &str, home: &Path) -> Self {
        let agent = Agent::OpencodeServer;
        agent.furnish(home, model);
        let (program, args, env) = agent.launch(installed(), model);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let mut child = Command::new(program)
            .args(args)
            .args(["serve", "--hostname", "127.0.0.1", "--port"])
            .arg(port.to_string())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("TMPDIR", home)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_DATA_HOME", home.join(".local/share"))
            .env("XDG_STATE_HOME", home.join(".local/state"))
            .env("XDG_CACHE_HOME", home.join(".cache"))
            .env("OPENCODE_SERVER_PASSWORD", PASSWORD)
            .envs(env)
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the server");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let ready = async {
            while let Some(line) = output.next_line().await.expect("a pipe") {
                if line.contains("listening on") {
                    return;
                }
            }
            panic!("the server ended");
        };
        let ready = tokio::time::timeout(BOUND, ready).await;
        ready.expect("the server listens");
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.expect("a client");
        let url = format!("http://127.0.0.1:{port}");
        let events = http
            .get(below(&url, "/event", home))
            .basic_auth("opencode", Some(PASSWORD))
            .send()
            .await
            .expect("its events");
        let mut served = Self {
            http,
            url,
            events: Stream::new(events),
            session: String::new(),
            home: home.to_owned(),
            child,
            _output: output,
        };
        served.next_session().await;
        served
    }

    /// From here on prompts go to a session of their own.
    pub(crate) async fn next_session(&mut self) {
        let made = self.post("/session", &json!({})).await;
        let made: Value = serde_json::from_str(&made).expect("JSON");
        self.session = made["id"].as_str().expect("a session").to_owned();
    }

    /// Prompts; returns when the first text came out. The turn is over then too.
    pub(crate) async fn first_text(&mut self, prompt: &str) -> Instant {
        let path = format!("/session/{}/prompt_async", self.session);
        let body = json!({"parts": [{"type": "text", "text": prompt}]});
        self.post(&path, &body).await;
        let session = self.session.clone();
        let of = move |event: &Value, kind| {
            event["type"] == kind && event["properties"]["sessionID"] == session.as_str()
        };
        let said = self.events.until(|event| of(event, "message.part.delta"));
        let said = tokio::time::timeout(BOUND, said).await;
        said.expect("a word");
        let first = Instant::now();
        let ended = self.events.until(|event| of(event, "session.idle"));
        let ended = tokio::time::timeout(BOUND, ended).await;
        ended.expect("an end");
        first
    }

    /// Resident memory of its process.
    pub(crate) fn rss_mb(&self) -> f64 {
        crate::hearth::resident_mb(self.child.id().expect("a process"))
    }

    async fn post(&self, path: &str, body: &Value) -> String {
        let answer = self
            .http
            .post(below(&self.url, path, &self.home))
            .basic_auth("opencode", Some(PASSWORD))
            .json(body)
            .timeout(BOUND)
            .send()
            .await
            .expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.text().await.expect("its text")
    }
}

fn below(url: &str, path: &str, directory: &Path) -> reqwest::Url {
    let named = [("directory", directory.to_string_lossy())];
    reqwest::Url::parse_with_params(&format!("{url}{path}"), &named).expect("an address")
}
