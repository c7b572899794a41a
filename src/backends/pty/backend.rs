//! Makes links to a program that is run once for each prompt.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hearth_actors::event::{AgentEvent, ExitInfo};
use hearth_actors::model::{Continuity, LinkFacts, Resume};
use hearth_actors::ports::{AgentBackend, Link, LinkSpec, StartError};
use tokio::sync::mpsc;

use super::Style;
use super::link::{PtyLink, Shared, State};
use crate::backends::launch::Launch;
use crate::process::{Owner, Room};

/// What programs are told of their terminal where their settings say nothing: nobody
/// looks at it.
const TERM: &str = "dumb";

/// A program at a terminal, one run for each prompt.
pub struct PtyBackend {
    launch: Launch,
    room: Room,
    style: Arc<dyn Style>,
}

impl PtyBackend {
    /// Starts programs in `room` by `launch`, whose arguments are the style's.
    #[must_use]
    pub fn new(launch: Launch, room: Room, style: impl Style + 'static) -> Self {
        Self {
            launch,
            room,
            style: Arc::new(style),
        }
    }
}

#[async_trait]
impl AgentBackend for PtyBackend {
    /// Looks for the program, and starts nothing.
    async fn start(
        &self,
        spec: LinkSpec,
        events: mpsc::Sender<AgentEvent>,
    ) -> Result<Arc<dyn Link>, StartError> {
        let owner = Owner::Session(spec.key.clone());
        let mut process = self.launch.process(owner, &spec.cwd, &spec.env)?;
        if !self.launch.env.contains_key("TERM") {
            process.env.insert("TERM".into(), TERM.into());
        }
        let found = process.resolve_command();
        found.map_err(|error| self.launch.not_spawned(&error))?;
        let identity = self.launch.identity("pty", &process);
        let facts = LinkFacts {
            pid: None,
            resume: Resume {
                agent_session_id: String::new(),
                home_id: identity.home_id,
                config_hash: identity.config_hash,
            },
            backend: "pty".into(),
            continuity: match spec.forgotten {
                Some(why) => Continuity::Fresh { why },
                None => Continuity::New,
            },
        };
        let shared = Shared {
            launch: self.launch.clone(),
            style: Arc::clone(&self.style),
            room: self.room.clone(),
            process,
            policy: spec.policy,
            deadlines: spec.deadlines,
            state: Mutex::new(State {
                events: Some(events),
                running: None,
                pid: None,
                exit: ExitInfo::default(),
            }),
        };
        Ok(Arc::new(PtyLink {
            shared: Arc::new(shared),
            facts,
        }))
    }

    fn can_be_warm(&self) -> bool {
        false
    }
}
