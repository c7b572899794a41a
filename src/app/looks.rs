//! Looks at agents: asked for by routes and the command line, written down where
//! they bring something new.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use async_trait::async_trait;
use hearth_actors::catalog::Catalog;
use hearth_actors::ids::AgentName;
use tokio::sync::{mpsc, watch};

use crate::backends::probe::Prober;
use crate::backends::probe::rounds::{Findings, Looks};
use crate::backends::registry::Means;
use crate::config::{Cgroups, Settings};
use crate::http::state;
use crate::process::{Room, RoomConfig, ShimPath};
use crate::store::Store;
use crate::store::rows::providers;

pub use crate::backends::probe::Found;

/// Looks at all agents of the settings without a service, one after the other.
///
/// # Errors
/// No process can be started from here.
pub async fn look_at_agents(settings: &Settings) -> anyhow::Result<Vec<Found>> {
    let place = std::env::temp_dir().join(format!("hearth-{}", uuid::Uuid::new_v4().simple()));
    let room = Room::open(RoomConfig {
        ledger_dir: place.join("processes"),
        shim: ShimPath::SelfExe,
        node: uuid::Uuid::new_v4().simple().to_string(),
        cgroups: Cgroups::Off,
    })?;
    let means = means(settings, room)?;
    let prober = Prober::new(&settings.agents, &means, place.join("probe"));
    let mut found = Vec::new();
    for name in prober.names() {
        found.extend(prober.look(name).await);
    }
    if let Err(error) = std::fs::remove_dir_all(&place) {
        tracing::debug!(%error, "a directory of looks stays behind");
    }
    Ok(found)
}

/// The routes' way to looks at agents.
pub(super) struct Looking {
    pub(super) names: watch::Receiver<Vec<String>>,
    pub(super) looks: Looks,
}

impl state::Looks for Looking {
    fn names(&self) -> Vec<String> {
        self.names.borrow().clone()
    }

    fn ask(&self, names: &[String]) {
        self.looks
            .ask(names.iter().map(|name| AgentName::from(name.as_str())));
    }

    fn pending(&self) -> Vec<String> {
        let pending = self.looks.pending();
        pending.iter().map(ToString::to_string).collect()
    }
}

/// Findings are rows.
pub(super) struct Kept(pub(super) Store);

#[async_trait]
impl Findings for Kept {
    async fn found(&self, found: Found) {
        let login = match &found.fault {
            Some(fault) if fault.kind == "not_logged_in" => Some("needed"),
            None if !found.at_terminal => Some("ready"),
            _ => None,
        };
        let look = providers::Look {
            name: found.name,
            install_path: found
                .install_path
                .map(|path| path.to_string_lossy().into_owned()),
            version: found.version,
            // One that opened no session tells less than what is known.
            catalog: found.catalog.filter(|_| found.fault.is_none()),
            at_terminal: found.at_terminal,
            login,
            fault: found
                .fault
                .map(|fault| (fault.kind, fault.detail, fault.cure)),
        };
        if let Err(error) = providers::looked(self.0.pool(), &look).await {
            tracing::warn!(%error, agent = %look.name, "what a look at an agent brought is lost");
        }
    }
}

/// Writes down what live sessions tell about their agents, where it is new.
pub(super) async fn keep(mut tellings: mpsc::Receiver<(AgentName, Catalog)>, store: Store) {
    let mut last: BTreeMap<AgentName, Catalog> = BTreeMap::new();
    while let Some((name, catalog)) = tellings.recv().await {
        if last.get(&name) == Some(&catalog) {
            continue;
        }
        match providers::learned(store.pool(), name.as_str(), catalog.clone()).await {
            Ok(()) => drop(last.insert(name, catalog)),
            Err(error) => tracing::debug!(%error, agent = %name, "what a session told is lost"),
        }
    }
}

/// Holds what agents keep that is not the user's.
pub(super) fn homes(settings: &Settings) -> PathBuf {
    settings.home.join("homes")
}

pub(super) fn means(settings: &Settings, room: Room) -> anyhow::Result<Means> {
    Ok(Means {
        room,
        hearth: std::env::current_exe().context("Hearth's own file cannot be found")?,
        homes: homes(settings),
        environment: std::env::vars_os().collect(),
        learned: None,
        transcripts: None,
        warm_claude: settings.claude_sdk_backend,
    })
}
