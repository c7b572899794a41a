//! Somebody else writes while a plan is carried out: what they wrote is there
//! afterwards, and nothing outside the root changes.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::fault::strike;
use super::super::steps::{carry_out, take_back};
use super::bench::{Bench, Files, Thing};

fn file(text: &str) -> Thing {
    Thing::File(text.as_bytes().to_vec())
}

fn files(of: &[(&str, &str)]) -> Files {
    let file = |(path, text): &(&str, &str)| ((*path).to_owned(), file(text));
    of.iter().map(file).collect()
}

/// Lets `deed` happen at each point of the plan once.
fn at_each_point(bench: &Bench, deed: fn(&Path), check: impl Fn(usize)) -> usize {
    bench.set(&bench.before);
    strike::passed();
    assert_eq!(
        carry_out(&bench.ground, &bench.plan, false).expect("an answer"),
        []
    );
    let points = strike::passed();
    for point in 0..points {
        bench.set(&bench.before);
        let root: PathBuf = bench.root.clone();
        strike::meanwhile(point, move || deed(&root));
        // Refused or done, as it came; what counts is what is there then.
        let conflicts = carry_out(&bench.ground, &bench.plan, false).expect("an answer");
        if !conflicts.is_empty() {
            take_back(&bench.ground, &bench.plan, false).expect("an answer");
        }
        check(point);
    }
    points
}

fn never_lost(before: &[(&str, &str)], after: &[(&str, &str)], deed: fn(&Path)) {
    for plain in [false, true] {
        strike::rename_plainly(plain);
        let dir = tempfile::tempdir().expect("a folder");
        let bench = Bench::new(&dir.path().join("root"), files(before), files(after));
        let points = at_each_point(&bench, deed, |point| {
            let text = fs::read_to_string(bench.root.join("a/file"));
            assert_eq!(text.ok().as_deref(), Some("theirs\n"), "at {point}");
            let names: Vec<String> = bench.files().into_keys().collect();
            assert_eq!(names, ["a/file"], "at {point}");
        });
        assert!(points >= 2);
        strike::rename_plainly(false);
    }
}

/// As an editor that writes a new file and renames it.
fn save(root: &Path) {
    let beside = root.join("a/beside");
    fs::create_dir_all(root.join("a")).expect("a folder");
    fs::write(&beside, "theirs\n").expect("written");
    fs::rename(beside, root.join("a/file")).expect("renamed");
}

/// As one that writes over it.
fn write_over(root: &Path) {
    fs::create_dir_all(root.join("a")).expect("a folder");
    fs::write(root.join("a/file"), "theirs\n").expect("written");
}

const ONE: [(&str, &str); 1] = [("a/file", "one\n")];
const TWO: [(&str, &str); 1] = [("a/file", "two\n")];

#[test]
fn an_edit_beside_an_edit() {
    never_lost(&ONE, &TWO, save);
    never_lost(&ONE, &TWO, write_over);
}

#[test]
fn an_edit_beside_a_creation() {
    never_lost(&[], &TWO, save);
    never_lost(&[], &TWO, write_over);
}

#[test]
fn an_edit_beside_a_removal() {
    never_lost(&ONE, &[], save);
    never_lost(&ONE, &[], write_over);
}

/// As an editor that saves once more.
fn save_again(root: &Path) {
    let beside = root.join("a/beside");
    fs::create_dir_all(root.join("a")).expect("a folder");
    fs::write(&beside, "theirs again\n").expect("written");
    fs::rename(beside, root.join("a/file")).expect("renamed");
}

fn write_over_again(root: &Path) {
    fs::create_dir_all(root.join("a")).expect("a folder");
    fs::write(root.join("a/file"), "theirs again\n").expect("written");
}

