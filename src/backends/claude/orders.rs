//! What Hearth writes to the program: one line each.

use serde_json::{Value, json};

/// A request of Hearth's, to be answered under `id`.
pub(super) fn request(id: &str, request: &Value) -> String {
    json!({"type": "control_request", "request_id": id, "request": request}).to_string()
}

/// The handshake. What it leaves out is as the user has it.
pub(super) fn initialize() -> Value {
    json!({"subtype": "initialize"})
}

/// Ends the turn, and takes prompts back that have not begun: without that, one
/// that overtakes its prompt would do nothing.
pub(super) fn interrupt() -> Value {
    json!({"subtype": "interrupt", "cancel_queued": true})
}

/// The model from the next call on; none is the default.
pub(super) fn set_model(model: Option<&str>) -> Value {
    let mut request = json!({"subtype": "set_model"});
    if let Some(model) = model {
        request["model"] = model.into();
    }
    request
}

/// The permission mode from now on.
pub(super) fn set_mode(mode: &str) -> Value {
    json!({"subtype": "set_permission_mode", "mode": mode})
}

/// How hard it thinks from the next call on; none is the default.
pub(super) fn set_effort(effort: Option<&str>) -> Value {
    json!({"subtype": "apply_flag_settings", "settings": {"effortLevel": effort}})
}

/// A prompt, stamped with `uuid`. What Hearth says is a block of its own, in front
/// of the user's.
pub(super) fn prompt(uuid: &str, handover: Option<&str>, text: &str) -> String {
    let content = match handover {
        None => Value::from(text),
        Some(section) => json!([
            {"type": "text", "text": section},
            {"type": "text", "text": text},
        ]),
    };
    json!({
        "type": "user",
        "message": {"role": "user", "content": content},
        "parent_tool_use_id": null,
        "session_id": "",
        "uuid": uuid,
    })
    .to_string()
}

/// The answer to a request of the program's.
pub(super) fn answer(id: &str, answer: &Value) -> String {
    json!({"type": "control_response", "response": {
        "subtype": "success", "request_id": id, "response": answer,
    }})
    .to_string()
}

/// The refusal of a request of the program's.
pub(super) fn refuse(id: &str, why: &str) -> String {
    json!({"type": "control_response", "response": {
        "subtype": "error", "request_id": id, "error": why,
    }})
    .to_string()
}
