//! The store on a real PostgreSQL.

mod claims;
mod contract;
mod control;
mod journal;
mod listen;
mod migrations;
mod pg;
