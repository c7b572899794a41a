//! Transcripts of claude: from its own files into a store, and back.
//!
//! The program appends each entry to a file below `projects/` of its configuration
//! directory and says so on its output. [`Mirror`] brings what it says into the
//! store, [`rebuild()`] writes the files again before a session is resumed. What belongs
//! together is pure: [`keys`] names, [`lines`] reads and prints, [`chain`] compares.
//! [`trim`] makes a shorter transcript of a session's own. What other agents said is
//! none of claude's words: a hand-over tells it.

pub mod chain;
pub mod keys;
pub mod lines;
mod local;
mod mirror;
mod rebuild;
#[cfg(test)]
mod rebuild_tests;
#[cfg(test)]
pub(super) mod testing;
pub mod trim;

pub use mirror::{FLUSH_WAIT, Flushed, Health, Mirror};
pub use rebuild::{Found, RebuildError, Rebuilt, rebuild};
pub use trim::{TrimError, Trimmed, trim_after};
