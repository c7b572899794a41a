//! The credit that turns which wait for humans lend.

use hearth_actors::rules::loan::{Change, LONGEST, Loan};
use hearth_actors::rules::pool::{FULL_WAIT, PEOPLE_WAIT};
use proptest::prelude::*;

use super::{at, millis, secs};

#[derive(Clone, Debug)]
enum Event {
    Asking(usize),
    InVain(bool),
    Look,
}

fn event() -> impl Strategy<Value = (u64, Event)> {
    let what = prop_oneof![
        (0usize..4).prop_map(Event::Asking),
        any::<bool>().prop_map(Event::InVain),
        Just(Event::Look),
    ];
    (0u64..40_000, what)
}

proptest! {
    /// The model: the credit that is out, and when the last claim in vain was.
    #[test]
    fn one_credit_is_lent_while_somebody_asks_and_the_last_claim_in_vain_is_past(
        events in prop::collection::vec(event(), 0..60),
    ) {
        let (mut loan, mut now, mut asking) = (Loan::default(), at(0), 0);
        let (mut lent, mut rest, mut until) = (0, None, at(0));
        for (after, event) in events {
            now = now + millis(after);
            match event {
                Event::Asking(many) => {
                    if asking != many {
                        (rest, until) = (None, now);
                    }
                    asking = many;
                }
                Event::InVain(people) => {
                    let wait = if people { PEOPLE_WAIT } else { FULL_WAIT };
                    let told = loan.in_vain(now, wait);
                    prop_assert_eq!(told.is_some(), lent == 1);
                    if let Some(told) = told {
                        prop_assert!(told >= wait && told <= LONGEST);
                        // Never shorter than the last one, whose wait was 5 times this one's at most.
                        prop_assert!(rest.is_none_or(|rest| told == LONGEST || told * 5 >= rest * 2));
                        (rest, until) = (Some(told), now + told);
                    }
                }
                Event::Look => {}
            }
            match loan.look(now, asking) {
                Some(Change::Lend) => lent += 1,
                Some(Change::TakeBack) => lent -= 1,
                None => {}
            }
            prop_assert_eq!(lent, i32::from(asking > 0 && until <= now));
        }
    }
}

#[test]
fn each_claim_in_vain_doubles_the_rest_to_a_minute_until_another_number_asks() {
    let mut loan = Loan::default();
    assert_eq!(loan.look(at(0), 2), Some(Change::Lend));
    let mut now = at(0);
    for rest in [5, 10, 20, 40, 60, 60] {
        assert_eq!(loan.in_vain(now, PEOPLE_WAIT), Some(secs(rest)));
        assert_eq!(loan.look(now, 2), Some(Change::TakeBack));
        assert_eq!(loan.in_vain(now, PEOPLE_WAIT), None, "it is not lent");
        now = now + secs(rest);
        assert_eq!(loan.look(now, 2), Some(Change::Lend));
    }
    loan.in_vain(now, PEOPLE_WAIT);
    assert_eq!(loan.look(now, 2), Some(Change::TakeBack));
    assert_eq!(loan.look(now, 1), Some(Change::Lend));
    assert_eq!(loan.in_vain(now, PEOPLE_WAIT), Some(PEOPLE_WAIT));
    assert_eq!(loan.look(now, 0), Some(Change::TakeBack));
}
