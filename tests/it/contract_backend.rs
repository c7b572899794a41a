//! The promises that the tree relies on, kept by the ACP backend with the demo
//! agent as a real child in a real process room.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth::backends::acp::{AcpBackend, Launch};
use hearth::process::{Limits, Room, RoomConfig, ShimPath};
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
            cgroups: hearth::config::Cgroups::Off,
        });
        Self {
            room: room.expect("a room"),
            directory,
            chat: ChatId::new(),
        }
    }
}

impl Demo {
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
}

impl BackendUnderTest for Demo {
    fn backend(&self) -> Arc<dyn AgentBackend> {
        Arc::new(AcpBackend::new(self.launch(), self.room.clone()))
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
            policy: Policy::Ask,
        }
    }
}

hearth_actors::backend_contract!(Demo::new());

/// What can be promised of a program that is run once for each prompt. It asks nobody,
/// and ends its turn with its own end.
mod at_a_terminal {
    use hearth::backends::pty::{Plain, PtyBackend};
    use hearth_actors::event::Said;
    use hearth_actors::ids::TurnId;
    use hearth_actors::ports::LinkError;
    use tokio::sync::mpsc;

    use super::*;

    /// A shell that reads its script from its input.
    struct Shell(Demo);

    impl Shell {
        fn new() -> Self {
            Self(Demo::new())
        }
    }

    impl BackendUnderTest for Shell {
        fn backend(&self) -> Arc<dyn AgentBackend> {
            let launch = Launch {
                program: "sh".into(),
                args: Vec::new(),
                ..self.0.launch()
            };
            Arc::new(PtyBackend::new(
                launch,
                self.0.room.clone(),
                Plain::new("shell", &[]),
            ))
        }

        fn processes(&self) -> Arc<dyn ProcessLedger> {
            self.0.processes()
        }

        fn spec(&self) -> LinkSpec {
            self.0.spec()
        }

        fn prompt(&self, play: Play) -> Prompt {
            let text = match play {
                Play::Hello => "printf hello".into(),
                Play::Count(many) => {
                    format!("i=0; while [ $i -lt {many} ]; do echo \"$i ..\"; i=$((i+1)); done")
                }
                Play::Hang => "printf hello; exec sleep 1000".into(),
                Play::Deaf => {
                    "trap '' TERM INT HUP; printf hello; while :; do sleep 1000; done".into()
                }
                Play::Crash => "printf hello; kill -9 $$".into(),
                Play::Ask => unreachable!("it asks nobody"),
            };
            Prompt {
                text,
                ..self.0.prompt(Play::Hello)
            }
        }
    }

    hearth_actors::backend_contract! { @tests (tokio::test) Shell::new();
        a_turn_ends_once_after_all_its_words,
        the_end_of_the_agent_is_its_last_word,
        a_cancelled_turn_ends_and_the_next_prompt_works,
        a_dropped_link_takes_its_processes_with_it,
        a_dropped_start_leaves_nothing_behind,
        a_stop_returns_when_the_processes_are_gone,
        a_deaf_agent_is_stopped_in_time,
        a_slow_listener_loses_nothing,
    }

    #[tokio::test]
    async fn a_crash_in_mid_turn_ends_the_link() {
        let under = Shell::new();
        let (sender, mut events) = mpsc::channel(8);
        let link = under.backend().start(under.spec(), sender).await.unwrap();
        assert!(!link.keeps_context() && !link.can_continue());
        let turn = TurnId::new();
        link.prompt(turn, &under.prompt(Play::Crash)).unwrap();
        let mut said = Vec::new();
        while let Some(event) = events.recv().await {
            assert_eq!(event.turn, Some(turn));
            said.push(event.said);
        }
        assert_eq!(said[0], Said::Text("hello".into()));
        let Some(Said::Exited(exit)) = said.last() else {
            panic!("no exit: {said:?}");
        };
        assert_eq!((exit.signal, exit.expected), (Some(9), false));
        let refused = link.prompt(TurnId::new(), &under.prompt(Play::Hello));
        assert_eq!(refused, Err(LinkError::Gone));
    }
}
