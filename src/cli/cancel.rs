//! `cancel`: ends a task.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::args::Cancel;
use super::failure::{Exit, Failure};
use super::{discover, ids, print};

pub(super) async fn cancel(
    args: &Cancel,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let task = ids::task(&client, &args.task).await?;
    let path = format!("/api/tasks/{}/cancel", task.id);
    let answer: Value = client.post(&path, &json!({})).await?;
    if args.json {
        print(&format!("{answer}\n"));
    } else {
        let status = answer["status"].as_str().unwrap_or("cancelling");
        print(&format!("{} {status}\n", task.id));
    }
    Ok(Exit::Ok)
}
