//! Promises about prompts to humans: each is settled once, its row first, and
//! none outlives its turn.

use std::collections::BTreeSet;
use std::time::Duration;

use hearth_actors::event::{Answer, FrameKind};
use hearth_actors::ids::{SessionId, SessionKey};
use hearth_actors::model::Policy;
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::prompt::{AnsweredBy, PromptState};
use hearth_actors::rules::routing::Origin;
use hearth_actors::testing::backend::{Start, Step};
use hearth_actors::testing::harness::{Harness, Setup};
use hearth_actors::tree::handle::Refusal;

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

fn frames(harness: &Harness, session: SessionId) -> Vec<(FrameKind, String)> {
    harness.store.with(|rows| {
        let told = rows.frames[&session].iter().filter_map(|frame| {
            let word = match frame.kind {
                FrameKind::PermissionRequested => "",
                FrameKind::PermissionResolved => frame.data["state"].as_str()?,
                FrameKind::AgentStatusUpdated => frame.data["status"].as_str()?,
                _ => return None,
            };
            Some((frame.kind, word.to_owned()))
        });
        told.collect()
    })
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_written_and_reaches_the_agent() {
    let (harness, session, key) = harness(vec![Step::Ask, Step::Say("thanks")]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    assert_eq!(harness.task(task).state, TaskState::Blocked);
    assert_eq!(harness.backend.answers(), []);
    assert_eq!(harness.answer(task, prompt, "allow").await, Ok(()));
    let settled = harness.settled(prompt).expect("settled");
    assert_eq!(settled.state, PromptState::Answered);
    assert_eq!(settled.by, Some(AnsweredBy::Cli));
    assert_eq!(settled.answer.map(|option| option.id), Some("allow".into()));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert_eq!(
        harness.backend.answers(),
        [("ask-1".into(), option("allow"))]
    );
    use FrameKind::{AgentStatusUpdated, PermissionRequested, PermissionResolved};
    let told = [
        (AgentStatusUpdated, "working"),
        (PermissionRequested, ""),
        (AgentStatusUpdated, "blocked"),
        (PermissionResolved, "answered"),
        (AgentStatusUpdated, "working"),
        (AgentStatusUpdated, "idle"),
    ];
    let told = told.map(|(kind, word)| (kind, word.to_owned()));
    assert_eq!(frames(&harness, session), told);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_of_two_answers_wins() {
    let (harness, session, key) = harness(vec![Step::Ask, Step::Say("thanks")]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    // So that both are on their way at once.
    harness
        .store
        .break_it(|faults| faults.latency = Duration::from_millis(500));
    let (first, second) = tokio::join!(
        harness.answer(task, prompt, "allow"),
        harness.answer(task, prompt, "reject")
    );
    assert_eq!((first, second), (Ok(()), Ok(())));
    let answer = harness.settled(prompt).and_then(|settled| settled.answer);
    assert_eq!(answer.map(|option| option.id), Some("allow".into()));
    assert_eq!(
        harness.backend.answers(),
        [("ask-1".into(), option("allow"))]
    );
    let late = harness.answer(task, prompt, "reject").await;
    assert_eq!(late, Err(Refusal::NoPrompt));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let late = harness.answer(task, prompt, "reject").await;
    assert_eq!(late, Err(Refusal::NoPrompt));
    assert_eq!(harness.backend.answers().len(), 1);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_agent_takes_back_is_not_asked_any_more() {
    let script = vec![Step::AskAwhile(Duration::from_secs(5)), Step::Hang];
    let (harness, session, key) = harness(script).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    harness.state(&key, "blocked").await;
    let withdrawn = |harness: &Harness| harness.settled(prompt);
    let settled = harness.until("a withdrawn prompt", withdrawn).await;
    assert_eq!(settled.state, PromptState::Cancelled);
    let why = settled.reason.unwrap_or_default();
    assert!(why.contains("agent does not ask"), "{why}");
    // The turn goes on, and nobody can answer.
    harness.state(&key, "running").await;
    assert_eq!(harness.task(task).state, TaskState::Running);
    let late = harness.answer(task, prompt, "allow").await;
    assert_eq!(late, Err(Refusal::NoPrompt));
    assert_eq!(harness.backend.answers(), []);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_being_written_outlives_its_question() {
    let script = vec![Step::AskAwhile(Duration::from_secs(5)), Step::Say("x")];
    let (harness, session, key) = harness(script).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    harness
        .store
        .break_it(|faults| faults.latency = Duration::from_secs(10));
    assert_eq!(harness.answer(task, prompt, "allow").await, Ok(()));
    let settled = harness.settled(prompt).expect("settled");
    assert_eq!(settled.state, PromptState::Answered);
    harness
        .store
        .break_it(|faults| faults.latency = Duration::ZERO);
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert_eq!(harness.backend.answers(), [], "it would not know it");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_option_that_is_not_on_offer_settles_nothing() {
    let (harness, session, key) = harness(vec![Step::Ask]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    let wrong = harness.answer(task, prompt, "perhaps").await;
    assert_eq!(wrong, Err(Refusal::NoPrompt));
    assert_eq!(harness.settled(prompt), None);
    assert_eq!(harness.answer(task, prompt, "reject").await, Ok(()));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn two_prompts_wait_side_by_side() {
    let (harness, session, key) = harness(vec![Step::AskAtOnce(2), Step::Say("x")]).await;
    let task = harness.enqueue(session, &key, "x");
    let both = harness.open_prompts(2).await;
    assert_eq!(harness.answer(task, both[1], "reject").await, Ok(()));
    assert_eq!(harness.task(task).state, TaskState::Blocked);
    harness.state(&key, "blocked").await;
    assert_eq!(harness.answer(task, both[0], "always").await, Ok(()));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let answers = [
        ("ask-2".into(), option("reject")),
        ("ask-1".into(), option("always")),
    ];
    assert_eq!(harness.backend.answers(), answers);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_cannot_fill_the_inbox() {
    let (harness, session, key) = harness(vec![Step::AskAtOnce(40)]).await;
    let task = harness.enqueue(session, &key, "x");
    let open = harness.open_prompts(32).await;
    assert_eq!(harness.backend.answers().len(), 8);
    for prompt in open {
        assert_eq!(harness.answer(task, prompt, "allow").await, Ok(()));
    }
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_agent_learns_nothing_before_the_row_does() {
    let (harness, session, key) = harness(vec![Step::Ask, Step::Say("thanks")]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    harness.store.break_it(|faults| faults.down = true);
    let away = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(harness.backend.answers(), []);
        assert_eq!(harness.settled(prompt), None);
        harness.store.break_it(|faults| faults.down = false);
    };
    let (answer, ()) = tokio::join!(harness.answer(task, prompt, "allow"), away);
    assert_eq!(answer, Ok(()));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert_eq!(
        harness.backend.answers(),
        [("ask-1".into(), option("allow"))]
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_its_caller_did_not_wait_for_stands() {
    let (harness, session, key) = harness(vec![Step::Ask, Step::Say("thanks")]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    harness
        .store
        .break_it(|faults| faults.latency = Duration::from_secs(5));
    let gone = harness.answer(task, prompt, "allow");
    let gone = tokio::time::timeout(Duration::from_secs(1), gone).await;
    assert!(gone.is_err(), "{gone:?}");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert_eq!(
        harness.backend.answers(),
        [("ask-1".into(), option("allow"))]
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_withdraws_what_is_asked() {
    let (harness, session, key) = harness(vec![Step::AskAtOnce(2), Step::Hang]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompts = harness.open_prompts(2).await;
    harness.tree.cancel(task);
    assert_eq!(harness.outcome(task).await, Outcome::Cancelled);
    for prompt in prompts {
        let settled = harness.settled(prompt).expect("settled");
        assert_eq!(settled.state, PromptState::Cancelled);
        assert_eq!(settled.reason.as_deref(), Some("the task was cancelled"));
        let late = harness.answer(task, prompt, "allow").await;
        assert_eq!(late, Err(Refusal::NoPrompt));
    }
    assert!(
        harness
            .backend
            .answers()
            .iter()
            .all(|(_, answer)| *answer == Answer::Cancelled),
        "{:?}",
        harness.backend.answers()
    );
    let told = frames(&harness, session);
    let resolved = |(kind, _): &&(FrameKind, String)| *kind == FrameKind::PermissionResolved;
    assert_eq!(told.iter().filter(resolved).count(), 2, "{told:?}");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_prompt_ends_with_its_agent() {
    let (harness, session, key) = harness(vec![Step::Ask]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    harness.backend.kill_one(0);
    assert_eq!(harness.outcome(task).await, Outcome::AgentCrashed);
    let settled = harness.settled(prompt).expect("settled");
    assert_eq!(settled.state, PromptState::Cancelled);
    let late = harness.answer(task, prompt, "allow").await;
    assert_eq!(late, Err(Refusal::NoPrompt));
    assert_eq!(harness.backend.answers(), []);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_prompt_ends_with_its_session() {
    let (harness, session, key) = harness(vec![Step::Ask]).await;
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    assert_eq!(harness.tree.restart(key.clone()).await, Ok(()));
    assert_eq!(harness.outcome(task).await, Outcome::Interrupted);
    let settled = harness.settled(prompt).expect("settled");
    assert_eq!(settled.state, PromptState::Cancelled);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_prompt_is_refused_when_its_agent_has_a_deadline() {
    let mut setup = asking();
    setup.deadlines.prompt = Some(Duration::from_secs(60));
    let harness = Harness::start(setup).await;
    harness
        .backend
        .next_turn(vec![Step::Ask, Step::Say("then not")]);
    let (session, key) = harness.chat();
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let settled = harness.settled(prompt).expect("settled");
    assert_eq!(settled.state, PromptState::Expired);
    assert_eq!(settled.by, Some(AnsweredBy::Policy));
    assert_eq!(
        harness.backend.answers(),
        [("ask-1".into(), option("reject"))]
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn stall_and_wall_stand_still_while_a_human_thinks_and_go_on_after() {
    let mut setup = asking();
    setup.deadlines.stall = Duration::from_secs(60);
    setup.deadlines.wall = Duration::from_secs(300);
    let harness = Harness::start(setup).await;
    harness.backend.next_turn(vec![Step::Ask, Step::Hang]);
    let (session, key) = harness.chat();
    let task = harness.enqueue(session, &key, "x");
    let prompt = harness.open_prompts(1).await[0];
    tokio::time::sleep(Duration::from_secs(10 * 3600)).await;
    assert_eq!(harness.task(task).outcomes, []);
    assert_eq!(harness.answer(task, prompt, "allow").await, Ok(()));
    assert_eq!(harness.outcome(task).await, Outcome::Stalled);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_crashed_too_often_is_told_to_people_until_it_works() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    for _ in 0..4 {
        harness.backend.next_start(Start::Refused);
    }
    let told = |harness: &Harness| {
        harness
            .store
            .with(|rows| rows.open_circuits.contains_key(&key))
    };
    for _ in 0..4 {
        let task = harness.enqueue(session, &key, "x");
        assert_eq!(harness.outcome(task).await, Outcome::NoStart);
    }
    harness
        .until("people are told", |harness| told(harness).then_some(()))
        .await;
    let task = harness.enqueue(session, &key, "x");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness
        .until("it is over", |harness| (!told(harness)).then_some(()))
        .await;
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_turn_asks_in_the_chat_that_shows_it() {
    let harness = Harness::start(asking()).await;
    let (session, key) = harness.chat();
    harness
        .backend
        .next_turn(vec![Step::Ask, Step::Say("thanks")]);
    let task = harness.enqueue_from(Origin::default(), session, &key, "x");
    // Nobody watches such a task: it is asked only where it says so.
    let policy = Some(Policy::Ask);
    harness
        .store
        .with(|rows| rows.tasks.get_mut(&task).expect("the task").policy = policy);
    let prompt = harness.open_prompts(1).await[0];
    let stored = harness.store.with(|rows| rows.prompts[&prompt].clone());
    assert_eq!((stored.turn.chat, stored.turn.session), (key.chat, session));
    assert_eq!(harness.answer(task, prompt, "allow").await, Ok(()));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let chats: BTreeSet<_> = harness.store.with(|rows| {
        let frames = rows.frames[&session].iter();
        frames.map(|frame| frame.chat_id).collect()
    });
    assert_eq!(chats, BTreeSet::from([Some(key.chat)]));
    let links = harness.store.with(|rows| rows.links.get(&key).cloned());
    assert_eq!(links, None, "the chat has nothing to resume from it");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_turn_that_asks_ends_with_its_chat() {
    let harness = Harness::start(asking()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Ask]);
    let task = harness.enqueue_from(Origin::default(), session, &key, "x");
    let policy = Some(Policy::Ask);
    harness
        .store
        .with(|rows| rows.tasks.get_mut(&task).expect("the task").policy = policy);
    let prompt = harness.open_prompts(1).await[0];
    harness.tree.close_chat(key.chat);
    assert_eq!(harness.outcome(task).await, Outcome::Cancelled);
    let settled = harness.settled(prompt).expect("settled");
    assert_eq!(settled.state, PromptState::Cancelled);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_turn_that_crashes_is_told_in_the_chat_that_shows_it() {
    let mut setup = Setup::default();
    setup.tree.intensity.crashes = 0;
    let harness = Harness::start(setup).await;
    let (session, key) = harness.chat();
    harness.backend.next_start(Start::Refused);
    let task = harness.enqueue_from(Origin::default(), session, &key, "x");
    assert_eq!(harness.outcome(task).await, Outcome::NoStart);
    let told = harness
        .until("people are told", |harness| {
            let told = harness.store.with(|rows| rows.open_circuits.clone());
            (!told.is_empty()).then_some(told)
        })
        .await;
    assert_eq!(told.into_values().collect::<Vec<_>>(), [key.chat]);
    harness.shutdown().await;
}
