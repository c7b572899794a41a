//! Wishes against offers.

use super::*;

fn answer() -> Value {
    json!({
        "modes": {"currentModeId": "auto", "availableModes": [{"id": "auto", "name": "Auto"}, {"id": "plan", "name": "Plan"}]},
        "configOptions": [
            {"id": "mode", "category": "mode", "currentValue": "auto", "options": [{"value": "plan"}]},
            {"id": "model", "category": "model", "currentValue": "m/1", "options": [
                {"name": "Group", "options": [{"value": "m/1", "name": "One"}, {"value": "m/2", "name": "Two"}]}
            ]},
            {"id": "effort", "category": "thought_level", "currentValue": "low", "options": [{"value": "low"}, {"value": "high"}]}
        ]
    })
}

fn calls(offers: &Offers, wanted: &Wanted) -> Vec<(String, Value)> {
    let changes = offers.changes("s", wanted).expect("all is on offer");
    changes
        .iter()
        .map(|change| (change.request().method, change.request().params))
        .collect()
}

#[test]
fn each_setting_goes_by_its_own_call_and_only_when_it_differs() {
    let mut offers = Offers::read(&answer());
    let wanted = Wanted {
        mode: Some("plan".into()),
        model: Some("two".into()),
        thinking: Some("high".into()),
    };
    let expected = [
        (
            "session/set_mode".to_owned(),
            json!({"sessionId": "s", "modeId": "plan"}),
        ),
        (
            "session/set_config_option".to_owned(),
            json!({"sessionId": "s", "configId": "model", "value": "m/2"}),
        ),
        (
            "session/set_config_option".to_owned(),
            json!({"sessionId": "s", "configId": "effort", "value": "high"}),
        ),
    ];
    assert_eq!(calls(&offers, &wanted), expected);
    for change in offers.changes("s", &wanted).expect("all is on offer") {
        offers.made(&change);
    }
    assert_eq!(calls(&offers, &wanted), []);
    assert_eq!(
        calls(&offers, &Wanted::default()).len(),
        3,
        "back to the initial values"
    );
}

#[test]
fn a_mode_the_agent_changed_by_itself_is_changed_back() {
    let mut offers = Offers::read(&answer());
    offers.told_mode("plan");
    let calls = calls(&offers, &Wanted::default());
    assert_eq!(
        calls,
        [(
            "session/set_mode".into(),
            json!({"sessionId": "s", "modeId": "auto"})
        )]
    );
}

#[test]
fn a_wish_beyond_the_offer_is_refused_and_one_without_an_offer_passed_over() {
    let unknown = Wanted {
        model: Some("m/3".into()),
        ..Wanted::default()
    };
    let refusal = Offers::read(&answer())
        .changes("s", &unknown)
        .expect_err("there is no m/3");
    assert!(refusal.contains("m/1, m/2"), "{refusal}");
    assert_eq!(
        Offers::read(&json!({})).changes("s", &unknown),
        Ok(Vec::new())
    );
}
