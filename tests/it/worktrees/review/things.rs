//! Files as the model knows them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fastrand::Rng;
use git2::{ObjectType, Oid};
use hearth_actors::review::FileState;

/// A text is lines that never change with slots in between, so that edits of
/// different slots can always be merged and of one never.
const SLOTS: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Text {
        slots: [u8; SLOTS],
        crlf: bool,
        /// A newline at the end.
        ended: bool,
    },
    Binary(u8),
    Empty,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    File(Body, bool),
    Link(u8),
}

/// All files of a folder by path.
pub(super) type Files = BTreeMap<String, Thing>;

impl Thing {
    pub(super) fn any(random: &mut Rng) -> Self {
        let body = match random.u8(..10) {
            0 => Body::Binary(random.u8(..3)),
            1 => Body::Empty,
            2 => return Self::Link(random.u8(..3)),
            kind => Body::Text {
                slots: [0; SLOTS].map(|_| random.u8(..3)),
                crlf: kind == 3,
                ended: kind != 4,
            },
        };
        Self::File(body, random.u8(..5) == 0)
    }

    /// The same with a small edit, mostly.
    pub(super) fn edited(&self, random: &mut Rng) -> Self {
        match self.clone() {
            Self::File(
                Body::Text {
                    mut slots,
                    crlf,
                    ended,
                },
                runs,
            ) => {
                let body = |slots| Body::Text { slots, crlf, ended };
                match random.u8(..12) {
                    0 => Self::File(body(slots), !runs),
                    1 => Self::File(
                        Body::Text {
                            slots,
                            crlf: !crlf,
                            ended,
                        },
                        runs,
                    ),
                    2 => Self::File(
                        Body::Text {
                            slots,
                            crlf,
                            ended: !ended,
                        },
                        runs,
                    ),
                    3 => Self::any(random),
                    _ => {
                        slots[random.usize(..SLOTS)] = random.u8(..4);
                        Self::File(body(slots), runs)
                    }
                }
            }
            _ => Self::any(random),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Link(to) => format!("target-{to}").into_bytes(),
            Self::File(Body::Empty, _) => Vec::new(),
            Self::File(Body::Binary(seed), _) => [0, 1, 2, *seed, 255].repeat(20),
            Self::File(Body::Text { slots, crlf, ended }, _) => {
                let newline = if *crlf { "\r\n" } else { "\n" };
                let mut text = String::new();
                for (slot, value) in slots.iter().enumerate() {
                    for line in 0..5 {
                        text += &format!("line {line} before slot {slot}{newline}");
                    }
                    text += &format!("slot {slot} is {value}{newline}");
                }
                for line in 0..5 {
                    text += &format!("line {line} at the end{newline}");
                }
                text += "the end";
                if *ended {
                    text += newline;
                }
                text.into_bytes()
            }
        }
    }

    pub(super) fn mode(&self) -> u32 {
        match self {
            Self::Link(_) => 0o120_000,
            Self::File(_, true) => 0o100_755,
            Self::File(_, false) => 0o100_644,
        }
    }

    pub(super) fn state(&self) -> FileState {
        let id = Oid::hash_object(ObjectType::Blob, &self.bytes()).expect("an id");
        FileState {
            blob: id.to_string(),
            mode: self.mode(),
        }
    }

    pub(super) fn write(&self, path: &Path) {
        // A file, or a folder with nothing in it.
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        match self {
            Self::Link(_) => {
                let target = String::from_utf8(self.bytes()).expect("a text");
                symlink(target, path).expect("a link");
            }
            Self::File(_, runs) => {
                fs::write(path, self.bytes()).expect("written");
                let mode = if *runs { 0o755 } else { 0o644 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
            }
        }
    }
}

/// What lies between `before` and `after`, brought into `ours`; none where that
/// is a conflict.
pub(super) fn merged(before: &Thing, ours: &Thing, after: &Thing) -> Option<Thing> {
    if ours == before {
        return Some(after.clone());
    }
    let (Thing::File(a, a_runs), Thing::File(b, b_runs), Thing::File(c, c_runs)) =
        (before, ours, after)
    else {
        return None;
    };
    let runs = if c_runs == a_runs { *b_runs } else { *c_runs };
    if c == a || c == b {
        return Some(Thing::File(b.clone(), runs));
    }
    if b == a {
        return Some(Thing::File(c.clone(), runs));
    }
    let text = |body: &Body| match body {
        Body::Text { slots, crlf, ended } => Some((*slots, *crlf, *ended)),
        _ => None,
    };
    let ((a, a_crlf, a_ended), (b, b_crlf, b_ended), (c, c_crlf, c_ended)) =
        (text(a)?, text(b)?, text(c)?);
    if a_crlf != b_crlf || a_crlf != c_crlf {
        return None;
    }
    let mut slots = a;
    for slot in 0..SLOTS {
        slots[slot] = one_side(a[slot], b[slot], c[slot])?;
    }
    let ended = one_side(a_ended, b_ended, c_ended)?;
    let crlf = a_crlf;
    Some(Thing::File(Body::Text { slots, crlf, ended }, runs))
}

fn one_side<T: PartialEq>(before: T, ours: T, after: T) -> Option<T> {
    if ours == before {
        Some(after)
    } else if after == before || after == ours {
        Some(ours)
    } else {
        None
    }
}

/// Bytes and modes of all files below a folder, without git's own.
pub(super) fn on_disk(root: &Path) -> BTreeMap<String, (Vec<u8>, u32)> {
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, (Vec<u8>, u32)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path == root.join(".git") {
            continue;
        }
        let stat = path.symlink_metadata().expect("there");
        if stat.is_dir() {
            walk(root, &path, found);
            continue;
        }
        let name = path
            .strip_prefix(root)
            .expect("below")
            .display()
            .to_string();
        let file = if stat.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            (target.into_os_string().into_encoded_bytes(), 0o120_000)
        } else {
            let runs = stat.permissions().mode() & 0o100 != 0;
            let mode = if runs { 0o100_755 } else { 0o100_644 };
            (fs::read(&path).expect("a file"), mode)
        };
        found.insert(name, file);
    }
}

/// The same of the model.
pub(super) fn in_model(files: &Files) -> BTreeMap<String, (Vec<u8>, u32)> {
    let file = |(path, thing): (&String, &Thing)| (path.clone(), (thing.bytes(), thing.mode()));
    files.iter().map(file).collect()
}
