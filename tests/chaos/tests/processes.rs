//! Only what descends from the Hearth of the run is harmed.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::chaos::processes::*;

fn seen(parent: i32, line: &str) -> Seen {
    // A backend's title is one word to the kernel.
    let words = match line.starts_with("postgres: ") {
        true => vec![line.to_owned()],
        false => line.split(' ').map(str::to_owned).collect(),
    };
    Seen { parent, words }
}

#[test]
fn processes_are_told_apart_and_strangers_never_picked() {
    let look = Look(BTreeMap::from([
        (10, seen(1, "/b/hearth serve")),
        (
            11,
            seen(10, "/proc/self/fd/9 shim 7 - /w /b/hearth demo-agent"),
        ),
        (12, seen(11, "/b/hearth demo-agent")),
        (13, seen(12, "sh -c sleep 9")),
        (
            20,
            seen(
                10,
                "/proc/self/fd/9 shim 8 - /w /n/opencode --pure serve --port 0",
            ),
        ),
        (21, seen(20, "/n/opencode --pure serve --port 0")),
        (31, seen(10, "/usr/bin/postgres -D d")),
        (
            32,
            seen(31, "postgres: hearth: hearth postgres [local] idle"),
        ),
        (33, seen(31, "postgres: hearth: checkpointer")),
        (40, seen(1, "/b/hearth demo-agent")),
    ]));
    let mut random = Rng::with_seed(1);
    for (kind, pid) in [
        (Kind::Agent, 12),
        (Kind::Shim, 11),
        (Kind::Server, 21),
        (Kind::Postmaster, 31),
        (Kind::Backend, 32),
    ] {
        assert_eq!(look.pick(10, kind, &mut random), Some(pid), "{kind:?}");
    }
    assert_eq!(look.pick(12, Kind::Agent, &mut random), None);
    let below = |place| look.orphans("NO_SUCH_MARK=", place, Some(10));
    assert_eq!(
        below("/b/hearth"),
        [(40, "/b/hearth demo-agent".to_owned())]
    );
    assert_eq!(below("/n/opencode"), []);
}
