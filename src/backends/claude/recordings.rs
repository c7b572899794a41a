//! Recordings of the real program through the mapping: one snapshot a file, and what
//! holds for all of them.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hearth_actors::event::Said;
use serde_json::Value;

use super::map::Mapper;
use super::wire::Frame;

/// Longest rendering of one word; the rest is only more of the same.
const SHOWN: usize = 300;

/// One process of a recording. Its prompts were written as they came, also in the
/// middle of a turn, and most without a uuid: here one waits for the other, and where
/// the program had no name for a prompt its beginning is told in its place.
#[derive(Default)]
struct Replay {
    mapper: Mapper,
    waiting: VecDeque<Option<String>>,
    /// The running turn's prompt has no uuid.
    nameless: bool,
    turns: usize,
    ends: usize,
}

impl Replay {
    fn prompted(&mut self, uuid: Option<&str>) {
        self.waiting.push_back(uuid.map(str::to_owned));
        self.next();
    }

    fn next(&mut self) {
        if self.mapper.is_open() {
            return;
        }
        let Some(uuid) = self.waiting.pop_front() else {
            return;
        };
        self.turns += 1;
        self.nameless = uuid.is_none();
        let uuid = uuid.unwrap_or_else(|| format!("nameless-{}", self.turns));
        self.mapper.begin(&uuid);
    }

    fn heard(&mut self, line: &str) -> Vec<Said> {
        let Some(frame) = Frame::read(line) else {
            return Vec::new();
        };
        let mut said = Vec::new();
        if matches!(frame, Frame::Init { .. }) && self.nameless && self.mapper.is_open() {
            said = self.mapper.heard(Frame::Lifecycle {
                prompt: format!("nameless-{}", self.turns),
                state: "started".into(),
            });
        }
        said.extend(self.mapper.heard(frame));
        if said.iter().any(|said| matches!(said, Said::TurnEnded(_))) {
            self.ends += 1;
            self.next();
        }
        said
    }
}

struct Row {
    from_us: bool,
    note: Option<String>,
    msg: Value,
}

fn rows(file: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(file).expect("a recording");
    let rows = text.lines().map(|line| {
        let mut row: Value = serde_json::from_str(line).expect("a recorded line");
        let msg = row["msg"].take();
        let is_note = !matches!(row["dir"].as_str(), Some("in" | "out"));
        Row {
            from_us: row["dir"] == "in",
            note: is_note.then(|| msg.to_string().chars().take(SHOWN).collect()),
            msg,
        }
    });
    rows.collect()
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/claude");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("recordings")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Plays a file; a process that was started anew is a replay of its own.
fn play(file: &Path, mut heard: impl FnMut(&str, Vec<Said>)) -> (usize, usize) {
    let mut replay = Replay::default();
    let (mut turns, mut ends) = (0, 0);
    for row in rows(file) {
        if let Some(note) = row.note {
            if note.contains("\"spawn\"") {
                turns += replay.turns;
                ends += replay.ends;
                replay = Replay::default();
            }
            heard(&note, Vec::new());
        } else if !row.from_us {
            let said = replay.heard(&row.msg.to_string());
            heard("", said);
        } else if row.msg["type"] == "user" {
            replay.prompted(row.msg["uuid"].as_str());
        }
    }
    (turns + replay.turns, ends + replay.ends)
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
            let mut shown = String::new();
            play(&file, |note, said| {
                if !note.is_empty() {
                    writeln!(shown, "# {note}").expect("text in memory");
                }
                for said in said {
                    let text = format!("{said:?}");
                    let cut: String = text.chars().take(SHOWN).collect();
                    let mark = if cut.len() < text.len() { "…" } else { "" };
                    writeln!(shown, "{cut}{mark}").expect("text in memory");
                }
            });
            let name = file.file_stem().expect("a name").to_string_lossy();
            insta::assert_snapshot!(format!("claude_{name}"), shown);
        }
    });
}

/// What has no end: prompts that were folded into another's turn, a repeated uuid,
/// which the program passes over, and a turn whose process was killed.
#[test]
fn every_turn_ends_once_but_those_that_could_not() {
    for file in files() {
        let name = file
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let without = match name.as_str() {
            "05c-queued-second-message" | "06-api-errors" | "12-user-uuid-replay" => 1,
            "07-kill9-then-resume" | "07b-resume-unknown-id" => 1,
            _ => 0,
        };
        let (turns, ends) = play(&file, |_, _| {});
        assert_eq!(ends + without, turns, "{name}");
    }
}
