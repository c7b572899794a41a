//! The session machine: the ways of one turn, and what once went wrong.

use hearth_actors::event::{AgentStop, ExitInfo};
use hearth_actors::handover::Taken;
use hearth_actors::ids::TurnId;
use hearth_actors::limits::{ParkReason, Parked};
use hearth_actors::model::Deadlines;
use hearth_actors::outcome::Outcome;
use hearth_actors::rules::session::{Effect, Input, LinkNo, STOPPED, Session};
use hearth_actors::rules::turn::Why;

use super::at;

const LINK: LinkNo = LinkNo(1);

fn assign(turn: TurnId) -> Input {
    Input::Assign {
        turn,
        deadlines: Deadlines::default(),
        prepared: false,
        renew: false,
    }
}

fn exit() -> ExitInfo {
    ExitInfo::default()
}

/// Feeds all; gives what the last one led to.
fn feed(session: &mut Session, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
    let steps = inputs.into_iter().map(|input| session.step(at(1), input));
    steps.last().unwrap_or_default()
}

fn preparing(turn: TurnId) -> Session {
    let mut session = Session::new(at(0));
    feed(&mut session, [assign(turn), Input::WorktreeReady(turn)]);
    session
}

fn opening(turn: TurnId) -> Session {
    let mut session = preparing(turn);
    let effects = feed(
        &mut session,
        [Input::LinkReady(LINK), Input::CheckpointReady(turn)],
    );
    assert_eq!(effects, [Effect::OpenJournal]);
    session
}

fn outcome(effects: &[Effect]) -> Option<Outcome> {
    effects.iter().find_map(|effect| match effect {
        Effect::Finish(verdict) => Some(verdict.outcome),
        _ => None,
    })
}

#[test]
fn a_turn_from_cold_and_the_next_one_warm() {
    let (first, second) = (TurnId::new(), TurnId::new());
    let mut session = Session::new(at(0));
    let mut step = |input| session.step(at(1), input);
    assert_eq!(step(assign(first)), [Effect::EnsureWorktree]);
    assert_eq!(
        step(Input::WorktreeReady(first)),
        [Effect::TakeCheckpoint, Effect::StartLink(LINK)]
    );
    assert_eq!(step(Input::CheckpointReady(first)), []);
    assert_eq!(step(Input::LinkReady(LINK)), [Effect::OpenJournal]);
    assert_eq!(step(Input::Opened(first)), [Effect::SendPrompt]);
    let ended = step(Input::AgentEnded(first, AgentStop::EndTurn));
    assert_eq!(ended, [Effect::TakeDiff]);
    assert_eq!(step(Input::SaidAll(first)), [Effect::StopListening]);
    let over = step(Input::Diffed(first));
    assert_eq!(outcome(&over), Some(Outcome::Ok));
    assert!(over.contains(&Effect::PrepareCheckpoint));
    assert_eq!(
        step(Input::Finished(first)),
        [Effect::TurnOver(Some(Outcome::Ok))]
    );
    assert_eq!(step(assign(second)), [Effect::TakeCheckpoint]);
    assert_eq!(step(Input::CheckpointReady(second)), [Effect::OpenJournal]);
}

fn warm() -> Session {
    let turn = TurnId::new();
    let mut session = opening(turn);
    let end = [
        Input::Opened(turn),
        Input::AgentEnded(turn, AgentStop::EndTurn),
        Input::Diffed(turn),
        Input::SaidAll(turn),
        Input::Finished(turn),
    ];
    feed(&mut session, end);
    session
}

fn prepared(turn: TurnId) -> Input {
    Input::Assign {
        turn,
        deadlines: Deadlines::default(),
        prepared: true,
        renew: false,
    }
}

#[test]
fn a_prepared_checkpoint_is_proved_beside_the_opening() {
    for proof_first in [true, false] {
        let turn = TurnId::new();
        let mut session = warm();
        let effects = feed(&mut session, [prepared(turn)]);
        assert_eq!(effects, [Effect::OpenJournal, Effect::ProveCheckpoint]);
        let mut both = [Input::Opened(turn), Input::CheckpointStands(turn)];
        if proof_first {
            both.reverse();
        }
        let [one, other] = both;
        assert_eq!(feed(&mut session, [one]), []);
        assert_eq!(feed(&mut session, [other]), [Effect::SendPrompt]);
    }
}

