//! Settings that change while the service runs: agents, and what the pool may hold.

use std::sync::Arc;

use hearth_actors::tree::Limits;

use super::ground::memory_cap;
use super::looks::Kept;
use super::{App, known};
use crate::backends::probe::Prober;
use crate::backends::registry::Registry;
use crate::config::Settings;

impl App {
    /// From now on these settings, as far as they can change in a running service;
    /// the log names the others. What runs goes on as it began.
    pub fn reload(&mut self, settings: Settings) {
        let fixed = fixed(&self.settings, &settings);
        if !fixed.is_empty() {
            tracing::warn!(
                settings = fixed.join(", "),
                "these need a restart to change"
            );
        }
        let means = crate::backends::registry::Means {
            warm_claude: settings.claude_sdk_backend,
            ..self.means.clone()
        };
        let registry = Registry::new(&settings.agents, &means);
        self.known
            .send_replace(Arc::new(known(&registry, &settings)));
        self.agents.set(registry);
        let limits = Limits {
            max_live: settings.pool_max_live,
            memory: memory_cap(&settings),
        };
        self.tree.reload(limits);
        let prober = Prober::new(&settings.agents, &means, settings.home.join("probe"));
        self.probed
            .send_replace(prober.names().map(ToString::to_string).collect());
        self.probing.abort();
        self.probing = tokio::spawn(self.looks.clone().run(
            prober,
            Arc::new(Kept(self.store.clone())),
            settings.probe_every,
        ));
        tracing::info!(
            agents = settings.agents.defs.len(),
            max_live = limits.max_live,
            memory = limits.memory,
            "the settings were read anew"
        );
        self.settings = Settings {
            agents: settings.agents,
            pool_max_live: settings.pool_max_live,
            pool_memory: settings.pool_memory,
            pool_idle_ttl: settings.pool_idle_ttl,
            deadlines: settings.deadlines,
            claude_sdk_backend: settings.claude_sdk_backend,
            shutdown_grace: settings.shutdown_grace,
            probe_every: settings.probe_every,
            ..self.settings.clone()
        };
    }
}

/// Settings that differ and cannot change now.
fn fixed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let differs = [
        ("listen", old.listen != new.listen),
        ("home", old.home != new.home),
        ("database_url", old.database_url != new.database_url),
        (
            "token",
            old.token.as_ref().map(|token| token.expose())
                != new.token.as_ref().map(|token| token.expose()),
        ),
        ("default_agent", old.default_agent != new.default_agent),
        ("allowed_hosts", old.allowed_hosts != new.allowed_hosts),
        ("project_roots", old.project_roots != new.project_roots),
        ("retention", old.keep_frames != new.keep_frames),
        (
            "lifecycle_sweep_ms",
            old.lifecycle_sweep != new.lifecycle_sweep,
        ),
        (
            "tasks",
            old.tasks_max_depth != new.tasks_max_depth
                || old.tasks_max_children != new.tasks_max_children,
        ),
        ("budget", old.budgets != new.budgets),
        ("retry", old.retry != new.retry),
        ("pool.cgroups", old.cgroups != new.cgroups),
    ];
    let differs = differs.into_iter().filter(|(_, differs)| *differs);
    differs.map(|(name, _)| name).collect()
}
