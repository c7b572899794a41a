//! Whole-service tests: real processes, real files, a real database.

mod process;
mod support;
