//! `tree`: the supervision tree.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::Path;

use chrono::Utc;
use hearth_actors::tree::board::TreeNode;
use serde_json::Value;

use super::args::Tree;
use super::failure::{Exit, Failure};
use super::interrupt::Interrupts;
use super::{colours, discover, print};
use crate::http::render::render;

/// Cursor home, then everything below it gone.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[J";

pub(super) async fn tree(
    args: &Tree,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    if !args.watch {
        let tree: Value = client.get("/api/debug/tree").await?;
        print(&show(tree, args.json, colours(env))?);
        return Ok(Exit::Ok);
    }
    let mut interrupts = Interrupts::listen()?;
    let mut frames = client.frames("/api/debug/tree/stream");
    let clear = !args.json && std::io::stdout().is_terminal();
    loop {
        let event = tokio::select! {
            biased;
            () = interrupts.next() => return Ok(Exit::Ok),
            event = frames.next() => event?,
        };
        if clear {
            print(CLEAR_SCREEN);
        }
        print(&show(event.data, args.json, colours(env))?);
    }
}

fn show(tree: Value, json: bool, colour: bool) -> Result<String, Failure> {
    if json {
        return Ok(format!("{tree}\n"));
    }
    let tree: Option<TreeNode> = serde_json::from_value(tree).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("the tree cannot be read: {error}"),
            "use the same version of hearth as client and service",
        )
    })?;
    Ok(tree.map_or_else(
        || "the supervision tree is not up yet\n".to_owned(),
        |tree| render(&tree, Utc::now(), colour),
    ))
}
