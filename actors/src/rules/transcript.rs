//! Folds what an agent says into what is stored and shown.
//!
//! Text and reasoning become parts of at most [`PART_BYTES`]: the open part is
//! written again with each commit, so its size bounds what a commit rewrites,
//! and the stored transcript is never behind the stream.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::event::{Batch, FrameDraft, FrameKind, PartKind, PartWrite, Said, Tool, ToolStatus};
use crate::model::Usage;

/// Longest text of one part, in bytes; longer text goes on in the next part.
pub const PART_BYTES: usize = 16 * 1024;

/// Bytes folded after which a commit is due, however much has arrived: it bounds
/// the statement and what a flood holds in memory.
pub const BATCH_BYTES: usize = 1024 * 1024;

/// What a tool's update counts as; backends cap its parts at 64 KiB.
const TOOL_BYTES: usize = 32 * 1024;

/// What an update without a word of its own counts as; backends cap it at 64 KiB.
const RAW_BYTES: usize = 32 * 1024;

/// The transcript of one turn.
#[derive(Debug, Default)]
pub struct Transcript {
    next: i32,
    open: Option<OpenPart>,
    tools: BTreeMap<String, OpenTool>,
    /// Work on the prompt was folded; its first commit is the first token's.
    worked: bool,
    told_first: bool,
    /// Bytes folded since the last commit.
    weight: usize,
    batch: Batch,
    /// Parts of this batch, by sequence.
    parts: BTreeMap<i32, PartWrite>,
}

#[derive(Debug)]
struct OpenPart {
    sequence: i32,
    kind: PartKind,
    text: String,
    /// Bytes of `text` that are already in a frame.
    framed: usize,
}

#[derive(Debug)]
struct OpenTool {
    sequence: i32,
    tool: Tool,
}

impl Transcript {
    /// Takes in one thing the agent said.
    pub fn fold(&mut self, said: Said) {
        self.worked |= said.is_work();
        match said {
            Said::Text(text) => self.text(PartKind::Text, &text),
            Said::Reasoning(text) => self.text(PartKind::Reasoning, &text),
            Said::Tool(tool) => self.tool(tool),
            Said::Usage(usage) => self.usage(usage),
            Said::Commands(commands) => {
                self.frame(FrameKind::AgentCommands, json!({ "commands": commands }));
            }
            Said::Mode(mode) => {
                self.frame(
                    FrameKind::AgentStatusUpdated,
                    json!({ "status": "working", "mode": mode }),
                );
            }
            // Some agents show a tool here for the first time. Whether a human
            // is asked is for the session to say.
            // A question may be asked by no tool.
            Said::Permission(ask) => {
                if !ask.tool.id.is_empty() {
                    self.tool(ask.tool);
                }
            }
            Said::Raw { kind, value } => {
                self.weight += RAW_BYTES;
                self.frame(
                    FrameKind::AgentUpdate,
                    json!({ "kind": kind, "value": value }),
                );
            }
            Said::Withdrawn(_) | Said::Unfit(_) | Said::TurnEnded(_) | Said::Exited(_) => {}
        }
    }

    /// The turn ends here: tools that are still open did not end well.
    pub fn close(&mut self) {
        self.close_text();
        for id in self.tools.keys().cloned().collect::<Vec<_>>() {
            let open = self.tools[&id].tool.status;
            if !open.is_some_and(ToolStatus::is_final) {
                self.tool(Tool {
                    id,
                    status: Some(ToolStatus::Failed),
                    ..Tool::default()
                });
            }
        }
    }

