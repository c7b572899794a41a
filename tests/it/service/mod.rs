//! The whole service: the binary itself, a real database, real agents, HTTP.

mod agents;
mod bad_input;
mod deaths;
mod doctor;
mod first_use;
mod harness;
mod init_system;
mod newcomer;
mod queue;
mod remote_database;
mod remote_postgres;
mod turns;
mod watching;
