//! How much memory there is: the machine's, or what its container leaves of it.

use std::fs;
use std::path::{Component, Path};

/// Where cgroups (v2) are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Bytes that this process and its children could take: all of the machine's memory,
/// or less where a cgroup (v2) of theirs, or one above it, has a limit. None where the
/// kernel does not tell.
#[must_use]
pub fn machine_memory() -> Option<u64> {
    let all = total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(limit(Path::new(CGROUPS), &own).map_or(all, |limit| limit.min(all)))
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least `memory.max` from the cgroup that `own` (`/proc/self/cgroup`) names up to
/// `root`, in bytes; none when none is set. A cgroup that cannot be seen from here sets
/// none: in a container its own is often `root` itself.
fn limit(root: &Path, own: &str) -> Option<u64> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = Path::new(own.trim_start_matches('/'));
    let is_below = own.components().all(|part| part != Component::ParentDir);
    let own = if is_below { own } else { Path::new("") };
    let limits = own.ancestors().filter_map(|group| {
        let text = fs::read_to_string(root.join(group).join("memory.max")).ok()?;
        // `max` is none.
        text.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_its_line_alone_and_in_bytes() {
        let text = "MemFree: 7 kB\nMemTotal:       16384 kB\nMemAvailable: 9 kB\n";
        assert_eq!(total(text), Some(16 << 20));
        for text in ["", "MemTotal: 1", "MemTotal: x kB", "Total: 1 kB"] {
            assert_eq!(total(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_least_limit_above_a_process_holds() {
        let root = tempfile::tempdir().expect("a directory");
        let limited = |group: &str, max: &str| {
            let group = root.path().join(group);
            fs::create_dir_all(&group).expect("a group");
            fs::write(group.join("memory.max"), max).expect("written");
        };
        limited("a.slice", "3000\n");
        limited("a.slice/b.service", "max\n");
        limited("a.slice/b.service/c", "5000\n");
        limited("other", "1\n");
        fs::create_dir(root.path().join("open")).expect("a group");
        let limit = |own: &str| limit(root.path(), own);
        assert_eq!(limit("0::/a.slice/b.service/c\n"), Some(3000));
        assert_eq!(limit("0::/a.slice/b.service\n"), Some(3000), "from above");
        assert_eq!(limit("0::/a.slice/gone (deleted)\n"), Some(3000));
        assert_eq!(limit("0::/open\n"), None);
        assert_eq!(limit("4:memory:/other\n1:name=systemd:/\n"), None, "v1");
        assert_eq!(limit(""), None);
        // The root itself has a limit in a container only.
        assert_eq!(limit("0::/\n"), None);
        limited("", "2000\n");
        assert_eq!(limit("0::/\n"), Some(2000));
        assert_eq!(limit("0::/a.slice\n"), Some(2000));
        assert_eq!(limit("0::/../../elsewhere\n"), Some(2000), "not seen");
    }

    #[test]
    fn this_machine_has_some() {
        let bytes = machine_memory().expect("Linux tells");
        assert!((1 << 26..1 << 50).contains(&bytes), "{bytes}");
    }
}
