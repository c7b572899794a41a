//! Model, mode and effort: what is on offer, what is set, and the requests that
//! change it in mid-session.

use std::collections::{BTreeMap, BTreeSet};

use hearth_actors::catalog::{self, Catalog, Choice, Offered};
use hearth_actors::event::Command;
use hearth_actors::model::Policy;
use hearth_actors::ports::Prompt;
use serde_json::{Value, json};

use super::orders;
use crate::backends::cap::capped_text;

/// Where neither a message nor the settings say otherwise.
pub(super) const DEFAULT_MODE: &str = "default";
/// Edits files without asking.
pub(super) const EDITS_MODE: &str = "acceptEdits";
/// What a person reads of the modes. `bypassPermissions` is not among them: Hearth
/// is asked, and answers by its own policy.
const MODES: &[(&str, &str)] = &[
    (DEFAULT_MODE, "asks before what changes something"),
    (EDITS_MODE, "edits files without asking"),
    ("plan", "makes a plan and changes nothing"),
    ("dontAsk", "refuses what it would have to ask for"),
];

/// What is wanted, or set. None is the program's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) mode: String,
    pub(super) model: Option<String>,
    pub(super) effort: Option<String>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Mode,
    Model,
    Effort,
}

impl Setting {
    /// For a person.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::Model => "model",
            Self::Effort => "thinking option",
        }
    }

    /// The request that sets it as `wanted`.
    pub(super) fn request(self, wanted: &Settings) -> Value {
        match self {
            Self::Mode => orders::set_mode(&wanted.mode),
            Self::Model => orders::set_model(wanted.model.as_deref()),
            Self::Effort => orders::set_effort(wanted.effort.as_deref()),
        }
    }
}

/// What a message asks for.
pub(super) struct Wish<'a> {
    pub(super) mode: Option<&'a str>,
    pub(super) model: Option<&'a str>,
    pub(super) effort: Option<&'a str>,
    pub(super) features: &'a BTreeMap<String, Value>,
    /// What the turn may do unasked.
    pub(super) policy: Policy,
}

impl<'a> Wish<'a> {
    pub(super) fn of(prompt: &'a Prompt) -> Self {
        Self {
            mode: prompt.mode.as_deref(),
            model: prompt.model.as_deref(),
            effort: prompt.thinking.as_deref(),
            features: &prompt.features,
            policy: prompt.policy,
        }
    }
}

/// What the agent's table says where a message says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) mode: Option<String>,
    pub(super) model: Option<String>,
}

impl Own {
    /// Takes the model out of the arguments, which would otherwise be forgotten when
    /// a message that named another one is over.
    pub(super) fn of(args: &mut Vec<String>, mode: Option<&str>) -> Self {
        let mut model = None;
        let mut rest = Vec::with_capacity(args.len());
        let mut given = std::mem::take(args).into_iter();
        while let Some(arg) = given.next() {
            if let Some(value) = arg.strip_prefix("--model=") {
                model = Some(value.to_owned());
            } else if arg == "--model" {
                model = given.next();
            } else {
                rest.push(arg);
            }
        }
        *args = rest;
        Self {
            mode: mode.map(str::to_owned),
            model,
        }
    }
}

impl Settings {
    /// What `wish` comes to for an agent with these settings of its own.
    ///
    /// # Errors
    /// What is not on offer, with the choices; or what the turn's policy forbids.
    pub(super) fn wanted(wish: &Wish<'_>, own: &Own, known: &Catalog) -> Result<Self, String> {
        if let Some(name) = wish.features.keys().next() {
            return Err(format!("claude has no option {:?}", capped_text(name)));
        }
        let wanted = wish.mode.or(own.mode.as_deref()).unwrap_or(DEFAULT_MODE);
        if wanted == "bypassPermissions" {
            return Err("Hearth does not let claude skip its questions: use permission = \"allow_all\", and Hearth allows them".into());
        }
        let modes = modes();
        let Some(mode) = catalog::resolve(&modes, wanted) else {
            return Err(format!(
                "claude has no mode {wanted:?}: it has {}",
                catalog::named(&modes)
            ));
        };
        let allowed = mode != EDITS_MODE || wish.policy >= Policy::AllowEdits;
        if !allowed && wish.mode.is_some() {
            return Err(format!(
                "the mode {EDITS_MODE} lets claude edit files unasked, which the policy {:?} does not: leave it out, or let the agent's permission and the message's policy be \"allow_edits\"",
                wish.policy.as_str()
            ));
        }
        // A stricter message is not held by the mode that the settings name.
        let mode = if allowed { mode } else { DEFAULT_MODE };
        let effort = wish.effort.map(|wanted| {
            let levels = &known.thinking.choices;
            if levels.is_empty() {
                // Before the handshake; the program itself refuses what it does not know.
                return Ok(wanted.to_owned());
            }
            catalog::resolve(levels, wanted)
                .map(str::to_owned)
                .ok_or_else(|| {
                    format!(
                        "claude has no thinking option {wanted:?}: it has {}",
                        catalog::named(levels)
                    )
                })
        });
        Ok(Self {
            mode: mode.to_owned(),
            // Any full name of a model is taken, whether it is on the list or not.
            model: wish.model.or(own.model.as_deref()).map(|wanted| {
                catalog::resolve(&known.models.choices, wanted)
                    .unwrap_or(wanted)
                    .to_owned()
            }),
            effort: effort.transpose()?,
        })
    }

