//! Programs that are run once for each prompt, at a terminal of their own: the way to
//! agents that speak no protocol, and to claude where it cannot be kept warm.
//!
//! ```text
//! prompt ──► Style: arguments, input ──► process at a terminal ──► Reader: words ──► events
//!                                                 └─ its exit code ──► Reader: the turn's end
//! ```
//!
//! Nothing of such a program is left between two prompts, so that each turn of a chat
//! begins with the chat so far, and nobody can be asked by it. A [`Style`] says how it
//! is run and read: [`Plain`] any program by its arguments in the settings, and
//! `claude` has one of its own.

mod backend;
mod link;
mod page;
mod plain;
mod run;

pub use backend::PtyBackend;
pub use plain::Plain;

use hearth_actors::event::{AgentFault, AgentStop, ExitInfo, Said};
use hearth_actors::model::Policy;
use hearth_actors::ports::Prompt;

/// How one program is run for a prompt, and read.
pub trait Style: Send + Sync {
    /// Its arguments and its input. `text` is the prompt with what stands in front of
    /// it, `policy` what the turn may do.
    ///
    /// # Errors
    /// Why it cannot be run so, for a person: nothing is started.
    fn order(&self, prompt: &Prompt, text: String, policy: Policy) -> Result<Order, String>;

    /// Reads one run of it.
    fn reader(&self) -> Box<dyn Reader>;
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// All of its arguments.
    pub args: Vec<String>,
    /// What comes by its standard input, which then ends; without it the input is the
    /// terminal, at which nobody types.
    pub input: Option<String>,
}

/// Reads what a program says in one run, which may be anything.
pub trait Reader: Send {
    /// More of it, as words; never the turn's end.
    fn heard(&mut self, bytes: &[u8]) -> Vec<Said>;

    /// Something was heard that may or may not be complete.
    fn hesitates(&self) -> bool {
        false
    }

    /// Nothing more has come for a while.
    fn paused(&mut self) -> Vec<Said> {
        Vec::new()
    }

    /// It has ended so, and all was heard: the last words, and how the turn ended;
    /// none where its end was a crash.
    fn ended(&mut self, exit: &ExitInfo) -> (Vec<Said>, Option<AgentStop>);
}

/// The end of a turn whose program was not started.
fn unprompted(why: String) -> AgentStop {
    AgentStop::Unprompted(AgentFault {
        class: hearth_actors::event::FaultClass::Other,
        message: why,
    })
}
