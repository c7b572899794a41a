//! The pump against a program that the test plays.

use hearth_actors::event::Answer;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::super::settings::Settings;
use super::super::shared::Ends;
use super::*;

/// A pump whose program is the test.
struct Stand {
    shared: Arc<Shared>,
    output: tokio::io::DuplexStream,
    orders: mpsc::Receiver<String>,
    events: mpsc::Receiver<AgentEvent>,
    exit: watch::Sender<Option<ExitInfo>>,
    turn: TurnId,
}

impl Stand {
    /// In a turn whose prompt was written.
    fn set() -> Self {
        let (shared, Ends { orders, words }) = Shared::new(None, Settings::default());
        let (near, output) = tokio::io::duplex(64 * 1024);
        let (told, events) = mpsc::channel(64);
        let (exit, exited) = watch::channel(None);
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
            kept: Kept::fresh(None, std::path::Path::new("/")),
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
    let mut rest = MAX_FRAME + 1;
    let piece = vec![b'x'; 1024 * 1024];
    while rest > 0 {
        let part = rest.min(piece.len());
        stand
            .output
            .write_all(&piece[..part])
            .await
            .expect("a pump");
        rest -= part;
    }
    stand.output.write_all(b"\n").await.expect("a pump");
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
