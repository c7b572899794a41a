//! The real router on a real listener with a real database, and a tree that
//! only remembers what it was asked.

mod access;
mod door;
pub(crate) mod fixture;
mod mcp;
mod pages;
mod problems;
mod providers;
mod retention;
mod review;
mod routes;
mod sockets;
mod sse;
mod stats;
mod streams;
mod subscribers;
mod tickets;
