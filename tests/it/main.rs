//! Tests of the service against its real parts: real processes, real files,
//! a real database.

mod acp;
mod agents_config;
#[path = "../chaos/program/mod.rs"]
mod chaos;
#[path = "../chaos/tests/mod.rs"]
mod chaos_tests;
mod cli;
mod contract_backend;
mod deploy;
mod embedded;
mod http;
#[path = "../models/mod.rs"]
mod models;
#[path = "../npm.rs"]
mod npm;
mod probe;
mod process;
#[path = "../agents/mod.rs"]
mod real_agents;
mod service;
mod store;
mod support;
mod transcripts;
mod worktrees;
