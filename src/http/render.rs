//! The supervision tree as text.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use hearth_actors::tree::board::{Snapshot, TreeNode};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// One line a node, ended by a line break. `colour` adds ANSI sequences.
#[must_use]
pub fn render(root: &TreeNode, now: DateTime<Utc>, colour: bool) -> String {
    let mut out = String::new();
    node(root, &mut Prefix::default(), now, colour, &mut out);
    out
}

/// The branches drawn in front of a line.
#[derive(Default)]
struct Prefix(Vec<bool>);

impl Prefix {
    /// `true` in the list means that the ancestor has later siblings.
    fn draw(&self, out: &mut String) {
        let Some((own, above)) = self.0.split_last() else {
            return;
        };
        for more in above {
            out.push_str(if *more { "│  " } else { "   " });
        }
        out.push_str(if *own { "├─ " } else { "└─ " });
    }
}

fn node(node_: &TreeNode, prefix: &mut Prefix, now: DateTime<Utc>, colour: bool, out: &mut String) {
    prefix.draw(out);
    line(&node_.snapshot, now, colour, out);
    out.push('\n');
    let last = node_.children.len().saturating_sub(1);
    for (index, child) in node_.children.iter().enumerate() {
        prefix.0.push(index < last);
        node(child, prefix, now, colour, out);
        prefix.0.pop();
    }
}

fn line(snapshot: &Snapshot, now: DateTime<Utc>, colour: bool, out: &mut String) {
    let paint = |code: &'static str| if colour { code } else { "" };
    let name = clean(if snapshot.name.is_empty() {
        &snapshot.kind
    } else {
        &snapshot.name
    });
    let _ = write!(out, "{}{name}{}", paint(BOLD), paint(RESET));
    if name != snapshot.kind && !snapshot.kind.is_empty() {
        let _ = write!(
            out,
            " {}({}){}",
            paint(DIM),
            clean(&snapshot.kind),
            paint(RESET)
        );
    }
    let _ = write!(
        out,
        "  {}{}{} {}",
        paint(state_colour(&snapshot.state)),
        clean(&snapshot.state),
        paint(RESET),
        ago(now, snapshot.since)
    );
    for fact in facts(snapshot) {
        let _ = write!(out, "  {}{fact}{}", paint(DIM), paint(RESET));
    }
}

fn facts(snapshot: &Snapshot) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(pid) = snapshot.pid {
        facts.push(format!("pid {pid}"));
    }
    if let Some(bytes) = snapshot.rss_bytes {
        facts.push(size(bytes));
    }
    if snapshot.generation > 1 {
        facts.push(format!("life {}", snapshot.generation));
    }
    if snapshot.restarts > 0 {
        facts.push(format!("restarts {}", snapshot.restarts));
    }
    if snapshot.mailbox > 0 {
        facts.push(format!("mailbox {}", snapshot.mailbox));
    }
    if let Some(exit) = &snapshot.last_exit {
        facts.push(format!("last exit: {}", clean(exit)));
    }
    facts
}

fn state_colour(state: &str) -> &'static str {
    match state {
        "failed" | "crashed" | "cooling" | "error" | "lost" => RED,
        "starting" | "stopping" | "backing_off" | "blocked" | "waiting" => YELLOW,
        _ => GREEN,
    }
}

/// Names come from outside: nothing in them may steer the terminal.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The two largest units of the time since.
pub(crate) fn ago(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    let seconds = (now - then).num_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes / 1024;
    let mut unit = 0;
    while scaled >= 10 * 1024 && unit + 1 < UNITS.len() {
        scaled /= 1024;
        unit += 1;
    }
    format!("{scaled} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn leaf(kind: &str, name: &str, state: &str) -> TreeNode {
        TreeNode {
            id: name.into(),
            snapshot: Snapshot {
                kind: kind.into(),
                name: name.into(),
                state: state.into(),
                since: DateTime::UNIX_EPOCH,
                detail: json!({}),
                ..Snapshot::default()
            },
            children: Vec::new(),
        }
    }

    fn sample() -> TreeNode {
        let mut root = leaf("root", "root", "up");
        let mut pool = leaf("pool", "pool", "up");
        let mut busy = leaf("session", "chat/demo", "busy");
        busy.snapshot.pid = Some(4711);
        busy.snapshot.rss_bytes = Some(48 * 1024 * 1024);
        busy.snapshot.generation = 3;
        busy.snapshot.restarts = 2;
        busy.snapshot.last_exit = Some("signal 9".into());
        busy.children.push(leaf("pump", "pump", "idle"));
        pool.children = vec![busy, leaf("session", "evil\x1b[2J", "cooling")];
        root.children = vec![leaf("dispatcher", "dispatcher", "idle"), pool];
        root.children[0].snapshot.mailbox = 4;
        root
    }

    #[test]
    fn shows_one_line_a_node() {
        let now = DateTime::UNIX_EPOCH + chrono::Duration::seconds(3725);
        insta::assert_snapshot!(render(&sample(), now, false));
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let now = DateTime::UNIX_EPOCH;
        let coloured = render(&sample(), now, true);
        let mut plain = coloured.clone();
        for code in [BOLD, DIM, RED, GREEN, YELLOW, RESET] {
            plain = plain.replace(code, "");
        }
        assert_ne!(coloured, plain);
        assert_eq!(plain, render(&sample(), now, false));
    }
}
