//! Recordings of the real server through the mapping: one snapshot a file, and
//! what holds for all of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use hearth_actors::event::{Said, ToolStatus};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::heard::{User, What};
use super::turn::OWN;
use super::{Heard, Mapper};

/// Longest rendering of one word; the rest is only more of the same.
const SHOWN: usize = 300;

/// The sessions of a recording. It does not tell which id Hearth would have given
/// a prompt, so that each message of the user that is seen first begins a turn, once
/// the turn before is over. Late updates of messages from before the recording have
/// no part in it and begin nothing.
struct Replay {
    prompts: BTreeSet<String>,
    sessions: BTreeMap<String, Session>,
}

struct Session {
    mapper: Mapper,
    live: bool,
    seen: Vec<String>,
    waiting: VecDeque<Heard>,
    ends: usize,
}

impl Replay {
    fn of(recorded: &[Value]) -> Self {
        let parts = recorded
            .iter()
            .filter(|line| line["type"] == "message.part.updated");
        let message = |part: &Value| {
            part["properties"]["part"]["messageID"]
                .as_str()
                .map(str::to_owned)
        };
        Self {
            prompts: parts.filter_map(message).collect(),
            sessions: BTreeMap::new(),
        }
    }

    fn heard(&mut self, heard: Heard) -> Vec<Said> {
        if matches!(&heard.what, What::User(user) if !self.prompts.contains(&user.id)) {
            return Vec::new();
        }
        let id = heard.session.clone();
        let session = self.sessions.entry(id).or_insert_with(|| Session {
            mapper: Mapper::new(&heard.session),
            live: false,
            seen: Vec::new(),
            waiting: VecDeque::new(),
            ends: 0,
        });
        session.heard(heard)
    }

    /// The one session of the recording reads what is stored of it.
    fn caught_up(&mut self, before: &[Value]) -> Vec<Said> {
        let mut said = Vec::new();
        let messages = &stored(before);
        for message in messages {
            // Prompts that the gap hid begin their turns.
            let prompt = Heard::stored(message.clone()).into_iter().next();
            if let Some(
                heard @ Heard {
                    what: What::User(_),
                    ..
                },
            ) = prompt
            {
                said.extend(self.heard(heard));
            }
        }
        for session in self.sessions.values_mut() {
            said.extend(session.caught_up(before, messages));
        }
        said
    }

    fn turns(&self) -> usize {
        self.sessions
            .values()
            .map(|session| session.seen.len())
            .sum()
    }

    fn ends(&self) -> usize {
        self.sessions.values().map(|session| session.ends).sum()
    }
}

impl Session {
    fn caught_up(&mut self, before: &[Value], messages: &[Value]) -> Vec<Said> {
        let mut said = self.mapper.caught_up(messages.to_vec());
        if self.live && self.is_idle(before) {
            let idle =
                json!({"type": "session.idle", "properties": {"sessionID": self.mapper.session()}});
            said.extend(self.mapper.heard(Heard::read(idle).expect("an event")));
        }
        if self.live && said.iter().any(|said| matches!(said, Said::TurnEnded(_))) {
            self.live = false;
            if let Some(next) = self.waiting.pop_front() {
                said.extend(self.heard(next));
                said.extend(self.caught_up(before, messages));
            }
        }
        said
    }

    /// Its live turn was seen and went idle; no other had begun then.
    fn is_idle(&self, before: &[Value]) -> bool {
        let turn = self.seen.last();
        let of_turn = before.iter().position(|event| {
            event["properties"]["info"]["id"].as_str() == turn.map(String::as_str)
        });
        of_turn.is_some_and(|at| {
            before[at..]
                .iter()
                .any(|event| event["type"] == "session.idle")
        })
    }

    fn heard(&mut self, heard: Heard) -> Vec<Said> {
        if let What::User(User { id, .. }) = &heard.what
            && !self.seen.contains(id)
        {
            if self.live {
                self.waiting.push_back(heard);
                return Vec::new();
            }
            self.seen.push(id.clone());
            self.mapper.begin(id);
            self.live = true;
        }
        let mut said = self.mapper.heard(heard);
        if said.iter().any(|said| matches!(said, Said::TurnEnded(_))) {
            self.live = false;
            self.ends += 1;
            if let Some(next) = self.waiting.pop_front() {
                said.extend(self.heard(next));
            }
        }
        said
    }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/opencode");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("recordings")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// The events, whose prompts get ids such as Hearth would have given them.
fn lines(file: &Path) -> Vec<Value> {
    let mut text = std::fs::read_to_string(file).expect("a recording");
    let parse = |line: &str| -> Value { serde_json::from_str(line).expect("a recorded line") };
    let infos = text
        .lines()
        .map(|line| parse(line)["properties"]["info"].take());
    let prompts = infos.filter(|info| info["role"] == "user");
    let ids: BTreeSet<String> = prompts
        .map(|info| info["id"].as_str().expect("an id").to_owned())
        .collect();
    for id in ids {
        text = text.replace(&id, &format!("{OWN}{id}"));
    }
    text.lines().map(parse).collect()
}

#[test]
fn every_recording_says_what_its_snapshot_says() {
    let mut settings = insta::Settings::clone_current();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    settings.set_snapshot_path(root.join("tests/it/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for file in files() {
            let name = file
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            insta::assert_snapshot!(format!("opencode_server_{name}"), shown(&file));
        }
    });
}

fn shown(file: &Path) -> String {
    let lines = lines(file);
    let mut replay = Replay::of(&lines);
    let mut shown = String::new();
    for line in lines {
        if let Some(note) = line["note"].as_str() {
            writeln!(shown, "# {note}").expect("text in memory");
            continue;
        }
        for said in Heard::read(line)
            .map(|heard| replay.heard(heard))
            .unwrap_or_default()
        {
            let text = format!("{said:?}");
            let cut: String = text.chars().take(SHOWN).collect();
            let mark = if cut.len() < text.len() { "…" } else { "" };
            writeln!(shown, "{cut}{mark}").expect("text in memory");
        }
    }
    shown
}

