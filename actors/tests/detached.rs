//! Promises about questions that outlive the agent's process: they stay open,
//! and their answers let the task go on, once, in the agent's own session.

use std::time::Duration;

use hearth_actors::event::{Answer, FrameKind};
use hearth_actors::ids::{SessionId, SessionKey, TaskId};
use hearth_actors::model::Policy;
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::prompt::{AnsweredBy, PromptState};
use hearth_actors::rules::going_on::MARK;
use hearth_actors::testing::backend::Step;
use hearth_actors::testing::harness::{Harness, Setup};

fn asking() -> Setup {
    Setup {
        policy: Policy::Ask,
        ..Setup::default()
    }
}

async fn harness(script: Vec<Step>) -> (Harness, SessionId, SessionKey) {
    let harness = Harness::start(asking()).await;
    harness.backend.next_turn(script);
    let (session, key) = harness.chat();
    (harness, session, key)
}

fn option(id: &str) -> Answer {
    Answer::Option(id.into())
}

async fn blocked(harness: &Harness, task: TaskId) {
    harness
        .until("the task waits without a turn", |harness| {
            let row = harness.task(task);
            (row.detached && row.state == TaskState::Blocked).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_the_question_and_its_answer_goes_on() {
    let (harness, session, key) = harness(vec![Step::Ask]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    let harness = harness.start_over(Duration::from_secs(5), asking()).await;
    blocked(&harness, task).await;
    assert_eq!(harness.open_prompts(1).await, [prompt]);
    assert_eq!(harness.backend.answers(), []);
    // Nothing is prompted while nobody answers, for as long as that takes.
    let behind = harness.enqueue(session, &key, "y");
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(harness.backend.prompts().len(), 1);

    harness
        .backend
        .next_turn(vec![Step::Ask, Step::Say("thanks")]);
    assert!(harness.answer_detached(prompt, "allow"));
    assert!(!harness.answer_detached(prompt, "reject"), "once");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let told = harness.backend.prompts().remove(1).2;
    assert!(told.starts_with(MARK), "{told}");
    assert!(told.contains("allowed (allow)"), "{told}");
    // The same request got the same answer, and nobody was asked again.
    assert_eq!(
        harness.backend.answers(),
        [("ask-1".into(), option("allow"))]
    );
    let by = harness.store.with(|rows| {
        let settled = rows.prompts.values().filter_map(|row| row.settled.clone());
        settled.map(|settled| settled.by).collect::<Vec<_>>()
    });
    assert_eq!(by, [Some(AnsweredBy::Cli), Some(AnsweredBy::Earlier)]);
    assert_eq!(harness.outcome(behind).await, Outcome::Ok);
    assert_eq!(harness.task(task).attempts, 2);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_given_again_only_once() {
    let script = vec![Step::Ask];
    let (harness, session, key) = harness(script).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    let harness = harness.start_over(Duration::ZERO, asking()).await;
    blocked(&harness, task).await;
    let again = vec![Step::Ask, Step::Ask, Step::Say("done")];
    harness.backend.next_turn(again);
    assert!(harness.answer_detached(prompt, "reject"));
    let second = harness.open_prompts(1).await[0];
    assert_ne!(second, prompt);
    assert_eq!(
        harness.backend.answers(),
        [("ask-1".into(), option("reject"))]
    );
    assert_eq!(harness.answer(task, second, "allow").await, Ok(()));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_life_finds_what_the_last_one_asked() {
    let (harness, session, key) = harness(vec![Step::Ask]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    harness.store.steal_lease();
    blocked(&harness, task).await;
    let late = harness.answer(task, prompt, "allow").await;
    assert_ne!(late, Ok(()), "the turn that asked is over");
    let harness = harness.start_over(Duration::ZERO, asking()).await;
    blocked(&harness, task).await;
    assert!(harness.answer_detached(prompt, "allow"));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let allowed = ("ask-1".into(), option("allow"));
    assert!(!harness.backend.answers().contains(&allowed));
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_lost_its_session_ends_the_turn_and_says_why() {
    let (harness, session, key) = harness(vec![Step::Ask]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    let harness = harness.start_over(Duration::ZERO, asking()).await;
    blocked(&harness, task).await;
    harness.backend.forget();
    assert!(harness.answer_detached(prompt, "allow"));
    assert_eq!(harness.outcome(task).await, Outcome::Interrupted);
    assert_eq!(harness.task(task).state, TaskState::Failed);
    assert_eq!(harness.backend.prompts().len(), 1, "it was not prompted");
    let next = harness.enqueue(session, &key, "y");
    assert_eq!(harness.outcome(next).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_in_the_next_question_waits_again() {
    let (harness, session, key) = harness(vec![Step::Ask]).await;
    let task = harness.enqueue(session, &key, "x");
    let first = harness.open_prompts(1).await[0];
    let harness = harness.start_over(Duration::ZERO, asking()).await;
    blocked(&harness, task).await;
    harness.backend.next_turn(vec![Step::Ask, Step::Ask]);
    assert!(harness.answer_detached(first, "allow"));
    let second = harness.open_prompts(1).await[0];
    let harness = harness.start_over(Duration::ZERO, asking()).await;
    blocked(&harness, task).await;
    assert_eq!(harness.backend.prompts().len(), 2);
    assert!(harness.answer_detached(second, "allow"));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert_eq!(harness.backend.prompts().len(), 3);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_task_that_waits_without_a_turn() {
    let (harness, session, key) = harness(vec![Step::Ask]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    let harness = harness.start_over(Duration::ZERO, asking()).await;
    blocked(&harness, task).await;
    harness.store.request_cancel(task);
    assert_eq!(harness.task(task).state, TaskState::Cancelled);
    assert!(!harness.answer_detached(prompt, "allow"));
    let settled = harness.settled(prompt).expect("settled");
    assert_eq!(settled.state, PromptState::Cancelled);
    let next = harness.enqueue(session, &key, "y");
    assert_eq!(harness.outcome(next).await, Outcome::Ok);
    harness.shutdown().await;
}

/// Whatever ends the turn while its question is on the way to the journal: it is
/// asked and withdrawn in the stream, or not asked at all.
#[tokio::test(start_paused = true)]
async fn no_question_is_open_without_a_frame() {
    for latency in [0, 1, 5, 20, 100] {
        for kill_after in (0..=10 * latency).step_by((latency / 2).max(1) as usize) {
            killed_while_it_asks(latency, kill_after, None).await;
        }
    }
    // Calls of one task of the session overtake those of another.
    for seed in 0..200 {
        killed_while_it_asks(50, 2 * seed, Some(fastrand::Rng::with_seed(seed))).await;
    }
}

async fn killed_while_it_asks(latency: u64, kill_after: u64, dice: Option<fastrand::Rng>) {
    let what = format!("latency {latency} ms, killed after {kill_after} ms, {dice:?}");
    let (harness, session, key) = harness(vec![Step::AskAtOnce(6)]).await;
    harness.store.break_it(|faults| {
        faults.latency = Duration::from_millis(latency);
        faults.dice = dice;
    });
    let task = harness.enqueue(session, &key, "x");
    harness
        .until("a prompted agent", |harness| {
            (!harness.backend.prompts().is_empty()).then_some(())
        })
        .await;
    tokio::time::sleep(Duration::from_millis(kill_after)).await;
    harness.backend.kill_one(0);
    assert_eq!(harness.outcome(task).await, Outcome::AgentCrashed);
    harness.store.with(|rows| {
        let told = |kind, id| {
            let mut frames = rows.frames[&session].iter();
            frames.any(|frame| frame.kind == kind && frame.data["id"] == id)
        };
        for (id, row) in &rows.prompts {
            let id = serde_json::json!(id);
            let asked = told(FrameKind::PermissionRequested, id.clone());
            let resolved = told(FrameKind::PermissionResolved, id);
            let settled = row.settled.is_some();
            assert!(
                asked && resolved && settled,
                "{what}: {asked} {resolved} {settled}"
            );
        }
    });
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_decides_leaves_a_row_and_a_frame() {
    for (policy, answer) in [(Policy::AllowAll, "allow"), (Policy::Deny, "reject")] {
        let harness = Harness::start(Setup {
            policy,
            ..Setup::default()
        })
        .await;
        harness
            .backend
            .next_turn(vec![Step::AskAtOnce(130), Step::Say("x")]);
        let (session, key) = harness.chat();
        let task = harness.enqueue(session, &key, "x");
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
        assert_eq!(harness.backend.answers().len(), 130);
        harness.store.with(|rows| {
            assert_eq!(rows.prompts.len(), 100, "bounded");
            for row in rows.prompts.values() {
                let settled = row.settled.as_ref().expect("settled");
                assert_eq!(settled.by, Some(AnsweredBy::Policy));
                let chosen = settled.answer.as_ref().map(|option| option.id.as_str());
                assert_eq!(chosen, Some(answer));
            }
            let kinds = rows.frames[&session].iter().map(|frame| frame.kind);
            let resolved = kinds.filter(|kind| *kind == FrameKind::PermissionResolved);
            assert_eq!(resolved.count(), 100);
        });
        harness.shutdown().await;
    }
}
