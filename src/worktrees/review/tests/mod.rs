//! The carrying out of plans under kills, and beside others who write.

mod bench;
mod kills;
mod others;
