//! `drain`: the running service stops.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::Drain;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::interrupt::Interrupts;
use super::{discover, print};

/// Between two looks whether it is gone.
const LOOK: Duration = Duration::from_millis(250);
/// Longest way to its end after the grace: the stop ladders and the database.
const AFTER_GRACE: Duration = Duration::from_secs(60);

pub(super) async fn drain(
    args: &Drain,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let mut interrupts = Interrupts::listen()?;
    let wish = match args.grace {
        Some(seconds) => json!({ "grace_ms": seconds * 1000 }),
        None => json!({}),
    };
    let answer: Value = client.post("/api/drain", &wish).await?;
    let grace = Duration::from_millis(answer["grace_ms"].as_u64().unwrap_or(0));
    let (mut held, began) = (answer["turns"].as_u64().unwrap_or(0), Instant::now());
    if !args.json {
        print(&told(held, grace));
    }
    while Client::alive(client.url()).await {
        if began.elapsed() > grace + AFTER_GRACE {
            return Err(Failure::new(
                Exit::Failed,
                "the service is still there",
                "its log tells what it waits for; `kill -9` of it leaves no agent behind",
            ));
        }
        tokio::select! {
            biased;
            () = interrupts.next() => return Ok(Exit::Interrupted),
            () = tokio::time::sleep(LOOK) => {}
        }
        let tree: Value = client.get("/api/debug/tree").await.unwrap_or_default();
        if let Some(turns) = turns(&tree)
            && std::mem::replace(&mut held, turns) != turns
            && !args.json
        {
            print(&told(turns, grace.saturating_sub(began.elapsed())));
        }
    }
    let took = began.elapsed();
    print(&match args.json {
        true => format!(
            "{}\n",
            json!({ "drained": true, "ms": took.as_millis() as u64 })
        ),
        false => format!("drained in {:.1} s\n", took.as_secs_f64()),
    });
    Ok(Exit::Ok)
}

fn told(turns: u64, left: Duration) -> String {
    match turns {
        0 => "draining: no turn holds it\n".into(),
        1 => format!(
            "draining: 1 turn holds it, for {} s at most\n",
            left.as_secs()
        ),
        many => format!(
            "draining: {many} turns hold it, for {} s at most\n",
            left.as_secs()
        ),
    }
}

/// Turns that run, as the tree shows them.
fn turns(tree: &Value) -> Option<u64> {
    let mut nodes = tree["children"].as_array()?.iter();
    let pool = nodes.find(|node| node["kind"] == "pool")?;
    pool["detail"]["busy"].as_u64()
}