/// An edit at each point, and another one at each point after it: the last stays.
#[test]
fn two_edits_beside_an_edit() {
    let mut pairs = 0;
    let mut late = 0;
    for (plain, first, second) in [
        (false, save as fn(&Path), save_again as fn(&Path)),
        (false, save, write_over_again),
        (false, write_over, save_again),
        (false, write_over, write_over_again),
        (true, save, save_again),
        (true, save, write_over_again),
    ] {
        strike::rename_plainly(plain);
        let dir = tempfile::tempdir().expect("a folder");
        let bench = Bench::new(&dir.path().join("root"), files(&ONE), files(&TWO));
        for one in 0..8 {
            for two in 0..8 {
                bench.set(&bench.before);
                let root = bench.root.clone();
                let done = Rc::new(Cell::new(0));
                let (counted, again) = (Rc::clone(&done), Rc::clone(&done));
                strike::meanwhile(one, move || {
                    counted.set(1);
                    first(&root);
                    strike::meanwhile(two, move || {
                        again.set(2);
                        second(&root);
                    });
                });
                let conflicts = carry_out(&bench.ground, &bench.plan, false).expect("an answer");
                strike::forget();
                if !conflicts.is_empty() {
                    take_back(&bench.ground, &bench.plan, false).expect("an answer");
                }
                let wanted = match done.get() {
                    0 => "two\n",
                    1 => "theirs\n",
                    _ => "theirs again\n",
                };
                let text = fs::read_to_string(bench.root.join("a/file"));
                let at = format!("at {one} and {two}, plain {plain}");
                assert_eq!(text.ok().as_deref(), Some(wanted), "{at}");
                // The earlier one may be left under a name of ours where names
                // cannot be exchanged: the place is empty for a moment there.
                let ours = |name: &String| plain && name.contains("/.hearth-");
                let names = bench.files().into_keys();
                let names: Vec<String> = names.filter(|name| !ours(name)).collect();
                assert_eq!(names, ["a/file"], "{at}");
                pairs += usize::from(done.get() == 2);
                late += usize::from(done.get() == 2 && !conflicts.is_empty());
            }
        }
        strike::rename_plainly(false);
    }
    assert!(pairs >= 60 && late >= 20, "only {pairs}, {late} refused");
}

/// Texts by name, without names of ours.
fn texts(folder: &Path) -> BTreeMap<String, String> {
    let listed = fs::read_dir(folder).expect("a folder");
    let text = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").display().to_string();
        (name, fs::read_to_string(path).expect("a text"))
    };
    let texts = listed.map(text);
    texts
        .filter(|(name, _)| !name.starts_with(".hearth-"))
        .collect()
}

/// Moves the folder away, leaves a link to it, and remembers what is in it.
fn trap(root: &Path) {
    let outside = root.parent().expect("a parent").join("outside");
    let _ = fs::remove_dir_all(&outside);
    fs::rename(root.join("a"), &outside).expect("renamed");
    symlink(&outside, root.join("a")).expect("a link");
    let seen = serde_json::to_vec(&texts(&outside.join("b"))).expect("a text");
    fs::write(outside.join("seen"), seen).expect("written");
}

/// How many files changed out there since the trap.
fn changed_since(outside: &Path) -> usize {
    let seen = fs::read(outside.join("seen")).expect("a text");
    let seen: BTreeMap<String, String> = serde_json::from_slice(&seen).expect("texts");
    let now = texts(&outside.join("b"));
    let names: BTreeSet<&String> = seen.keys().chain(now.keys()).collect();
    let changed = names
        .iter()
        .filter(|name| seen.get(**name) != now.get(**name));
    changed.count()
}

#[test]
fn a_folder_swapped_for_a_link_leads_nowhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let outside = dir.path().join("outside");
    let before = [("a/b/edited", "one\n"), ("a/b/gone", "gone\n")];
    let after = [("a/b/edited", "two\n"), ("a/b/new", "new\n")];
    let bench = Bench::new(&dir.path().join("root"), files(&before), files(&after));
    let points = at_each_point(&bench, trap, |point| {
        // The folder that was open when it moved may still have got its one file;
        // a second one would have come by the link.
        assert!(changed_since(&outside) <= 1, "at {point}");
        assert!(bench.root.join("a").is_symlink());
    });
    assert!(points >= 8);
    // Swapped before the first step: nothing at all happens out there.
    bench.set(&bench.before);
    trap(&bench.root);
    for work in [carry_out, take_back] {
        let conflicts = work(&bench.ground, &bench.plan, false).expect("an answer");
        assert_eq!(conflicts.len(), 3, "{conflicts:?}");
        assert!(conflicts[0].reason.contains("a is a link"), "{conflicts:?}");
        assert_eq!(changed_since(&outside), 0);
    }
}

