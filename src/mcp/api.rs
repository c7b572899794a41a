//! What the tools ask of the service, and what it answers.

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// The routes of one service, for one caller.
#[async_trait]
pub trait Api: Send + Sync {
    /// The answer to a request.
    ///
    /// # Errors
    /// The service refuses, or cannot be reached.
    async fn ask(&self, ask: Ask) -> Result<Value, Fault>;

    /// The frames of a task behind a seq, from storage and then live; ends with
    /// the task.
    ///
    /// # Errors
    /// The service refuses, or cannot be reached.
    async fn frames(
        &self,
        task: Uuid,
        after: i64,
    ) -> Result<BoxStream<'static, Result<Event, Fault>>, Fault>;

    /// Who asks.
    ///
    /// # Errors
    /// The service cannot tell, or cannot be reached.
    async fn caller(&self) -> Result<Caller, Fault> {
        let seen = self.ask(Ask::get(&["api", "caller"], &[])).await?;
        serde_json::from_value(seen).map_err(|error| Fault::unreadable(&error))
    }
}

/// Who asks.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Caller {
    /// A process that an agent of the service runs.
    pub agent: bool,
    /// Where the task of that agent works.
    pub project_id: Option<Uuid>,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Path and query.
    pub target: String,
    /// Sent as JSON by POST; by GET if none.
    pub body: Option<Value>,
    /// The `Idempotency-Key`.
    pub key: Option<String>,
}

impl Ask {
    /// Reads; parameters without a value are left out.
    #[must_use]
    pub fn get(path: &[&str], query: &[(&str, Option<String>)]) -> Self {
        Self {
            target: target(path, query),
            body: None,
            key: None,
        }
    }

    /// Changes something.
    #[must_use]
    pub fn post(path: &[&str], body: Value) -> Self {
        Self {
            target: target(path, &[]),
            body: Some(body),
            key: None,
        }
    }
}

/// Path and query with everything escaped that must be.
fn target(path: &[&str], query: &[(&str, Option<String>)]) -> String {
    let mut text: String = path.iter().fold(String::new(), |mut text, segment| {
        text.push('/');
        escape(segment, &mut text);
        text
    });
    let given = query
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (number, (name, value)) in given.enumerate() {
        text.push(if number == 0 { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        escape(value, &mut text);
    }
    text
}

/// RFC 3986: all but the unreserved characters, and the colon of typed ids.
fn escape(part: &str, to: &mut String) {
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                to.push(char::from(byte));
            }
            _ => to.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `delta`, `task_updated`, …
    pub kind: String,
    /// Its JSON; of a frame with its `seq`.
    pub data: Value,
}

/// Why there is no answer: `code` is stable, `detail` says what happened and the
/// cure; more as in the problems of the HTTP API.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault(Value);

impl Fault {
    /// A fault with its explanation.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self(json!({ "code": code, "detail": detail.into() }))
    }

    /// The service answers what nobody here can read.
    pub fn unreadable(error: &dyn std::error::Error) -> Self {
        Self::new(
            "unreadable_answer",
            format!(
                "the service answers something else than expected ({error}): use the same version of hearth as client and service"
            ),
        )
    }

    /// What a service with this status and body says is wrong.
    #[must_use]
    pub fn problem(status: u16, body: Value) -> Self {
        if body["code"].is_string() {
            return Self(body);
        }
        Self::new(
            "internal",
            format!("the service answers {status}; its log says more"),
        )
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        self.0["code"].as_str().unwrap_or("internal")
    }

    /// All of it.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.0
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let detail = self.0["detail"].as_str().unwrap_or_default();
        write!(f, "{detail} ({})", self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_say_stays_within_its_segment() {
        let ask = Ask::get(
            &["api", "inbox", "task:1/../2?x=ü"],
            &[
                ("state", None),
                ("cursor", Some("a b&c".into())),
                ("limit", Some("3".into())),
            ],
        );
        assert_eq!(
            ask.target,
            "/api/inbox/task:1%2F..%2F2%3Fx%3D%C3%BC?cursor=a%20b%26c&limit=3"
        );
    }

    #[test]
    fn an_answer_that_is_no_problem_gets_a_code_of_its_own() {
        assert_eq!(Fault::problem(502, Value::Null).code(), "internal");
        let body = json!({ "code": "not_found", "detail": "there is no task 1" });
        let fault = Fault::problem(404, body.clone());
        assert_eq!(fault.to_string(), "there is no task 1 (not_found)");
        assert_eq!(fault.into_value(), body);
    }
}
