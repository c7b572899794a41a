//! The runner of checks keeps the port's contract, on real processes.

use hearth::checks::Runner;
use hearth_actors::testing::contract_checks::{Commands, check};

use super::*;

#[tokio::test]
async fn the_runner_keeps_the_contract() {
    let fixture = Fixture::new();
    let shell = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
    let commands = Commands {
        passes: shell("cat; echo fine"),
        fails_with_7: shell("echo bad >&2; exit 7"),
        hangs: shell("trap '' TERM; (setsid sleep 1000 &); sleep 1000"),
        missing: vec!["hearth-has-no-such-program".into()],
    };
    let runner = Runner::new(fixture.room.clone());
    let alive = || fixture.ledger_entries();
    check(&runner, &commands, fixture.home.path(), alive).await;
}
