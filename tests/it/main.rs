//! Whole-service tests: real processes, real files, a real database.

mod acp;
mod agents_config;
mod process;
mod support;