    /// Enough has been folded for a commit of its own.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        self.weight >= BATCH_BYTES
    }

    /// What is to be committed now; the transcript goes on after it.
    pub fn take(&mut self) -> Batch {
        self.weight = 0;
        self.flush_text();
        let mut batch = std::mem::take(&mut self.batch);
        batch.parts = std::mem::take(&mut self.parts).into_values().collect();
        if self.worked && !self.told_first && !batch.is_empty() {
            self.told_first = true;
            batch.first_token = true;
        }
        batch
    }

    fn text(&mut self, kind: PartKind, mut text: &str) {
        self.weight += text.len();
        while !text.is_empty() {
            if self
                .open
                .as_ref()
                .is_some_and(|open| open.kind != kind || open.text.len() >= PART_BYTES)
            {
                self.close_text();
            }
            let sequence = match &self.open {
                Some(open) => open.sequence,
                None => self.claim_sequence(),
            };
            let open = self.open.get_or_insert_with(|| OpenPart {
                sequence,
                kind,
                text: String::new(),
                framed: 0,
            });
            let room = PART_BYTES.saturating_sub(open.text.len());
            let cut = char_boundary(text, room);
            open.text.push_str(&text[..cut]);
            text = &text[cut..];
        }
    }

    fn close_text(&mut self) {
        self.flush_text();
        self.open = None;
    }

    fn flush_text(&mut self) {
        let Some(open) = &mut self.open else { return };
        if open.framed == open.text.len() {
            return;
        }
        let kind = match open.kind {
            PartKind::Reasoning => FrameKind::ReasoningDelta,
            _ => FrameKind::Delta,
        };
        let delta = json!({ "part": open.sequence, "text": &open.text[open.framed..] });
        open.framed = open.text.len();
        let part = PartWrite {
            sequence: open.sequence,
            kind: open.kind,
            payload: json!({ "text": open.text }),
        };
        self.parts.insert(part.sequence, part);
        self.frame(kind, delta);
    }

    fn tool(&mut self, update: Tool) {
        self.weight += TOOL_BYTES;
        self.close_text();
        let id = update.id.clone();
        let sequence = match self.tools.get(&id) {
            Some(open) => open.sequence,
            // The result's place is kept behind the call.
            None => {
                let sequence = self.claim_sequence();
                self.claim_sequence();
                sequence
            }
        };
        let open = self.tools.entry(id).or_insert_with(|| OpenTool {
            sequence,
            tool: Tool::default(),
        });
        let ended_before = open.tool.status.is_some_and(ToolStatus::is_final);
        merge(&mut open.tool, update);
        let tool = open.tool.clone();
        let mut call = serde_json::to_value(&tool).unwrap_or(Value::Null);
        let output = call.as_object_mut().and_then(|call| call.remove("output"));
        self.parts
            .insert(sequence, part(sequence, PartKind::ToolCall, call.clone()));
        let ended = tool.status.is_some_and(ToolStatus::is_final);
        // The result's row exists from the start, so that parts have no holes.
        let result = json!({
            "id": tool.id,
            "status": tool.status,
            "output": output.unwrap_or(Value::Null),
        });
        self.parts.insert(
            sequence + 1,
            part(sequence + 1, PartKind::ToolResult, result.clone()),
        );
        let with_part = |mut value: Value, part: i32| {
            if let Some(fields) = value.as_object_mut() {
                fields.insert("part".into(), part.into());
            }
            value
        };
        if !ended_before {
            self.frame(FrameKind::ToolCall, with_part(call, sequence));
        }
        if ended {
            self.frame(FrameKind::ToolResult, with_part(result, sequence + 1));
        }
    }

    fn usage(&mut self, usage: Usage) {
        let total = self.batch.usage.get_or_insert_with(Usage::default);
        total.input_tokens += usage.input_tokens;
        total.output_tokens += usage.output_tokens;
        total.cost += usage.cost;
        self.frame(
            FrameKind::Usage,
            json!({
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cost": usage.cost,
            }),
        );
    }

    fn frame(&mut self, kind: FrameKind, data: Value) {
        // Text before it was said before it.
        if !matches!(kind, FrameKind::Delta | FrameKind::ReasoningDelta) {
            self.flush_text();
        }
        self.batch.frames.push(FrameDraft { kind, data });
    }

    fn claim_sequence(&mut self) -> i32 {
        let sequence = self.next;
        self.next += 1;
        sequence
    }
}

fn part(sequence: i32, kind: PartKind, payload: Value) -> PartWrite {
    PartWrite {
        sequence,
        kind,
        payload,
    }
}

/// What an update says replaces what was known; what it leaves out stays.
fn merge(tool: &mut Tool, update: Tool) {
    tool.id = update.id;
    tool.title = update.title.or(tool.title.take());
    tool.kind = update.kind.or(tool.kind.take());
    // What has ended stays ended, whatever a late update says.
    tool.status = tool
        .status
        .filter(|status| status.is_final())
        .or(update.status)
        .or(tool.status);
    tool.input = update.input.or(tool.input.take());
    tool.output = update.output.or(tool.output.take());
    if !update.locations.is_empty() {
        tool.locations = update.locations;
    }
}

/// The largest cut of at most `room` bytes that splits no character; the first
/// character whole if even that does not fit.
fn char_boundary(text: &str, room: usize) -> usize {
    if text.len() <= room {
        return text.len();
    }
    let cut = text.floor_char_boundary(room);
    if cut > 0 {
        cut
    } else {
        text.chars().next().map_or(0, char::len_utf8)
    }
}