#[test]
fn a_plan_that_leads_out_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut bench = Bench::new(&dir.path().join("root"), Files::new(), files(&TWO));
    for path in [
        "../out",
        "/tmp/out",
        ".git/hooks/post-commit",
        "a/../../out",
        ".GIT/config",
    ] {
        bench.plan.steps[0].path = path.into();
        for work in [carry_out, take_back] {
            let conflicts = work(&bench.ground, &bench.plan, false).expect("an answer");
            assert_eq!(conflicts.len(), 1, "{path}");
            assert_eq!(conflicts[0].path, path);
        }
    }
    assert!(!dir.path().join("out").exists());
    assert!(!bench.root.join(".git/hooks/post-commit").exists());
}

#[test]
fn what_is_no_file_is_in_the_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let bench = Bench::new(&dir.path().join("root"), Files::new(), files(&TWO));
    let at = bench.root.join("a/file");
    fs::create_dir(bench.root.join("a")).expect("a folder");
    let told = |what: &str| {
        let conflicts = carry_out(&bench.ground, &bench.plan, false).expect("an answer");
        assert_eq!(conflicts.len(), 1);
        assert!(conflicts[0].reason.contains(what), "{conflicts:?}");
    };
    nix::unistd::mkfifo(&at, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    told("is a FIFO");
    fs::remove_file(&at).expect("removed");
    let _socket = std::os::unix::net::UnixListener::bind(&at).expect("a socket");
    told("is a socket");
    fs::remove_file(&at).expect("removed");
    fs::create_dir(&at).expect("a folder");
    fs::write(at.join("inner"), "inner").expect("written");
    told("is a folder with other files");
    fs::remove_file(at.join("inner")).expect("removed");
    fs::create_dir_all(at.join("hollow/deep")).expect("a folder");
    assert_eq!(
        carry_out(&bench.ground, &bench.plan, false).expect("an answer"),
        []
    );
    assert_eq!(bench.files(), bench.after);
    fs::create_dir(bench.root.join("a/.git")).expect("a folder");
    bench.set(&bench.before);
    fs::create_dir_all(bench.root.join("a/.git")).expect("a folder");
    told("is a repository of its own");
}

#[test]
fn who_may_do_what_with_a_file_stays() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    let before = files(&[("a/private", "one\n"), ("a/open", "one\n")]);
    let mut after = files(&[
        ("a/private", "two\n"),
        ("a/new", "new\n"),
        ("b/c/new", "new\n"),
    ]);
    after.insert("a/open".into(), Thing::Program(b"two\n".to_vec()));
    let bench = Bench::new(&dir.path().join("root"), before, after);
    bench.set(&bench.before);
    let set = |path: &str, mode| {
        let path = bench.root.join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    };
    let mode = |path: &str| {
        let found = fs::metadata(bench.root.join(path)).expect("there");
        found.permissions().mode() & 0o777
    };
    set("a/private", 0o600);
    set("a/open", 0o664);
    set("a", 0o755);
    set("", 0o750);
    assert_eq!(
        carry_out(&bench.ground, &bench.plan, true).expect("an answer"),
        []
    );
    assert_eq!(mode("a/private"), 0o600);
    assert_eq!(mode("a/open"), 0o775);
    assert_eq!(mode("a/new"), 0o644);
    assert_eq!(mode("b"), 0o750);
    assert_eq!(mode("b/c/new"), 0o640);
}

#[test]
fn a_big_file_comes_and_goes() {
    let dir = tempfile::tempdir().expect("a folder");
    let big = |seed: u8| {
        let bytes = (0..5_000_000_u32).map(|n| (n / 7) as u8 ^ seed).collect();
        Files::from([("a/big".to_owned(), Thing::File(bytes))])
    };
    let bench = Bench::new(&dir.path().join("root"), big(1), big(2));
    bench.set(&bench.before);
    assert_eq!(
        carry_out(&bench.ground, &bench.plan, true).expect("an answer"),
        []
    );
    assert!(bench.files() == bench.after);
    assert_eq!(
        take_back(&bench.ground, &bench.plan, true).expect("an answer"),
        []
    );
    assert!(bench.files() == bench.before);
}
