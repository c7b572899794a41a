//! Questions: `elicitation/create` of the protocol, and the answers to them.
//!
//! A form of one field becomes a question with its choices, or a place for
//! words. What has more fields that must be filled in, or is no form, is declined:
//! a person who answers in one line could not do it justice.

use hearth_actors::event::{Answer, Ask, AskKind, AskOption, Tool};
use serde_json::{Value, json};

use crate::backends::cap::capped_text;

/// The method by which agents ask.
pub(in crate::backends::acp) const METHOD: &str = "elicitation/create";

/// Most choices kept of one question.
const MAX_CHOICES: usize = 50;

/// The way out that every question has.
const DECLINE: &str = "hearth:decline";

/// The one field that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backends::acp) struct Field {
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
}

/// Reads a question of the session. None when it cannot be put to a person.
pub(in crate::backends::acp) fn read(id: String, params: &Value) -> Option<(Ask, Field)> {
    if params["mode"] != "form" || !params["sessionId"].is_string() {
        return None;
    }
    let question = params["message"].as_str()?;
    let (name, schema) = field(&params["requestedSchema"])?;
    let (kind, mut options) = offer(schema)?;
    options.push(AskOption {
        id: DECLINE.into(),
        label: "Do not answer".into(),
        kind: AskKind::RejectOnce,
    });
    let ask = Ask {
        id,
        tool: Tool {
            id: params["toolCallId"].as_str().unwrap_or_default().to_owned(),
            ..Tool::default()
        },
        question: Some(capped_text(question)),
        options,
    };
    let field = Field {
        name: name.to_owned(),
        kind,
    };
    Some((ask, field))
}

/// The result that answers a question about `field`.
pub(in crate::backends::acp) fn reply(field: &Field, answer: &Answer) -> Value {
    let value = match answer {
        Answer::Cancelled => return json!({"action": "cancel"}),
        Answer::Option(id) if id == DECLINE => return json!({"action": "decline"}),
        Answer::Option(value) | Answer::Text(value) => field.kind.value(value),
    };
    json!({"action": "accept", "content": {field.name.as_str(): value}})
}

impl Kind {
    /// What is no such value goes as it is: the agent says what is wrong.
    fn value(self, text: &str) -> Value {
        let plain = text.trim();
        let parsed = match self {
            Self::Text => None,
            Self::Integer => plain.parse::<i64>().ok().map(Value::from),
            Self::Number => plain.parse::<f64>().ok().map(Value::from),
            Self::Boolean => plain.parse::<bool>().ok().map(Value::from),
        };
        parsed.unwrap_or_else(|| Value::from(text))
    }
}

/// The only field, or the only one that must be filled in.
fn field(schema: &Value) -> Option<(&str, &Value)> {
    let properties = schema["properties"].as_object()?;
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let name = match (required.as_slice(), properties.len()) {
        ([name], _) => *name,
        ([], 1) => properties.keys().next()?.as_str(),
        _ => return None,
    };
    properties
        .get_key_value(name)
        .map(|(name, of)| (name.as_str(), of))
}

fn offer(schema: &Value) -> Option<(Kind, Vec<AskOption>)> {
    let words = |id: &str, label: &str| {
        vec![AskOption {
            id: id.into(),
            label: label.into(),
            kind: AskKind::Text,
        }]
    };
    match schema["type"].as_str()? {
        "string" => Some((
            Kind::Text,
            choices(schema)?.unwrap_or_else(|| words("text", "Your words")),
        )),
        "integer" => Some((Kind::Integer, words("integer", "A whole number"))),
        "number" => Some((Kind::Number, words("number", "A number"))),
        "boolean" => Some((
            Kind::Boolean,
            vec![choice("true", "Yes"), choice("false", "No")],
        )),
        _ => None,
    }
}

