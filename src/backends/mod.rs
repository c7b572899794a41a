//! The ways to run a coding agent. Each adapter keeps wire, map and driver in
//! files of their own and knows nothing of the others.

pub mod acp;
pub mod demo;
pub mod probe;
pub mod registry;
