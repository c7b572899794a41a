//! What an agent lets a client choose (mode, model, thinking), and the call
//! that chooses it: pure.

#[cfg(test)]
mod tests;

use agent_client_protocol::UntypedMessage;
use serde_json::{Value, json};

use super::map::cap::capped_text;

/// One thing that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Setting {
    Mode,
    Model,
    Thinking,
}

impl Setting {
    pub(super) const ALL: [Self; 3] = [Self::Mode, Self::Model, Self::Thinking];

    fn word(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::Model => "model",
            Self::Thinking => "thinking option",
        }
    }

    /// The category of config options that means this.
    fn category(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::Model => "model",
            Self::Thinking => "thought_level",
        }
    }
}

/// What is wanted; none means what the agent is set to by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mode: Option<String>,
    pub(super) model: Option<String>,
    pub(super) thinking: Option<String>,
}

impl Wanted {
    fn get(&self, setting: Setting) -> Option<&str> {
        match setting {
            Setting::Mode => self.mode.as_deref(),
            Setting::Model => self.model.as_deref(),
            Setting::Thinking => self.thinking.as_deref(),
        }
    }
}

/// The choices of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    setting: Setting,
    call: Call,
    /// What a session of this agent starts with.
    initial: Option<String>,
    current: Option<String>,
    /// Id and name of each choice.
    choices: Vec<(String, String)>,
}

/// How it is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    SetMode,
    SetModel,
    /// By the config option of this id.
    Option(String),
}

/// All that an agent offers, from its answer to new, load or resume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offers(Vec<Offer>);

/// One choice to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    setting: Setting,
    value: String,
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
            "the agent refused the {} \"{}\": {reason}",
            self.setting.word(),
            self.value
        )
    }
}

impl Offers {
    /// Reads the answer. Modes and models have calls of their own in some
    /// agents and are config options in others; their own call goes first.
    pub(super) fn read(answer: &Value) -> Self {
        let modes = &answer["modes"];
        let models = &answer["models"];
        let own = [
            offer(
                Setting::Mode,
                Call::SetMode,
                &modes["currentModeId"],
                &modes["availableModes"],
                "id",
            ),
            offer(
                Setting::Model,
                Call::SetModel,
                &models["currentModelId"],
                &models["availableModels"],
                "modelId",
            ),
        ];
        let mut offers: Vec<Offer> = own.into_iter().flatten().collect();
        for option in answer["configOptions"].as_array().into_iter().flatten() {
            let Some((id, setting)) = config_option(option) else {
                continue;
            };
            if !offers.iter().any(|offer| offer.setting == setting) {
                offers.extend(offer(
                    setting,
                    Call::Option(id),
                    &option["currentValue"],
                    &option["options"],
                    "value",
                ));
            }
        }
        Self(offers)
    }

    /// What must be called so that everything is as wanted; a setting that
    /// nobody asks for goes back to its initial value.
    ///
    /// # Errors
    /// Something wanted is not on offer: says what is. A wish for a setting the
    /// agent does not have at all is passed over.
    pub(super) fn changes(&self, session: &str, wanted: &Wanted) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        for offer in &self.0 {
            let value = match (wanted.get(offer.setting), offer.initial.as_deref()) {
                (Some(wish), _) => offer.resolve(wish)?,
                (None, Some(initial)) => initial,
                (None, None) => continue,
            };
            if offer.current.as_deref() == Some(value) {
                continue;
            }
            let (method, params) = match &offer.call {
                Call::SetMode => (
                    "session/set_mode",
                    json!({"sessionId": session, "modeId": value}),
                ),
                Call::SetModel => (
                    "session/set_model",
                    json!({"sessionId": session, "modelId": value}),
                ),
                Call::Option(id) => (
                    "session/set_config_option",
                    json!({"sessionId": session, "configId": id, "value": value}),
                ),
            };
            changes.push(Change {
                setting: offer.setting,
                value: value.to_owned(),
                method,
                params,
            });
        }
        Ok(changes)
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
                offer.current = Some(mode.to_owned());
            }
        }
    }
}

impl Offer {
    /// The id that a wish means: an id, or a name as people read it.
    fn resolve<'a>(&'a self, wish: &'a str) -> Result<&'a str, String> {
        let by_id = self.choices.iter().find(|(id, _)| id == wish);
        let found = by_id.or_else(|| {
            self.choices
                .iter()
                .find(|(_, name)| name.eq_ignore_ascii_case(wish))
        });
        match found {
            Some((id, _)) => Ok(id),
            None if self.choices.is_empty() => Ok(wish),
            None => {
                let ids: Vec<_> = self
                    .choices
                    .iter()
                    .take(20)
                    .map(|(id, _)| id.as_str())
                    .collect();
                Err(capped_text(&format!(
                    "the agent has no {} \"{wish}\": choose one of {}",
                    self.setting.word(),
                    ids.join(", ")
                )))
            }
        }
    }
}

fn offer(
    setting: Setting,
    call: Call,
    current: &Value,
    choices: &Value,
    id: &str,
) -> Option<Offer> {
    let choices = choices.as_array()?;
    let current = current.as_str().map(str::to_owned);
    Some(Offer {
        setting,
        call,
        initial: current.clone(),
        current,
        choices: choices
            .iter()
            .flat_map(|choice| choice_of(choice, id))
            .collect(),
    })
}

/// A choice, or the choices of a group.
fn choice_of(choice: &Value, id: &str) -> Vec<(String, String)> {
    if let Some(group) = choice["options"].as_array() {
        return group
            .iter()
            .flat_map(|choice| choice_of(choice, id))
            .collect();
    }
    let Some(value) = choice[id].as_str() else {
        return Vec::new();
    };
    let name = choice["name"].as_str().unwrap_or(value);
    vec![(value.to_owned(), name.to_owned())]
}

fn config_option(option: &Value) -> Option<(String, Setting)> {
    let id = option["id"].as_str()?;
    let category = option["category"].as_str().unwrap_or(id);
    let setting = Setting::ALL
        .into_iter()
        .find(|setting| setting.category() == category)?;
    Some((id.to_owned(), setting))
}
