//! An agent that does nothing but note when things happened, so that Hearth's
//! own share can be told from an agent's.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::clock::now_ns;

pub(crate) const COMMAND: &str = "clock-agent";

/// Where the agent notes, told by its environment.
pub(crate) const NOTES: &str = "FIGURES_NOTES";

pub(crate) fn main() {
    let notes = PathBuf::from(std::env::var_os(NOTES).expect("a place for notes"));
    let note = |what: &str, value: u64| {
        std::fs::write(notes.join(what), value.to_string()).expect("a note");
    };
    let mut out = std::io::stdout().lock();
    let mut send = |message: Value| {
        writeln!(out, "{message}")
            .and_then(|()| out.flush())
            .expect("a reader");
    };
    for line in std::io::stdin().lock().lines() {
        let arrived = now_ns();
        let message: Value = serde_json::from_str(&line.expect("a line")).expect("json");
        let id = &message["id"];
        match message["method"].as_str() {
            Some("initialize") => send(json!({ "jsonrpc": "2.0", "id": id, "result": {
                "protocolVersion": 1, "agentCapabilities": { "loadSession": true }, "authMethods": [],
                "agentInfo": { "name": "clock", "version": "1" } } })),
            Some("session/new") => {
                send(json!({ "jsonrpc": "2.0", "id": id, "result": { "sessionId": "clock" } }));
            }
            Some("session/load") => send(json!({ "jsonrpc": "2.0", "id": id, "result": {} })),
            Some("session/prompt") => {
                let text = message["params"]["prompt"].to_string();
                // Whoever hears the word may read the notes.
                note("prompted", arrived);
                note("pid", u64::from(std::process::id()));
                note("spoke", now_ns());
                send(
                    json!({ "jsonrpc": "2.0", "method": "session/update", "params": {
                    "sessionId": "clock", "update": { "sessionUpdate": "agent_message_chunk",
                        "content": { "type": "text", "text": "tick" } } } }),
                );
                if !text.contains("wait") {
                    send(
                        json!({ "jsonrpc": "2.0", "id": id, "result": { "stopReason": "end_turn" } }),
                    );
                }
            }
            _ => {}
        }
    }
}
