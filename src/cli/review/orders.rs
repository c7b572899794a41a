//! `apply`, `reject`, `rewind`, `restore`: orders, carried out by the service.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::show::clean;
use super::{place, with_service};
use crate::cli::args::{Apply, Reject, Restore, Rewind};
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::ids;
use crate::cli::print;
use crate::config::Flags;
use crate::store::rows::operations::Operation;

/// Between two looks at an operation that takes long.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Longest wait for its end: a plan and work on files take ten minutes each before
/// people are told.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// What the service says of an order.
#[derive(Debug, Deserialize, Serialize)]
struct Answer {
    state: String,
    operation: Option<Operation>,
    already: Vec<Uuid>,
    left_alone: Vec<String>,
}

/// How an order is spoken of.
struct Words {
    /// `apply`, as typed.
    verb: &'static str,
    /// `applied`.
    done: &'static str,
    /// The state of what it is about.
    status: &'static str,
}

pub(in crate::cli) async fn apply(
    args: &Apply,
    flags: &Flags,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let words = Words {
        verb: "apply",
        done: "applied",
        status: "pending",
    };
    with_service(flags, env, async |client| {
        let (session, ids) = named(client, &args.what, args.all, &words).await?;
        let mut body = json!({ "secrets": args.secrets });
        if let Some(ids) = ids {
            body["change_ids"] = json!(ids);
        }
        let path = format!("/api/sessions/{session}/pending/apply");
        let answer: Answer = client.post(&path, &body).await?;
        end(client, answer, &words, args.json).await
    })
    .await
}

pub(in crate::cli) async fn reject(
    args: &Reject,
    flags: &Flags,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let words = Words {
        verb: "reject",
        done: "rejected",
        status: "pending",
    };
    with_service(flags, env, async |client| {
        let (session, ids) = named(client, &args.what, args.all, &words).await?;
        let body = ids.map_or_else(|| json!({}), |ids| json!({ "change_ids": ids }));
        let path = format!("/api/sessions/{session}/pending/reject");
        let answer: Answer = client.post(&path, &body).await?;
        end(client, answer, &words, args.json).await
    })
    .await
}

pub(in crate::cli) async fn rewind(
    args: &Rewind,
    flags: &Flags,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let words = Words {
        verb: "rewind",
        done: "rewound",
        status: "applied",
    };
    with_service(flags, env, async |client| {
        let (session, ids) = named(client, &args.what, false, &words).await?;
        let body = json!({ "change_ids": ids.unwrap_or_default() });
        let path = format!("/api/sessions/{session}/pending/rewind");
        let answer: Answer = client.post(&path, &body).await?;
        end(client, answer, &words, args.json).await
    })
    .await
}

pub(in crate::cli) async fn restore(
    args: &Restore,
    flags: &Flags,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let words = Words {
        verb: "restore",
        done: "restored",
        status: "pending",
    };
    with_service(flags, env, async |client| {
        let (id, session) =
            ids::checkpoint(client, &args.checkpoint, args.session.as_deref()).await?;
        let path = format!("/api/sessions/{session}/checkpoints/{id}/restore");
        let body = json!({ "consent": args.consent });
        let answer: Answer = client.post(&path, &body).await?;
        end(client, answer, &words, args.json).await
    })
    .await
}

/// The session, and the changes that were typed; none of them where all are
/// meant.
async fn named(
    client: &Client,
    typed: &[String],
    all: bool,
    words: &Words,
) -> Result<(Uuid, Option<Vec<Uuid>>), Failure> {
    let (session, rest) = place::split(client, typed, words.status).await?;
    match (rest, all) {
        ([], true) => return Ok((session, None)),
        ([], false) => {
            let verb = words.verb;
            let all = if verb == "rewind" { "" } else { " or --all" };
            return Err(Failure::new(
                Exit::Usage,
                format!("`hearth {verb}` needs to know what"),
                format!("give the digits that `hearth changes` shows{all}"),
            ));
        }
        (_, true) => {
            return Err(Failure::new(
                Exit::Usage,
                "changes are named, and --all is too",
                "give one of both",
            ));
        }
        (_, false) => {}
    }
    let mut ids = Vec::new();
    for typed in rest {
        ids.push(ids::change(client, typed, session).await?);
    }
    Ok((session, Some(ids)))
}

