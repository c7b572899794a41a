//! Finds or opens the place where a turn runs.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::screen::Screen;
use crate::cli::args::Run;
use crate::cli::client::{Agent, Client};
use crate::cli::failure::{Exit, Failure};
use crate::cli::ids::{self, short};
use crate::store::rows::projects::Project;
use crate::store::rows::sessions::Session;
use crate::text::clean;

/// Characters of a prompt that make a session's name.
const NAME_CHARS: usize = 48;

/// Where a turn runs.
pub(super) struct Place {
    pub(super) agent: Agent,
    pub(super) session: Session,
    pub(super) chat: Uuid,
}

/// Registers the project and opens the session and its chat where they are not
/// there yet.
///
/// # Errors
/// The service's, or no agent was named and there is no default.
pub(super) async fn open(
    args: &Run,
    client: &Client,
    root: &Path,
    prompt: &str,
    screen: &mut Screen,
) -> Result<Place, Failure> {
    let agent = choose_agent(client, args.agent.as_deref()).await?;
    screen.phase("opening the session");
    let (project, warnings) = register(client, root).await?;
    let known = match args.session.as_deref() {
        None => None,
        Some(wanted) => ids::session_of(client, project.id, wanted).await?,
    };
    let session = match (known, args.session.as_deref()) {
        (Some(session), _) => session,
        (None, wanted) => {
            // A session that exists has its files already.
            warn(&warnings, screen);
            let name = wanted.map_or_else(|| name_of(prompt), str::to_owned);
            let session = create(client, project.id, &name).await?;
            if wanted.is_some() {
                screen.line(&format!(
                    "no session is named “{}”: this is a new one, {}",
                    clean(&name),
                    short(session.id)
                ));
            }
            session
        }
    };
    let chat = ids::default_chat(client, session.id).await?;
    Ok(Place {
        agent,
        session,
        chat,
    })
}

/// The agent that was named, else the service's default one.
async fn choose_agent(client: &Client, named: Option<&str>) -> Result<Agent, Failure> {
    let Some(known) = client.health().await? else {
        return Err(Failure::new(
            Exit::Unreachable,
            format!("the service at {} went away", client.url()),
            "try again; its log tells why",
        ));
    };
    let Some(name) = named.map(str::to_owned).or(known.default_agent) else {
        let names: Vec<_> = known.agents.into_iter().map(|agent| agent.name).collect();
        return Err(Failure::new(
            Exit::Usage,
            format!("which agent? known: {}", names.join(", ")),
            "name one with --agent (demo needs no account), or set default_agent in hearth.toml",
        ));
    };
    let names: Vec<String> = known
        .agents
        .iter()
        .map(|agent| agent.name.clone())
        .collect();
    let found = known.agents.into_iter().find(|agent| agent.name == name);
    // Asked before anything is made: a wrong name leaves no empty session behind.
    found.ok_or_else(|| {
        let name = name.escape_debug();
        Failure::new(
            Exit::Usage,
            format!(
                "agent `{name}` is not configured; known: {}",
                names.join(", ")
            ),
            "name one of those with --agent, or describe it in hearth.toml",
        )
    })
}

/// The project whose checkout is at `root`, and what to know before a session
/// begins there.
pub(in crate::cli) async fn register(
    client: &Client,
    root: &Path,
) -> Result<(Project, Vec<String>), Failure> {
    #[derive(Deserialize)]
    struct Registered {
        #[serde(flatten)]
        project: Project,
        #[serde(default)]
        warnings: Vec<String>,
    }
    let registered: Registered = client
        .post("/api/projects", &json!({ "path": root }))
        .await?;
    Ok((registered.project, registered.warnings))
}

pub(in crate::cli) fn warn(warnings: &[String], screen: &mut Screen) {
    for warning in warnings {
        screen.line(&format!("! {}", clean(warning)));
    }
}

async fn create(client: &Client, project: Uuid, name: &str) -> Result<Session, Failure> {
    let body = json!({ "project_id": project, "name": name });
    client.post("/api/sessions", &body).await
}

/// The beginning of the prompt's first line, cut at a word.
fn name_of(prompt: &str) -> String {
    let line: String = prompt
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    if line.is_empty() {
        return "session".into();
    }
    if line.chars().count() <= NAME_CHARS {
        return line;
    }
    let cut: String = line.chars().take(NAME_CHARS).collect();
    let words = cut
        .rsplit_once(' ')
        .map_or(cut.as_str(), |(words, _)| words);
    format!("{words}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_after_its_first_words() {
        assert_eq!(name_of("fix  the\n tests"), "fix the tests");
        assert_eq!(name_of(" \n "), "session");
        let long = "please refactor the whole configuration module into smaller pieces";
        assert_eq!(
            name_of(long),
            "please refactor the whole configuration module…"
        );
        assert_eq!(name_of(&"x".repeat(80)).chars().count(), NAME_CHARS + 1);
    }
}