/// Only the turn whose server was killed has no end, which the driver ends, and one that
/// was sent while another ran, as Hearth never does: one idle is the end of both.
#[test]
fn every_turn_ends_once_but_two_that_cannot() {
    for file in files() {
        let lines = lines(&file);
        let mut replay = Replay::of(&lines);
        for heard in lines.into_iter().filter_map(Heard::read) {
            replay.heard(heard);
        }
        let endless = ["kill9-resume.jsonl", "prompt-while-busy.jsonl"];
        let endless = usize::from(endless.iter().any(|name| file.ends_with(name)));
        let name = file.display();
        assert!(replay.turns() > 0, "{name} has no turn");
        assert_eq!(replay.ends() + endless, replay.turns(), "{name}");
    }
}

/// What a turn said, in sum.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    text: String,
    reasoning: String,
    tools: BTreeMap<String, String>,
    /// Ends of tool calls, each of which comes once.
    tool_ends: usize,
    output_tokens: i64,
    cost: f64,
    ends: usize,
}

impl Sum {
    fn add(&mut self, said: Vec<Said>) {
        for said in said {
            match said {
                Said::Text(text) => self.text.push_str(&text),
                Said::Reasoning(text) => self.reasoning.push_str(&text),
                Said::Tool(tool) => {
                    let is_final = tool.status.is_some_and(ToolStatus::is_final);
                    self.tool_ends += usize::from(is_final);
                    self.tools.insert(tool.id, format!("{:?}", tool.status));
                }
                Said::Usage(usage) => {
                    self.output_tokens += usage.output_tokens;
                    self.cost += usage.cost;
                }
                Said::TurnEnded(_) => self.ends += 1,
                _ => {}
            }
        }
    }
}

/// Messages as the server holds them after these events: the latest of each, with
/// the latest of its parts, in order. Parts of a text that is being said are empty
/// until it ends, as the server stores no deltas.
fn stored(events: &[Value]) -> Vec<Value> {
    let mut order: Vec<String> = Vec::new();
    let mut messages: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for event in events {
        let properties = &event["properties"];
        match event["type"].as_str() {
            Some("message.updated") => {
                let id = properties["info"]["id"].as_str().expect("an id").to_owned();
                if !order.contains(&id) {
                    order.push(id.clone());
                }
                messages.entry(id).or_default().0 = properties["info"].clone();
            }
            Some("message.part.updated") => {
                let part = &properties["part"];
                let message = part["messageID"].as_str().expect("an id").to_owned();
                let parts = &mut messages.entry(message).or_default().1;
                match parts.iter_mut().find(|known| known["id"] == part["id"]) {
                    Some(known) => *known = part.clone(),
                    None => parts.push(part.clone()),
                }
            }
            _ => {}
        }
    }
    let stored = |id| messages.get(&id).cloned();
    order
        .into_iter()
        .filter_map(stored)
        .map(|(info, parts)| serde_json::json!({ "info": info, "parts": parts }))
        .collect()
}

/// Recordings of one session that end well, with their events.
static GAPPY: LazyLock<Vec<(&str, Vec<Value>)>> = LazyLock::new(|| {
    const NAMES: [&str; 7] = [
        "text-turn",
        "reasoning-turn",
        "tool-write-turn",
        "tool-bash-turn",
        "question-turn",
        "llm-error-500-once-turn",
        "permission-once-turn",
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/opencode");
    let events = |name| {
        let mut events = lines(&folder.join(format!("{name}.jsonl")));
        events.retain(|line| line["note"].is_null());
        (name, events)
    };
    NAMES.map(events).into()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A reader that loses the stream at any moment and for any time, and reads the
    /// stored messages before it goes on, says the same in sum: nothing is lost and
    /// nothing comes twice, also of what the stream says again that was read.
    #[test]
    fn a_gap_in_the_stream_changes_nothing_in_sum(from in 0.0f64..1.0, length in 0.0f64..1.0, open in 0.0f64..1.0) {
        for (name, events) in &*GAPPY {
            let count = events.len() as f64;
            let (gap, again) = ((from * count) as usize, ((from + length).min(1.0) * count) as usize);
            // The stream is open again before what is stored is read.
            let open = gap + (open * (again - gap) as f64) as usize;

            let mut whole = Sum::default();
            let mut replay = Replay::of(events);
            for heard in events.iter().cloned().filter_map(Heard::read) {
                whole.add(replay.heard(heard));
            }

            let mut sum = Sum::default();
            let mut replay = Replay::of(events);
            for heard in events[..gap].iter().cloned().filter_map(Heard::read) {
                sum.add(replay.heard(heard));
            }
            sum.add(replay.caught_up(&events[..again]));
            for heard in events[open..].iter().cloned().filter_map(Heard::read) {
                sum.add(replay.heard(heard));
            }
            prop_assert_eq!(&sum.text, &whole.text, "{} {}..{}..{}", name, gap, open, again);
            prop_assert_eq!(&sum.reasoning, &whole.reasoning);
            prop_assert_eq!(&sum.tools, &whole.tools);
            prop_assert_eq!(sum.tool_ends, whole.tool_ends, "{} {}..{}..{}", name, gap, open, again);
            prop_assert_eq!(sum.output_tokens, whole.output_tokens);
            prop_assert!((sum.cost - whole.cost).abs() < 1e-9);
            prop_assert_eq!(sum.ends, whole.ends, "{} {}..{}..{}", name, gap, open, again);
        }
    }
}
