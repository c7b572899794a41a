//! Messages to the client.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// Chunks of a flood are written this many bytes at a time.
const FLOOD_WRITE: usize = 64 * 1024;

/// Writes whole lines, whoever asks.
#[derive(Debug, Default)]
pub(super) struct Out {
    stdout: Mutex<()>,
    asked: AtomicU64,
    waiting: Mutex<BTreeMap<String, Sender<Value>>>,
}

impl Out {
    /// A result.
    pub(super) fn result(&self, id: &Value, result: &Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    /// An error; `details` is where most agents put the reason.
    pub(super) fn error(&self, id: &Value, code: i32, message: &str, details: &str) {
        let error = json!({"code": code, "message": message, "data": {"details": details}});
        self.send(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
    }

    /// A `session/update`.
    pub(super) fn update(&self, session: &str, update: &Value) {
        let params = json!({"sessionId": session, "update": update});
        self.send(&json!({"jsonrpc": "2.0", "method": "session/update", "params": params}));
    }

    /// A chunk of that kind: `agent_message`, `agent_thought` or `user_message`.
    pub(super) fn chunk(&self, session: &str, kind: &str, text: &str) {
        let content = json!({"type": "text", "text": text});
        self.update(
            session,
            &json!({"sessionUpdate": format!("{kind}_chunk"), "content": content}),
        );
    }

    /// Chunks of `size` bytes that begin with their number, as fast as the pipe
    /// takes them, while `go_on`.
    pub(super) fn flood(&self, session: &str, count: u64, size: usize, go_on: impl Fn() -> bool) {
        let mut buffer = Vec::with_capacity(FLOOD_WRITE + size);
        let session = Value::from(session);
        for number in 0..count {
            if !go_on() {
                break;
            }
            let text = format!("{number} ");
            let filler = size.saturating_sub(text.len());
            // Written to memory, which does not fail.
            let _ = writeln!(
                buffer,
                r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"sessionId":{session},"update":{{"sessionUpdate":"agent_message_chunk","content":{{"type":"text","text":"{text}{:x<filler$}"}}}}}}}}"#,
                ""
            );
            if buffer.len() >= FLOOD_WRITE {
                self.bytes(&buffer);
                buffer.clear();
            }
        }
        self.bytes(&buffer);
    }

    /// Sends a request; the answer comes out of the receiver, or nothing when
    /// the client leaves.
    pub(super) fn request(&self, method: &str, params: &Value) -> Receiver<Value> {
        let id = format!("demo-{}", self.asked.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = channel();
        self.waiting().insert(id.clone(), sender);
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        answer
    }

    /// Takes the answer to a request in.
    pub(super) fn answered(&self, id: &str, result: Value) {
        if let Some(sender) = self.waiting().remove(id) {
            // Whoever asked may have been cancelled meanwhile.
            let _ = sender.send(result);
        }
    }

    /// Bytes as they are.
    pub(super) fn bytes(&self, bytes: &[u8]) {
        let _turn = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stdout = std::io::stdout().lock();
        if stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .is_err()
        {
            // The client is gone, and nobody else is there to tell.
            std::process::exit(0);
        }
    }

    fn send(&self, message: &Value) {
        self.bytes(format!("{message}\n").as_bytes());
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Sender<Value>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
