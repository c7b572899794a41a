//! `budgets`: what may be spent, and what was; the bound of a session.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::{Bound, Budgets};
use super::client::Client;
use super::failure::{Exit, Failure};
use super::ids::{self, short};
use super::{discover, print};
use crate::store::rows::budgets::BudgetUse;
use crate::text::clean;

#[derive(Debug, Deserialize, Serialize)]
struct Listing {
    items: Vec<BudgetUse>,
}

pub(super) async fn budgets(
    args: &Budgets,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let session = match &args.session {
        Some(typed) => Some(ids::session(&client, typed).await?),
        None => None,
    };
    let known = match session {
        Some(id) => format!("/api/stats/budgets?session_id={id}"),
        None => "/api/stats/budgets".to_owned(),
    };
    let mut listing: Listing = client.get(&known).await?;
    if let Some(id) = session
        && (args.tokens.is_some() || args.cost.is_some())
    {
        listing = bound(&client, id, args, &listing).await?;
    }
    if args.json {
        let json = serde_json::to_string_pretty(&listing).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&text(&listing.items, Utc::now()));
    }
    Ok(Exit::Ok)
}

/// Sets what was typed, and keeps the other bound.
async fn bound(
    client: &Client,
    session: Uuid,
    args: &Budgets,
    known: &Listing,
) -> Result<Listing, Failure> {
    let path = format!("/api/sessions/{session}/budget");
    let body = body(session, args, &known.items);
    client.put(&path, &body).await.map_err(|mut failure| {
        if failure.what.contains("looser than the settings") {
            let cure = "the settings bound every session: raise [budget.session] there, and start the service again";
            failure.cure = Some(cure.to_owned());
        }
        failure
    })
}

fn body(session: Uuid, args: &Budgets, known: &[BudgetUse]) -> Value {
    let id = session.to_string();
    let is = |measure: &str| {
        let own = known
            .iter()
            .find(|item| item.scope == "session" && item.subject == id && item.measure == measure);
        own.map(|item| item.limit)
    };
    let mut body = json!({});
    match args.tokens {
        Some(Bound::At(tokens)) => body["tokens"] = json!(tokens),
        Some(Bound::None) => {}
        None => {
            if let Some(limit) = is("tokens") {
                // Whole, and below 2^53: the service says so.
                body["tokens"] = json!(limit as i64);
            }
        }
    }
    match args.cost {
        Some(Bound::At(cost)) => body["cost"] = json!(cost),
        Some(Bound::None) => {}
        None => {
            if let Some(limit) = is("cost") {
                body["cost"] = json!(limit);
            }
        }
    }
    body
}

fn text(items: &[BudgetUse], now: DateTime<Utc>) -> String {
    let mut out = String::new();
    if items.is_empty() {
        out.push_str(
            "nothing is bounded; set [budget.day] in hearth.toml, or bound a session: hearth budgets SESSION --tokens N\n",
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
            "{:<8} {:<10}  {amount:<32} {:>4.0} %  {}{resets}",
            clean(&item.scope),
            subject(item),
            100.0 * used / limit,
            clean(&item.level),
        );
    }
    out
}

/// The day, or the digits that name a session or task.
fn subject(item: &BudgetUse) -> String {
    item.subject
        .parse()
        .map_or_else(|_| clean(&item.subject), short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_that_is_not_named_stays() {
        let session = Uuid::from_u128(7);
        let known = |measure: &str, limit: f64| BudgetUse {
            scope: "session".into(),
            subject: session.to_string(),
            measure: measure.into(),
            used: 0.0,
            limit,
            left: limit,
            level: "ok".into(),
            resets_at: None,
        };
        let known = [known("tokens", 1000.0), known("cost", 2.5)];
        let args = |tokens, cost| Budgets {
            session: None,
            tokens,
            cost,
            json: false,
        };
        for (tokens, cost, wanted) in [
            (
                Some(Bound::At(2000)),
                None,
                json!({ "tokens": 2000, "cost": 2.5 }),
            ),
            (
                None,
                Some(Bound::At(5.0)),
                json!({ "tokens": 1000, "cost": 5.0 }),
            ),
            (Some(Bound::None), None, json!({ "cost": 2.5 })),
            (Some(Bound::None), Some(Bound::None), json!({})),
        ] {
            assert_eq!(body(session, &args(tokens, cost), &known), wanted);
        }
        let other = body(Uuid::nil(), &args(Some(Bound::At(1)), None), &known);
        assert_eq!(other, json!({ "tokens": 1 }));
    }

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
