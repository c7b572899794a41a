//! What every agent backend promises the tree: one suite for the real ones and
//! the fake.
//!
//! [`backend_contract!`](crate::backend_contract) makes a test of each promise.
//! A promise gets a backend of its own with nothing started.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::event::{AgentEvent, AgentStop, Answer, Ask, ExitInfo, Said};
use crate::ids::TurnId;
use crate::ports::{AgentBackend, Link, LinkError, LinkSpec, ProcessLedger, Prompt};

/// Longest wait for anything that is expected to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest way of the stop ladder: 3 s, 2 s, and the kernel's time.
const LADDER: Duration = Duration::from_secs(7);

/// What an agent is to do in a turn. Each backend under test has its own words
/// for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    /// Says `hello` and ends the turn.
    Hello,
    /// Says so many things, numbered from 0 (`0 …`, `1 …`), and ends the turn.
    Count(usize),
    /// Says `hello` and then nothing, but honours a cancel.
    Hang,
    /// Says `hello` and then nothing, whatever it is told.
    Deaf,
    /// Asks for consent, says `hello` after the answer and ends the turn.
    Ask,
    /// Says `hello` and then its process ends with code 7.
    Crash,
}

/// A backend with what a test needs besides the port.
pub trait BackendUnderTest: Send + Sync {
    /// The backend.
    fn backend(&self) -> Arc<dyn AgentBackend>;
    /// Its processes.
    fn processes(&self) -> Arc<dyn ProcessLedger>;
    /// What a start needs; always the same key.
    fn spec(&self) -> LinkSpec;
    /// The prompt that makes the agent do this, next.
    fn prompt(&self, play: Play) -> Prompt;
}

/// Makes a test of each promise. The argument is an expression that gives a
/// fresh `impl BackendUnderTest`; `paused` before it stops the clock for a
/// backend that has no other.
#[macro_export]
macro_rules! backend_contract {
    (@promises $test:tt $backend:expr) => {
        $crate::backend_contract! { @tests $test $backend;
            a_turn_ends_once_after_all_its_words,
            the_end_of_the_agent_is_its_last_word,
            a_crash_in_mid_turn_ends_the_link,
            a_cancelled_turn_ends_and_the_next_prompt_works,
            a_cancel_of_another_turn_changes_nothing,
            an_answer_reaches_the_agent_once,
            a_dropped_link_takes_its_processes_with_it,
            a_dropped_start_leaves_nothing_behind,
            a_stop_returns_when_the_processes_are_gone,
            a_deaf_agent_is_stopped_in_time,
            a_slow_listener_loses_nothing,
        }
    };
    (@tests $test:tt $backend:expr; $($promise:ident),+ $(,)?) => {
        $($crate::backend_contract! { @test $test $promise $backend })+
    };
    (@test ($($test:tt)*) $promise:ident $backend:expr) => {
        #[$($test)*]
        async fn $promise() {
            $crate::testing::contract_backend::$promise(&$backend).await;
        }
    };
    (paused $backend:expr) => {
        $crate::backend_contract! { @promises (tokio::test(start_paused = true)) $backend }
    };
    ($backend:expr) => {
        $crate::backend_contract! { @promises (tokio::test) $backend }
    };
}

/// Whatever a turn brings carries its id, and its end comes last and once.
pub async fn a_turn_ends_once_after_all_its_words(under: &dyn BackendUnderTest) {
    let mut live = Live::start(under).await;
    for _ in 0..3 {
        let turn = live.prompt(Play::Hello);
        let (said, stop) = live.rest_of(turn).await;
        assert_eq!(text(&said), "hello");
        assert_eq!(stop, AgentStop::EndTurn);
    }
    live.link.stop(true).await;
    let rest = live.drain().await;
    assert!(!rest.iter().any(|said| matches!(said, Said::TurnEnded(_))));
}

/// Told once, last, and then the channel closes; a prompt afterwards is refused.
pub async fn the_end_of_the_agent_is_its_last_word(under: &dyn BackendUnderTest) {
    let mut live = Live::start(under).await;
    let turn = live.prompt(Play::Hello);
    live.rest_of(turn).await;
    let exit = live.link.stop(false).await;
    assert!(exit.expected);
    let rest = live.drain().await;
    assert_eq!(rest.last(), Some(&Said::Exited(exit)));
    let prompt = under.prompt(Play::Hello);
    let refused = live.link.prompt(TurnId::new(), &prompt);
    assert_eq!(refused, Err(LinkError::Gone));
}

