//! Thin actors: they feed the rules and carry out the effects.

pub mod board;
pub mod handle;
pub mod hub;
