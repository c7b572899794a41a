//! The tools: a row each, with what it takes and what it may do.

mod changes;
mod follow;
mod people;
mod places;
mod tasks;
mod told;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rmcp::model::{ProgressNotificationParam, ProgressToken, Tool as Shown, ToolAnnotations};
use rmcp::{Peer, RoleServer};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api::{Api, Ask, Caller, Fault};

/// Characters of a prompt or an answer in a list; the rest is one request away.
const EXCERPT: usize = 500;
/// Between two notices of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// All tools, in the order in which they are listed.
pub(super) struct Tools(Vec<Tool>);

/// One tool.
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// It creates, lists or tells the state of tasks.
    pub(super) for_agents: bool,
    pub(super) shown: Shown,
    run: Run,
}

type Run = Box<dyn Fn(Context, Value) -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync>;

/// What a tool does to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Reads,
    /// Adds something, and takes nothing away.
    Adds,
    /// Changes or ends something.
    Changes,
}

/// What a call has at hand.
pub(super) struct Context {
    pub(super) api: Arc<dyn Api>,
    pub(super) caller: Caller,
    /// If the caller wants to hear of it.
    pub(super) progress: Option<Progress>,
}

impl Tools {
    pub(super) fn all() -> Self {
        let rooms = [
            places::tools(),
            tasks::tools(),
            changes::tools(),
            people::tools(),
        ];
        Self(rooms.into_iter().flatten().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Tool> {
        self.0.iter().find(|tool| tool.name == name)
    }

    pub(super) fn shown_to(&self, caller: &Caller) -> Vec<Shown> {
        self.0
            .iter()
            .filter(|tool| tool.for_agents || !caller.agent)
            .map(|tool| tool.shown.clone())
            .collect()
    }

    pub(super) fn names_for_agents(&self) -> Vec<&'static str> {
        let open = self.0.iter().filter(|tool| tool.for_agents);
        open.map(|tool| tool.name).collect()
    }
}

impl Tool {
    /// A tool that takes `A`.
    fn new<A, F, R>(
        name: &'static str,
        title: &str,
        about: &'static str,
        effect: Effect,
        run: F,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Context, A) -> R + Send + Sync + Clone + 'static,
        R: Future<Output = Result<Value, Fault>> + Send + 'static,
    {
        let annotations = ToolAnnotations::with_title(title)
            .read_only(effect == Effect::Reads)
            .destructive(effect == Effect::Changes)
            .open_world(false);
        let schema = schemars::generate::SchemaSettings::draft2020_12()
            .into_generator()
            .into_root_schema_for::<A>();
        let schema = match schema.to_value() {
            Value::Object(schema) => schema,
            _ => serde_json::Map::new(),
        };
        Self {
            name,
            for_agents: false,
            shown: Shown::new(name, about, schema)
                .with_title(title)
                .with_annotations(annotations),
            run: Box::new(move |context, arguments| {
                let run = run.clone();
                Box::pin(async move { run(context, parse(arguments)?).await })
            }),
        }
    }

    /// Agents may use it too.
    fn for_agents(mut self) -> Self {
        self.for_agents = true;
        self
    }

    pub(super) async fn run(&self, context: Context, arguments: Value) -> Result<Value, Fault> {
        (self.run)(context, arguments).await
    }
}

fn parse<A: DeserializeOwned>(arguments: Value) -> Result<A, Fault> {
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let at = error.path().to_string();
        let what = error.into_inner();
        let text = match at.as_str() {
            "." => format!("{what}"),
            at => format!("`{at}`: {what}"),
        };
        Fault::new(
            "invalid_arguments",
            format!("{text}; the tool's inputSchema says what it takes"),
        )
    })
}

/// A page of a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageArgs {
    /// Rows in the page, 1 to 200; 50 if not given.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What `Ask::get` takes.
