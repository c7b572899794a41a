//! Whole-service tests: real processes, real files, a real database.

mod acp;
mod agents_config;
mod cli;
mod embedded;
mod http;
mod process;
mod store;
mod support;