/// Waits for the end, and says what was done.
async fn end(
    client: &Client,
    mut answer: Answer,
    words: &Words,
    json: bool,
) -> Result<Exit, Failure> {
    if let Some(operation) = &answer.operation
        && operation.ended_at.is_none()
    {
        answer.operation = Some(over(client, operation.id).await?);
    }
    if json {
        let json = serde_json::to_string_pretty(&answer).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&text(&answer, words));
    }
    let failed = answer
        .operation
        .is_some_and(|operation| operation.state == "abandoned");
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

/// The operation, when it has ended.
///
/// # Errors
/// It goes on for longer than anybody waits here.
pub(in crate::cli) async fn over(client: &Client, id: Uuid) -> Result<Operation, Failure> {
    let path = format!("/api/operations/{id}");
    let began = Instant::now();
    loop {
        let operation: Operation = client.get(&path).await?;
        if operation.ended_at.is_some() {
            return Ok(operation);
        }
        if began.elapsed() >= PATIENCE {
            return Err(Failure::new(
                Exit::Busy,
                format!(
                    "the {} {id} has not ended within {PATIENCE:?}",
                    operation.kind
                ),
                "it goes on: look at `hearth inbox` and at the service's log",
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn text(answer: &Answer, words: &Words) -> String {
    let mut out = String::new();
    match &answer.operation {
        Some(operation) if operation.state == "abandoned" => {
            let why = operation.detail.as_deref().unwrap_or("it was broken off");
            let _ = writeln!(
                out,
                "not {}: {}; the files are as before",
                words.done,
                clean(why)
            );
        }
        Some(operation) => {
            let total = operation.result.files_total;
            let files = if total == 1 { "file" } else { "files" };
            let _ = writeln!(out, "{}: {total} {files} written", words.done);
            for file in &operation.result.files {
                let _ = writeln!(out, "  {:<6} {}", file.operation, clean(&file.path));
            }
            if total > operation.result.files.len() {
                let _ = writeln!(out, "  … and {} more", total - operation.result.files.len());
            }
            for note in &operation.result.notes {
                let _ = writeln!(out, "  ! {}", clean(note));
            }
        }
        None => {
            let _ = writeln!(out, "nothing to {}", words.verb);
        }
    }
    if !answer.already.is_empty() {
        let _ = writeln!(out, "  {} {} before", answer.already.len(), words.done);
    }
    for path in &answer.left_alone {
        let _ = writeln!(
            out,
            "  left alone (secret): {}; --secrets applies it",
            clean(path)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLY: Words = Words {
        verb: "apply",
        done: "applied",
        status: "pending",
    };

    #[test]
    fn says_what_was_done_what_was_before_and_what_is_left() {
        let operation = json!({
            "id": Uuid::nil(), "session_id": Uuid::nil(), "kind": "apply", "state": "done",
            "caller": "cli", "changes": [], "detail": null,
            "result": {
                "files": [{ "path": "a\x1b.txt", "operation": "create" }], "files_total": 3,
                "notes": ["the mode of b is as it was"], "conflicts": [],
            },
            "created_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:01Z",
        });
        let mut answer = Answer {
            state: "done".into(),
            operation: serde_json::from_value(operation).expect("an operation"),
            already: vec![Uuid::nil()],
            left_alone: vec![".env".into()],
        };
        insta::assert_snapshot!(text(&answer, &APPLY));
        answer.operation = None;
        answer.left_alone.clear();
        assert_eq!(
            text(&answer, &APPLY),
            "nothing to apply\n  1 applied before\n"
        );
    }
}
