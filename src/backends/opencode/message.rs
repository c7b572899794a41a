//! The bodies of `POST /session/:id/prompt_async` and `…/command`.

use serde_json::{Value, json};

use super::client::CallError;
use super::commands;

/// One prompt, as opencode wants it.
pub(super) struct Message<'a> {
    /// The id that Hearth gives it.
    pub(super) id: &'a str,
    /// What the user says, behind what Hearth puts in front of it.
    pub(super) texts: &'a [&'a str],
    /// The slash command that it is instead, and what it is told.
    pub(super) command: Option<(&'a str, &'a str)>,
    /// `provider/model`.
    pub(super) model: Option<&'a str>,
    /// opencode's word for a mode.
    pub(super) agent: Option<&'a str>,
    /// opencode's word for a thinking option.
    pub(super) variant: Option<&'a str>,
}

impl Message<'_> {
    /// Model and agent go along with every prompt: opencode would take those of the
    /// session's last one, even where they were refused. A command that names its own
    /// keeps them.
    ///
    /// # Errors
    /// No model can have that name, or the command would do something unasked.
    pub(super) fn body(&self) -> Result<Value, CallError> {
        let model = self.model.map(named).transpose()?;
        let mut body = match self.command {
            Some((name, arguments)) if commands::run_a_shell(arguments) => {
                return Err(CallError::Unasked(name.to_owned()));
            }
            Some((name, arguments)) => json!({"command": name, "arguments": arguments}),
            None => {
                let parts = self.texts.iter();
                let parts = parts.map(|text| json!({"type": "text", "text": text}));
                json!({ "parts": parts.collect::<Vec<_>>() })
            }
        };
        body["messageID"] = self.id.into();
        if let Some((provider, model)) = model {
            body["model"] = match self.command {
                Some(_) => format!("{provider}/{model}").into(),
                None => json!({"providerID": provider, "modelID": model}),
            };
        }
        if let Some(agent) = self.agent {
            body["agent"] = agent.into();
        }
        if let Some(variant) = self.variant {
            body["variant"] = variant.into();
        }
        Ok(body)
    }
}

fn named(model: &str) -> Result<(&str, &str), CallError> {
    let named = model.split_once('/');
    let named = named.filter(|(provider, model)| !provider.is_empty() && !model.is_empty());
    named.ok_or_else(|| CallError::Model(model.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(model: Option<&'a str>, agent: Option<&'a str>) -> Message<'a> {
        Message {
            id: "msg_hearth_1",
            texts: &["told", "said"],
            command: None,
            model,
            agent,
            variant: None,
        }
    }

    #[test]
    fn model_and_agent_are_named_with_the_prompt() {
        let body = message(Some("router/maker/model-1"), Some("plan")).body();
        let wanted = json!({
            "messageID": "msg_hearth_1",
            "parts": [{"type": "text", "text": "told"}, {"type": "text", "text": "said"}],
            "model": {"providerID": "router", "modelID": "maker/model-1"},
            "agent": "plan",
        });
        assert_eq!(body.expect("a body"), wanted);
    }

    #[test]
    fn a_model_without_a_provider_is_refused_and_not_dropped() {
        for model in ["mock-1", "/mock-1", "mock/", ""] {
            let error = message(Some(model), None).body().expect_err(model);
            let told = error.to_string();
            assert!(told.contains(&format!("\"{model}\"")) && told.contains("provider/model"));
        }
    }

    #[test]
    fn a_command_goes_with_its_arguments_and_the_same_choices() {
        let hello = Message {
            command: Some(("hello", "the moon, `now`!")),
            ..message(Some("router/maker/model-1"), Some("plan"))
        };
        let wanted = json!({
            "messageID": "msg_hearth_1",
            "command": "hello",
            "arguments": "the moon, `now`!",
            "model": "router/maker/model-1",
            "agent": "plan",
        });
        assert_eq!(hello.body().expect("a body"), wanted);
        let shell = Message {
            command: Some(("hello", "moon !`touch file`")),
            ..message(None, None)
        };
        let told = shell.body().expect_err("a shell").to_string();
        assert!(told.contains("/hello") && told.contains("leave it out"));
    }
}
