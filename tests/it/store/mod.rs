//! The store on a real PostgreSQL.

mod claims;
mod contract;
mod control;
mod family;
mod histories;
mod journal;
mod limits;
mod listen;
mod lost_answers;
mod migrations;
pub(crate) mod pg;
mod transcripts;
