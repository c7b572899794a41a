//! A seed is a run.

use std::time::Duration;

use crate::chaos::plan::*;

#[test]
fn a_seed_is_a_run_and_every_kind_of_deed_is_in_it() {
    let deeds = |seed| {
        let mut plan = Plan::new(seed, Duration::from_millis(1300));
        let deeds: Vec<_> = std::iter::repeat_with(|| plan.next()).take(4000).collect();
        deeds
    };
    let seven = deeds(7);
    assert_eq!(seven, deeds(7));
    assert_ne!(seven, deeds(8));
    assert!(seven.is_sorted_by_key(|(at, _)| *at));
    let faults: std::collections::BTreeSet<_> = seven
        .iter()
        .filter_map(|(_, deed)| match deed {
            Deed::Fault(fault) => Some(fault.name()),
            Deed::Act(Act::Say { words, .. }) => {
                matches!(words, Words::Odd(_)).then_some(Fault::Corrupt.name())
            }
            Deed::Act(_) => None,
        })
        .collect();
    assert_eq!(faults.len(), 13, "{faults:?}");
    let minutes = seven.last().map(|(at, _)| at.as_secs() / 60);
    assert!(minutes > Some(10), "{minutes:?}");
}
