//! Thin actors: they feed the rules and carry out the effects.

mod addr;
mod arenas;
pub mod board;
mod dispatcher;
pub mod handle;
pub mod hub;
mod lease;
mod operations;
mod pool;
mod pump;
mod ready;
mod reaper;
mod root;
mod server;
mod session;
mod shared;

pub use root::Status;
pub use shared::{Limits, TreeSettings};
