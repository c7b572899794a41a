//! What a session's machine is told, and what it wants done.

use crate::event::{AgentStop, ExitInfo};
use crate::ids::TurnId;
use crate::limits::Parked;
use crate::model::Deadlines;
use crate::outcome::Outcome;
use crate::rules::turn::{Verdict, Why};

/// Counts the links of one session actor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkNo(pub u32);

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A claimed task is to be run. Only given when [`Session::is_idle`](super::Session::is_idle).
    Assign {
        /// Its turn.
        turn: TurnId,
        /// Its clocks.
        deadlines: Deadlines,
        /// A checkpoint of the files was prepared since the last turn.
        prepared: bool,
        /// The agent's context must not be continued, or the directory that it was
        /// started in is gone: start it again.
        renew: bool,
    },
    /// The worktree is there.
    WorktreeReady(TurnId),
    /// The checkpoint is taken.
    CheckpointReady(TurnId),
    /// Worktree or checkpoint cannot be had.
    PrepareFailed(TurnId, String),
    /// The worktree cannot be had as things are, which may change.
    PutOff(TurnId, Parked),
    /// The prepared checkpoint holds the files as they are, or the one that was
    /// taken instead is stored.
    CheckpointStands(TurnId),
    /// It does not, or nobody can tell.
    FilesMoved(TurnId),
    /// The agent can be prompted.
    LinkReady(LinkNo),
    /// The agent did not start.
    LinkFailed(LinkNo, Outcome, String),
    /// The same, because the server that it was to share is not there.
    ServerFailed(LinkNo, String),
    /// The agent cannot be set as the prompt wants it in its present context, or
    /// in none.
    NeedsFresh(TurnId, String),
    /// It is in a fresh context, and what it is told there is written down.
    Renewed(TurnId),
    /// `prompted_at` is committed.
    Opened(TurnId),
    /// It was cancelled before that could be committed.
    CancelledFirst(TurnId),
    /// The turn is not ours any more.
    Fenced(TurnId),
    /// The journal refused it for good.
    Refused(TurnId, String),
    /// The agent said something in this turn.
    Spoke(TurnId),
    /// A human is asked.
    Asked(TurnId),
    /// A human answered, or the question was withdrawn.
    Answered(TurnId),
    /// The agent ended the turn; [`Input::SaidAll`] follows.
    AgentEnded(TurnId, AgentStop),
    /// All that the agent said in the turn it ended is stored.
    SaidAll(TurnId),
    /// The agent is gone; all it said before is stored.
    LinkExited(LinkNo, ExitInfo),
    /// The stop ladder is through.
    LinkStopped(LinkNo),
    /// End the turn.
    Cancel(TurnId, Why),
    /// The worktree was compared, or could not be.
    Diffed(TurnId),
    /// The outcome is committed.
    Finished(TurnId),
    /// The agent that was started has not the context in which the turn goes on,
    /// for this reason.
    Unfit(TurnId, String),
    /// End the turn if one runs, then the link, then yourself.
    Stop,
    /// The same for a session that comes back: what a human is asked stays open,
    /// and this is why.
    Leave(&'static str),
    /// Finish the turn in the time that is left. One that waits for a human has
    /// nothing to finish: it leaves as soon as it does.
    Drain,
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Find or create the worktree.
    EnsureWorktree,
    /// Take the checkpoint.
    TakeCheckpoint,
    /// Prepare the checkpoint of the next turn, while there is none.
    PrepareCheckpoint,
    /// Find out whether the prepared checkpoint holds the files as they are.
    ProveCheckpoint,
    /// Take the checkpoint again, and store it instead of the prepared one.
    RetakeCheckpoint,
    /// Start the agent under this number.
    StartLink(LinkNo),
    /// Forget the preparations of the current turn.
    AbandonPreparation,
    /// Commit `prompted_at`.
    OpenJournal,
    /// Hand the prompt over.
    SendPrompt,
    /// Begin a fresh context in the live agent, for this reason.
    RenewContext(String),
    /// Ask the agent to end the turn.
    SendCancel,
    /// Run the stop ladder.
    StopLink {
        /// Skip the polite wait.
        hurry: bool,
    },
    /// The link is gone: forget it.
    DropLink,
    /// The agent crashed or did not start: the key rests.
    CountCrash(String),
    /// The link ended with the server it shared, whose crash it is: no crash of this
    /// key.
    LostServer(String),
    /// What the agent says from here on belongs to no turn.
    StopListening,
    /// Compare the worktree.
    TakeDiff,
    /// Commit the outcome.
    Finish(Verdict),
    /// Commit that the turn ended and its prompts stay open; the outcome alone
    /// where they cannot.
    Detach(Verdict),
    /// Give the unprompted task back to the queue, perhaps to wait there.
    GiveBack(Option<Parked>),
    /// The turn is over; `None` when it is not ours any more.
    TurnOver(Option<Outcome>),
    /// Nothing is left: stop the actor.
    StopSelf,
}