#[test]
fn files_that_moved_are_checkpointed_before_the_prompt() {
    for moved_first in [true, false] {
        let turn = TurnId::new();
        let mut session = warm();
        feed(&mut session, [prepared(turn)]);
        let mut both = [Input::Opened(turn), Input::FilesMoved(turn)];
        if moved_first {
            both.reverse();
        }
        let [one, other] = both;
        assert_eq!(feed(&mut session, [one]), []);
        assert_eq!(feed(&mut session, [other]), [Effect::RetakeCheckpoint]);
        let stored = feed(&mut session, [Input::CheckpointStands(turn)]);
        assert_eq!(stored, [Effect::SendPrompt]);
    }
}

#[test]
fn a_checkpoint_that_cannot_be_taken_again_ends_the_turn_unprompted() {
    let turn = TurnId::new();
    let mut session = warm();
    let moved = [prepared(turn), Input::Opened(turn), Input::FilesMoved(turn)];
    feed(&mut session, moved);
    let failed = Input::PrepareFailed(turn, "no space".into());
    assert_eq!(
        outcome(&feed(&mut session, [failed])),
        Some(Outcome::NoStart)
    );
}

#[test]
fn a_worktree_that_may_come_to_be_is_waited_for_in_the_queue() {
    let turn = TurnId::new();
    let mut session = Session::new(at(0));
    feed(&mut session, [assign(turn)]);
    let parked = Parked::until(ParkReason::DiskLow, std::time::Duration::from_secs(60));
    let effects = feed(&mut session, [Input::PutOff(turn, parked.clone())]);
    let back = Effect::GiveBack(Some(parked.clone()));
    assert_eq!(effects, [Effect::AbandonPreparation, back]);
    let late = [Input::PutOff(turn, parked), Input::WorktreeReady(turn)];
    assert_eq!(feed(&mut session, late), [], "late words");
    let effects = feed(&mut session, [Input::Finished(turn)]);
    assert_eq!(effects, [Effect::TurnOver(None)]);
    let next = TurnId::new();
    assert_eq!(feed(&mut session, [assign(next)]), [Effect::EnsureWorktree]);
}

/// A large worktree may take minutes to be read again.
#[test]
fn a_cancel_does_not_wait_for_the_files() {
    let turn = TurnId::new();
    let mut session = warm();
    feed(&mut session, [prepared(turn), Input::Opened(turn)]);
    let effects = feed(&mut session, [Input::Cancel(turn, Why::Asked)]);
    assert_eq!(outcome(&effects), Some(Outcome::Cancelled));
    assert!(effects.contains(&Effect::AbandonPreparation));
}

#[test]
fn a_turn_ends_with_all_its_words_or_not_at_all() {
    let turn = TurnId::new();
    let mut session = warm();
    let running = [
        prepared(turn),
        Input::Opened(turn),
        Input::CheckpointStands(turn),
        Input::AgentEnded(turn, AgentStop::EndTurn),
    ];
    feed(&mut session, running);
    assert_eq!(feed(&mut session, [Input::Diffed(turn)]), []);
    let refused = Input::Refused(turn, "too long".into());
    assert_eq!(
        outcome(&feed(&mut session, [refused])),
        Some(Outcome::AgentError)
    );
}

/// The store counts an opened turn as prompted and gives it back to nobody.
#[test]
fn a_stop_between_opening_and_prompt_ends_the_turn_and_gives_nothing_back() {
    let turn = TurnId::new();
    let mut session = opening(turn);
    assert_eq!(feed(&mut session, [Input::Stop]), []);
    let effects = feed(&mut session, [Input::Opened(turn)]);
    assert_eq!(outcome(&effects), Some(Outcome::Interrupted));
    assert!(!effects.contains(&Effect::GiveBack(None)) && !effects.contains(&Effect::SendPrompt));
}

#[test]
fn a_cancel_between_opening_and_prompt_is_a_cancel() {
    let turn = TurnId::new();
    let mut session = opening(turn);
    feed(&mut session, [Input::Cancel(turn, Why::Asked), Input::Stop]);
    let effects = feed(&mut session, [Input::Opened(turn)]);
    assert_eq!(outcome(&effects), Some(Outcome::Cancelled));
}

