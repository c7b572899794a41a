//! What a request wants its agent set to, checked against what the agent is
//! known to offer.

use std::collections::BTreeMap;

use hearth_actors::catalog::{Catalog, Choice, MAX_ITEMS, find, named, resolve};
use hearth_actors::ids::AgentName;
use hearth_actors::model::Policy;
use serde_json::Value;

use super::error::ApiResult;
use super::extract::Check;
use super::providers::definition;
use super::state::Shared;
use crate::store::rows::providers;

/// Most options that one request may set.
const MAX_FEATURES: usize = 50;

/// What a request wants; none means the agent's default.
pub(super) struct Wishes<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) mode: Option<&'a str>,
    pub(super) thinking: Option<&'a str>,
    pub(super) features: &'a BTreeMap<String, Value>,
}

impl Wishes<'_> {
    /// What can be said without knowing the agent.
    pub(super) fn shape(&self, check: &mut Check) {
        check
            .name("model", self.model)
            .name("mode_id", self.mode)
            .name("thinking_option_id", self.thinking);
        if self.features.len() > MAX_FEATURES {
            let count = self.features.len();
            check.wrong(
                "feature_values",
                format!("has {count} options; at most {MAX_FEATURES} are accepted"),
            );
            return;
        }
        for (id, value) in self.features {
            check.name("feature_values", Some(id));
            match value {
                Value::Bool(_) => {}
                Value::String(text) => {
                    check.name("feature_values", Some(text));
                }
                _ => {
                    check.wrong(
                        "feature_values",
                        "holds a value that is neither a text nor a boolean".into(),
                    );
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.model.is_none()
            && self.mode.is_none()
            && self.thinking.is_none()
            && self.features.is_empty()
    }

    /// Refuses what the agent is known not to offer, or not under `policy` (none is
    /// the agent's own). One that nobody asked yet is believed to offer everything:
    /// the turn itself will tell.
    ///
    /// # Errors
    /// What is not on offer, and what is.
    pub(super) async fn fit(
        &self,
        state: &Shared,
        agent: &AgentName,
        policy: Option<Policy>,
    ) -> ApiResult<()> {
        if self.is_empty() {
            return Ok(());
        }
        let name = definition(state, agent.as_str());
        let Some(catalog) = providers::catalog(state.store.pool(), &name).await? else {
            return Ok(());
        };
        let mut check = Check::default();
        let own = || state.known().agents.get(agent.as_str()).copied();
        let policy = policy.or_else(own).unwrap_or_default();
        self.against(&catalog, agent, policy, &mut check);
        check.done()
    }

    fn against(&self, catalog: &Catalog, agent: &AgentName, policy: Policy, check: &mut Check) {
        let mode = self
            .mode
            .and_then(|wish| find(&catalog.modes.choices, wish));
        if let Some((mode, needs)) = mode.and_then(|mode| Some((mode, mode.needs?)))
            && policy < needs
        {
            check.wrong("mode_id", loosens(&mode.id, agent, policy, needs));
        }
        for (field, what, wish, offered) in [
            ("model", "model", self.model, &catalog.models),
            ("mode_id", "mode", self.mode, &catalog.modes),
            (
                "thinking_option_id",
                "thinking option",
                self.thinking,
                &catalog.thinking,
            ),
        ] {
            if let Some(wish) = wish
                && is_whole(&offered.choices)
                && resolve(&offered.choices, wish).is_none()
                && !(field == "thinking_option_id" && self.model.is_some())
            {
                check.wrong(field, none_such(what, agent, &offered.choices));
            }
        }
        // A model that the request names may come with options of its own.
        if !is_whole(&catalog.options) || self.model.is_some() {
            return;
        }
        for (id, value) in self.features {
            let Some(option) = catalog.options.iter().find(|option| option.id == *id) else {
                let ids: Vec<&str> = catalog.options.iter().map(|one| one.id.as_str()).collect();
                check.wrong(
                    "feature_values",
                    format!(
                        "`{id}` is no option of {agent}; its options: {}",
                        ids.join(", ")
                    ),
                );
                continue;
            };
            let fits = match value {
                Value::String(text) => {
                    resolve(&option.choices, text).is_some() || option.choices.len() >= MAX_ITEMS
                }
                value => option.choices.is_empty() && value.is_boolean(),
            };
            if !fits {
                let detail = if option.choices.is_empty() {
                    format!("`{id}` is true or false")
                } else {
                    none_such(&format!("value of `{id}`"), agent, &option.choices)
                };
                check.wrong("feature_values", detail);
            }
        }
    }
}

/// The list is known, and nothing of it was left out.
fn is_whole<T>(list: &[T]) -> bool {
    (1..MAX_ITEMS).contains(&list.len())
}

fn loosens(mode: &str, agent: &AgentName, policy: Policy, needs: Policy) -> String {
    format!(
        "lets {agent} do unasked what policy `{policy}` does not allow; leave it out, or let the agent's `permission` and the request's `policy` be `{needs}`: no `{mode}` below that"
    )
}

fn none_such(what: &str, agent: &AgentName, choices: &[Choice]) -> String {
    format!(
        "is no {what} of {agent}; choose one of {}, or look again with POST /api/providers/probe",
        named(choices)
    )
}

#[cfg(test)]
mod tests {
    use hearth_actors::catalog::{ConfigOption, Offered};
    use serde_json::json;

    use super::*;

    fn choice(id: &str, name: &str) -> Choice {
        Choice {
            id: id.into(),
            name: name.into(),
            ..Choice::default()
        }
    }

    fn catalog() -> Catalog {
        let offered = |choices| Offered {
            initial: None,
            choices,
        };
        Catalog {
            models: offered(vec![choice("m/1", "One"), choice("m/2", "Two")]),
            thinking: offered(vec![choice("low", "Low"), choice("high", "High")]),
            options: vec![ConfigOption {
                id: "fast".into(),
                ..ConfigOption::default()
            }],
            ..Catalog::default()
        }
    }

    fn refused(wish: Wishes<'_>) -> Option<String> {
        refused_by(&catalog(), wish)
    }

    fn refused_by(catalog: &Catalog, wish: Wishes<'_>) -> Option<String> {
        let mut check = Check::default();
        wish.shape(&mut check);
        wish.against(catalog, &"mine".into(), Policy::Ask, &mut check);
        check.done().err().map(|error| format!("{error:?}"))
    }

    fn wish<'a>(model: Option<&'a str>, features: &'a BTreeMap<String, Value>) -> Wishes<'a> {
        Wishes {
            model,
            mode: Some("whatever"),
            thinking: None,
            features,
        }
    }

    #[test]
    fn known_ids_and_names_fit_and_others_are_named() {
        let none = BTreeMap::new();
        assert_eq!(refused(wish(Some("m/2"), &none)), None);
        assert_eq!(refused(wish(Some("two"), &none)), None);
        let error = refused(wish(Some("m/3"), &none)).expect("refused");
        assert!(error.contains("m/1, m/2"), "{error}");
        for (values, fits) in [
            (json!({"fast": true}), true),
            (json!({"fast": "yes"}), false),
            (json!({"slow": true}), false),
            (json!({"fast": [1]}), false),
        ] {
            let values: BTreeMap<String, Value> =
                serde_json::from_value(values).expect("an object");
            assert_eq!(refused(wish(None, &values)).is_none(), fits, "{values:?}");
        }
    }

    #[test]
    fn what_depends_on_a_named_model_is_the_agents_to_refuse() {
        let slow = BTreeMap::from([("slow".to_owned(), json!(true))]);
        for (model, thinking, fits) in [
            (None, "low", false),
            (None, "max", false),
            (Some("m/2"), "max", true),
            (Some("m/3"), "max", false),
        ] {
            let wishes = Wishes {
                thinking: Some(thinking),
                ..wish(model, &slow)
            };
            assert_eq!(refused(wishes).is_none(), fits, "{model:?} {thinking}");
        }
        let none = BTreeMap::new();
        for (thinking, fits) in [("low", true), ("max", false)] {
            let wishes = Wishes {
                thinking: Some(thinking),
                ..wish(None, &none)
            };
            assert_eq!(refused(wishes).is_none(), fits, "{thinking}");
        }
    }

    #[test]
    fn a_mode_is_no_way_around_the_policy() {
        let none = BTreeMap::new();
        let mut catalog = catalog();
        catalog.modes.choices = vec![
            choice("plan", "Plan"),
            Choice {
                needs: Some(Policy::AllowEdits),
                ..choice("acceptEdits", "Accept edits")
            },
        ];
        for (mode, policy, fits) in [
            ("plan", Policy::Deny, true),
            ("acceptEdits", Policy::Deny, false),
            ("accept edits", Policy::Ask, false),
            ("acceptEdits", Policy::AllowEdits, true),
            ("acceptEdits", Policy::AllowAll, true),
        ] {
            let wishes = Wishes {
                mode: Some(mode),
                ..wish(None, &none)
            };
            let mut check = Check::default();
            wishes.against(&catalog, &"mine".into(), policy, &mut check);
            let refused = check.done().err().map(|error| format!("{error:?}"));
            assert_eq!(refused.is_none(), fits, "{mode} {policy}: {refused:?}");
            let cure = refused.is_none_or(|why| why.contains("allow_edits"));
            assert!(cure, "{mode} {policy}");
        }
    }

    #[test]
    fn a_full_list_proves_nothing() {
        let none = BTreeMap::new();
        let mut catalog = catalog();
        let many = |count: usize| (0..count).map(|n| choice(&format!("m/{n}"), "x")).collect();
        catalog.models.choices = many(MAX_ITEMS - 1);
        assert!(refused_by(&catalog, wish(Some("other"), &none)).is_some());
        catalog.models.choices = many(MAX_ITEMS);
        assert_eq!(refused_by(&catalog, wish(Some("other"), &none)), None);
    }
}