type Query = Vec<(&'static str, Option<String>)>;

fn text(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn page(limit: Option<u32>, cursor: Option<String>) -> Query {
    vec![("limit", text(limit)), ("cursor", cursor)]
}

impl Context {
    async fn get(&self, path: &[&str], query: &[(&str, Option<String>)]) -> Result<Value, Fault> {
        self.api.ask(Ask::get(path, query)).await
    }

    async fn post(&self, path: &[&str], body: Value) -> Result<Value, Fault> {
        self.api.ask(Ask::post(path, body)).await
    }
}

/// Each row of a page, made smaller.
fn each_row(mut page: Value, change: impl Fn(&mut serde_json::Map<String, Value>)) -> Value {
    let rows = page["items"].as_array_mut();
    for row in rows.into_iter().flatten() {
        if let Some(row) = row.as_object_mut() {
            change(row);
        }
    }
    page
}

/// Leaves the beginning of a long text.
fn excerpt(row: &mut serde_json::Map<String, Value>, name: &str) {
    if let Some(Value::String(text)) = row.get_mut(name)
        && let Some((end, _)) = text.char_indices().nth(EXCERPT)
    {
        text.truncate(end);
        text.push('…');
    }
}

/// Where a caller hears how a long call goes.
pub(super) struct Progress {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    told_at: Option<Instant>,
}

impl Progress {
    pub(super) fn new(peer: Peer<RoleServer>, token: ProgressToken) -> Self {
        Self {
            peer,
            token,
            told_at: None,
        }
    }

    /// Says how far it is; what comes too soon after the last word is left out.
    /// `at` only grows.
    async fn tell(&mut self, at: i64, message: &str) {
        if self.told_at.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.told_at = Some(Instant::now());
        #[expect(clippy::cast_precision_loss, reason = "the protocol counts in floats")]
        let mut word = ProgressNotificationParam::new(self.token.clone(), at as f64);
        word.message = Some(message.to_owned());
        // Who does not hear it reads it in the answer.
        drop(self.peer.notify_progress(word).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(agent: bool) -> Vec<String> {
        let caller = Caller {
            agent,
            project_id: None,
        };
        let shown = Tools::all().shown_to(&caller);
        shown.iter().map(|tool| tool.name.to_string()).collect()
    }

    #[test]
    fn agents_see_create_list_and_status_only() {
        assert_eq!(names(true), ["task_create", "task_list", "task_status"]);
    }

    #[test]
    fn what_is_shown_to_people() {
        let person = Caller {
            agent: false,
            project_id: None,
        };
        let lines: Vec<String> = Tools::all()
            .shown_to(&person)
            .iter()
            .map(|tool| {
                let marks = tool.annotations.clone().unwrap_or_default();
                let schema = &tool.input_schema;
                assert_eq!(schema["type"], "object", "{}", tool.name);
                let strict = schema.get("additionalProperties");
                assert_eq!(strict, Some(&Value::Bool(false)), "{}", tool.name);
                let required = schema.get("required").and_then(Value::as_array);
                let required = required.cloned().unwrap_or_default();
                let takes: Vec<String> = schema
                    .get("properties")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                    .map(|(name, property)| {
                        let about = property["description"].as_str();
                        assert!(about.is_some(), "{}: {name} is not described", tool.name);
                        let needed = required.iter().any(|one| one == name.as_str());
                        format!("{name}{}", if needed { "" } else { "?" })
                    })
                    .collect();
                let effect = match (marks.read_only_hint, marks.destructive_hint) {
                    (Some(true), _) => "reads",
                    (_, Some(true)) => "changes",
                    _ => "adds",
                };
                format!("{} {effect}: {}", tool.name, takes.join(" "))
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_wrong_argument_is_named() {
        let wrong = |value| parse::<PageArgs>(value).unwrap_err().to_string();
        let limit = wrong(serde_json::json!({ "limit": "many" }));
        assert!(limit.starts_with("`limit`: invalid type"), "{limit}");
        let unknown = wrong(serde_json::json!({ "limits": 1 }));
        assert!(unknown.contains("unknown field `limits`"), "{unknown}");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let page = serde_json::json!({ "items": [{ "input": "ü".repeat(EXCERPT + 1) }, { "input": "ü" }] });
        let page = each_row(page, |row| excerpt(row, "input"));
        let first = page["items"][0]["input"].as_str().unwrap();
        assert_eq!(first.chars().count(), EXCERPT + 1);
        assert!(first.ends_with('…'));
        assert_eq!(page["items"][1]["input"], "ü");
    }
}
