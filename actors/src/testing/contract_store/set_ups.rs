//! What people decided about set-ups, and which ports are whose.

use std::time::Duration;

use super::StoreUnderTest;
use crate::set_up::{Consent, PORTS, SetUp, TearDown};

fn content(hash: &str) -> SetUp {
    SetUp {
        hash: hash.into(),
        copy: Vec::new(),
        set_up: None,
        tear_down: Some(format!("echo {hash}")),
        timeout: Duration::from_secs(7),
    }
}

/// No other content is meant, and a teardown runs only while its own is trusted.
pub async fn a_decision_is_about_one_content(store: &dyn StoreUnderTest) {
    let session = store.insert_session().await;
    let project = store.project_of(session).await;
    let rows = store.set_ups();
    let (one, other) = (content("one"), content("other"));
    assert_eq!(rows.consent(project, "one").await.unwrap(), None);
    assert_eq!(rows.tear_down(session, "one").await.unwrap(), None);
    store.decide_set_up(project, &one, Consent::Trusted).await;
    store.decide_set_up(project, &other, Consent::Refused).await;
    let consent = rows.consent(project, "one").await.unwrap();
    assert_eq!(consent, Some(Consent::Trusted));
    let consent = rows.consent(project, "other").await.unwrap();
    assert_eq!(consent, Some(Consent::Refused));
    let wanted = TearDown {
        script: "echo one".into(),
        timeout: one.timeout,
    };
    let found = rows.tear_down(session, "one").await.unwrap();
    assert_eq!(found, Some(wanted));
    assert_eq!(rows.tear_down(session, "other").await.unwrap(), None);
    assert_eq!(rows.tear_down(session, "third").await.unwrap(), None);
    store.decide_set_up(project, &one, Consent::Refused).await;
    let consent = rows.consent(project, "one").await.unwrap();
    assert_eq!(consent, Some(Consent::Refused));
    assert_eq!(rows.tear_down(session, "one").await.unwrap(), None);
}

/// It is the same every time, and no other session's.
pub async fn a_session_keeps_its_block_of_ports(store: &dyn StoreUnderTest) {
    let mut blocks = Vec::new();
    for _ in 0..5 {
        let session = store.insert_session().await;
        let first = store.set_ups().port(session).await.unwrap();
        blocks.push((session, first.expect("a block")));
    }
    for (session, first) in &blocks {
        let again = store.set_ups().port(*session).await.unwrap();
        assert_eq!(again, Some(*first));
    }
    let mut firsts: Vec<u16> = blocks.into_iter().map(|(_, first)| first).collect();
    firsts.sort_unstable();
    let apart = firsts.windows(2).all(|pair| pair[1] - pair[0] >= PORTS);
    assert!(apart, "{firsts:?}");
}
