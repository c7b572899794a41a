//! The ACP backend with the demo agent as a real child in a real process room.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hearth::backends::acp::{AcpBackend, Launch};
use hearth::process::{Limits, Room, RoomConfig, ShimPath};
use hearth_actors::event::{AgentEvent, AgentStop, Said};
use hearth_actors::ids::{AgentName, ChatId, Generation, SessionId, SessionKey, TurnId};
use hearth_actors::model::{Deadlines, Policy, Resume};
use hearth_actors::ports::{AgentBackend, Link, LinkSpec, Prompt, StartError};
use tempfile::TempDir;
use tokio::sync::mpsc;

mod ending;
mod flow;
mod permission;
mod start;
mod turns;

/// Longest wait for anything that is expected to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A room, a home and a working directory of their own.
struct Fixture {
    room: Room,
    directory: TempDir,
}

/// A live agent and what it says.
struct Live {
    link: Arc<dyn Link>,
    events: mpsc::Receiver<AgentEvent>,
}

/// What one turn brought.
struct Turn {
    said: Vec<Said>,
    stop: AgentStop,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("work")).unwrap();
        let room = Room::open(RoomConfig {
            ledger_dir: directory.path().join("ledger"),
            shim: ShimPath::Path(env!("CARGO_BIN_EXE_hearth").into()),
            node: format!("test-{}", ChatId::new()),
            cgroups: hearth::config::Cgroups::Off,
        })
        .unwrap();
        Self { room, directory }
    }

    fn cwd(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    fn launch(&self) -> Launch {
        Launch {
            name: "demo".into(),
            program: env!("CARGO_BIN_EXE_hearth").into(),
            args: vec!["demo-agent".into()],
            env: BTreeMap::new(),
            pass_env: Vec::new(),
            private_home: Some(self.directory.path().join("home")),
            mode: Some("default".into()),
            quirks: Vec::new(),
            limits: Limits::default(),
            temporary: None,
            parent_env: std::env::vars_os().collect(),
        }
    }

    fn spec(&self) -> LinkSpec {
        LinkSpec {
            key: SessionKey {
                chat: ChatId::new(),
                agent: AgentName::from("demo"),
            },
            session: SessionId::new(),
            generation: Generation::default(),
            cwd: self.cwd(),
            env: BTreeMap::new(),
            resume: None,
            forgotten: None,
            model: None,
            mode: None,
            thinking: None,
            features: std::collections::BTreeMap::new(),
            policy: Policy::Ask,
            deadlines: Deadlines::default(),
        }
    }

    async fn start(&self) -> Live {
        self.start_with(self.launch(), self.spec(), 64)
            .await
            .unwrap()
    }

    async fn start_again(&self, resume: Resume) -> Live {
        let spec = LinkSpec {
            resume: Some(resume),
            ..self.spec()
        };
        self.start_with(self.launch(), spec, 64).await.unwrap()
    }

    async fn start_with(
        &self,
        launch: Launch,
        spec: LinkSpec,
        room: usize,
    ) -> Result<Live, StartError> {
        let (sender, events) = mpsc::channel(room);
        let backend = AcpBackend::new(launch, self.room.clone());
        let link = within("the start", backend.start(spec, sender)).await?;
        Ok(Live { link, events })
    }
}

impl Live {
    fn prompt(&self, text: &str) -> TurnId {
        let turn = TurnId::new();
        self.link.prompt(turn, &prompt(text)).unwrap();
        turn
    }

    async fn next(&mut self) -> AgentEvent {
        within("the next event", self.events.recv())
            .await
            .expect("the link ended")
    }

    /// Waits for the event that `wanted` accepts; passes over those before it.
    async fn until(&mut self, wanted: impl Fn(&Said) -> bool) -> Said {
        loop {
            let event = self.next().await;
            if wanted(&event.said) {
                return event.said;
            }
        }
    }

    /// Collects a turn to its end; every word of it must carry its id.
    async fn rest_of(&mut self, turn: TurnId) -> Turn {
        let mut said = Vec::new();
        loop {
            let event = self.next().await;
            assert_eq!(event.turn, Some(turn), "{:?}", event.said);
            match event.said {
                Said::TurnEnded(stop) => return Turn { said, stop },
                other => said.push(other),
            }
        }
    }

    async fn turn(&mut self, text: &str) -> Turn {
        let turn = self.prompt(text);
        self.rest_of(turn).await
    }
}

impl Turn {
    fn text(&self) -> String {
        let texts = self.said.iter().filter_map(|said| match said {
            Said::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}

fn prompt(text: &str) -> Prompt {
    Prompt {
        text: text.into(),
        handover: None,
        model: None,
        mode: None,
        thinking: None,
        features: std::collections::BTreeMap::new(),
        policy: Policy::Ask,
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// The process is there and no zombie.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}
