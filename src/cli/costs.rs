//! `costs`: tokens and money.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::args::Costs;
use super::failure::{Exit, Failure};
use super::{discover, print};
use crate::store::rows::stats::Cost;

#[derive(Debug, Deserialize, Serialize)]
struct Listing {
    items: Vec<Cost>,
    next_cursor: Option<String>,
}

pub(super) async fn costs(
    args: &Costs,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let mut path = format!("/api/stats/costs?limit=1000&group_by={}", args.by.as_str());
    for (name, value) in [("from", &args.from), ("to", &args.to)] {
        if let Some(value) = value {
            let _ = write!(path, "&{name}={}", encoded(value));
        }
    }
    let listing: Listing = client.get(&path).await?;
    if args.json {
        let json = serde_json::to_string_pretty(&listing).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&text(&listing));
    }
    Ok(Exit::Ok)
}

fn text(listing: &Listing) -> String {
    let mut out = String::new();
    if listing.items.is_empty() {
        out.push_str("no turns in that time\n");
    }
    for cost in &listing.items {
        let label: String = cost.label.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(
            out,
            "{label:<24} {:>12} in {:>12} out {:>10.4} $ {:>7} turns",
            cost.input_tokens, cost.output_tokens, cost.cost, cost.turns
        );
    }
    if listing.next_cursor.is_some() {
        out.push_str("… more with GET /api/stats/costs and its cursor\n");
    }
    out
}

/// Times hold nothing but these and `+`.
fn encoded(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b':' | b'.' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
