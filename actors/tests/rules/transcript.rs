//! What is stored and shown is what was said.

use std::collections::BTreeMap;

use hearth_actors::event::{
    Batch, FrameDraft, FrameKind, PartKind, PartWrite, Said, Tool, ToolStatus,
};
use hearth_actors::model::Usage;
use hearth_actors::rules::transcript::{PART_BYTES, Transcript};
use proptest::prelude::*;
use serde_json::Value;

use ToolStatus::{Completed, Failed, InProgress, Pending};

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few dozen of them at a time")]
enum Op {
    Say(Said),
    /// A group commit.
    Take,
}

fn text() -> impl Strategy<Value = String> {
    let letter = prop_oneof![Just('a'), Just('é'), Just('€'), Just('🔥'), Just('\0')];
    let few = prop::collection::vec(letter.clone(), 0..12).prop_map(String::from_iter);
    let many = (letter, 0usize..20_000).prop_map(|(c, times)| c.to_string().repeat(times));
    prop_oneof![8 => few, 1 => many]
}

fn tool() -> impl Strategy<Value = Said> {
    let status = prop_oneof![
        Just(Pending),
        Just(InProgress),
        Just(Completed),
        Just(Failed)
    ];
    let word = prop::option::of((0u8..3).prop_map(|n| n.to_string()));
    (0u8..4, word.clone(), prop::option::of(status), word).prop_map(
        |(id, title, status, output)| {
            Said::Tool(Tool {
                id: id.to_string(),
                title,
                status,
                output: output.map(Value::String),
                ..Tool::default()
            })
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let usage = (0i64..100, 0i64..100).prop_map(|(input_tokens, output_tokens)| {
        Said::Usage(Usage {
            input_tokens,
            output_tokens,
            cost: 0.5,
        })
    });
    let said = prop_oneof![
        6 => text().prop_map(Said::Text),
        3 => text().prop_map(Said::Reasoning),
        3 => tool(),
        1 => usage,
        1 => Just(Said::Mode("plan".into())),
        1 => Just(Said::Raw { kind: "x".into(), value: Value::Null }),
    ];
    prop_oneof![5 => said.prop_map(Op::Say), 1 => Just(Op::Take)]
}

/// What the store and the subscribers have after all batches.
#[derive(Default)]
struct Stored {
    parts: BTreeMap<i32, PartWrite>,
    frames: Vec<FrameDraft>,
    usage: Usage,
    first_tokens: usize,
}

impl Stored {
    fn commit(&mut self, batch: Batch) {
        let is_first = !self.frames.iter().any(is_work) && batch.frames.iter().any(is_work);
        assert_eq!(batch.first_token, is_first);
        self.first_tokens += usize::from(batch.first_token);
        let sequences: Vec<_> = batch.parts.iter().map(|part| part.sequence).collect();
        assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
        for part in batch.parts {
            let before = self.parts.insert(part.sequence, part.clone());
            assert!(before.is_none_or(|before| before.kind == part.kind));
        }
        // No hole after any commit, not only after the last one.
        assert!(self.parts.keys().copied().eq(0..self.parts.len() as i32));
        self.frames.extend(batch.frames);
        if let Some(usage) = batch.usage {
            self.usage.input_tokens += usage.input_tokens;
            self.usage.output_tokens += usage.output_tokens;
            self.usage.cost += usage.cost;
        }
    }

    fn text(&self, kind: PartKind) -> String {
        let parts = self.parts.values().filter(|part| part.kind == kind);
        parts.map(|part| words(&part.payload)).collect()
    }

    fn streamed(&self, kind: FrameKind) -> String {
        let frames = self.frames.iter().filter(|frame| frame.kind == kind);
        frames.map(|frame| words(&frame.data)).collect()
    }
}

/// Frames of the agent's own business are no first token.
fn is_work(frame: &FrameDraft) -> bool {
    !matches!(
        frame.kind,
        FrameKind::AgentCommands | FrameKind::AgentStatusUpdated | FrameKind::AgentUpdate
    )
}

fn words(value: &Value) -> String {
    value["text"].as_str().expect("text").to_owned()
}

fn play(ops: Vec<Op>) -> Stored {
    let (mut transcript, mut stored) = (Transcript::default(), Stored::default());
    for op in ops {
        match op {
            Op::Say(said) => transcript.fold(said),
            Op::Take => stored.commit(transcript.take()),
        }
    }
    transcript.close();
    stored.commit(transcript.take());
    assert!(transcript.take().is_empty(), "nothing is written twice");
    stored
}

fn said(ops: &[Op], read: impl Fn(&Said) -> Option<&String>) -> String {
    let said = ops.iter().filter_map(|op| match op {
        Op::Say(said) => read(said),
        Op::Take => None,
    });
    said.map(String::as_str).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn parts_and_deltas_both_add_up_to_what_was_said(ops in prop::collection::vec(op(), 0..40)) {
        let answer = said(&ops, |said| match said { Said::Text(text) => Some(text), _ => None });
        let thought = said(&ops, |said| match said { Said::Reasoning(text) => Some(text), _ => None });
        let stored = play(ops);
        prop_assert!(stored.text(PartKind::Text) == answer, "parts of text");
        prop_assert!(stored.streamed(FrameKind::Delta) == answer, "deltas of text");
        prop_assert!(stored.text(PartKind::Reasoning) == thought, "parts of reasoning");
        prop_assert!(stored.streamed(FrameKind::ReasoningDelta) == thought, "deltas of reasoning");
        for part in stored.parts.values() {
            if matches!(part.kind, PartKind::Text | PartKind::Reasoning) {
                let whole = words(&part.payload);
                prop_assert!(whole.len() <= PART_BYTES + 3, "{} bytes", whole.len());
                let deltas = stored.frames.iter().filter(|frame| {
                    matches!(frame.kind, FrameKind::Delta | FrameKind::ReasoningDelta)
                        && frame.data["part"] == part.sequence
                });
                let streamed: String = deltas.map(|frame| words(&frame.data)).collect();
                prop_assert!(streamed == whole, "part {} as streamed", part.sequence);
            }
        }
    }

    #[test]
    fn tools_are_upserted_and_none_stays_open(ops in prop::collection::vec(op(), 0..40)) {
        let mut model: BTreeMap<String, Tool> = BTreeMap::new();
        let mut usage = Usage::default();
        for op in &ops {
            match op {
                Op::Say(Said::Tool(update)) => {
                    let known = model.entry(update.id.clone()).or_default();
                    known.title = update.title.clone().or(known.title.take());
                    known.output = update.output.clone().or(known.output.take());
                    if !known.status.is_some_and(ToolStatus::is_final) {
                        known.status = update.status.or(known.status);
                    }
                }
                Op::Say(Said::Usage(more)) => {
                    usage.input_tokens += more.input_tokens;
                    usage.output_tokens += more.output_tokens;
                    usage.cost += more.cost;
                }
                _ => {}
            }
        }
        let stored = play(ops);
        prop_assert_eq!(stored.usage, usage);
        let calls: Vec<_> = stored.parts.values()
            .filter(|part| part.kind == PartKind::ToolCall)
            .collect();
        prop_assert_eq!(calls.len(), model.len(), "one row a call");
        for call in calls {
            let id = call.payload["id"].as_str().expect("an id");
            let result = &stored.parts[&(call.sequence + 1)];
            prop_assert_eq!(result.kind, PartKind::ToolResult);
            prop_assert_eq!(&result.payload["id"], id);
            let tool = &model[id];
            let status = tool.status.filter(|status| status.is_final()).unwrap_or(Failed);
            let status = serde_json::to_value(status).expect("a word");
            prop_assert_eq!(&call.payload["status"], &status);
            prop_assert_eq!(&result.payload["status"], &status);
            prop_assert_eq!(call.payload["title"].as_str(), tool.title.as_deref());
            prop_assert_eq!(&result.payload["output"], &tool.output.clone().unwrap_or(Value::Null));
            let told = stored.frames.iter().any(|frame| {
                frame.kind == FrameKind::ToolResult && frame.data["id"] == id
            });
            prop_assert!(told, "the end of {} is told", id);
        }
    }
}

fn tool_is(status: ToolStatus) -> Op {
    Op::Say(Said::Tool(Tool {
        id: "t".into(),
        status: Some(status),
        ..Tool::default()
    }))
}

#[test]
fn the_first_words_are_marked_once() {
    let say = || Op::Say(Said::Text("x".into()));
    let stored = play(vec![Op::Take, say(), Op::Take, say(), Op::Take, Op::Take]);
    assert_eq!(stored.first_tokens, 1);
}

#[test]
fn an_update_without_a_word_of_its_own_is_kept_and_is_no_first_token() {
    let raw = Op::Say(Said::Raw {
        kind: "plan".into(),
        value: serde_json::json!({"entries": [1]}),
    });
    let stored = play(vec![raw, Op::Take]);
    assert_eq!(stored.first_tokens, 0);
    let frames: Vec<_> = stored
        .frames
        .iter()
        .map(|frame| (frame.kind, frame.data.to_string()))
        .collect();
    let data = r#"{"kind":"plan","value":{"entries":[1]}}"#.to_owned();
    assert_eq!(frames, [(FrameKind::AgentUpdate, data)]);
}

#[test]
fn text_before_a_tool_is_told_before_it() {
    let stored = play(vec![Op::Say(Said::Text("x".into())), tool_is(Completed)]);
    let kinds: Vec<_> = stored.frames.iter().map(|frame| frame.kind).collect();
    assert_eq!(
        kinds,
        [FrameKind::Delta, FrameKind::ToolCall, FrameKind::ToolResult]
    );
}

#[test]
fn a_late_update_does_not_open_a_tool_again() {
    let stored = play(vec![tool_is(Completed), Op::Take, tool_is(InProgress)]);
    assert_eq!(stored.parts[&0].payload["status"], "completed");
}
