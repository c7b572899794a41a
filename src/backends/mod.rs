//! The ways to run a coding agent. Each adapter keeps wire, map and driver in
//! files of their own and knows nothing of the others; `pty` runs programs for any of them.

pub mod acp;
mod cap;
pub mod claude;
pub mod demo;
mod first;
mod ground;
mod launch;
mod lines;
pub mod opencode;
pub mod probe;
mod provider;
pub mod pty;
pub mod registry;
mod reset;
