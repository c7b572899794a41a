//! What agents are told that they have not seen, on a tree over fakes.

use std::time::Duration;

use hearth_actors::event::FrameKind;
use hearth_actors::ids::{AgentName, ChatId, SessionId, SessionKey, TaskId};
use hearth_actors::outcome::Outcome;
use hearth_actors::testing::backend::Step;
use hearth_actors::testing::harness::{Harness, Setup};

struct Chat {
    harness: Harness,
    session: SessionId,
    chat: ChatId,
}

impl Chat {
    async fn begin() -> Self {
        Self {
            harness: Harness::start(Setup::default()).await,
            session: SessionId::new(),
            chat: ChatId::new(),
        }
    }

    fn key(&self, agent: &str) -> SessionKey {
        SessionKey {
            chat: self.chat,
            agent: AgentName::from(agent),
        }
    }

    fn say(&self, agent: &str, input: &str) -> TaskId {
        self.harness.enqueue(self.session, &self.key(agent), input)
    }

    /// Says it, and gives what the agent was told in front of it, and in which context.
    async fn turn(&self, agent: &str, input: &str) -> (Option<String>, String) {
        let task = self.say(agent, input);
        assert_eq!(self.harness.outcome(task).await, Outcome::Ok, "{input}");
        self.told(input)
    }

    fn told(&self, input: &str) -> (Option<String>, String) {
        let mut told = self.harness.backend.told();
        told.retain(|told| told.text == input);
        let last = told.pop().expect("a prompt");
        (last.handover, last.context)
    }
}

#[tokio::test(start_paused = true)]
async fn each_agent_of_a_chat_is_told_what_the_other_did_and_keeps_its_session() {
    let chat = Chat::begin().await;
    chat.harness.backend.next_turn(vec![Step::Say("tamarind")]);
    let (nothing, mine) = chat.turn("fake", "the first words").await;
    assert_eq!(nothing, None, "an empty chat has no past");

    let (told, other) = chat.turn("other", "the second words").await;
    let told = told.expect("the chat so far");
    assert!(
        told.contains("> the first words") && told.contains("> tamarind"),
        "{told}"
    );
    assert!(
        told.contains("others worked in this chat before you"),
        "{told}"
    );

    let (told, context) = chat.turn("fake", "the third words").await;
    let told = told.expect("what it missed");
    assert_eq!(context, mine, "it returns to its own session");
    assert!(
        told.contains("> the second words") && told.contains("> done"),
        "{told}"
    );
    assert!(
        !told.contains("first words"),
        "its own past is no news: {told}"
    );

    assert_eq!(chat.turn("fake", "the fourth words").await, (None, mine));
    let (told, context) = chat.turn("other", "the fifth words").await;
    let told = told.expect("what it missed");
    assert_eq!(context, other);
    assert!(told.contains("> the third words") && told.contains("> the fourth words"));
    assert!(!told.contains("second words"), "{told}");
    chat.harness.shutdown().await;
}

/// Known before the first prompt, in front of which nothing may stand.
#[tokio::test(start_paused = true)]
async fn a_command_goes_alone_and_the_commands_are_shown_once() {
    let chat = Chat::begin().await;
    chat.turn("other", "the first words").await;
    chat.harness.backend.offers("compact");
    let (told, _) = chat.turn("fake", "/compact all").await;
    assert_eq!(told, None);
    let (told, _) = chat.turn("fake", "the next words").await;
    let told = told.expect("what did not go with the command");
    assert!(told.contains("> the first words"), "{told}");
    let shown = chat.harness.store.with(|rows| {
        let frames = rows.frames[&chat.session].iter();
        let commands = frames.filter(|frame| frame.kind == FrameKind::AgentCommands);
        commands.map(|frame| frame.data.clone()).collect::<Vec<_>>()
    });
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!(shown[0]["commands"][0]["name"], "compact");
    chat.harness.shutdown().await;
}

