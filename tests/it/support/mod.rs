//! What several integration tests share.

pub(crate) mod npm;
pub(crate) mod pg;
pub(crate) mod role;
pub(crate) mod wait;