    /// Flags of the command line for a new process.
    pub(super) fn flags(&self) -> Vec<String> {
        let mode = format!("--permission-mode={}", self.mode);
        let model = self.model.iter().map(|model| format!("--model={model}"));
        let effort = self
            .effort
            .iter()
            .map(|effort| format!("--effort={effort}"));
        [mode].into_iter().chain(model).chain(effort).collect()
    }

    /// What is to be changed from here to `wanted`.
    pub(super) fn changes(&self, wanted: &Self) -> Vec<Setting> {
        let differs = |setting: &Setting| match setting {
            Setting::Mode => self.mode != wanted.mode,
            Setting::Model => self.model != wanted.model,
            Setting::Effort => self.effort != wanted.effort,
        };
        let all = [Setting::Mode, Setting::Model, Setting::Effort];
        all.into_iter().filter(differs).collect()
    }

    /// The program took this one as `wanted`.
    pub(super) fn accept(&mut self, setting: Setting, wanted: Self) {
        match setting {
            Setting::Mode => self.mode = wanted.mode,
            Setting::Model => self.model = wanted.model,
            Setting::Effort => self.effort = wanted.effort,
        }
    }
}

/// What the answer to the handshake offers.
pub(super) fn catalog(answer: &Value) -> Catalog {
    let text = |value: &Value| value.as_str().map(capped_text);
    let models = || {
        answer["models"]
            .as_array()
            .into_iter()
            .flatten()
            .take(catalog::MAX_ITEMS)
    };
    let model = |model: &Value| {
        let id = text(&model["value"])?;
        Some(Choice {
            name: text(&model["displayName"]).unwrap_or_else(|| id.clone()),
            id,
            description: text(&model["description"]),
            ..Choice::default()
        })
    };
    let levels = models().flat_map(|model| model["supportedEffortLevels"].as_array());
    let mut seen = BTreeSet::new();
    let levels = levels
        .flatten()
        .filter_map(Value::as_str)
        .take(catalog::MAX_ITEMS);
    let levels = levels.filter(|level| seen.insert((*level).to_owned()));
    Catalog {
        name: Some("claude".into()),
        title: Some("Claude Code".into()),
        version: text(&answer["claude_code_version"]),
        capabilities: json!({
            "account": {"tokenSource": answer["account"]["tokenSource"],
                "apiKeySource": answer["account"]["apiKeySource"],
                "apiProvider": answer["account"]["apiProvider"]},
        }),
        modes: Offered {
            initial: Some(DEFAULT_MODE.into()),
            choices: modes(),
        },
        models: Offered {
            initial: None,
            choices: models().filter_map(model).collect(),
        },
        thinking: Offered {
            initial: None,
            choices: levels.map(plain).collect(),
        },
        commands: commands(answer),
        ..Catalog::default()
    }
}

/// Neither a login nor a key nor another provider, as far as it says.
pub(super) fn has_no_login(answer: &Value) -> bool {
    let account = &answer["account"];
    let none = |field: &str| account[field].as_str().is_none_or(|word| word == "none");
    account.is_object()
        && none("tokenSource")
        && none("apiKeySource")
        && account["email"].is_null()
        && account["apiProvider"] == "firstParty"
}

fn commands(answer: &Value) -> Vec<Command> {
    let commands = answer["commands"].as_array().into_iter().flatten();
    let command = |command: &Value| {
        Some(Command {
            name: capped_text(command["name"].as_str()?),
            description: capped_text(command["description"].as_str().unwrap_or_default()),
        })
    };
    commands
        .take(catalog::MAX_ITEMS)
        .filter_map(command)
        .collect()
}

fn modes() -> Vec<Choice> {
    let modes = MODES.iter();
    modes
        .map(|(id, about)| Choice {
            id: (*id).into(),
            name: (*id).into(),
            description: Some((*about).into()),
            needs: (*id == EDITS_MODE).then_some(Policy::AllowEdits),
        })
        .collect()
}

