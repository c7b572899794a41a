//! The same model behind Anthropic's Messages API: one script for all agents.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::plan::{Ending, Plan};
use super::{MAX_HANG, Shared};

/// What claude itself puts into messages of the user, by how it begins.
const NOISE: &[&str] = &[
    "<system-reminder>",
    "[Request interrupted",
    "[Image",
    "<local-command",
    "<command-name",
];

pub(super) async fn complete(
    State(shared): State<Arc<Shared>>,
    Json(body): Json<Value>,
) -> Response {
    let chat = as_chat(&body);
    let mut plan = Plan::of(&chat);
    let Some(number) = shared.take_in(&plan, chat) else {
        return (StatusCode::INSUFFICIENT_STORAGE, "too many requests").into_response();
    };
    match &plan.ending {
        Ending::Error {
            status,
            times,
            retry_after,
            refusal,
        } if times.is_none_or(|times| shared.failed_before(&plan.prompt) < times) => {
            return refuse(*status, *retry_after, refusal.as_ref());
        }
        Ending::Hang => tokio::time::sleep(MAX_HANG).await,
        Ending::Cut(_, Some(times)) if shared.failed_before(&plan.prompt) >= *times => {
            plan.ending = Ending::Well;
        }
        _ => {}
    }
    tokio::time::sleep(plan.delay).await;
    if body["stream"] != true {
        shared.told(number, plan.usage);
        return Json(whole(&plan, number)).into_response();
    }
    let (chunks, stream) = mpsc::channel(1);
    tokio::spawn(stream_out(shared, number, plan, chunks));
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .header(header::CACHE_CONTROL, "no-cache")
        .body(Body::from_stream(ReceiverStream::new(stream)))
        .unwrap()
}

fn refuse(status: u16, retry_after: Option<u64>, refusal: Option<&(String, String)>) -> Response {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (kind, words) = match refusal {
        Some((kind, words)) => (kind.as_str(), words.clone()),
        None => (kind, format!("the model refuses: {status}")),
    };
    let error = json!({"type": "error", "error": {"type": kind, "message": words}});
    let mut response = (status, Json(error)).into_response();
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Says the plan piece by piece, until it is said or nobody listens.
async fn stream_out(
    shared: Arc<Shared>,
    number: usize,
    plan: Plan,
    chunks: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut pieces = 0;
    for event in events(&plan, number) {
        if event["type"] == "content_block_delta" {
            // The piece that says who speaks counts elsewhere, so that the numbers agree.
            if matches!(plan.ending, Ending::Cut(cut, _) if cut == pieces + 1) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = chunks
                    .send(Err(io::ErrorKind::ConnectionReset.into()))
                    .await;
                return;
            }
            if pieces == 0 {
                shared.seen()[number].first_word = Some(Instant::now());
            } else {
                tokio::time::sleep(plan.gap).await;
            }
            pieces += 1;
        }
        if event["type"] == "message_delta" {
            shared.seen()[number].usage = Some(plan.usage);
        }
        let name = event["type"].as_str().unwrap_or_default();
        let line = format!("event: {name}\ndata: {event}\n\n");
        if chunks.send(Ok(line.into())).await.is_err() {
            return;
        }
    }
}

