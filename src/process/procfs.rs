//! What `/proc` tells about processes, and the only way this room signals one
//! by number: together with its start time.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sys;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// Clock ticks between boot and its start: field 22 of `/proc/<pid>/stat`.
    pub start: u64,
}

impl Identity {
    /// Who has this number now; none when nobody lives there.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (!stat.is_dead()).then_some(Self {
            pid,
            start: stat.start,
        })
    }

    /// A child of ours that has not been waited for: a zombie counts too, as
    /// its number is still its own.
    pub(super) fn of_child(pid: i32) -> Option<Self> {
        let start = Stat::read(pid)?.start;
        Some(Self { pid, start })
    }

    /// It is still that process, and no zombie.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Signals it, unless it is gone. True when the signal was delivered.
    pub fn signal(self, signal: i32) -> bool {
        match sys::open_pidfd(self.pid) {
            // The handle was opened first: if the start time still fits, the
            // handle and the record mean the same process.
            Ok(handle) => self.is_alive() && sys::signal_pidfd(handle.as_fd(), signal).is_ok(),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => false,
            // A kernel or sandbox without such handles: the next best.
            Err(_) => self.is_alive() && sys::signal_number(self.pid, signal),
        }
    }
}

/// The fields of `/proc/<pid>/stat` that this room needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) start: u64,
    pub(super) resident_pages: u64,
}

impl Stat {
    pub(super) fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name in field 2 may contain blanks and brackets, so fields are
    /// counted from the last bracket: what follows it is field 3.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line[line.rfind(')')? + 1..].split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            start: field(22)?.parse().ok()?,
            resident_pages: field(24)?.parse().ok()?,
        })
    }

    fn is_dead(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// All living descendants of `root`, parents before children, `root` excluded.
pub(super) fn descendants(root: i32) -> Vec<Identity> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([root]);
    let mut queue = vec![root];
    while let Some(parent) = queue.pop() {
        for child in children(parent) {
            if seen.insert(child) {
                found.extend(Identity::of(child));
                queue.push(child);
            }
        }
    }
    found
}

/// `pid` and its ancestors, up to the first process of the machine or container.
pub(super) fn ancestry(pid: i32) -> impl Iterator<Item = Identity> {
    std::iter::successors(Stat::read(pid).map(|stat| (pid, stat)), |(_, child)| {
        let parent = child.parent;
        Some((parent, Stat::read(parent)?))
    })
    .map(|(pid, stat)| Identity {
        pid,
        start: stat.start,
    })
}

/// All living processes whose environment has `variable` with a value that
/// starts with `prefix`, and that value. Processes whose environment we may not
/// read are not found.
pub(super) fn marked(variable: &str, prefix: &str) -> Vec<(Identity, String)> {
    all_pids()
        .filter_map(|pid| {
            let value = marker_of(pid, variable).filter(|value| value.starts_with(prefix))?;
            Some((Identity::of(pid)?, value))
        })
        .collect()
}

/// The value of `variable` in the environment that `pid` was started with.
pub(super) fn marker_of(pid: i32, variable: &str) -> Option<String> {
    let mut environment = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ"))
        .ok()?
        .take(ENVIRON_LIMIT)
        .read_to_end(&mut environment)
        .ok()?;
    environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"="))
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

/// Processes whose working directory is `folder` or below it. Those of other users
/// cannot be looked into.
pub(super) fn working_in(folder: &Path) -> Vec<Identity> {
    let Ok(folder) = fs::canonicalize(folder) else {
        return Vec::new();
    };
    let inside = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&folder))
    };
    all_pids()
        .filter(inside)
        .filter_map(Identity::of)
        .filter(|process| process.is_alive())
        .collect()
}

/// The name that a process goes by.
pub(super) fn name_of(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Resident bytes of the given processes together; shared pages count each time.
pub(super) fn resident_bytes(processes: impl IntoIterator<Item = Identity>) -> u64 {
    let page = page_size();
    processes
        .into_iter()
        .filter_map(|process| Stat::read(process.pid))
        .map(|stat| stat.resident_pages * page)
        .sum()
}

/// Its proportional share of memory (PSS); its resident bytes where the kernel does not
/// tell, as of another user's process. None when it is gone.
pub(super) fn share_of(process: Identity) -> Option<u64> {
    let path = format!("/proc/{}/smaps_rollup", process.pid);
    let told = fs::read_to_string(path).ok();
    let share = told.and_then(|text| pss(&text));
    let share = share.or_else(|| Some(Stat::read(process.pid)?.resident_pages * page_size()));
    share.filter(|_| process.is_alive())
}

fn pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Changes with every boot of the machine; start times mean nothing across it.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Linux allows 128 KiB for one variable and a quarter of the stack limit
/// (2 MiB by default) for all.
const ENVIRON_LIMIT: u64 = 2 * 1024 * 1024;

fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(
                list.split_whitespace()
                    .filter_map(|p| p.parse::<i32>().ok()),
            ),
            // A kernel without CONFIG_PROC_CHILDREN, or a thread that just ended.
            Err(_) if thread.path().exists() => return children_by_parent(pid),
            Err(_) => {}
        }
    }
    found
}

fn children_by_parent(parent: i32) -> Vec<i32> {
    all_pids()
        .filter(|pid| Stat::read(*pid).is_some_and(|stat| stat.parent == parent))
        .collect()
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let line = "42 (a) b) (c) S 7 42 42 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 987654 1000 55 18446744073709551615";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            stat,
            Stat {
                state: 'S',
                parent: 7,
                start: 987_654,
                resident_pages: 55
            }
        );
    }

    #[test]
    fn a_share_is_the_sum_line_alone_and_in_bytes() {
        let text = "5581 ---p [rollup]\nRss:    2000 kB\nPss:     1500 kB\nPss_Anon: 7 kB\n";
        assert_eq!(pss(text), Some(1500 * 1024));
        for text in ["", "Pss_Anon: 7 kB\n", "Pss: x kB", "Pss: 1"] {
            assert_eq!(pss(text), None, "{text:?}");
        }
        let me = Identity::of(std::process::id() as i32).unwrap();
        assert!(share_of(me).unwrap() > 1 << 20);
    }

    #[test]
    fn cut_lines_are_refused() {
        for line in ["", "42", "42 (a", "42 (a) S 7"] {
            assert_eq!(Stat::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn we_are_alive_and_somebody_with_another_start_time_is_not_us() {
        let me = Identity::of(std::process::id() as i32).unwrap();
        assert!(me.is_alive());
        let other = Identity {
            start: me.start + 1,
            ..me
        };
        assert!(!other.is_alive());
        assert!(
            !other.signal(libc::SIGKILL),
            "a stranger must not be signalled"
        );
    }
}
