//! Whether agents get control groups of their own.

use super::source;

/// When the kernel's control groups (cgroup v2) hold agents to their limits
/// (`pool.cgroups`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cgroups {
    /// Where Hearth's own group is marked as delegated, as systemd does it.
    #[default]
    Auto,
    /// Hearth's own group is its own, marked or not: in a container that may write it.
    On,
    /// Never.
    Off,
}

pub(super) fn read(value: &toml::Value) -> Result<Cgroups, String> {
    match source::text(value).as_deref() {
        Ok("auto") => Ok(Cgroups::Auto),
        Ok("on") => Ok(Cgroups::On),
        Ok("off") => Ok(Cgroups::Off),
        _ => Err("\"auto\", \"on\" or \"off\"".into()),
    }
}