/// Nobody asked for it, so it is not expected; its words come before it.
pub async fn a_crash_in_mid_turn_ends_the_link(under: &dyn BackendUnderTest) {
    let mut live = Live::start(under).await;
    live.prompt(Play::Crash);
    let rest = live.drain().await;
    assert_eq!(text(&rest), "hello");
    let Some(Said::Exited(ExitInfo { code, expected, .. })) = rest.last() else {
        panic!("no exit: {rest:?}");
    };
    assert_eq!((*code, *expected), (Some(7), false));
    let gone = under.processes().gone(&under.spec().key, PATIENCE).await;
    assert!(gone, "a dead agent leaves no processes");
}

/// The process stays, and its next turn is untouched.
pub async fn a_cancelled_turn_ends_and_the_next_prompt_works(under: &dyn BackendUnderTest) {
    let mut live = Live::start(under).await;
    let turn = live.prompt(Play::Hang);
    live.hello().await;
    live.link.cancel(turn);
    live.link.cancel(turn);
    let (_, stop) = live.rest_of(turn).await;
    assert_eq!(stop, AgentStop::Cancelled);
    live.link.cancel(turn);
    let next = live.prompt(Play::Hello);
    let (said, stop) = live.rest_of(next).await;
    assert_eq!((text(&said).as_str(), stop), ("hello", AgentStop::EndTurn));
}

/// A cancel that comes too late, or for somebody else.
pub async fn a_cancel_of_another_turn_changes_nothing(under: &dyn BackendUnderTest) {
    let mut live = Live::start(under).await;
    live.link.cancel(TurnId::new());
    let turn = live.prompt(Play::Ask);
    let ask = live.ask().await;
    live.link.cancel(TurnId::new());
    assert_eq!(live.link.answer(&ask.id, &yes(&ask)), Ok(()));
    let (_, stop) = live.rest_of(turn).await;
    assert_eq!(stop, AgentStop::EndTurn);
}

/// What waits is answered once; what does not wait is unknown.
pub async fn an_answer_reaches_the_agent_once(under: &dyn BackendUnderTest) {
    let mut live = Live::start(under).await;
    let unknown = live.link.answer("nothing", &Answer::Cancelled);
    assert_eq!(unknown, Err(LinkError::Unknown));
    let turn = live.prompt(Play::Ask);
    let ask = live.ask().await;
    let unknown = live.link.answer("nothing", &Answer::Cancelled);
    assert_eq!(unknown, Err(LinkError::Unknown));
    assert_eq!(live.link.answer(&ask.id, &yes(&ask)), Ok(()));
    let again = live.link.answer(&ask.id, &yes(&ask));
    assert_eq!(again, Err(LinkError::Unknown));
    let (said, _) = live.rest_of(turn).await;
    assert!(text(&said).contains("hello"), "{said:?}");
}

/// The last handle is the process's life.
pub async fn a_dropped_link_takes_its_processes_with_it(under: &dyn BackendUnderTest) {
    let mut live = Live::start(under).await;
    live.prompt(Play::Deaf);
    live.hello().await;
    let (processes, key) = (under.processes(), under.spec().key);
    assert!(!processes.gone(&key, Duration::ZERO).await, "it is alive");
    drop(live);
    assert!(processes.gone(&key, PATIENCE).await);
}

/// Nobody waits for the start any more.
pub async fn a_dropped_start_leaves_nothing_behind(under: &dyn BackendUnderTest) {
    let (sender, _events) = mpsc::channel(64);
    let backend = under.backend();
    let start = backend.start(under.spec(), sender);
    // Long enough to have begun, too short to be through.
    let _ = timeout(Duration::from_millis(2), start).await;
    let gone = under.processes().gone(&under.spec().key, PATIENCE).await;
    assert!(gone);
}

