//! `agents`: who can be asked, and what is wrong with the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hearth_actors::catalog::Catalog;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::Agents;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::{discover, print};
use crate::http::render::ago;
use crate::store::rows::providers::Provider;
use crate::text::clean;

/// Between two questions whether the looks are done.
const LOOK: Duration = Duration::from_millis(200);
/// Longest wait for all of them: some agents take seconds each.
const LOOKS_BOUND: Duration = Duration::from_secs(300);
/// Ids of one kind that are shown in a line.
const SHOWN: usize = 8;

/// One agent as the service tells it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Agent {
    #[serde(flatten)]
    pub(super) provider: Provider,
    pub(super) configured: bool,
    pub(super) alias_of: Option<String>,
    pub(super) looking: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Listing {
    items: Vec<Agent>,
}

pub(super) async fn agents(
    args: &Agents,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    if args.probe {
        let body = match &args.agents[..] {
            [] => json!({}),
            named => json!({ "agents": named }),
        };
        let _: Value = client.post("/api/providers/probe", &body).await?;
        wait(&client).await?;
    }
    let mut items = list(&client).await?;
    known(&items, &args.agents)?;
    if !args.agents.is_empty() {
        items.retain(|agent| args.agents.contains(&agent.provider.name));
    }
    if args.json {
        let json = serde_json::to_string_pretty(&Listing { items }).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&text(&items, Utc::now()));
    }
    Ok(Exit::Ok)
}

fn known(items: &[Agent], named: &[String]) -> Result<(), Failure> {
    let names: BTreeSet<&str> = items.iter().map(|one| one.provider.name.as_str()).collect();
    let Some(unknown) = named.iter().find(|name| !names.contains(name.as_str())) else {
        return Ok(());
    };
    let names: Vec<&str> = names.into_iter().collect();
    Err(Failure::new(
        Exit::Usage,
        format!("no agent is called `{}`", clean(unknown)),
        format!("give one of: {}", clean(&names.join(", "))),
    ))
}

/// All that the service knows of.
pub(super) async fn list(client: &Client) -> Result<Vec<Agent>, Failure> {
    let listing: Listing = client.get("/api/providers").await?;
    Ok(listing.items)
}

async fn wait(client: &Client) -> Result<(), Failure> {
    let until = Instant::now() + LOOKS_BOUND;
    loop {
        let looking: Vec<String> = list(client)
            .await?
            .into_iter()
            .filter(|agent| agent.looking)
            .map(|agent| agent.provider.name)
            .collect();
        if looking.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Failure::new(
                Exit::Failed,
                format!("still being looked at after 5 min: {}", looking.join(", ")),
                "ask again later with `hearth agents`",
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn text(agents: &[Agent], now: DateTime<Utc>) -> String {
    let mut out = String::new();
    for agent in agents {
        let provider = &agent.provider;
        let (mark, state) = state(agent, now);
        let _ = writeln!(
            out,
            "{mark} {:<10} {}",
            clean(&provider.name),
            clean(&state)
        );
        if let Some(cure) = &provider.cure {
            let _ = writeln!(out, "             cure: {}", clean(cure));
        }
        let Ok(catalog) = serde_json::from_value::<Catalog>(provider.catalog.clone()) else {
            continue;
        };
        for (what, ids) in [
            ("modes", catalog.modes.choices),
            ("models", catalog.models.choices),
            ("thinking", catalog.thinking.choices),
        ] {
            let names: Vec<&str> = ids.iter().take(SHOWN).map(|one| one.id.as_str()).collect();
            let more = match ids.len() - names.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            if !names.is_empty() {
                let _ = writeln!(
                    out,
                    "             {what}: {}{more}",
                    clean(&names.join(", "))
                );
            }
        }
    }
    out
}

fn state(agent: &Agent, now: DateTime<Utc>) -> (&'static str, String) {
    let provider = &agent.provider;
    if let Some(target) = &agent.alias_of {
        return ("·", format!("another name for {target}"));
    }
    let version = provider.version.as_deref().unwrap_or("version unknown");
    match (&provider.fault, provider.attempted_at) {
        (Some(fault), _) => {
            let detail = provider.fault_detail.as_deref().unwrap_or_default();
            let first = detail.lines().next().unwrap_or_default();
            ("!", format!("{fault}: {first}"))
        }
        (None, Some(at)) => ("✓", format!("{version}, looked at {}", ago(now, at))),
        (None, None) if agent.looking => ("…", "is being looked at".to_owned()),
        (None, None) => (
            "?",
            "was not looked at yet: hearth agents --probe".to_owned(),
        ),
    }
}
