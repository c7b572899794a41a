//! Offers out of the agent's answers: pure.

use hearth_actors::catalog::{Catalog, Choice, ConfigOption, MAX_ITEMS, Offered};
use serde_json::Value;

use super::{Call, Offer, Offers, Setting};
use crate::backends::cap::capped_text;

impl Offers {
    /// Reads the answer to new, load or resume. Modes and models have calls of
    /// their own in some agents and are config options in others; their own
    /// call goes first.
    pub(in super::super) fn read(answer: &Value) -> Self {
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
        let mut offers = Self(own.into_iter().flatten().collect());
        for option in options(answer) {
            offers.insert(option);
        }
        offers.0.sort_by(|a, b| a.setting.cmp(&b.setting));
        offers
    }

    /// Takes in what an answer or a notification says about all config options
    /// as they are now.
    pub(in super::super) fn refresh(&mut self, said: &Value) {
        for option in options(said) {
            let known = self
                .0
                .iter_mut()
                .find(|offer| offer.setting == option.setting);
            match known {
                Some(offer) => offer.refresh(option),
                None => self.insert(option),
            }
        }
        self.0.sort_by(|a, b| a.setting.cmp(&b.setting));
    }

    /// Writes down what is on offer.
    pub(in super::super) fn describe(&self, catalog: &mut Catalog) {
        catalog.modes = self.offered(&Setting::Mode);
        catalog.models = self.offered(&Setting::Model);
        catalog.thinking = self.offered(&Setting::Thinking);
        let own = self.0.iter().filter_map(|offer| match &offer.setting {
            Setting::Feature(id) => Some(ConfigOption {
                id: id.clone(),
                name: offer.name.clone(),
                initial: offer.initial.clone().unwrap_or_default(),
                choices: offer.choices.clone().unwrap_or_default(),
            }),
            _ => None,
        });
        catalog.options = own.collect();
    }

    fn offered(&self, setting: &Setting) -> Offered {
        let Some(offer) = self.0.iter().find(|offer| offer.setting == *setting) else {
            return Offered::default();
        };
        Offered {
            initial: offer
                .initial
                .as_ref()
                .and_then(Value::as_str)
                .map(str::to_owned),
            choices: offer.choices.clone().unwrap_or_default(),
        }
    }

    fn insert(&mut self, option: Offer) {
        let known = self.0.iter().any(|offer| offer.setting == option.setting);
        if !known && self.0.len() < MAX_ITEMS {
            self.0.push(option);
        }
    }
}

impl Offer {
    /// The call stays; a start value that is gone gives way to the present one.
    fn refresh(&mut self, now: Self) {
        self.current = now.current.or(self.current.take());
        if matches!(self.call, Call::Option(_)) {
            self.choices = now.choices;
        }
        let gone = match (&self.choices, &self.initial) {
            (Some(choices), Some(Value::String(initial))) => {
                !choices.is_empty() && !choices.iter().any(|choice| choice.id == *initial)
            }
            _ => false,
        };
        if gone {
            self.initial.clone_from(&self.current);
        }
    }
}

fn options(said: &Value) -> impl Iterator<Item = Offer> {
    let options = said["configOptions"].as_array().into_iter().flatten();
    options.filter_map(|option| {
        let id = option["id"].as_str()?;
        let setting = setting_of(option, id);
        let call = Call::Option(id.to_owned());
        if option["type"] == "boolean" {
            let value = Some(option["currentValue"].clone()).filter(Value::is_boolean);
            return Some(Offer {
                setting,
                call,
                name: name_of(option, id),
                initial: value.clone(),
                current: value,
                choices: None,
            });
        }
        let mut offer = offer(
            setting,
            call,
            &option["currentValue"],
            &option["options"],
            "value",
        )?;
        offer.name = name_of(option, id);
        Some(offer)
    })
}

/// By its category; the id serves where there is none.
fn setting_of(option: &Value, id: &str) -> Setting {
    match option["category"].as_str().unwrap_or(id) {
        "mode" => Setting::Mode,
        "model" => Setting::Model,
        "thought_level" => Setting::Thinking,
        _ => Setting::Feature(id.to_owned()),
    }
}

fn name_of(value: &Value, id: &str) -> String {
    capped_text(value["name"].as_str().unwrap_or(id))
}

fn offer(
    setting: Setting,
    call: Call,
    current: &Value,
    choices: &Value,
    id: &str,
) -> Option<Offer> {
    let choices = choices.as_array()?;
    let current = current.as_str().map(Value::from);
    let choices = choices.iter().flat_map(|choice| choice_of(choice, id));
    Some(Offer {
        setting,
        call,
        name: String::new(),
        initial: current.clone(),
        current,
        choices: Some(choices.take(MAX_ITEMS).collect()),
    })
}

/// A choice, or the choices of a group; groups hold no groups.
fn choice_of(choice: &Value, id: &str) -> Vec<Choice> {
    match choice["options"].as_array() {
        Some(group) => group.iter().filter_map(|one| single(one, id)).collect(),
        None => single(choice, id).into_iter().collect(),
    }
}

fn single(choice: &Value, id: &str) -> Option<Choice> {
    let value = choice[id].as_str()?;
    let description = choice["description"].as_str();
    Some(Choice {
        id: value.to_owned(),
        name: name_of(choice, value),
        description: description.filter(|text| !text.is_empty()).map(capped_text),
        ..Choice::default()
    })
}
