//! Claude Code, spoken to as its own SDK does: one warm process for each
//! `(chat, agent)`, lines of JSON both ways.
//!
//! ```text
//!             ┌───────── pump (one task) ─────────────────────┐
//!  stdout ──► │ frame ─► map ─► said ─────────────────────────┼─► events (bounded)
//!             │   ├─ entries of the transcript ─► keep ─► store
//!             │   └─ replies and requests ─► shared           │
//!             └───────────────────────────────────────────────┘
//!  stdin ◄── writer ◄── orders: prompt, interrupt, settings, answers
//! ```
//!
//! Pure, and held against recordings of the real program: [`wire`] reads frames,
//! `turn` knows whose they are and what ends a turn, `answer`, `tool`, `fault` and
//! [`map`] put them into Hearth's words, `ask` does so with requests for consent and
//! questions, `settings` with model, mode and effort.
//!
//! `alone` is the way without all that, for a single turn: see [`super::pty`].
//!
//! `backend` starts the program, `link` and `pump` speak with it, [`transcript`] keeps
//! its sessions' transcripts in a store and puts them back.
//!
//! **One prompt in flight.** The program folds what is written in the middle of a turn
//! into that turn. A prompt is written when the last turn has ended and no interrupt is
//! unanswered that could meet it.

mod alone;
mod answer;
mod ask;
mod backend;
mod fault;
mod keep;
mod link;
pub mod map;
mod orders;
mod pump;
#[cfg(test)]
mod recordings;
mod settings;
mod shared;
mod shelf;
mod tool;
pub mod transcript;
mod turn;
pub mod wire;

use std::sync::Arc;

use hearth_actors::catalog::Catalog;

pub use alone::Alone;
pub use backend::ClaudeBackend;

/// Told what it offers. Must not wait.
type Learn = Arc<dyn Fn(&Catalog) + Send + Sync>;