/// The values of a field that has some. None when there are too many, or none
/// that could be chosen.
fn choices(schema: &Value) -> Option<Option<Vec<AskOption>>> {
    let one_of = |item: &Value| {
        let value = item["const"].as_str()?;
        Some(choice(value, item["title"].as_str().unwrap_or(value)))
    };
    let options: Vec<AskOption> = match (schema["oneOf"].as_array(), schema["enum"].as_array()) {
        (Some(items), _) => items.iter().filter_map(one_of).collect(),
        (None, Some(values)) => {
            let values = values.iter().filter_map(Value::as_str);
            values.map(|value| choice(value, value)).collect()
        }
        (None, None) => return Some(None),
    };
    (!options.is_empty() && options.len() <= MAX_CHOICES).then_some(Some(options))
}

fn choice(value: &str, label: &str) -> AskOption {
    AskOption {
        id: value.to_owned(),
        label: capped_text(label),
        kind: AskKind::Choice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(properties: Value, required: Value) -> Value {
        json!({
            "mode": "form", "sessionId": "s", "toolCallId": "t", "message": "Which?",
            "requestedSchema": {"type": "object", "properties": properties, "required": required}
        })
    }

    fn ids(ask: &Ask) -> Vec<&str> {
        ask.options
            .iter()
            .map(|option| option.id.as_str())
            .collect()
    }

    #[test]
    fn one_field_is_a_question() {
        for (schema, expected, answer, value) in [
            (
                json!({"type": "string"}),
                vec!["text"],
                Answer::Text("deep blue".into()),
                json!("deep blue"),
            ),
            (
                json!({"type": "string", "enum": ["red", "blue"]}),
                vec!["red", "blue"],
                Answer::Option("blue".into()),
                json!("blue"),
            ),
            (
                json!({"type": "string", "oneOf": [{"const": "r", "title": "Red"}]}),
                vec!["r"],
                Answer::Option("r".into()),
                json!("r"),
            ),
            (
                json!({"type": "boolean"}),
                vec!["true", "false"],
                Answer::Option("false".into()),
                json!(false),
            ),
            (
                json!({"type": "integer"}),
                vec!["integer"],
                Answer::Text(" 42 ".into()),
                json!(42),
            ),
            (
                json!({"type": "number"}),
                vec!["number"],
                Answer::Text("2.5".into()),
                json!(2.5),
            ),
        ] {
            let params = question(json!({"answer": schema}), json!([]));
            let (ask, field) = read("1".into(), &params).expect("a question");
            assert_eq!(ask.question.as_deref(), Some("Which?"));
            assert_eq!(ask.tool.id, "t");
            let offered: Vec<&str> = expected.into_iter().chain([DECLINE]).collect();
            assert_eq!(ids(&ask), offered);
            let accepted = json!({"action": "accept", "content": {"answer": value}});
            assert_eq!(reply(&field, &answer), accepted);
            let declined = reply(&field, &Answer::Option(DECLINE.into()));
            assert_eq!(declined, json!({"action": "decline"}));
            let cancelled = reply(&field, &Answer::Cancelled);
            assert_eq!(cancelled, json!({"action": "cancel"}));
        }
    }

    #[test]
    fn a_field_that_may_be_left_out_is_left_out() {
        let text = json!({"type": "string"});
        let params = question(json!({"a": text, "b": text}), json!(["b"]));
        let (_, field) = read("1".into(), &params).expect("a question");
        assert_eq!(field.name, "b");
    }

    #[test]
    fn what_cannot_be_put_to_a_person_is_none() {
        let text = json!({"type": "string"});
        let two = json!({"a": text, "b": text});
        let many: Vec<String> = (0..60).map(|number| number.to_string()).collect();
        for params in [
            question(two.clone(), json!([])),
            question(two, json!(["a", "b"])),
            question(json!({}), json!([])),
            question(json!({"a": {"type": "array"}}), json!([])),
            question(json!({"a": {"type": "string", "enum": []}}), json!([])),
            question(json!({"a": {"type": "string", "enum": many}}), json!([])),
            question(json!({"a": text}), json!(["b"])),
            json!({"mode": "url", "sessionId": "s", "message": "x", "url": "https://example.org"}),
            json!({"mode": "form", "requestId": 1, "message": "x",
                "requestedSchema": {"properties": {"a": text}}}),
            json!({}),
        ] {
            assert_eq!(read("1".into(), &params), None, "{params}");
        }
    }
}
