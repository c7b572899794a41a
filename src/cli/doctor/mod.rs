//! `doctor`: checks the installation; every finding comes with its cure.

mod agents;
mod database;
mod machine;
mod report;

use std::collections::BTreeMap;

use super::args::Output;
use super::failure::{Exit, Failure};
use super::{discover, print};
use crate::app;
use crate::config::Flags;
use report::Finding;

pub(super) async fn doctor(
    args: &Output,
    flags: &Flags,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let findings = examine(flags, env).await;
    let colour = super::colours(env);
    print(&if args.json {
        report::json(&findings)
    } else {
        report::text(&findings, colour)
    });
    Ok(report::exit(&findings))
}

async fn examine(flags: &Flags, env: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let settings = match app::settings(flags, env) {
        Ok(settings) => {
            findings.push(machine::settings(&settings));
            settings
        }
        Err(errors) => {
            let failed = errors.0.into_iter().map(|problem| {
                Finding::fail(
                    "settings",
                    format!("{}: {}", problem.place, problem.what),
                    problem.cure,
                )
            });
            findings.extend(failed);
            return findings;
        }
    };
    findings.extend(machine::home(&settings.home));
    findings.push(machine::token(&settings));
    let service = discover::find(&settings.home, env).await.ok().flatten();
    findings.push(machine::port(&settings, service.as_ref().map(|client| client.url())).await);
    let mut limits = None;
    if let Some(client) = &service {
        let (servers, told) = agents::servers(client).await;
        findings.extend(servers);
        limits = told;
    }
    findings.push(database::check(&settings, env).await);
    findings.push(machine::git(env).await);
    findings.extend(machine::kernel());
    findings.push(machine::limits(limits, &settings));
    findings.extend(agents::check(&settings).await);
    findings
}
