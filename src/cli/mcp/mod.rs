//! `mcp`: the MCP server on standard input and output, a client of the running
//! service. Standard output carries the protocol and nothing else.

mod lines;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use rmcp::ServiceExt as _;
use rmcp::model::Extensions;
use rmcp::service::ServerInitializeError;
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};
use uuid::Uuid;

use lines::Lines;

use super::client::Client;
use super::discover;
use super::failure::{Exit, Failure};
use crate::mcp::api::{self, Api, Ask, Fault};
use crate::mcp::{Door, Face};

/// Longest wait for the last answers to be taken.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Serves until standard input ends.
///
/// # Errors
/// No service answers, or it refuses the token.
pub(super) async fn mcp(home: &Path, env: &BTreeMap<String, String>) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    // A wrong token is told here, where a person reads it.
    client.health().await?;
    let face = Face::new(Outside(Arc::new(Service {
        home: home.to_owned(),
        env: env.clone(),
        client: Mutex::new(client),
        caller: OnceCell::new(),
    })));
    let failed = |error: &dyn std::error::Error| {
        Failure::plain(Exit::Failed, format!("MCP cannot be spoken: {error}"))
    };
    let Lines {
        input,
        output,
        written,
    } = lines::checked(tokio::io::stdin(), tokio::io::stdout());
    let running = match face.serve((input, output)).await {
        // Nobody came.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(Exit::Ok),
        started => started.map_err(|error| failed(&error))?,
    };
    running.waiting().await.map_err(|error| failed(&error))?;
    // Who does not read is not waited for.
    let _ = tokio::time::timeout(LAST_LINES, written).await;
    Ok(Exit::Ok)
}

struct Outside(Arc<Service>);

impl Door for Outside {
    fn api(&self, _request: &Extensions) -> Result<Arc<dyn Api>, Fault> {
        Ok(self.0.clone())
    }
}

/// The service, wherever it runs now.
struct Service {
    home: PathBuf,
    env: BTreeMap<String, String>,
    client: Mutex<Client>,
    /// A process has the parents that it was started with.
    caller: OnceCell<api::Caller>,
}

impl Service {
    async fn client(&self) -> Client {
        self.client.lock().await.clone()
    }

    /// Looks for a service that was started again elsewhere.
    async fn look_again(&self) -> Result<Client, Fault> {
        let found = discover::need(&self.home, &self.env).await.map_err(fault)?;
        *self.client.lock().await = found.clone();
        Ok(found)
    }
}

fn fault(failure: Failure) -> Fault {
    let code = match failure.exit {
        Exit::Unreachable => "service_unreachable",
        _ => "internal",
    };
    Fault::new(code, failure.to_string())
}

#[async_trait]
impl Api for Service {
    async fn ask(&self, ask: Ask) -> Result<Value, Fault> {
        let key = ask.key.as_deref();
        let asked = self.client().await;
        let asked = asked.exchange(&ask.target, ask.body.as_ref(), key).await;
        let (status, body) = match asked {
            // What was sent and not answered may be done: only what can be sent
            // twice is.
            Err(failure) if ask.body.is_some() && key.is_none() => return Err(fault(failure)),
            Err(_) => {
                let client = self.look_again().await?;
                let asked = client.exchange(&ask.target, ask.body.as_ref(), key).await;
                asked.map_err(fault)?
            }
            Ok(answer) => answer,
        };
        if (200..300).contains(&status) {
            Ok(body)
        } else {
            Err(Fault::problem(status, body))
        }
    }

    async fn frames(
        &self,
        task: Uuid,
        after: i64,
    ) -> Result<BoxStream<'static, Result<api::Event, Fault>>, Fault> {
        // A stream that is refused does not say why.
        self.ask(Ask::get(&["api", "tasks", &task.to_string()], &[]))
            .await?;
        let client = self.client().await;
        let frames = client.frames(&format!("/api/tasks/{task}/stream"));
        let frames = frames.after(Some(after));
        Ok(stream::unfold(Some(frames), |frames| async {
            let mut frames = frames?;
            match frames.next_or_end().await {
                Ok(Some(event)) => {
                    let (kind, data) = (event.kind, event.data);
                    Some((Ok(api::Event { kind, data }), Some(frames)))
                }
                Ok(None) => None,
                Err(failure) => Some((Err(fault(failure)), None)),
            }
        })
        .boxed())
    }

    async fn caller(&self) -> Result<api::Caller, Fault> {
        let caller = self.caller.get_or_try_init(|| async {
            let seen = self.ask(Ask::get(&["api", "caller"], &[])).await?;
            serde_json::from_value(seen).map_err(|error| Fault::unreadable(&error))
        });
        caller.await.cloned()
    }
}
