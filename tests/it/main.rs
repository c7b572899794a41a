//! Whole-service tests: real processes, real files, a real database.

mod embedded;
mod process;
mod support;
