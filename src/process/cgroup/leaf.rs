//! The group of one agent's processes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hearth_actors::event::OutOfMemory;

use super::{DEPTH, kill, remove_all, write};

/// See the module. Dropping it removes it if nothing lives in it.
#[derive(Debug)]
pub(in crate::process) struct Leaf {
    path: PathBuf,
    /// Bytes that the kernel holds it to.
    memory: Option<u64>,
    remove: fn(&Path) -> io::Result<()>,
}

impl Leaf {
    pub(super) fn new(
        path: PathBuf,
        memory: Option<u64>,
        remove: fn(&Path) -> io::Result<()>,
    ) -> Self {
        Self {
            path,
            memory,
            remove,
        }
    }

    pub(super) fn limit(&self, memory: Option<u64>, pids: Option<u32>) -> io::Result<()> {
        if let Some(bytes) = memory {
            self.put("memory.max", &bytes.to_string())?;
            // All end together: what is left of an agent whose tool was killed would
            // tell of anything but memory.
            self.put("memory.oom.group", "1")?;
            // Not there where the kernel counts no swap.
            match self.put("memory.swap.max", "0") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match pids {
            Some(pids) => self.put("pids.max", &pids.to_string()),
            None => Ok(()),
        }
    }

    fn put(&self, file: &str, text: &str) -> io::Result<()> {
        write(&self.path.join(file), text)
    }

    pub(in crate::process) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends all that lives in it, where the kernel can.
    pub(in crate::process) fn kill(&self) {
        let _ = kill(&self.path);
    }

    /// Whether the kernel killed a process of it because memory ran out.
    pub(in crate::process) fn out_of_memory(&self) -> Option<OutOfMemory> {
        let events = fs::read_to_string(self.path.join("memory.events")).ok()?;
        let count = |name: &str| {
            let mut lines = events.lines().filter_map(|line| line.split_once(' '));
            let found = lines.find(|(event, _)| *event == name);
            found.and_then(|(_, count)| count.trim().parse::<u64>().ok())
        };
        let killed = count("oom_kill").max(count("oom_group_kill"));
        if killed.unwrap_or_default() == 0 {
            return None;
        }
        // A group around it that runs out counts `oom` for itself.
        let own = count("oom").unwrap_or_default() > 0;
        Some(match self.memory.filter(|_| own) {
            Some(bytes) => OutOfMemory::Limit(bytes),
            None => OutOfMemory::Machine,
        })
    }

    /// True when it is gone.
    pub(in crate::process) fn remove(&self) -> bool {
        remove_all(&self.path, self.remove, DEPTH)
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        self.remove();
    }
}
