//! Turns that nobody asked for, and money without a count.

use serde_json::json;

use super::*;

fn heard(mapper: &mut Mapper, frame: Value) -> Vec<Said> {
    let frame = Frame::read(&frame.to_string()).expect("a frame");
    mapper.heard(frame)
}

fn lifecycle(prompt: &str, state: &str) -> Value {
    json!({"type": "command_lifecycle", "command_uuid": prompt, "state": state})
}

fn says(text: &str) -> Value {
    json!({"type": "assistant", "message": {"id": text, "content": [{"type": "text", "text": text}]}})
}

fn result(prompt: Option<&str>, tokens: i64, cost: f64) -> Value {
    json!({"type": "result", "subtype": "success", "terminal_reason": "completed",
        "user_message_uuid": prompt, "total_cost_usd": cost,
        "model_usage_since_last_result": {"m": {"inputTokens": tokens, "outputTokens": 1, "costUSD": cost}}})
}

fn init() -> Value {
    json!({"type": "system", "subtype": "init"})
}

/// A turn, then one that a subagent in the background began.
fn with_unsolicited() -> Mapper {
    let mut mapper = Mapper::default();
    mapper.begin("a");
    for frame in [lifecycle("a", "started"), init(), says("Sent.")] {
        heard(&mut mapper, frame);
    }
    let said = heard(&mut mapper, result(Some("a"), 10, 0.25));
    assert!(matches!(
        said.last(),
        Some(Said::TurnEnded(AgentStop::EndTurn))
    ));
    let call = json!({"type": "assistant", "message": {"id": "m", "content": [
        {"type": "tool_use", "id": "t", "name": "Read", "input": {}}]}});
    for frame in [
        init(),
        says("It is "),
        call,
        says("done."),
        result(None, 7, 0.5),
    ] {
        assert_eq!(heard(&mut mapper, frame), [], "nobody asked for it");
    }
    mapper
}

fn told() -> [Said; 2] {
    let text = json!({"text": "It is done.", "tool_calls": 1});
    let usage = Usage {
        input_tokens: 7,
        output_tokens: 1,
        cost: 0.5,
    };
    let kind = "unsolicited_turn".into();
    [Said::Raw { kind, value: text }, Said::Usage(usage)]
}

#[test]
fn an_unsolicited_turn_is_told_with_the_next_prompts_words_once() {
    let mut mapper = with_unsolicited();
    mapper.begin("b");
    assert_eq!(heard(&mut mapper, lifecycle("b", "queued")), []);
    assert_eq!(heard(&mut mapper, lifecycle("b", "started")), told());
    assert_eq!(heard(&mut mapper, init()), []);
    let said = heard(&mut mapper, result(Some("b"), 3, 0.125));
    let [Said::Usage(usage), Said::TurnEnded(_)] = said.as_slice() else {
        panic!("{said:?}");
    };
    assert_eq!((usage.input_tokens, usage.cost), (3, 0.125), "its own");
    assert!(mapper.left().is_none());
}

#[test]
fn what_is_left_at_the_end_is_told_by_the_next_process() {
    let left = with_unsolicited().left().expect("a turn");
    let mut next = Mapper::default();
    next.take_up(left);
    next.begin("b");
    assert_eq!(heard(&mut next, lifecycle("b", "started")), told());

    // One that the end cut off, too; but not one of which there is nothing.
    let mut mapper = with_unsolicited();
    assert!(mapper.left().is_some());
    heard(&mut mapper, init());
    assert!(mapper.left().is_none());
    heard(&mut mapper, init());
    heard(&mut mapper, says("half"));
    assert!(mapper.left().is_some());
}

#[test]
fn without_a_count_the_cost_is_the_difference_of_totals() {
    let mut mapper = Mapper::default();
    let mut costs = Vec::new();
    // The first total holds what was spent before; a lower one begins anew.
    for (turn, total) in [0.25, 1.0, 1.0, 0.5, 0.75].into_iter().enumerate() {
        let prompt = turn.to_string();
        mapper.begin(&prompt);
        heard(&mut mapper, lifecycle(&prompt, "started"));
        let mut frame = result(Some(&prompt), 1, total);
        let fields = frame.as_object_mut().expect("an object");
        fields.remove("model_usage_since_last_result");
        let said = heard(&mut mapper, frame);
        costs.push(match said.as_slice() {
            [Said::TurnEnded(_)] => 0.0,
            [Said::Usage(usage), Said::TurnEnded(_)] => usage.cost,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(costs, [0.0, 0.75, 0.0, 0.0, 0.25]);
}
