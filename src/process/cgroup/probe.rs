//! Which group is ours, and whether it was given to us.

use std::fs;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{CONTROLLERS, System, WANTED, words_of};
use crate::config::Cgroups;

/// A group that we may divide.
pub(super) struct Own {
    pub(super) path: PathBuf,
    pub(super) controllers: Vec<&'static str>,
}

/// Finds the own group, touching nothing.
///
/// # Errors
/// Why it is not to be touched.
pub(super) fn own(system: &System, wish: Cgroups) -> Result<Own, String> {
    if wish == Cgroups::Off {
        return Err("`pool.cgroups` is \"off\"".to_owned());
    }
    let path = find(system)?;
    if wish == Cgroups::Auto && !(system.delegated)(&path) {
        return Err(format!(
            "the control group {} is not delegated (a systemd unit with Delegate=yes is; where it is ours all the same, set pool.cgroups = \"on\")",
            path.display()
        ));
    }
    access(&path, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|error| format!("{} cannot be written ({})", path.display(), error.desc()))?;
    let there = words_of(&path.join(CONTROLLERS))
        .map_err(|error| format!("{} cannot be read ({error})", path.display()))?;
    let controllers = WANTED.into_iter().filter(|name| there.contains(*name));
    Ok(Own {
        path,
        controllers: controllers.collect(),
    })
}

fn find(system: &System) -> Result<PathBuf, String> {
    let read = |file: &Path| {
        fs::read_to_string(file)
            .map_err(|error| format!("{} cannot be read ({error})", file.display()))
    };
    let membership = read(&system.membership)?;
    let group = membership
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or("this system has no cgroup v2")?;
    let mounts = read(&system.mounts)?;
    let mounts: Vec<(PathBuf, PathBuf)> = mounts.lines().filter_map(cgroup2).collect();
    if mounts.is_empty() {
        return Err("cgroup v2 is not mounted".to_owned());
    }
    mounts
        .iter()
        .find_map(|(root, point)| {
            let below = Path::new(group).strip_prefix(root).ok()?;
            let inside = below
                .components()
                .all(|it| matches!(it, Component::Normal(_)));
            let path = inside.then(|| match below.as_os_str() {
                here if here.is_empty() => point.clone(),
                _ => point.join(below),
            })?;
            path.is_dir().then_some(path)
        })
        .ok_or_else(|| format!("the control group {group} is not below what is mounted here"))
}

/// Which group is mounted, and where: `id parent dev root point options… - type …`.
fn cgroup2(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next()? != "cgroup2" {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    Some((unescape(fields.next()?), unescape(fields.next()?)))
}

/// Blanks stand as `\040`, and so on.
fn unescape(field: &str) -> PathBuf {
    let codes = [
        (r"\040", " "),
        (r"\011", "\t"),
        (r"\012", "\n"),
        (r"\134", "\\"),
    ];
    let text = codes.iter().fold(field.to_owned(), |text, (code, sign)| {
        text.replace(code, sign)
    });
    text.into()
}
