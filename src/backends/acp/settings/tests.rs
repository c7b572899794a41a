//! Wishes against offers.

use super::*;

fn answer() -> Value {
    json!({
        "modes": {"currentModeId": "auto", "availableModes": [{"id": "auto", "name": "Auto"}, {"id": "plan", "name": "Plan"}]},
        "configOptions": [
            {"id": "mode", "category": "mode", "currentValue": "auto", "options": [{"value": "plan"}]},
            {"id": "fast", "type": "boolean", "currentValue": false},
            {"id": "provider", "name": "Provider", "currentValue": "a", "options": [{"value": "a"}, {"value": "b"}]},
            {"id": "effort", "category": "thought_level", "currentValue": "low", "options": [{"value": "low"}, {"value": "high"}]},
            {"id": "model", "category": "model", "currentValue": "m/1", "options": [
                {"name": "Group", "options": [{"value": "m/1", "name": "One"}, {"value": "m/2", "name": "Two"}]}
            ]}
        ]
    })
}

/// Makes all changes, as the agent grants them without a word.
fn calls(offers: &mut Offers, wanted: &Wanted) -> Vec<(String, Value)> {
    let mut calls = Vec::new();
    while let Some(change) = offers.next("s", wanted).expect("all is on offer") {
        offers.made(&change);
        calls.push((change.request().method, change.request().params));
    }
    calls
}

fn option(id: &str, value: &str) -> (String, Value) {
    let params = json!({"sessionId": "s", "configId": id, "value": value});
    ("session/set_config_option".to_owned(), params)
}

#[test]
fn each_setting_goes_by_its_own_call_and_back_when_nobody_asks_any_more() {
    let mut offers = Offers::read(&answer());
    let wanted = Wanted {
        mode: Some("plan".into()),
        model: Some("two".into()),
        thinking: Some("high".into()),
        features: BTreeMap::from([
            ("fast".into(), true.into()),
            ("provider".into(), "b".into()),
        ]),
        default_mode: None,
    };
    let fast = json!({"sessionId": "s", "configId": "fast", "value": true, "type": "boolean"});
    let expected = [
        (
            "session/set_mode".to_owned(),
            json!({"sessionId": "s", "modeId": "plan"}),
        ),
        option("model", "m/2"),
        option("effort", "high"),
        ("session/set_config_option".to_owned(), fast),
        option("provider", "b"),
    ];
    assert_eq!(calls(&mut offers, &wanted), expected);
    assert_eq!(calls(&mut offers, &wanted), []);
    let back = calls(&mut offers, &Wanted::default());
    assert_eq!(back.len(), 5, "back to the initial values: {back:?}");
}

#[test]
fn the_mode_of_the_definition_comes_back_after_one_that_was_named() {
    let mut offers = Offers::read(&answer());
    let named = Wanted {
        mode: Some("auto".into()),
        default_mode: Some("plan".into()),
        ..Wanted::default()
    };
    let unnamed = Wanted {
        mode: None,
        ..named.clone()
    };
    let set = |mode: &str| {
        let params = json!({"sessionId": "s", "modeId": mode});
        [("session/set_mode".to_owned(), params)]
    };
    assert_eq!(calls(&mut offers, &unnamed), set("plan"));
    assert_eq!(calls(&mut offers, &named), set("auto"));
    assert_eq!(calls(&mut offers, &unnamed), set("plan"));
}

#[test]
fn a_mode_the_agent_changed_by_itself_is_changed_back() {
    let mut offers = Offers::read(&answer());
    offers.told_mode("plan");
    let params = json!({"sessionId": "s", "modeId": "auto"});
    assert_eq!(
        calls(&mut offers, &Wanted::default()),
        [("session/set_mode".into(), params)]
    );
}

#[test]
fn a_wish_beyond_the_offer_is_refused_with_what_there_is() {
    let refused = |wanted: Wanted| {
        Offers::read(&answer())
            .next("s", &wanted)
            .expect_err("it is not on offer")
    };
    let model = refused(Wanted {
        model: Some("m/3".into()),
        ..Wanted::default()
    });
    assert!(model.contains("m/1, m/2"), "{model}");
    let feature = |id: &str, value: Value| {
        refused(Wanted {
            features: BTreeMap::from([(id.to_owned(), value)]),
            ..Wanted::default()
        })
    };
    let unknown = feature("colour", "red".into());
    assert!(unknown.contains("fast, provider"), "{unknown}");
    let odd = feature("fast", "yes".into());
    assert!(odd.contains("true or false"), "{odd}");
}

#[test]
fn a_wish_for_what_cannot_be_chosen_is_refused_and_a_default_passed_over() {
    let mut nothing = Offers::read(&json!({}));
    let unknown = Wanted {
        model: Some("m/3".into()),
        ..Wanted::default()
    };
    let refusal = nothing
        .next("s", &unknown)
        .expect_err("there are no models");
    assert!(refusal.contains("no choice of model"), "{refusal}");
    let default = Wanted {
        default_mode: Some("plan".into()),
        ..Wanted::default()
    };
    assert_eq!(calls(&mut nothing, &default), []);
}

#[test]
fn another_model_brings_its_own_thinking_options() {
    let mut offers = Offers::read(&answer());
    let wanted = Wanted {
        model: Some("m/2".into()),
        thinking: Some("max".into()),
        ..Wanted::default()
    };
    let model = offers
        .next("s", &wanted)
        .expect("on offer")
        .expect("a change");
    assert_eq!(model.setting, Setting::Model);
    offers.refresh(&json!({"configOptions": [
        {"id": "model", "category": "model", "currentValue": "m/2", "options": [{"value": "m/1"}, {"value": "m/2"}]},
        {"id": "effort", "category": "thought_level", "currentValue": "mid", "options": [{"value": "mid"}, {"value": "max"}]}
    ]}));
    offers.made(&model);
    assert_eq!(calls(&mut offers, &wanted), [option("effort", "max")]);

    let mut catalog = hearth_actors::catalog::Catalog::default();
    offers.describe(&mut catalog);
    assert_eq!(catalog.thinking.initial.as_deref(), Some("mid"));
    assert_eq!(catalog.models.initial.as_deref(), Some("m/1"));
    let options: Vec<&str> = catalog
        .options
        .iter()
        .map(|option| option.id.as_str())
        .collect();
    assert_eq!(options, ["fast", "provider"]);
}