/// A process stands in the directory that it was started in, wherever its path leads.
#[tokio::test(start_paused = true)]
async fn an_agent_whose_directory_was_deleted_goes_on_in_another_process() {
    let chat = Chat::begin().await;
    let (_, mine) = chat.turn("fake", "the first words").await;
    assert_eq!(chat.turn("fake", "the second words").await.1, mine);
    let key = chat.key("fake");
    assert_eq!(chat.harness.backend.started().len(), 1);
    chat.harness.backend.lose_ground(&key);
    let went_on = chat.turn("fake", "the third words").await;
    assert_eq!(went_on, (None, mine), "in the same context");
    let started = chat.harness.backend.started();
    assert_eq!(started, [key.clone(), key]);
    assert_eq!(chat.harness.backend.most_alive(), 1);
    chat.harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_resumes_and_tells_nothing_twice() {
    let chat = Chat::begin().await;
    chat.turn("fake", "the first words").await;
    chat.turn("other", "the second words").await;
    let (_, mine) = chat.turn("fake", "the third words").await;
    let tree = chat.harness.tree.clone();
    tree.restart(chat.key("fake")).await.expect("it restarts");
    assert_eq!(chat.turn("fake", "the fourth words").await, (None, mine));
    chat.harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_stops_the_warm_agent_and_begins_with_what_is_kept() {
    let chat = Chat::begin().await;
    let (_, former) = chat.turn("fake", "the first words").await;
    chat.turn("fake", "the trimmed words").await;
    chat.harness.store.with(|rows| {
        let mut messages = rows.messages.iter();
        let trimmed = messages.find(|(_, message)| message.content == "the trimmed words");
        let trimmed = *trimmed.expect("it was said").0;
        rows.trim(chat.chat, trimmed);
        rows.reset_contexts(chat.chat, "the chat was restored");
    });
    let (told, context) = chat.turn("fake", "the next words").await;
    let told = told.expect("what is kept");
    assert_ne!(context, former);
    assert!(told.contains("> the first words"), "{told}");
    assert!(told.contains("the chat was restored"), "{told}");
    assert!(!told.contains("trimmed"), "{told}");
    assert_eq!(chat.harness.backend.most_alive(), 1);
    assert_eq!(chat.turn("fake", "the last words").await, (None, context));
    chat.harness.shutdown().await;
}

/// An agent that dies without a word may or may not have taken what it was told.
#[tokio::test(start_paused = true)]
async fn a_hand_over_in_doubt_is_made_again_to_a_fresh_context() {
    let chat = Chat::begin().await;
    let (_, former) = chat.turn("fake", "the first words").await;
    chat.turn("other", "the second words").await;
    for (script, same) in [
        (vec![Step::Exit(1)], false),
        (vec![Step::Say("I heard"), Step::Exit(1)], true),
    ] {
        chat.harness.backend.next_turn(script);
        let task = chat.say("fake", "the fatal words");
        assert_eq!(chat.harness.outcome(task).await, Outcome::AgentCrashed);
        let (told, doubted) = chat.told("the fatal words");
        assert!(told.is_some());
        let (again, context) = chat.turn("fake", "the next words").await;
        assert_eq!(context == doubted, same);
        assert_eq!(again.is_none(), same);
        if let Some(again) = again {
            assert_ne!(context, former);
            assert!(again.contains("> the second words"), "{again}");
            assert!(again.contains("not known whether"), "{again}");
        }
        chat.turn("other", "more words").await;
    }
    chat.harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_does_not_fit_is_tried_in_a_fresh_context_once() {
    let chat = Chat::begin().await;
    let (_, former) = chat.turn("fake", "the first words").await;
    chat.harness.backend.next_turn(vec![Step::Unfit]);
    let (told, context) = chat.turn("fake", "the second words").await;
    let told = told.expect("the chat so far");
    assert_ne!(context, former);
    assert!(told.contains("> the first words"), "{told}");
    assert!(told.contains("the fake agent cannot be set so"), "{told}");
    assert_eq!(
        chat.harness.backend.started().len(),
        1,
        "in the same process"
    );
    assert_eq!(chat.turn("fake", "the third words").await, (None, context));

    for refuses in [false, true] {
        if refuses {
            chat.harness.backend.refuse_renewals();
        } else {
            chat.harness.backend.next_turn(vec![Step::Unfit]);
        }
        chat.harness.backend.next_turn(vec![Step::Unfit]);
        let task = chat.say("fake", "the unfit words");
        assert_eq!(chat.harness.outcome(task).await, Outcome::AgentError);
    }
    chat.turn("fake", "the last words").await;
    chat.harness.shutdown().await;
}

/// It has a context of its own, though it is the same agent in the same chat.
#[tokio::test(start_paused = true)]
async fn a_one_shot_is_told_nothing_and_is_news_to_the_chat() {
    let chat = Chat::begin().await;
    chat.turn("fake", "the first words").await;
    let task = chat.harness.enqueue_from(
        hearth_actors::rules::routing::Origin::default(),
        chat.session,
        &chat.key("fake"),
        "the single words",
    );
    assert_eq!(chat.harness.outcome(task).await, Outcome::Ok);
    assert_eq!(chat.told("the single words").0, None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (told, _) = chat.turn("fake", "the second words").await;
    let told = told.expect("the one-shot's turn");
    assert!(told.contains("> the single words"), "{told}");
    assert!(!told.contains("first words"), "{told}");
    chat.harness.shutdown().await;
}
