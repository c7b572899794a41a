//! Whom an agent asks beside its model: seen by a proxy that all else has to pass.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::stage::{Agent, Stage};
use crate::real_agents::patience;

/// Writes down who is asked for, and lets nobody through.
struct Witness {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Witness {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut line = String::new();
                // Whoever says nothing was here all the same.
                let _ = BufReader::new(&mut stream).read_line(&mut line).await;
                told.lock().unwrap().push(line.trim().to_owned());
                let refusal =
                    "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(refusal.as_bytes()).await;
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let through = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
        let past = ["NO_PROXY", "no_proxy"].map(|name| (name, "127.0.0.1,localhost".to_owned()));
        let through = through.map(|name| (name, self.address.clone()));
        through.into_iter().chain(past).collect()
    }
}

/// A second agent, with the switches undone, shows that the witness would notice.
pub(super) async fn its_model_alone(agent: Agent) {
    let (quiet, loud) = (Witness::start().await, Witness::start().await);
    let (switches, undone, foreign): (&[_], &[_], _) = match agent {
        // What it installs beside the user's configuration is npm's business.
        Agent::OpencodeServer => (
            &[("npm_config_offline", "true")],
            &[
                ("OPENCODE_DISABLE_AUTOUPDATE", "0"),
                ("OPENCODE_DISABLE_MODELS_FETCH", "0"),
            ],
            "CONNECT models.",
        ),
        // The built-in definition switches off, and only where the agent has its name.
        _ => (&[], &[], "CONNECT api.anthropic.com:443"),
    };
    let stage = Stage::of(agent, |installed, model| {
        let (program, args, env) = agent.launch(installed, model);
        let mut tables = String::new();
        for (name, witness, more) in [(agent.name(), &quiet, switches), ("loud", &loud, undone)] {
            let mut env = env.clone();
            env.retain(|(known, _)| more.iter().all(|(name, _)| name != known));
            env.extend(
                more.iter()
                    .map(|(name, value)| (*name, (*value).to_owned())),
            );
            env.extend(witness.environment());
            tables += &(agent.table_named(name, program, &args, &env) + &patience(name));
        }
        tables
    })
    .await;
    agent.furnish(&stage.service.home.join("homes/loud"), stage.model.url());

    let chat = stage.service.chat().await;
    let write = serde_json::json!({
        "path": stage.below(&chat, "poem.txt").await, "content": "tides turn\n",
    });
    stage
        .turn(&chat, &format!("[[tool:write {write}]] lynx"))
        .await;
    stage.turn(&chat, "[[text:Yes.]] heron").await;

    let other = stage.service.chat().await;
    let task = stage
        .service
        .say_to("loud", &other, "[[text:Yes.]] otter")
        .await;
    stage
        .service
        .until("a foreign host that is asked", async || {
            let seen = loud.seen();
            let is_asked = seen.iter().any(|line| line.starts_with(foreign));
            is_asked.then_some(()).ok_or(seen)
        })
        .await;
    stage.service.ended(&task).await;
    println!("{agent:?} with its switches undone: {:?}", loud.seen());
    assert_eq!(quiet.seen(), Vec::<String>::new(), "somebody was asked");
    stage.strike().await;
}
