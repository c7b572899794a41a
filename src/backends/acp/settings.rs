//! What an agent lets a client choose (mode, model, thinking, options of its
//! own), and the call that chooses it: pure.

mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use agent_client_protocol::UntypedMessage;
use hearth_actors::catalog::{self, Choice};
use serde_json::{Value, json};

use crate::backends::cap::capped_text;

/// One thing that may be chosen. The order is that of the calls: a model
/// decides which thinking options there are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Setting {
    Mode,
    Model,
    Thinking,
    /// The agent's own option of this id.
    Feature(String),
}

impl Setting {
    fn word(&self) -> String {
        match self {
            Self::Mode => "mode".into(),
            Self::Model => "model".into(),
            Self::Thinking => "thinking option".into(),
            Self::Feature(id) => format!("value of its option `{id}`"),
        }
    }
}

/// What is wanted; none means what the agent is set to by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    pub(super) mode: Option<String>,
    /// The mode of the agent's definition, where the agent has modes.
    pub(super) default_mode: Option<String>,
    pub(super) model: Option<String>,
    pub(super) thinking: Option<String>,
    pub(super) features: BTreeMap<String, Value>,
}

impl Wanted {
    /// What must be on offer, because somebody asked for it.
    fn explicit(&self) -> impl Iterator<Item = Setting> {
        let features = self.features.keys().cloned().map(Setting::Feature);
        [
            self.mode.as_ref().map(|_| Setting::Mode),
            self.model.as_ref().map(|_| Setting::Model),
            self.thinking.as_ref().map(|_| Setting::Thinking),
        ]
        .into_iter()
        .flatten()
        .chain(features)
    }

    fn get(&self, setting: &Setting) -> Option<Value> {
        let text = |wish: &Option<String>| wish.clone().map(Value::from);
        match setting {
            Setting::Mode => text(&self.mode).or_else(|| text(&self.default_mode)),
            Setting::Model => text(&self.model),
            Setting::Thinking => text(&self.thinking),
            Setting::Feature(id) => self.features.get(id).cloned(),
        }
    }
}

/// The choices of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    setting: Setting,
    call: Call,
    /// What a person reads.
    name: String,
    /// What a session of this agent starts with.
    initial: Option<Value>,
    current: Option<Value>,
    /// None for a boolean.
    choices: Option<Vec<Choice>>,
}

/// How it is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    SetMode,
    SetModel,
    /// By the config option of this id.
    Option(String),
}

/// All that an agent offers, from its answer to new, load or resume, ordered by
/// setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offers(Vec<Offer>);

/// One choice to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    setting: Setting,
    value: Value,
    method: &'static str,
    params: Value,
}

impl Change {
    /// The request that makes it.
    pub(super) fn request(&self) -> UntypedMessage {
        UntypedMessage {
            method: self.method.to_owned(),
            params: self.params.clone(),
        }
    }

    /// What to say when the agent refuses it.
    pub(super) fn refused(&self, reason: &str) -> String {
        format!(
            "the agent refused the {} {}: {reason}",
            self.setting.word(),
            self.value
        )
    }
}

impl Offers {
    /// The next call on the way to what is wanted; a setting that nobody asks
    /// for goes back to its initial value. One at a time, because a choice may
    /// change what else is on offer.
    ///
    /// # Errors
    /// Something wanted is not on offer: says what is.
    pub(super) fn next(&self, session: &str, wanted: &Wanted) -> Result<Option<Change>, String> {
        for setting in wanted.explicit() {
            if !self.0.iter().any(|offer| offer.setting == setting) {
                return Err(self.missing(&setting));
            }
        }
        for offer in &self.0 {
            let value = match (wanted.get(&offer.setting), &offer.initial) {
                (Some(wish), _) => offer.resolve(&wish)?,
                (None, Some(initial)) => initial.clone(),
                (None, None) => continue,
            };
            if offer.current.as_ref() != Some(&value) {
                return Ok(Some(offer.change(session, value)));
            }
        }
        Ok(None)
    }

    /// Notes that a change was made.
    pub(super) fn made(&mut self, change: &Change) {
        for offer in &mut self.0 {
            if offer.setting == change.setting {
                offer.current = Some(change.value.clone());
            }
        }
    }

    /// Notes a mode the agent tells of.
    pub(super) fn told_mode(&mut self, mode: &str) {
        for offer in &mut self.0 {
            if offer.setting == Setting::Mode {
                offer.current = Some(mode.into());
            }
        }
    }

    fn missing(&self, setting: &Setting) -> String {
        let Setting::Feature(id) = setting else {
            return format!(
                "the agent offers no choice of {}: ask without one",
                setting.word()
            );
        };
        let own: Vec<&str> = self
            .0
            .iter()
            .filter_map(|offer| match &offer.setting {
                Setting::Feature(id) => Some(id.as_str()),
                _ => None,
            })
            .collect();
        let cure = if own.is_empty() {
            "it has none of its own".to_owned()
        } else {
            format!("choose one of {}", own.join(", "))
        };
        capped_text(&format!("the agent has no option \"{id}\": {cure}"))
    }
}

impl Offer {
    /// The value that a wish means: an id, or a name as people read it.
    fn resolve(&self, wish: &Value) -> Result<Value, String> {
        let Some(choices) = &self.choices else {
            return match wish {
                Value::Bool(_) => Ok(wish.clone()),
                other => Err(capped_text(&format!(
                    "the agent has no {} {other}: choose true or false",
                    self.setting.word()
                ))),
            };
        };
        let found = wish.as_str().and_then(|wish| {
            // What is behind a full list is the agent's to know.
            let listed = (1..catalog::MAX_ITEMS).contains(&choices.len());
            catalog::resolve(choices, wish).or((!listed).then_some(wish))
        });
        found.map(Value::from).ok_or_else(|| {
            capped_text(&format!(
                "the agent has no {} {wish}: choose one of {}",
                self.setting.word(),
                catalog::named(choices)
            ))
        })
    }

    fn change(&self, session: &str, value: Value) -> Change {
        let (method, params) = match &self.call {
            Call::SetMode => (
                "session/set_mode",
                json!({"sessionId": session, "modeId": value}),
            ),
            Call::SetModel => (
                "session/set_model",
                json!({"sessionId": session, "modelId": value}),
            ),
            Call::Option(id) => {
                let mut params = json!({"sessionId": session, "configId": id, "value": value});
                if value.is_boolean() {
                    params["type"] = "boolean".into();
                }
                ("session/set_config_option", params)
            }
        };
        Change {
            setting: self.setting.clone(),
            value,
            method,
            params,
        }
    }
}