fn plain(id: &str) -> Choice {
    Choice {
        id: id.into(),
        name: id.into(),
        ..Choice::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Catalog {
        catalog(&json!({
            "claude_code_version": "2.1.329",
            "models": [
                {"value": "default", "displayName": "Default (recommended)", "supportedEffortLevels": ["low", "high"]},
                {"value": "opus", "displayName": "Opus", "supportedEffortLevels": ["low", "max"]},
            ],
            "commands": [{"name": "compact", "description": "Shortens"}, {"description": "nameless"}],
        }))
    }

    fn wish<'a>(
        mode: Option<&'a str>,
        model: Option<&'a str>,
        effort: Option<&'a str>,
    ) -> Wish<'a> {
        static NONE: BTreeMap<String, Value> = BTreeMap::new();
        Wish {
            mode,
            model,
            effort,
            features: &NONE,
            policy: Policy::Ask,
        }
    }

    #[test]
    fn the_handshake_tells_what_is_on_offer() {
        let known = known();
        let ids = |offered: &Offered| -> Vec<String> {
            offered
                .choices
                .iter()
                .map(|choice| choice.id.clone())
                .collect()
        };
        assert_eq!(ids(&known.models), ["default", "opus"]);
        assert_eq!(ids(&known.thinking), ["low", "high", "max"]);
        assert_eq!(known.commands.len(), 1);
        assert_eq!(known.version.as_deref(), Some("2.1.329"));
    }

    #[test]
    fn only_what_differs_is_changed() {
        let known = known();
        let before = Settings::wanted(&wish(None, None, None), &Own::default(), &known)
            .expect("the default");
        let after = Settings::wanted(
            &wish(Some("plan"), Some("Opus"), Some("max")),
            &Own::default(),
            &known,
        );
        let after = after.expect("on offer");
        assert_eq!(before.changes(&before), []);
        assert_eq!(
            before.changes(&after),
            [Setting::Mode, Setting::Model, Setting::Effort]
        );
        assert_eq!(
            after.flags(),
            ["--permission-mode=plan", "--model=opus", "--effort=max"]
        );
        assert_eq!(
            Setting::Model.request(&before),
            json!({"subtype": "set_model"})
        );
    }

    #[test]
    fn no_mode_does_what_the_policy_does_not() {
        let known = known();
        let none = Own::default();
        let own = Own {
            mode: Some(EDITS_MODE.into()),
            model: None,
        };
        for policy in Policy::ALL {
            let wanted = |mode, own| {
                let wish = Wish {
                    policy: *policy,
                    ..wish(mode, None, None)
                };
                Settings::wanted(&wish, own, &known).map(|settings| settings.mode)
            };
            let edits = wanted(Some("AcceptEdits"), &none);
            let by_the_settings = wanted(None, &own).expect("never refused");
            if *policy >= Policy::AllowEdits {
                assert_eq!(edits.as_deref(), Ok(EDITS_MODE));
                assert_eq!(by_the_settings, EDITS_MODE);
            } else {
                let why = edits.expect_err("it would loosen the policy");
                assert!(why.contains("allow_edits"), "{why}");
                assert_eq!(by_the_settings, DEFAULT_MODE);
            }
            assert_eq!(wanted(Some("plan"), &own).as_deref(), Ok("plan"));
        }
    }

    #[test]
    fn the_model_of_the_arguments_is_gone_back_to() {
        let mut args: Vec<String> = ["--a", "--model", "x", "--model=y", "--b"]
            .map(Into::into)
            .into();
        let own = Own::of(&mut args, Some("plan"));
        assert_eq!(args, ["--a", "--b"]);
        let known = known();
        let wanted =
            |model| Settings::wanted(&wish(None, model, None), &own, &known).expect("on offer");
        let (other, own) = (wanted(Some("opus")), wanted(None));
        assert_eq!(
            (own.model.as_deref(), own.mode.as_str()),
            (Some("y"), "plan")
        );
        assert_eq!(other.changes(&own), [Setting::Model]);
        assert_eq!(Setting::Model.request(&own)["model"], "y");
    }

    #[test]
    fn what_is_not_on_offer_names_the_choices() {
        let known = known();
        let refused =
            |wish| Settings::wanted(&wish, &Own::default(), &known).expect_err("not on offer");
        assert!(refused(wish(Some("fast"), None, None)).contains("acceptEdits"));
        assert!(refused(wish(None, None, Some("huge"))).contains("low, high, max"));
        assert!(refused(wish(Some("bypassPermissions"), None, None)).contains("allow_all"));
        let model = Settings::wanted(
            &wish(None, Some("claude-x-1"), None),
            &Own::default(),
            &known,
        );
        assert_eq!(model.expect("any").model.as_deref(), Some("claude-x-1"));
    }

    #[test]
    fn a_login_is_missed_only_where_none_is_said() {
        let account = |account| has_no_login(&json!({"account": account}));
        assert!(account(
            json!({"tokenSource": "none", "apiProvider": "firstParty"})
        ));
        assert!(!account(
            json!({"tokenSource": "none", "apiKeySource": "ANTHROPIC_API_KEY", "apiProvider": "firstParty"})
        ));
        assert!(!account(
            json!({"tokenSource": "none", "apiProvider": "bedrock"})
        ));
        assert!(!account(
            json!({"tokenSource": "claude.ai", "apiProvider": "firstParty"})
        ));
        assert!(!account(json!({})) && !has_no_login(&json!({})));
    }
}
