//! Warm or one-shot.

use hearth_actors::rules::routing::{Origin, Route, route};
use proptest::prelude::*;

/// The reference: what a person would look up. `*` is either.
const TABLE: &[(&str, Route)] = &[
    // warm-able, own chat, child, contestant
    ("0***", Route::OneShot),
    ("*0**", Route::OneShot),
    ("**1*", Route::OneShot),
    ("***1", Route::OneShot),
    ("1100", Route::Warm),
];

fn looked_up(facts: [bool; 4]) -> Route {
    let fits = |row: &str| {
        facts
            .iter()
            .zip(row.chars())
            .all(|(fact, wanted)| wanted == '*' || *fact == (wanted == '1'))
    };
    let found = TABLE.iter().find(|(row, _)| fits(row));
    found.expect("the table covers every case").1
}

proptest! {
    #[test]
    fn only_a_turn_of_its_creators_chat_is_warm(facts: [bool; 4]) {
        let [can_be_warm, own_chat, child, contestant] = facts;
        let origin = Origin { own_chat, child, contestant };
        prop_assert_eq!(route(origin, can_be_warm), looked_up(facts));
    }
}
