//! Whether a worktree may be worked in, and what it needs first.

use crate::arena::{CheckEnd, CheckResult};
use crate::set_up::{Consent, FILE, Found, SetUp};

/// What comes before the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it should be from here on: nothing is wanted, or nobody allows it.
    GoWithout,
    /// Copy, run the script, and take the result for what the work begins with.
    SetUp(Box<SetUp>),
    /// The task waits, for this reason.
    Wait(String),
}

/// For one that is due: it was made, or torn down, since it was last set up. Whoever
/// is not asked has consented to nothing.
#[must_use]
pub fn step(found: &Found, consent: Option<Consent>) -> Step {
    match (found, consent) {
        (Found::Nothing, _) | (Found::This(_), Some(Consent::Refused)) => Step::GoWithout,
        (Found::Wrong(why), _) => Step::Wait(format!("{FILE} cannot be used: {why}")),
        (Found::This(set_up), Some(Consent::Trusted)) => Step::SetUp(set_up.clone()),
        (Found::This(set_up), None) => Step::Wait(format!(
            "{FILE} ({0}) is not trusted: look at it with `hearth setup`, then `hearth setup --trust {0}` or `--refuse` it",
            short(&set_up.hash)
        )),
    }
}

/// Enough of a hash to be compared by people.
#[must_use]
pub fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Longest end of a script's words in a reason, in characters.
const MAX_WORDS: usize = 1000;

/// Why a script did not do what it is for; none when it did.
#[must_use]
pub fn failure(what: &str, end: &CheckEnd) -> Option<String> {
    let how = match end.result {
        CheckResult::Passed => return None,
        CheckResult::TimedOut => format!("did not end within its time ({} s)", end.wall.as_secs()),
        CheckResult::NotStarted | CheckResult::Skipped => "could not be run".to_owned(),
        CheckResult::Failed => match (end.exit_code, end.signal) {
            (Some(code), _) => format!("ended with code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "failed".to_owned(),
        },
    };
    let words = end.log.trim();
    let skipped = words.chars().count().saturating_sub(MAX_WORDS);
    let words: String = words.chars().skip(skipped).collect();
    let words = if words.is_empty() {
        String::new()
    } else {
        format!(": {words}")
    };
    Some(format!("the {what} of the worktree {how}{words}"))
}
