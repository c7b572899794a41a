//! `task_follow`: a bounded wait for what comes next.

use std::time::Duration;

use futures::StreamExt as _;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::Context;
use super::told::{Next, Told};
use crate::mcp::api::Fault;

/// How long a call waits that does not say: below the minute after which many
/// clients give a call up.
const WAIT_S: u32 = 30;
/// Longest wait that can be asked for.
const MAX_WAIT_S: u32 = 300;

/// What to follow.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowArgs {
    /// The task.
    task_id: Uuid,
    /// `cursor` of the call before; from the beginning if not given.
    after: Option<i64>,
    /// Longest wait, 1 to 300 seconds; 30 if not given.
    #[schemars(range(min = 1, max = 300))]
    wait_seconds: Option<u32>,
}

pub(super) async fn task_follow(mut context: Context, args: FollowArgs) -> Result<Value, Fault> {
    let wait = args.wait_seconds.unwrap_or(WAIT_S);
    if !(1..=MAX_WAIT_S).contains(&wait) {
        return Err(Fault::new(
            "invalid_arguments",
            format!("`wait_seconds` is {wait}; 1 to {MAX_WAIT_S} are accepted"),
        ));
    }
    let deadline = Instant::now() + Duration::from_secs(wait.into());
    let mut told = Told::after(args.after.unwrap_or(0));
    let mut frames = context.api.frames(args.task_id, told.cursor).await?;
    let mut read_all = false;
    // No event in time: what the row says counts.
    while let Ok(event) = timeout_at(deadline, frames.next()).await {
        let Some(event) = event else {
            read_all = true;
            break;
        };
        match told.on(&event?) {
            Next::More => {}
            Next::Full | Next::Asks => break,
            Next::Ended => {
                read_all = true;
                break;
            }
        }
        if let Some(progress) = &mut context.progress {
            progress.tell(told.cursor, told.last()).await;
        }
    }
    drop(frames);
    let task = context.task(args.task_id).await?;
    let over = ["completed", "failed", "cancelled"]
        .iter()
        .any(|state| task["state"] == *state);
    let mut answer = serde_json::to_value(&told).map_err(|error| Fault::unreadable(&error))?;
    answer["task_id"] = json!(args.task_id);
    for name in ["state", "outcome", "outcome_detail", "session_id"] {
        answer[name] = task[name].clone();
    }
    answer["open_prompts"] = context.open_prompts(args.task_id, &task).await?;
    // A task that is over may have more to tell than one answer holds.
    answer["done"] = (over && read_all).into();
    Ok(answer)
}