/// The pump may hear the agent's end before the session hears of its start.
#[test]
fn an_end_that_overtakes_its_start_fails_the_start() {
    let turn = TurnId::new();
    let mut session = preparing(turn);
    let effects = feed(&mut session, [Input::LinkExited(LINK, exit())]);
    assert_eq!(outcome(&effects), Some(Outcome::NoStart));
    assert!(effects.contains(&Effect::DropLink));
    assert!(!session.awaits_link(LINK), "the late start is dropped");
    assert_eq!(feed(&mut session, [Input::LinkReady(LINK)]), []);
    assert!(!session.is_warm());
}

#[test]
fn a_link_that_dies_while_a_turn_is_prepared_is_started_again() {
    let turn = TurnId::new();
    let mut session = preparing(turn);
    let effects = feed(
        &mut session,
        [Input::LinkReady(LINK), Input::LinkExited(LINK, exit())],
    );
    assert_eq!(effects.last(), Some(&Effect::StartLink(LinkNo(2))));
}

#[test]
fn what_meets_only_a_stop_before_its_opening_waits_again() {
    let turn = TurnId::new();
    let mut session = preparing(turn);
    let effects = feed(&mut session, [Input::Stop]);
    assert_eq!(
        effects,
        [
            Effect::AbandonPreparation,
            Effect::DropLink,
            Effect::GiveBack(None)
        ]
    );
    let effects = feed(&mut session, [Input::Finished(turn)]);
    assert_eq!(effects, [Effect::TurnOver(None), Effect::StopSelf]);
    assert_eq!(feed(&mut session, [Input::Tick, Input::Stop]), [], "once");
}

#[test]
fn a_fenced_turn_stops_the_agent_that_works_for_it_and_writes_nothing() {
    let turn = TurnId::new();
    let mut session = opening(turn);
    let effects = feed(&mut session, [Input::Opened(turn), Input::Fenced(turn)]);
    assert_eq!(
        effects,
        [Effect::StopLink { hurry: true }, Effect::TurnOver(None)]
    );
    let next = TurnId::new();
    feed(&mut session, [assign(next), Input::WorktreeReady(next)]);
    let effects = feed(&mut session, [Input::LinkStopped(LINK)]);
    assert_eq!(effects, [Effect::DropLink, Effect::StartLink(LinkNo(2))]);
}

/// It is not started in the directory that is gone.
#[test]
fn an_agent_whose_directory_is_gone_is_started_again_in_the_one_that_is_made() {
    for stopped_first in [true, false] {
        let turn = TurnId::new();
        let mut session = warm();
        let astray = Input::Assign {
            turn,
            deadlines: Deadlines::default(),
            prepared: false,
            renew: true,
        };
        let effects = feed(&mut session, [astray]);
        let stop = Effect::StopLink { hurry: false };
        assert_eq!(effects, [stop, Effect::EnsureWorktree]);
        let (stopped, made) = (Input::LinkStopped(LINK), Input::WorktreeReady(turn));
        let start = Effect::StartLink(LinkNo(2));
        if stopped_first {
            assert_eq!(feed(&mut session, [stopped]), [Effect::DropLink]);
            let effects = feed(&mut session, [made]);
            assert_eq!(effects, [Effect::TakeCheckpoint, start]);
        } else {
            assert_eq!(feed(&mut session, [made]), [Effect::TakeCheckpoint]);
            let effects = feed(&mut session, [stopped]);
            assert_eq!(effects, [Effect::DropLink, start]);
        }
    }
}

/// Who asks has taken the prompt: what stood in front of it is not told again, however
/// the turn ends that is left.
#[test]
fn a_turn_that_is_left_while_it_asks_has_taken_its_prompt() {
    for input in [Input::Leave(STOPPED), Input::Drain] {
        let turn = TurnId::new();
        let mut session = opening(turn);
        feed(&mut session, [Input::Opened(turn)]);
        session.step(at(10), Input::Asked(turn));
        let effects = session.step(at(11), input);
        let left = effects.iter().find_map(|effect| match effect {
            Effect::Detach(verdict) => Some(verdict.clone()),
            _ => None,
        });
        let verdict = left.expect("it leaves");
        assert_eq!(verdict.taken, Taken::Yes);
        assert_eq!(verdict.outcome, Outcome::Interrupted);
        assert!(session.is_stopping() && !session.waits_for_human());
    }
}
