//! The store on a real PostgreSQL.

mod contract;
mod pg;
