//! The pump against a program that the test plays.

use hearth_actors::event::Answer;
use hearth_actors::ports::Transcripts as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::super::link::ready;
use super::super::settings::Settings;
use super::super::shared::Ends;
use super::super::transcript::testing::{Host, chain};
use super::*;

/// A pump whose program is the test.
struct Stand {
    shared: Arc<Shared>,
    output: tokio::io::DuplexStream,
    orders: mpsc::Receiver<String>,
    events: mpsc::Receiver<AgentEvent>,
    exit: watch::Sender<Option<ExitInfo>>,
    shelf: Arc<Shelf>,
    turn: TurnId,
}

const ID: &str = "0c6ff0d6-5a0e-4c61-8c57-0b3e8d1c9a51";
/// Far above what any of it takes on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// A session whose transcript is kept.
async fn kept() -> (Host, Kept) {
    let place = std::env::temp_dir().canonicalize().expect("a directory");
    let host = Host::of(&place, ID);
    let store = Arc::new(host.store.clone());
    let kept = Kept::fresh(Some(store), host.dir.path(), &place, ID).await;
    (host, kept)
}

impl Stand {
    fn set() -> Self {
        Self::keeping(Kept::nothing())
    }

    /// In a turn whose prompt was written.
    fn keeping(kept: Kept) -> Self {
        let (shared, Ends { orders, words }) = Shared::new(None, Settings::default());
        let (near, output) = tokio::io::duplex(64 * 1024);
        let (told, events) = mpsc::channel(64);
        let (exit, exited) = watch::channel(None);
        let shelf = Arc::new(Shelf::default());
        let pump = Pump {
            shared: Arc::clone(&shared),
            words,
            events: told,
            exited,
            process: Weak::new(),
            ladder: Ladder {
                after_close: Duration::ZERO,
                after_term: Duration::ZERO,
                hurry: true,
            },
            kept,
            shelf: Arc::clone(&shelf),
            session: ID.into(),
        };
        tokio::spawn(pump.run(near));
        let turn = TurnId(Uuid::new_v4());
        {
            let mut state = shared.state();
            state.quiet = false;
            state.turn = Some(turn);
            state.mapper.begin(&turn.0.to_string());
        }
        assert_eq!(shared.send(turn, "the prompt".into()), None);
        Self {
            shared,
            output,
            orders,
            events,
            exit,
            shelf,
            turn,
        }
    }

    async fn says(&mut self, frame: Value) {
        let line = format!("{frame}\n");
        self.output
            .write_all(line.as_bytes())
            .await
            .expect("a pump");
    }

    async fn begins(&mut self) {
        let uuid = self.turn.0.to_string();
        self.says(json!({"type": "command_lifecycle", "command_uuid": uuid, "state": "started"}))
            .await;
    }

    async fn ends(&mut self) {
        let uuid = self.turn.0.to_string();
        self.says(json!({"type": "result", "subtype": "success", "user_message_uuid": uuid}))
            .await;
    }

    /// A line that is longer than any that is taken.
    async fn drones(&mut self, start: &str) {
        let mut rest = MAX_FRAME + 1 - start.len();
        self.output
            .write_all(start.as_bytes())
            .await
            .expect("a pump");
        let piece = vec![b'x'; 1024 * 1024];
        while rest > 0 {
            let part = &piece[..rest.min(piece.len())];
            self.output.write_all(part).await.expect("a pump");
            rest -= part.len();
        }
        self.output.write_all(b"\n").await.expect("a pump");
    }

    async fn replies(&mut self, order: &Value, error: Option<&str>) {
        let response = json!({"subtype": if error.is_some() { "error" } else { "success" },
            "request_id": order["request_id"], "error": error});
        self.says(json!({"type": "control_response", "response": response}))
            .await;
    }

    async fn order(&mut self) -> Value {
        let line = self.orders.recv().await.expect("an order");
        serde_json::from_str(&line).unwrap_or(Value::String(line))
    }

    async fn event(&mut self) -> AgentEvent {
        self.events.recv().await.expect("an event")
    }
}

#[tokio::test]
async fn a_frame_that_is_too_long_ends_its_turn_by_name() {
    let mut stand = Stand::set();
    stand.begins().await;
    assert_eq!(stand.order().await, "the prompt");
    stand.drones("{\"type\":\"result\",").await;
    let ended = stand.event().await;
    assert_eq!(ended.turn, Some(stand.turn));
    let Said::TurnEnded(AgentStop::Error(fault)) = ended.said else {
        panic!("{ended:?}");
    };
    assert!(
        fault.message.contains("33554433 bytes"),
        "{}",
        fault.message
    );
    assert_eq!(stand.order().await["request"]["subtype"], "interrupt");
}

