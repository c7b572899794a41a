//! The whole service: the binary itself, a real database, real agents, HTTP.

mod bad_input;
mod deaths;
mod harness;
mod queue;
mod turns;
