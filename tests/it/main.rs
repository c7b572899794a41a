//! Whole-service tests: real processes, real files, a real database.

mod acp;
mod agents_config;
mod embedded;
mod process;
mod support;
