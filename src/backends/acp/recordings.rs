//! Recordings of real agents through the mapping, one snapshot a file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::map::{Mapped, Mapper, ask, fault};
use super::quirks::Quirks;
use super::settings::{Offers, Wanted};

/// Longest rendering of one word; the rest is only more of the same.
const SHOWN: usize = 300;

/// A recording on its way through the mapping.
#[derive(Default)]
struct Replay {
    mapper: Mapper,
    quirks: Quirks,
    /// Methods of the client's open requests, by id.
    open: BTreeMap<String, String>,
    shown: String,
}

impl Replay {
    fn sent(&mut self, message: &Value) {
        if let (Some(method), false) = (message["method"].as_str(), message["id"].is_null()) {
            self.open
                .insert(message["id"].to_string(), method.to_owned());
            self.show(&format!("→ {method}"));
        }
    }

    fn received(&mut self, message: &Value) {
        match self.mapper.line(&message.to_string(), None) {
            Mapped::Said(said) => said.iter().for_each(|said| self.show(&format!("{said:?}"))),
            Mapped::Noise => self.show("noise"),
            Mapped::Protocol => self.protocol(message),
        }
    }

    fn protocol(&mut self, message: &Value) {
        if let Some(method) = message["method"].as_str() {
            let asked = ask::read("1".into(), message["params"].clone(), &self.quirks);
            return self.show(&format!("asks {method}: {asked:?}"));
        }
        let method = self
            .open
            .remove(&message["id"].to_string())
            .unwrap_or_default();
        if let Some(error) = message.get("error") {
            let code = error["code"].as_i64().unwrap_or_default();
            let fault = fault::from_rpc(
                code,
                error["message"].as_str().unwrap_or_default(),
                error.get("data"),
            );
            self.show(&format!("{method} failed: {fault:?}"));
            if method == "session/prompt" {
                let said = self.mapper.turn_failed(fault, None);
                said.iter().for_each(|said| self.show(&format!("{said:?}")));
            }
            return;
        }
        let result = &message["result"];
        match method.as_str() {
            "initialize" => {
                let quirks = Quirks::of(
                    result["agentInfo"]["name"].as_str().unwrap_or_default(),
                    &[],
                );
                self.show(&format!("initialize: {quirks:?}"));
                self.mapper.set_quirks(quirks.clone());
                self.quirks = quirks;
            }
            "session/new" | "session/load" | "session/resume" => {
                let unknown = Wanted {
                    mode: Some("?".into()),
                    ..Wanted::default()
                };
                let offered = Offers::read(result).next("s", &unknown);
                self.show(&format!("{method}: {offered:?}"));
                if method != "session/new" {
                    self.mapper.continued();
                }
            }
            "session/prompt" => {
                let said = self.mapper.turn_end(result);
                said.iter().for_each(|said| self.show(&format!("{said:?}")));
            }
            _ => {}
        }
    }

    fn show(&mut self, text: &str) {
        let cut: String = text.chars().take(SHOWN).collect();
        let mark = if cut.len() < text.len() { "…" } else { "" };
        writeln!(self.shown, "{cut}{mark}").expect("text in memory");
    }
}

fn replay(file: &Path) -> String {
    let mut replay = Replay::default();
    for line in std::fs::read_to_string(file).expect("a recording").lines() {
        let entry: Value = serde_json::from_str(line).expect("a recorded message");
        match entry["dir"].as_str() {
            Some("send") => replay.sent(&entry["msg"]),
            _ => replay.received(&entry["msg"]),
        }
    }
    replay.shown
}

fn snapshots_of(agent: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("tests/wire/acp").join(agent);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("recordings")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root.join("tests/it/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for file in files {
            let name = file
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            insta::assert_snapshot!(format!("acp_{agent}_{name}"), replay(&file));
        }
    });
}

#[test]
fn goose() {
    snapshots_of("goose");
}

#[test]
fn opencode() {
    snapshots_of("opencode");
}

#[test]
fn qwen() {
    snapshots_of("qwen");
}
