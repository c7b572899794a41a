//! What several integration tests share.

pub(crate) mod pg;
pub(crate) mod role;
pub(crate) mod wait;
