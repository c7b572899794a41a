//! Questions of the demo agent to a person, and the wait for answers.

use std::sync::mpsc::RecvTimeoutError;

use serde_json::{Value, json};

use super::turn::{LOOK, Runner};

/// The field of the form.
const FIELD: &str = "answer";

impl Runner<'_> {
    /// Asks, and says what was answered.
    pub(super) fn question(&mut self, text: &str, choices: &[String]) {
        if !self.turn.server.can_question() {
            return self.say(&format!("Nobody can be asked: {text}"));
        }
        let mut schema = json!({"type": "string", "title": "Answer"});
        if !choices.is_empty() {
            schema["enum"] = json!(choices);
        }
        let form = json!({"type": "object", "properties": {FIELD: schema}, "required": [FIELD]});
        let params = json!({"mode": "form", "sessionId": self.name, "message": text,
            "requestedSchema": form});
        let answer = self.call("elicitation/create", &params);
        match (answer["action"].as_str(), answer["content"][FIELD].as_str()) {
            (Some("accept"), Some(words)) => self.say(&format!("Answered: {text} {words}")),
            (action, _) => {
                let action = action.unwrap_or("cancel");
                self.say(&format!("Not answered ({action}): {text}"));
            }
        }
    }

    /// Asks the client, and waits; null when the turn is cancelled first.
    pub(super) fn call(&self, method: &str, params: &Value) -> Value {
        self.turn.asks_at(self.step);
        let answer = self.turn.server.out.request(method, params);
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) if !self.turn.cancel.asked() => {}
                Err(_) => return Value::Null,
            }
        }
    }
}
