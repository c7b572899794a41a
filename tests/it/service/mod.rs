//! The whole service: the binary itself, a real database, real agents, HTTP.

mod agents;
mod alone;
mod bad_input;
mod browser;
mod callers;
mod checkpoints;
mod costs;
mod deaths;
mod doctor;
mod families;
mod figures;
mod first_use;
mod flood;
mod hand_over;
mod harness;
mod init_system;
mod newcomer;
mod prompts;
mod queue;
mod remote_database;
mod remote_postgres;
mod snapshots;
mod turns;
mod watching;
