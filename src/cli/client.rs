//! Speaks with the service over HTTP.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::{Exit, Failure};
use super::frames::Frames;
use super::problem::problem;
use crate::http::state::CLI_AGENT;
use crate::store::rows::tasks::Task;

/// Longest wait for a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for an answer: a little more than the service allows itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// Longest wait for a sign of life.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// One service.
#[derive(Clone)]
pub(super) struct Client {
    url: String,
    token: String,
    http: reqwest::Client,
}

/// A page of a list.
#[derive(serde::Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next_cursor: Option<String>,
}

/// How a service is.
#[derive(serde::Deserialize)]
pub(super) struct Health {
    /// `ready`, `starting` or `stopping`.
    #[serde(default)]
    pub(super) readiness: String,
    /// Agents that tasks may name.
    #[serde(default)]
    pub(super) agents: Vec<Agent>,
    /// Runs tasks that name nobody.
    #[serde(default)]
    pub(super) default_agent: Option<String>,
}

/// An agent that the service knows.
#[derive(serde::Deserialize)]
pub(super) struct Agent {
    pub(super) name: String,
    /// What it may do unasked.
    pub(super) permission: Option<String>,
}

impl Health {
    /// Whether a pending task waits for nothing but its place.
    pub(super) fn would_run(&self, task: &Task) -> bool {
        let agent = task.agent.as_ref().or(self.default_agent.as_ref());
        let known = agent.is_some_and(|name| self.agents.iter().any(|agent| agent.name == *name));
        known && task.not_before.is_none()
    }
}

impl Client {
    /// # Errors
    /// The address is none.
    pub(super) fn new(url: &str, token: &str) -> Result<Self, Failure> {
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token: token.to_owned(),
            http: http()?,
        })
    }

    /// Whether a service answers at `url`.
    pub(super) async fn alive(url: &str) -> bool {
        let Ok(http) = http() else {
            return false;
        };
        let asked = http
            .get(format!("{}/api/health/live", url.trim_end_matches('/')))
            .timeout(ALIVE_TIMEOUT)
            .send()
            .await;
        asked.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How the service is, ready or not; none when it went away.
    ///
    /// # Errors
    /// It does not accept the token.
    pub(super) async fn health(&self) -> Result<Option<Health>, Failure> {
        let Ok(answer) = self.request(Method::GET, "/api/health").send().await else {
            return Ok(None);
        };
        let status = answer.status();
        let Ok(bytes) = answer.bytes().await else {
            return Ok(None);
        };
        if status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE {
            return Ok(serde_json::from_slice(&bytes).ok());
        }
        Err(problem(status, &bytes))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(self.request(Method::GET, path)).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// The answer, and whether something was made that was not there before.
    pub(super) async fn post_making<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<(T, bool), Failure> {
        let request = self.request(Method::POST, path).json(body);
        let answer = request.send().await.map_err(|error| self.gone(&error))?;
        let made = answer.status() != StatusCode::OK;
        Ok((self.read(answer).await?, made))
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// Status and body of a request: POST with a body, else GET.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn exchange(
        &self,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<(u16, Value), Failure> {
        let mut request = match body {
            Some(body) => self.request(Method::POST, path).json(body),
            None => self.request(Method::GET, path),
        };
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let answer = request.send().await.map_err(|error| self.gone(&error))?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(|error| self.gone(&error))?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    /// A request whose answer has no body.
    pub(super) async fn post_silent(&self, path: &str) -> Result<(), Failure> {
        let request = self.request(Method::POST, path).json(&Value::Null);
        let answer = request.send().await.map_err(|error| self.gone(&error))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| self.gone(&error))?;
        if status.is_success() {
            Ok(())
        } else {
            Err(problem(status, &bytes))
        }
    }

    /// A creating request that may be sent twice and creates once.
    pub(super) async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        let request = || {
            self.request(Method::POST, path)
                .header("Idempotency-Key", key)
                .json(body)
        };
        match self.send(request()).await {
            Err(failure) if failure.exit == Exit::Unreachable => self.send(request()).await,
            other => other,
        }
    }

    /// All rows of a list, at most `cap`.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        cap: usize,
    ) -> Result<Vec<T>, Failure> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let address = format!("{path}{separator}limit=200{cursor}");
            let page: Page<T> = self.get(&address).await?;
            rows.extend(page.items);
            match page.next_cursor {
                Some(next) if rows.len() < cap => cursor = format!("&cursor={next}"),
                _ => return Ok(rows),
            }
        }
    }

    /// The events of a stream, from storage and then live.
    pub(super) fn frames(&self, path: &str) -> Frames {
        Frames::new(format!("{}{path}", self.url), self.token.clone())
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .timeout(ANSWER_TIMEOUT)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Failure> {
        let answer = request.send().await.map_err(|error| self.gone(&error))?;
        self.read(answer).await
    }

    async fn read<T: DeserializeOwned>(&self, answer: reqwest::Response) -> Result<T, Failure> {
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| self.gone(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!(
                        "{} answers something else than we expect: {error}",
                        self.url
                    ),
                    "use the same version of hearth as client and service",
                )
            });
        }
        Err(problem(status, &bytes))
    }

    fn gone(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() {
            "does not answer in time"
        } else {
            "cannot be reached"
        };
        Failure::new(
            Exit::Unreachable,
            format!("the service at {} {why}", self.url),
            "look at its log; `hearth doctor` may know more",
        )
    }
}

/// No proxy: the service is on this host or in its network.
fn http() -> Result<reqwest::Client, Failure> {
    reqwest::Client::builder()
        .no_proxy()
        .user_agent(format!("{CLI_AGENT}{}", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|error| {
            Failure::plain(
                Exit::Failed,
                format!("the HTTP client cannot start: {error}"),
            )
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_service_is_needed_by_queued_tasks_that_it_would_run() {
        let health = |default_agent: Option<&str>| -> Health {
            let health = json!({ "agents": [{ "name": "demo" }], "default_agent": default_agent });
            serde_json::from_value(health).expect("health")
        };
        let task = |agent: Option<&str>, not_before: Option<&str>| -> Task {
            let task = json!({
                "id": Uuid::nil(), "project_id": Uuid::nil(), "state": "pending", "input": "x",
                "agent": agent, "not_before": not_before, "attempts": 0,
                "created_at": "2026-01-01T00:00:00Z",
            });
            serde_json::from_value(task).expect("a task")
        };
        assert!(health(None).would_run(&task(Some("demo"), None)));
        assert!(health(Some("demo")).would_run(&task(None, None)));
        assert!(!health(None).would_run(&task(None, None)), "nobody's");
        assert!(!health(None).would_run(&task(Some("hal"), None)), "unknown");
        let parked = task(Some("demo"), Some("2026-01-01T00:00:00Z"));
        assert!(!health(None).would_run(&parked), "parked");
    }
}
