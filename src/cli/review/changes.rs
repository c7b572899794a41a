//! `changes`: what agents changed.

use std::collections::BTreeMap;

use crate::cli::args::Changes;
use crate::cli::failure::{Exit, Failure};
use crate::cli::{colours, print};
use crate::config::Flags;
use crate::store::rows::changes::Change;

use super::{place, show, with_service};

/// Changes that are fetched; more are not shown.
const MAX_ROWS: usize = 10_000;

pub(in crate::cli) async fn changes(
    args: &Changes,
    flags: &Flags,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    with_service(flags, env, async |client| {
        let status = args.status.as_str();
        let session = place::session(client, args.session.as_deref(), status).await?;
        let path = format!("/api/sessions/{session}/pending?status={status}");
        let changes: Vec<Change> = client.list(&path, MAX_ROWS).await?;
        let named = status == "all";
        if args.json {
            let json = serde_json::to_string_pretty(&changes).unwrap_or_default();
            print(&format!("{json}\n"));
        } else if changes.is_empty() {
            print(&format!("nothing is {status} in session {session}\n"));
        } else if args.stat {
            print(&show::stat(&changes, named));
        } else {
            print(&show::diffs(&changes, named, colours(env)));
            print(&show::stat(&changes, named));
        }
        Ok(Exit::Ok)
    })
    .await
}