/// The events of a streamed answer.
fn events(plan: &Plan, number: usize) -> Vec<Value> {
    let mut message = whole(plan, number);
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    message["usage"]["output_tokens"] = json!(1);
    let mut events = vec![json!({"type": "message_start", "message": message})];
    let mut block = |start: Value, deltas: Vec<Value>| {
        let index = events
            .iter()
            .filter(|event| event["type"] == "content_block_stop")
            .count();
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        for delta in deltas {
            events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
    };
    if !plan.reasoning.is_empty() {
        let mut deltas: Vec<Value> = plan
            .reasoning
            .iter()
            .map(|piece| json!({"type": "thinking_delta", "thinking": piece}))
            .collect();
        deltas.push(json!({"type": "signature_delta", "signature": "c2lnbmVk"}));
        block(
            json!({"type": "thinking", "thinking": "", "signature": ""}),
            deltas,
        );
    }
    if !plan.text.is_empty() {
        let deltas = plan.text.iter();
        let deltas = deltas.map(|piece| json!({"type": "text_delta", "text": piece}));
        block(json!({"type": "text", "text": ""}), deltas.collect());
    }
    if let Some(call) = tool_use(plan) {
        let arguments = call["input"].to_string();
        let start =
            json!({"type": "tool_use", "id": call["id"], "name": call["name"], "input": {}});
        block(
            start,
            vec![json!({"type": "input_json_delta", "partial_json": arguments})],
        );
    }
    events.push(json!({"type": "message_delta",
        "delta": {"stop_reason": stop_reason(plan), "stop_sequence": null}, "usage": usage(plan)}));
    events.push(json!({"type": "message_stop"}));
    events
}

/// The answer in one piece.
fn whole(plan: &Plan, number: usize) -> Value {
    let mut content = Vec::new();
    if !plan.reasoning.is_empty() {
        content.push(json!({"type": "thinking", "thinking": plan.reasoning.concat(), "signature": "c2lnbmVk"}));
    }
    if !plan.text.is_empty() {
        content.push(json!({"type": "text", "text": plan.text.concat()}));
    }
    content.extend(tool_use(plan));
    json!({
        "id": format!("msg_{number}"),
        "type": "message",
        "role": "assistant",
        "model": plan.model,
        "content": content,
        "stop_reason": stop_reason(plan),
        "stop_sequence": null,
        "usage": usage(plan),
    })
}

fn usage(plan: &Plan) -> Value {
    let (input, output) = plan.usage;
    json!({
        "input_tokens": input, "output_tokens": output,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
    })
}

fn stop_reason(plan: &Plan) -> &'static str {
    if plan.call.is_some() {
        "tool_use"
    } else {
        "end_turn"
    }
}

fn tool_use(plan: &Plan) -> Option<Value> {
    let call = plan.call.as_ref()?;
    let arguments = call["function"]["arguments"].as_str()?;
    let input: Value = serde_json::from_str(arguments).ok()?;
    Some(
        json!({"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": input}),
    )
}

/// The request as chat completions would put it. Each text of the user is a message
/// of its own, as claude puts several into one; what it adds by itself is no user's.
fn as_chat(body: &Value) -> Value {
    let messages = body["messages"].as_array().into_iter().flatten();
    let messages: Vec<Value> = messages.flat_map(chat_messages).collect();
    let tools = body["tools"].as_array().into_iter().flatten();
    let tools: Vec<Value> = tools
        .filter(|tool| tool["input_schema"].is_object())
        .map(|tool| json!({"type": "function", "function": {"name": tool["name"], "parameters": tool["input_schema"]}}))
        .collect();
    json!({"model": body["model"], "stream": body["stream"], "messages": messages, "tools": tools,
        "output_config": body["output_config"]})
}

fn chat_messages(message: &Value) -> Vec<Value> {
    let texts = [json!({"type": "text", "text": message["content"]})];
    let blocks = match &message["content"] {
        Value::Array(blocks) => blocks.as_slice(),
        _ => &texts,
    };
    let of_user = message["role"] == "user";
    let chat = |block: &Value| match block["type"].as_str()? {
        "text" => {
            let text = block["text"].as_str()?.trim();
            let own = NOISE.iter().any(|noise| text.starts_with(noise));
            let role = match of_user {
                true if own || text.is_empty() => "system",
                true => "user",
                false => "assistant",
            };
            Some(json!({"role": role, "content": text}))
        }
        "tool_result" => Some(json!({"role": "tool", "tool_call_id": block["tool_use_id"],
            "content": block["content"].to_string()})),
        "tool_use" => Some(json!({"role": "assistant", "tool_calls": [block]})),
        _ => None,
    };
    blocks.iter().filter_map(chat).collect()
}
