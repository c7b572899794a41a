//! How long a node trusts its lease.

use hearth_actors::rules::lease::{RENEW_EVERY, RETRY_EVERY, TRUST, Trust};
use proptest::prelude::*;

use super::{at, millis, secs};

/// The lease's length in the database's time.
const LEASE: std::time::Duration = secs_const(30);

const fn secs_const(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}

proptest! {
    /// Renewals that take their time and fail at random: whoever follows the
    /// rule is never past the lease, and never sleeps through its end.
    #[test]
    fn trust_ends_before_the_lease_and_no_look_is_late(
        tries in prop::collection::vec((0u64..6_000, any::<bool>()), 1..50),
    ) {
        let mut trust = Trust::won(at(0));
        let (mut now, mut good_from) = (at(0), at(0));
        for (takes, works) in tries {
            let next = trust.next_renewal(now);
            prop_assert!(next <= good_from + TRUST, "a renewal after the end of trust");
            now = now.max(next);
            let started = now;
            now = now + millis(takes);
            if trust.is_over(now) {
                break;
            }
            if works {
                trust.renewed(started);
                good_from = started;
            } else {
                trust.failed();
            }
            // The database counts from when it wrote, which is no earlier.
            prop_assert_eq!(trust.is_over(now), now.since(good_from) >= TRUST);
            prop_assert!(trust.is_over(good_from + LEASE - secs(8)));
        }
    }
}

#[test]
fn a_good_lease_is_renewed_in_time_and_a_bad_one_often() {
    let mut trust = Trust::won(at(1_000));
    assert_eq!(trust.next_renewal(at(1_500)), at(1_000) + RENEW_EVERY);
    trust.failed();
    assert_eq!(trust.next_renewal(at(12_000)), at(12_000) + RETRY_EVERY);
    trust.renewed(at(13_000));
    assert_eq!(trust.next_renewal(at(14_000)), at(13_000) + RENEW_EVERY);
}

#[test]
fn a_late_answer_of_an_early_renewal_takes_nothing_away() {
    let mut trust = Trust::won(at(0));
    trust.renewed(at(20_000));
    trust.renewed(at(10_000));
    assert!(!trust.is_over(at(41_999)));
    assert!(trust.is_over(at(42_000)));
}
