//! The settings, parsed and checked before anything starts.

pub mod agents;
