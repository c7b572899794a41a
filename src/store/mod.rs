//! Everything that is kept in PostgreSQL.

pub mod embedded;
