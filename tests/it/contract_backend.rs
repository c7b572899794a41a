//! The promises that the tree relies on, kept by the ACP backend with the demo
//! agent as a real child in a real process room.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth::backends::acp::{AcpBackend, Launch};
use hearth::process::{Room, RoomConfig, ShimPath};
use hearth_actors::ids::{ChatId, Generation, SessionId, SessionKey};
use hearth_actors::model::{Deadlines, Policy};
use hearth_actors::ports::{AgentBackend, LinkSpec, ProcessLedger, Prompt};
use hearth_actors::testing::contract_backend::{BackendUnderTest, Play};
use tempfile::TempDir;

/// A room, a home and a working directory of their own.
struct Demo {
    room: Room,
    directory: TempDir,
    chat: ChatId,
}

impl Demo {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("work")).expect("a working directory");
        let room = Room::open(RoomConfig {
            ledger_dir: directory.path().join("ledger"),
            shim: ShimPath::Path(env!("CARGO_BIN_EXE_hearth").into()),
            node: format!("test-{}", ChatId::new()),
        });
        Self {
            room: room.expect("a room"),
            directory,
            chat: ChatId::new(),
        }
    }
}

impl BackendUnderTest for Demo {
    fn backend(&self) -> Arc<dyn AgentBackend> {
        let launch = Launch {
            name: "demo".into(),
            program: env!("CARGO_BIN_EXE_hearth").into(),
            args: vec!["demo-agent".into()],
            env: BTreeMap::new(),
            pass_env: Vec::new(),
            private_home: Some(self.directory.path().join("home")),
            mode: Some("default".into()),
            quirks: Vec::new(),
            parent_env: std::env::vars_os().collect(),
        };
        Arc::new(AcpBackend::new(launch, self.room.clone()))
    }

    fn processes(&self) -> Arc<dyn ProcessLedger> {
        Arc::new(self.room.clone())
    }

    fn spec(&self) -> LinkSpec {
        LinkSpec {
            key: SessionKey {
                chat: self.chat,
                agent: "demo".into(),
            },
            session: SessionId::new(),
            generation: Generation::default(),
            cwd: self.directory.path().join("work"),
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

    fn prompt(&self, play: Play) -> Prompt {
        let text = match play {
            Play::Hello => "say hello".into(),
            Play::Count(many) => format!("flood {many}"),
            Play::Hang => "say hello\nhang".into(),
            Play::Deaf => "ignore cancel\nsay hello\nhang".into(),
            Play::Ask => "ask may I?\nsay hello".into(),
            Play::Crash => "say hello\ncrash 7".into(),
        };
        Prompt {
            text,
            handover: None,
            model: None,
            mode: None,
            thinking: None,
            features: std::collections::BTreeMap::new(),
        }
    }
}

hearth_actors::backend_contract!(Demo::new());
