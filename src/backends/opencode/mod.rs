//! opencode as a server: one `opencode serve` for many sessions.
//!
//! [`heard`] reads the events of its stream, [`turn`] knows which of them belong to
//! the running turn and which ends it, [`map`] puts them into Hearth's words, with
//! [`question`] for what is asked and [`once`] for what comes twice. All of it is pure and held against recordings of the real program.
//!
//! [`server`] owns the child, [`link`] is one session of it, [`client`] and [`events`]
//! are the two ways to it.

mod client;
mod events;
mod fault;
mod heard;
mod link;
mod map;
mod once;
mod question;
#[cfg(test)]
mod recordings;
mod rules;
mod server;
mod tool;
mod turn;

pub use heard::Heard;
pub use map::Mapper;
pub use server::OpencodeBackend;
pub(super) use server::known;
