//! What several integration tests share.

pub(crate) mod pg;
pub(crate) mod wait;
