//! What `--help` shows below the flags.

/// One table for all commands; `Exit` has the same numbers.
macro_rules! ended_by {
    ($text:literal) => {
        concat!(
            $text,
            "\n\nExit codes:
  0    done; with --no-wait, queued; a session was attached and left
  1    the turn failed, a check of `doctor` did, or no contestant did well
  2    wrong usage or settings; no such id, or several that fit; it is over
  3    no service answers, or it refuses the token
  4    files stand in the way: nothing was written
  5    a turn or an order works there now: nothing was changed, try again
  6    other chats would lose work: nothing was changed, --consent allows it
  130  Ctrl-C"
        )
    };
}
pub(in crate::cli) use ended_by;

pub(super) const ALL: &str = ended_by!(
    "\
Examples:
  hearth run \"explain this repository\"        ask an agent, here and now
  hearth run --agent goose \"fix the tests\"    ask this one
  hearth serve                                keep agents warm in the background
  hearth attach 5f0c11ab                      watch a turn or a session again
  hearth doctor                               what is missing, and the cure

Of any id, four or more of its first or last digits are enough if they fit only
one; lists show the last eight.

run, changes, apply, reject, rewind and restore start a service inside the command
where none runs; the others but serve and doctor need one that runs."
);

pub(super) const RUN: &str = ended_by!(
    "\
Examples:
  hearth run \"add a --verbose flag\"
  hearth run --agent demo \"create hello.txt with hi\"   needs no account
  hearth run --session verbose \"now document it\"       go on in a session, or open it
  hearth run --session 5f0c11ab \"now document it\"      by digits of its id
  hearth run --json \"count the tests\" | jq -c .        frames as JSON lines

The agent works in a worktree of its own: your files stay as they are.
Ctrl-C cancels the turn; a second Ctrl-C leaves at once."
);

pub(super) const SEND: &str = ended_by!(
    "\
Examples:
  hearth send 5f0c11ab \"now document it\"             to a session's default chat, or to a chat
  hearth send 5f0c11ab --interrupt \"stop, do this\"   instead of the turn that runs there
  hearth send 5f0c11ab --no-wait \"…\"                 prints the task's id and leaves"
);

pub(super) const ATTACH: &str = ended_by!(
    "\
Examples:
  hearth attach 5f0c11ab                  a task until it ends, or a session until Ctrl-C
  hearth attach 5f0c11ab --json | jq -c . frames as JSON lines
  hearth attach 5f0c11ab --after 120      only what follows frame 120

A cut connection is taken up where it broke. `hearth ls` shows sessions, and the
tasks in them that run or wait. Ctrl-C leaves; the turn goes on."
);

pub(super) const CANCEL: &str = ended_by!(
    "\
Examples:
  hearth ls                               shows the tasks that run or wait
  hearth cancel 5f0c11ab
  hearth cancel 5f0c11ab --json"
);

pub(super) const CHANGES: &str = "\
Examples:
  hearth changes                        of the session whose files you are in
  hearth changes 5f0c11ab --stat        a line a file
  hearth changes | less -R
  hearth changes --json | jq -r '.[].file_path'

Without SESSION: that of the worktree you are in, or the only one of the project
you are in that has any.";

pub(super) const APPLY: &str = ended_by!(
    "\
Examples:
  hearth apply --all                    all but secret-named files
  hearth apply 5f0c11ab 5f0c11ac        these, as `hearth changes` shows them
  hearth apply 77aa01bc --all           of this session

A change names its session, wherever you are. What you changed in your checkout
yourself stays: both are merged, and where that cannot be, nothing is written and
you are told what stands in the way."
);

pub(super) const REJECT: &str = ended_by!(
    "\
Examples:
  hearth reject 5f0c11ab
  hearth reject --all"
);

pub(super) const REWIND: &str = ended_by!(
    "\
Examples:
  hearth changes --status applied
  hearth rewind 5f0c11ab"
);

pub(super) const CHECKPOINTS: &str = "\
Examples:
  hearth checkpoints                                   of the session you are in
  hearth checkpoints 77aa01bc
  hearth checkpoints --diff 5f0c11ab                   what changed since
  hearth checkpoints 77aa01bc --diff 5f0c11ab --to 77aa01bc

Without SESSION: that of the worktree you are in, else the one of the project you
are in that was asked last.";

pub(super) const RESTORE: &str = ended_by!(
    "\
Examples:
  hearth checkpoints                    what there is
  hearth restore 5f0c11ab
  hearth restore 5f0c11ab --consent     other chats may lose their later changes

A checkpoint names its session, wherever you are. Files are as they were, later
messages of the chat are gone, and its agents begin a context of their own. What the
files were before is a checkpoint too."
);

pub(super) const RETRY: &str = ended_by!(
    "\
Examples:
  hearth retry 5f0c11ab                 on the files as they are
  hearth retry 5f0c11ab --restore       on the files as they were before it

A failed task is queued again, once, as a new task of the same chat. One that waits
for a time or a budget is tried now."
);

pub(super) const ANSWER: &str = "\
Examples:
  hearth answer 5f0c11ab allow
  hearth answer 5f0c11ab blue                    one of the choices
  hearth answer 5f0c11ab --text \"deep blue\"      words, where they are wanted

allow and deny hold for this time, always and never from now on; the first
answer wins. `hearth prompts` lists what may be answered.";

pub(super) const BUDGETS: &str = "\
Examples:
  hearth budgets                                   every limit, and what is used
  hearth budgets 77aa01bc                          of this session, its tasks, and the day
  hearth budgets 77aa01bc --tokens 500000          bounds it, or raises its bound
  hearth budgets 77aa01bc --cost none              leaves its dollars to the settings
  hearth budgets --json | jq '.items[] | select(.level != \"ok\")'

What is not named stays as it is. Tasks that waited for the budget go on at once.
Only tighter than [budget.session] of the settings; a day's bound, and a task's, are
settings alone.";