/// Whoever stopped an agent may start its successor at once.
pub async fn a_stop_returns_when_the_processes_are_gone(under: &dyn BackendUnderTest) {
    for hurry in [false, true] {
        let live = Live::start(under).await;
        within("the stop", live.link.stop(hurry)).await;
        let now = Duration::from_millis(100);
        assert!(under.processes().gone(&under.spec().key, now).await);
    }
}

/// The ladder's last step is not a question.
pub async fn a_deaf_agent_is_stopped_in_time(under: &dyn BackendUnderTest) {
    let mut live = Live::start(under).await;
    let turn = live.prompt(Play::Deaf);
    live.hello().await;
    live.link.cancel(turn);
    let stopped = timeout(LADDER, live.link.stop(true)).await;
    assert!(stopped.is_ok(), "not stopped within {LADDER:?}");
    let now = Duration::from_millis(100);
    assert!(under.processes().gone(&under.spec().key, now).await);
}

/// The channel is bounded: the agent waits, nothing is dropped.
pub async fn a_slow_listener_loses_nothing(under: &dyn BackendUnderTest) {
    const MANY: usize = 2_000;
    let mut live = Live::start_with_room(under, 2).await;
    let turn = live.prompt(Play::Count(MANY));
    let mut expected = 0;
    loop {
        let event = live.next().await;
        match event.said {
            Said::Text(text) => {
                assert_eq!(event.turn, Some(turn));
                let number = text.split(' ').next().and_then(|word| word.parse().ok());
                assert_eq!(number, Some(expected), "{text:?}");
                expected += 1;
                if expected % 100 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            Said::TurnEnded(stop) => {
                assert_eq!((stop, expected), (AgentStop::EndTurn, MANY));
                return;
            }
            _ => {}
        }
    }
}

// --- helpers -----------------------------------------------------------------

/// A started agent.
struct Live<'a> {
    under: &'a dyn BackendUnderTest,
    link: Arc<dyn Link>,
    events: mpsc::Receiver<AgentEvent>,
}

impl<'a> Live<'a> {
    async fn start(under: &'a dyn BackendUnderTest) -> Self {
        Self::start_with_room(under, 64).await
    }

    async fn start_with_room(under: &'a dyn BackendUnderTest, room: usize) -> Self {
        let (sender, events) = mpsc::channel(room);
        let backend = under.backend();
        let started = within("the start", backend.start(under.spec(), sender)).await;
        let link = started.expect("the agent starts");
        Self {
            under,
            link,
            events,
        }
    }

    fn prompt(&self, play: Play) -> TurnId {
        let turn = TurnId::new();
        let prompt = self.under.prompt(play);
        self.link.prompt(turn, &prompt).expect("it is alive");
        turn
    }

    async fn next(&mut self) -> AgentEvent {
        let next = within("the next event", self.events.recv()).await;
        next.expect("the link has not ended")
    }

    /// Collects a turn to its end; every word of it must carry its id.
    async fn rest_of(&mut self, turn: TurnId) -> (Vec<Said>, AgentStop) {
        let mut collected = Vec::new();
        loop {
            let event = self.next().await;
            if event.turn.is_none() && is_no_word(&event.said) {
                continue;
            }
            assert_eq!(event.turn, Some(turn), "{:?}", event.said);
            match event.said {
                Said::TurnEnded(stop) => return (collected, stop),
                said => collected.push(said),
            }
        }
    }

    /// Everything up to the close of the channel; the exit only at its end.
    async fn drain(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        while let Some(event) = within("the end", self.events.recv()).await {
            let exited = said.iter().any(|said| matches!(said, Said::Exited(_)));
            assert!(!exited, "after the end: {:?}", event.said);
            said.push(event.said);
        }
        said
    }

    async fn hello(&mut self) {
        while !matches!(self.next().await.said, Said::Text(text) if text == "hello") {}
    }

    async fn ask(&mut self) -> Ask {
        loop {
            if let Said::Permission(ask) = self.next().await.said {
                return ask;
            }
        }
    }
}

/// May come at any time.
fn is_no_word(said: &Said) -> bool {
    matches!(said, Said::Commands(_) | Said::Mode(_) | Said::Raw { .. })
}

fn yes(ask: &Ask) -> Answer {
    crate::rules::permission::allow(ask)
}

fn text(said: &[Said]) -> String {
    let texts = said.iter().filter_map(|said| match said {
        Said::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}
