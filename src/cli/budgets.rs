//! `budgets`: what may be spent, and what was.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::args::Output;
use super::failure::{Exit, Failure};
use super::prompts::clean;
use super::{discover, print};
use crate::store::rows::budgets::BudgetUse;

#[derive(Debug, Deserialize, Serialize)]
struct Listing {
    items: Vec<BudgetUse>,
}

pub(super) async fn budgets(
    args: &Output,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let listing: Listing = client.get("/api/stats/budgets").await?;
    if args.json {
        let json = serde_json::to_string_pretty(&listing).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&text(&listing.items, Utc::now()));
    }
    Ok(Exit::Ok)
}

fn text(items: &[BudgetUse], now: DateTime<Utc>) -> String {
    let mut out = String::new();
    if items.is_empty() {
        out.push_str(
            "nothing is bounded; set [budget.day] in hearth.toml, or a session's or task's own\n",
        );
    }
    for item in items {
        let (used, limit) = (item.used, item.limit);
        let amount = match item.measure.as_str() {
            "cost" => format!("{used:.4} of {limit:.4} $"),
            "wall_ms" => format!("{:.0} of {:.0} s", used / 1e3, limit / 1e3),
            measure => format!("{used:.0} of {limit:.0} {}", clean(measure)),
        };
        let resets = item.resets_at.map_or_else(String::new, |at| {
            format!("  resets in {}", crate::http::render::ago(at, now))
        });
        let _ = writeln!(
            out,
            "{:<8} {}  {amount:<32} {:>4.0} %  {}{resets}",
            clean(&item.scope),
            clean(&item.subject),
            100.0 * used / limit,
            clean(&item.level),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_line_a_limit() {
        let now = DateTime::UNIX_EPOCH;
        let of = |scope: &str, measure: &str, used: f64, limit: f64, level: &str| BudgetUse {
            scope: scope.into(),
            subject: "2026-11-21".into(),
            measure: measure.into(),
            used,
            limit,
            left: limit - used,
            level: level.into(),
            resets_at: (scope == "day").then(|| now + chrono::Duration::hours(5)),
        };
        let items = [
            of("day", "tokens", 850_000.0, 1_000_000.0, "warning"),
            of("session", "cost", 0.5, 2.0, "ok"),
            of("task", "wall_ms", 61_000.0, 60_000.0, "exhausted"),
            of("task", "turns", 1.0, 3.0, "ok"),
        ];
        insta::assert_snapshot!(text(&items, now));
        assert!(text(&[], now).starts_with("nothing is bounded"));
    }
}
