//! Claude Code, spoken to as its own SDK does.
//!
//! [`transcript`] keeps its sessions' transcripts in a store, and puts them back.

pub mod transcript;
