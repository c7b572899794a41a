//! The store on a real PostgreSQL.

mod choices;
mod claims;
mod contract;
mod control;
mod expiry;
mod family;
mod histories;
mod journal;
mod limits;
mod listen;
mod lost_answers;
mod migrations;
pub(crate) mod pg;
mod retries;
mod transcripts;