#[tokio::test]
async fn the_next_prompt_waits_for_the_answer_to_an_interrupt() {
    let mut stand = Stand::set();
    let uuid = stand.turn.0.to_string();
    assert_eq!(stand.order().await, "the prompt");
    assert!(stand.shared.interrupt(stand.turn));
    assert!(stand.shared.interrupt(stand.turn), "once is enough");
    assert!(
        !stand.shared.interrupt(TurnId(Uuid::new_v4())),
        "another turn's"
    );
    let interrupt = stand.order().await;
    assert_eq!(interrupt["request"]["cancel_queued"], true);
    assert!(!stand.shared.is_calm());
    stand
        .says(
            json!({"type": "control_response", "response": {"subtype": "success",
            "request_id": interrupt["request_id"], "response": {"cancelled": [uuid]}}}),
        )
        .await;
    let ended = stand.event().await;
    assert_eq!(ended.said, Said::TurnEnded(AgentStop::Cancelled));
    stand.shared.calm().await;
    assert!(stand.orders.try_recv().is_err(), "nothing else was written");
}

#[tokio::test]
async fn a_withdrawn_request_takes_no_answer() {
    let mut stand = Stand::set();
    stand.begins().await;
    assert_eq!(stand.order().await, "the prompt");
    for id in ["one", "two"] {
        stand
            .says(
                json!({"type": "control_request", "request_id": id, "request": {
                "subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}}}),
            )
            .await;
        assert!(matches!(stand.event().await.said, Said::Permission(_)));
    }
    stand
        .says(json!({"type": "control_cancel_request", "request_id": "one"}))
        .await;
    assert_eq!(stand.event().await.said, Said::Withdrawn("one".into()));
    let other = json!({"type": "control_request", "request_id": "three",
        "request": {"subtype": "elicitation"}});
    stand.says(other).await;
    let refused = stand.order().await;
    assert_eq!(
        refused["response"]["subtype"], "error",
        "nobody serves that"
    );
    let allow = Answer::Option("allow".into());
    assert!(!stand.shared.answer("one", &allow), "it is withdrawn");
    assert!(stand.shared.answer("two", &allow));
    let answer = stand.order().await;
    assert_eq!(answer["response"]["request_id"], "two");
    assert_eq!(answer["response"]["response"]["behavior"], "allow");
    assert!(!stand.shared.answer("two", &allow), "it was answered");
}

#[tokio::test]
async fn the_end_of_the_program_is_told_last_and_once() {
    let mut stand = Stand::set();
    stand.begins().await;
    stand
        .says(json!({"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "half"}]}}))
        .await;
    let exit = ExitInfo {
        signal: Some(9),
        ..ExitInfo::default()
    };
    stand.exit.send_replace(Some(exit));
    drop(stand.output);
    assert_eq!(
        stand.events.recv().await.expect("words").said,
        Said::Text("half".into())
    );
    let last = stand.events.recv().await.expect("the end");
    assert!(matches!(
        last.said,
        Said::Exited(ExitInfo {
            signal: Some(9),
            ..
        })
    ));
    assert_eq!(last.turn, Some(stand.turn));
    assert_eq!(stand.events.recv().await, None);
    assert!(stand.shared.done.is_cancelled());
}

fn mirrored(host: &Host, entries: &[Value]) -> Value {
    json!({"type": "transcript_mirror", "filePath": host.file(&host.main), "entries": entries})
}

#[tokio::test]
async fn what_a_turn_wrote_is_stored_before_its_end_is_told() {
    let (host, kept) = kept().await;
    host.store
        .fault(|faults| faults.latency = Duration::from_millis(300));
    let mut stand = Stand::keeping(kept);
    stand.begins().await;
    let entries = chain(None, &["a", "b"]);
    host.write(&host.main, &entries);
    stand.says(mirrored(&host, &entries)).await;
    stand.ends().await;
    let ended = stand.event().await.said;
    assert_eq!(ended, Said::TurnEnded(AgentStop::EndTurn));
    assert_eq!(host.store.rows(&host.main), entries);
}

#[tokio::test]
async fn lost_words_of_the_transcript_end_no_turn_and_leave_no_hole() {
    let (host, kept) = kept().await;
    let mut stand = Stand::keeping(kept);
    stand.begins().await;
    host.write(&host.main, &chain(None, &["a", "b"]));
    stand.drones("{\"type\":\"transcript_mirror\",").await;
    let next = chain(Some("b"), &["c"]);
    host.write(&host.main, &next);
    stand.says(mirrored(&host, &next)).await;
    stand.ends().await;
    let ended = stand.event().await.said;
    assert_eq!(ended, Said::TurnEnded(AgentStop::EndTurn));
    assert_eq!(host.store.rows(&host.main), host.entries(&host.main));

    // Nested deeper than is read: the others of its frame are stored.
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    host.write(&host.main, &chain(Some("c"), &["d"]));
    let line =
        format!("{{\"type\":\"transcript_mirror\",\"filePath\":\"x\",\"entries\":[{deep}]}}\n");
    stand
        .output
        .write_all(line.as_bytes())
        .await
        .expect("a pump");
    let stored = async {
        while host.store.rows(&host.main).len() < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let stored = tokio::time::timeout(BOUND, stored).await;
    stored.unwrap_or_else(|_| panic!("{:?}", host.store.rows(&host.main)));
    assert_eq!(host.store.rows(&host.main), host.entries(&host.main));
}

#[tokio::test]
async fn a_session_that_somebody_else_has_is_left_in_mid_turn() {
    let (host, kept) = kept().await;
    let mut stand = Stand::keeping(kept);
    stand.begins().await;
    stand.says(mirrored(&host, &chain(None, &["a"]))).await;
    let stored = async {
        while host.store.rows(&host.main).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, stored).await.expect("stored");
    host.store
        .own(&host.main.session_id)
        .await
        .expect("taken over");
    stand.says(mirrored(&host, &chain(Some("a"), &["b"]))).await;
    let left = tokio::time::timeout(BOUND, stand.shared.hangup.cancelled()).await;
    left.expect("the turn has not ended");
    assert!(stand.events.try_recv().is_err());
}

#[tokio::test]
async fn a_setting_is_what_the_program_took_or_told() {
    let mut stand = Stand::set();
    stand.begins().await;
    assert_eq!(stand.order().await, "the prompt");
    let wanted = Settings {
        mode: "plan".into(),
        model: Some("none such".into()),
        effort: Some("low".into()),
    };
    let asks = |stand: &Stand| {
        let (shared, wanted) = (Arc::clone(&stand.shared), wanted.clone());
        tokio::spawn(async move { ready(&shared, Ok(wanted)).await })
    };
    let asked = asks(&stand);
    let order = stand.order().await;
    assert_eq!(order["request"]["subtype"], "set_permission_mode");
    stand.replies(&order, None).await;
    let order = stand.order().await;
    stand.replies(&order, Some("no")).await;
    let refused = asked.await.expect("it ends");
    assert_eq!(refused, Err(Some("claude refused the model: no".into())));
    let took = Settings {
        mode: "plan".into(),
        ..Settings::default()
    };
    assert_eq!(stand.shared.state().settings, took, "the first of three");

    // Who gave up waiting may still be heard; and it changes its mode by itself.
    let asked = asks(&stand);
    let order = stand.order().await;
    asked.abort();
    assert!(asked.await.expect_err("given up").is_cancelled());
    stand.replies(&order, None).await;
    stand
        .says(json!({"type": "system", "subtype": "status", "permissionMode": "dontAsk"}))
        .await;
    assert_eq!(stand.event().await.said, Said::Mode("dontAsk".into()));
    let took = Settings {
        mode: "dontAsk".into(),
        model: wanted.model.clone(),
        effort: None,
    };
    assert_eq!(stand.shared.state().settings, took);
}

#[tokio::test]
async fn what_nobody_asked_for_is_told_at_the_end_or_kept_for_the_next() {
    for in_turn in [true, false] {
        let mut stand = Stand::set();
        if !in_turn {
            stand.shared.state().turn = None;
        }
        for frame in [
            json!({"type": "command_lifecycle", "command_uuid": "other", "state": "completed"}),
            json!({"type": "system", "subtype": "init"}),
            json!({"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "done"}]}}),
        ] {
            stand.says(frame).await;
        }
        stand.exit.send_replace(Some(ExitInfo::default()));
        drop(stand.output);
        let mut said = Vec::new();
        while let Some(event) = stand.events.recv().await {
            said.push((event.turn, event.said));
        }
        let exited = said.pop().expect("the end");
        assert!(matches!(exited.1, Said::Exited(_)));
        let kept = stand.shelf.take(ID);
        if in_turn {
            let [(Some(turn), Said::Raw { kind, value })] = said.as_slice() else {
                panic!("{said:?}");
            };
            assert_eq!((turn, kind.as_str()), (&stand.turn, "unsolicited_turn"));
            assert_eq!(value["text"], "done");
            assert!(kept.is_none());
        } else {
            assert_eq!(said, []);
            assert_eq!(kept.expect("kept").said().len(), 1);
        }
    }
}
