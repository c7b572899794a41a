//! What would be lost if a worktree went. One rule for all who may remove one:
//! close, delete and the reaper.

use crate::review::Leave;
use crate::risk::{Facts, Loss, Named, Purpose};

/// Every kind of loss, in the order of [`Loss`]; none when it may go.
///
/// What could not be looked at is at risk. A pushed commit is safe from an
/// archive, which leaves session and branch, and not from a deletion, after which
/// nobody would look at that branch again.
#[must_use]
pub fn losses(facts: &Facts, purpose: Purpose) -> Vec<Loss> {
    if facts.gone {
        return Vec::new();
    }
    let some = |named: &Named| !named.is_empty();
    let found = [
        (Loss::Unreadable, facts.unreadable.is_some()),
        (Loss::Unkept, some(&facts.unkept)),
        (Loss::Unfinished, facts.unfinished.is_some()),
        (Loss::Modified, some(&facts.modified)),
        (Loss::Untracked, some(&facts.untracked)),
        (Loss::Staged, some(&facts.staged)),
        (Loss::Unpushed, some(&facts.unpushed)),
        (
            Loss::Unmerged,
            some(&facts.unmerged) && purpose == Purpose::Delete,
        ),
    ];
    let found = found.into_iter().filter(|(_, there)| *there);
    found.map(|(loss, _)| loss).collect()
}

/// What not even consent can make safe: a checkpoint would not hold it.
#[must_use]
pub fn beyond_a_checkpoint(facts: &Facts) -> Option<String> {
    if facts.gone {
        return None;
    }
    if let Some(why) = &facts.unreadable {
        return Some(format!("it cannot be read: {why}"));
    }
    (!facts.unkept.is_empty()).then(|| list("no commit can hold", &facts.unkept))
}

/// Whether the worktree stays: something would be lost that nobody gave up, or that
/// nobody can.
#[must_use]
pub fn refuses(facts: &Facts, leave: Leave) -> bool {
    let lost = !losses(facts, leave.purpose()).is_empty();
    lost && (!leave.force || beyond_a_checkpoint(facts).is_some())
}

/// For a person: what would be lost, with numbers and names.
#[must_use]
pub fn told(facts: &Facts, purpose: Purpose) -> String {
    let part = |loss: &Loss| match loss {
        Loss::Unreadable => format!(
            "it cannot be read ({})",
            facts.unreadable.as_deref().unwrap_or_default()
        ),
        Loss::Unkept => list("no commit can hold", &facts.unkept),
        Loss::Unfinished => format!(
            "a {} is under way",
            facts.unfinished.as_deref().unwrap_or_default()
        ),
        Loss::Modified => list("uncommitted:", &facts.modified),
        Loss::Untracked => list("untracked:", &facts.untracked),
        Loss::Staged => list("only staged:", &facts.staged),
        Loss::Unpushed => list("commits on no remote:", &facts.unpushed),
        Loss::Unmerged => list(
            &format!(
                "commits not in {}:",
                facts.default_branch.as_deref().unwrap_or("any branch")
            ),
            &facts.unmerged,
        ),
    };
    let mut losses = losses(facts, purpose);
    // One list of the same commits is enough.
    if facts.unpushed == facts.unmerged {
        losses.retain(|loss| *loss != Loss::Unpushed || purpose == Purpose::Archive);
    }
    losses.iter().map(part).collect::<Vec<_>>().join("; ")
}

/// Names that are told in a sentence; the report has more.
const IN_A_SENTENCE: usize = 5;

fn list(what: &str, named: &Named) -> String {
    let shown: Vec<&str> = named
        .names
        .iter()
        .take(IN_A_SENTENCE)
        .map(String::as_str)
        .collect();
    let more = named.total.saturating_sub(shown.len() as u64);
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{what} {}{more}", shown.join(", "))
}
