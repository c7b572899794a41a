//! On files that behave as the kernel's do.

use hearth_actors::event::OutOfMemory;
use tempfile::TempDir;

use super::*;

const MIB: u64 = 1024 * 1024;

/// A mount at `mount`, in which our group is `/unit`.
struct Fake {
    dir: TempDir,
    system: System,
}

impl Fake {
    fn new(controllers: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().join("a mount");
        fs::create_dir(&mount).unwrap();
        fs::write(mount.join(SUBTREE), controllers).unwrap();
        let file = |name: &str, text: String| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let shown = mount.to_str().unwrap().replace(' ', r"\040");
        let system = System {
            membership: file("cgroup", "4:memory:/elsewhere\n0::/unit\n".into()),
            mounts: file(
                "mountinfo",
                format!(
                    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / {shown} rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
                ),
            ),
            delegated: |_| true,
            make,
            remove,
        };
        make(&mount.join("unit")).unwrap();
        Self { dir, system }
    }

    fn own(&self) -> PathBuf {
        self.dir.path().join("a mount/unit")
    }

    fn open(&self) -> Result<Groups, String> {
        Groups::open(self.system.clone(), Cgroups::Auto, "n1")
    }

    fn refused(&self, wish: Cgroups) -> String {
        let before = tree(&self.own());
        let why = Groups::open(self.system.clone(), wish, "n1").expect_err("a reason");
        assert_eq!(tree(&self.own()), before, "nothing was touched");
        why
    }
}

/// What a new group has, by what the one above gives.
fn make(group: &Path) -> io::Result<()> {
    fs::create_dir(group)?;
    let given = words_of(&group.parent().unwrap().join(SUBTREE)).unwrap_or_default();
    let given: Vec<&str> = given
        .iter()
        .map(|name| name.trim_start_matches('+'))
        .collect();
    fs::write(group.join(CONTROLLERS), given.join(" "))?;
    let mut files = vec![PROCS, KILL, SUBTREE];
    for controller in given {
        files.extend(match controller {
            "memory" => &[
                "memory.max",
                "memory.swap.max",
                "memory.oom.group",
                "memory.events",
            ][..],
            "pids" => &["pids.max"],
            "cpu" => &["cpu.weight"],
            _ => &[],
        });
    }
    files
        .iter()
        .try_for_each(|file| fs::write(group.join(file), ""))
}

/// As `rmdir` would: not where something lives, or another group is below. The file
/// `busy` stands for a process, which `cgroup.kill` ends.
fn remove(group: &Path) -> io::Result<()> {
    let killed = |group: &Path| fs::read_to_string(group.join(KILL)).is_ok_and(|text| text == "1");
    let killed = group.ancestors().take(2).any(killed);
    if group.join("busy").exists() && !killed {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    if !children(group).is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENOTEMPTY));
    }
    fs::remove_dir_all(group)
}

fn said(file: PathBuf) -> String {
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn tree(group: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(group).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.push((path.clone(), String::new()));
            found.extend(tree(&path));
        } else {
            found.push((path.clone(), said(path)));
        }
    }
    found.sort();
    found
}

fn limits() -> Limits {
    Limits {
        memory: Some(120 * MIB),
        pids: Some(64),
    }
}

#[test]
fn all_controllers_hold_an_agent_and_the_rest_stays_outside() {
    let fake = Fake::new("cpu io memory pids");
    let groups = fake.open().unwrap();
    assert_eq!(groups.words(), "memory, pids, cpu, kill");
    let own = fake.own();
    assert_eq!(said(own.join("hearth/cgroup.procs")), "0");
    assert_eq!(said(own.join(SUBTREE)), "+memory +pids +cpu");
    let agents = own.join("agents-n1");
    assert_eq!(said(agents.join(SUBTREE)), "+memory +pids +cpu");
    assert_eq!(said(agents.join("cpu.weight")), "50");
    assert_eq!(said(agents.join(PROCS)), "", "nobody lives between");
    let leaf = groups.leaf("t1", limits()).unwrap();
    for (file, text) in [
        ("memory.max", "125829120"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("pids.max", "64"),
        (PROCS, ""),
    ] {
        assert_eq!(said(leaf.path().join(file)), text, "{file}");
    }
    leaf.kill();
    assert_eq!(said(leaf.path().join(KILL)), "1");
    let path = leaf.path().to_owned();
    assert!(leaf.remove());
    assert!(!path.exists());
    assert!(leaf.remove(), "twice is fine");
}

#[test]
fn what_is_not_limited_is_left_as_the_kernel_has_it() {
    let fake = Fake::new("memory pids");
    let groups = fake.open().unwrap();
    let leaf = groups.leaf("t1", Limits::default()).unwrap();
    for file in [
        "memory.max",
        "memory.oom.group",
        "memory.swap.max",
        "pids.max",
    ] {
        assert_eq!(said(leaf.path().join(file)), "", "{file}");
    }
}

#[test]
fn a_kernel_without_swap_accounting_limits_memory_all_the_same() {
    let mut fake = Fake::new("memory");
    fake.system.make = |group| {
        make(group)?;
        let _ = fs::remove_file(group.join("memory.swap.max"));
        Ok(())
    };
    let leaf = fake.open().unwrap().leaf("t1", limits()).unwrap();
    assert_eq!(said(leaf.path().join("memory.max")), "125829120");
    assert_eq!(said(leaf.path().join("memory.oom.group")), "1");
}

#[test]
fn an_absent_controller_is_named_and_left_out() {
    let fake = Fake::new("io pids");
    let groups = fake.open().unwrap();
    assert_eq!(
        groups.words(),
        "pids, kill; not memory, cpu, which the group lacks"
    );
    assert_eq!(said(fake.own().join(SUBTREE)), "+pids");
    let leaf = groups.leaf("t1", limits()).unwrap();
    assert_eq!(said(leaf.path().join("pids.max")), "64");
    assert!(!leaf.path().join("memory.max").exists());

    let fake = Fake::new("");
    let groups = fake.open().unwrap();
    assert_eq!(
        groups.words(),
        "kill; not memory, pids, cpu, which the group lacks"
    );
    assert_eq!(said(fake.own().join(SUBTREE)), "");
    let leaf = groups.leaf("t1", limits()).unwrap();
    assert_eq!(leaf.out_of_memory(), None);
    assert!(leaf.remove());
}

#[test]
fn without_delegation_nothing_is_touched_unless_it_is_asked_for() {
    let mut fake = Fake::new("memory pids");
    fake.system.delegated = |_| false;
    let why = fake.refused(Cgroups::Auto);
    assert!(why.contains("a mount/unit is not delegated"), "{why}");
    assert!(why.contains("Delegate=yes"), "{why}");
    let groups = Groups::open(fake.system.clone(), Cgroups::On, "n1").unwrap();
    assert_eq!(
        groups.words(),
        "memory, pids, kill; not cpu, which the group lacks"
    );
}

#[test]
fn off_looks_at_nothing() {
    let mut fake = Fake::new("memory");
    fake.system.membership = "/nowhere".into();
    assert_eq!(fake.refused(Cgroups::Off), "`pool.cgroups` is \"off\"");
}

#[test]
fn a_machine_that_has_none_of_it_says_so() {
    let fake = Fake::new("memory");
    let told = |membership: &str, mounts: &str, part: &str| {
        let mut system = fake.system.clone();
        for (file, text) in [("m", membership), ("i", mounts)] {
            fs::write(fake.dir.path().join(file), text).unwrap();
        }
        system.membership = fake.dir.path().join("m");
        system.mounts = fake.dir.path().join("i");
        let why = Groups::open(system, Cgroups::On, "n1").expect_err("a reason");
        assert!(why.contains(part), "{part}: {why}");
    };
    let good = said(fake.system.mounts.clone());
    told("4:memory:/x\n", &good, "has no cgroup v2");
    told(
        "0::/unit\n",
        "1 2 0:3 / /x rw - cgroup cgroup rw,memory\n",
        "not mounted",
    );
    told("0::/gone\n", &good, "group /gone is not below");
    // Out of the namespace that is mounted here.
    told("0::/../unit\n", &good, "group /../unit is not below");
    let other = good.replace(" / ", " /other ");
    told("0::/unit\n", &other, "group /unit is not below");
    let mut gone = fake.system.clone();
    gone.membership = "/nowhere".into();
    let why = Groups::open(gone, Cgroups::On, "n1").expect_err("a reason");
    assert!(why.contains("/nowhere cannot be read"), "{why}");
}

#[test]
fn a_part_of_the_hierarchy_that_is_mounted_is_enough() {
    let fake = Fake::new("pids");
    let good = said(fake.system.mounts.clone());
    fs::write(
        &fake.system.mounts,
        good.replace("0:29 / ", "0:29 /docker/x "),
    )
    .unwrap();
    fs::write(&fake.system.membership, "0::/docker/x/unit\n").unwrap();
    assert_eq!(fake.open().unwrap().own, fake.own());
}

/// A file that the kernel refuses to take is a directory here.
#[test]
fn a_group_that_others_live_in_is_given_back() {
    let fake = Fake::new("memory");
    let (own, switch) = (fake.own(), fake.own().join(SUBTREE));
    fs::remove_file(&switch).unwrap();
    fs::create_dir(&switch).unwrap();
    let why = fake.open().expect_err("a reason");
    assert!(
        why.contains("subtree_control does not take \"+memory\""),
        "{why}"
    );
    assert!(!own.join("hearth").exists() && !own.join("agents-n1").exists());
    assert_eq!(said(own.join(PROCS)), "0", "back where it was");
}

#[test]
fn what_an_earlier_life_left_is_ended_and_removed() {
    let fake = Fake::new("pids");
    let old = fake.open().unwrap();
    for tree in ["t1", "t2"] {
        let leaf = old.leaf(tree, limits()).unwrap();
        let inner = leaf.path().join("inner");
        make(&inner).unwrap();
        for group in [leaf.path(), &inner] {
            fs::write(group.join("busy"), "").unwrap();
        }
    }
    let agents = fake.own().join("agents-n1");
    assert_eq!(children(&agents).len(), 2, "they outlived their owner");
    let new = fake.open().unwrap();
    assert!(children(&agents).is_empty());
    new.leaf("t1", limits()).unwrap();
}

#[test]
fn what_cannot_be_ended_stays_and_harms_nothing() {
    let mut fake = Fake::new("pids");
    let leaf = fake.open().unwrap().leaf("t1", limits()).unwrap();
    fake.system.remove = |group| {
        let stuck = group.ends_with("agents-n1/t1");
        if stuck {
            Err(io::Error::from_raw_os_error(libc::EBUSY))
        } else {
            remove(group)
        }
    };
    let began = Instant::now();
    let groups = fake.open().unwrap();
    assert!(began.elapsed() < CLEAR_LIMIT * 2);
    groups.leaf("t2", limits()).unwrap();
    assert!(leaf.path().exists());
}

#[test]
fn the_kernels_kills_are_told_by_whose_memory_ran_out() {
    let fake = Fake::new("memory");
    let groups = fake.open().unwrap();
    let leaf = groups.leaf("t1", limits()).unwrap();
    let free = groups.leaf("t2", Limits::default()).unwrap();
    let events = |leaf: &Leaf, text: &str| {
        fs::write(leaf.path().join("memory.events"), text).unwrap();
        leaf.out_of_memory()
    };
    let none = "low 0\nhigh 0\nmax 7\noom 0\noom_kill 0\noom_group_kill 0\n";
    let own = "low 0\nhigh 0\nmax 40\noom 1\noom_kill 3\noom_group_kill 1\n";
    let machine = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\n";
    assert_eq!(leaf.out_of_memory(), None);
    assert_eq!(events(&leaf, none), None);
    assert_eq!(events(&leaf, "nonsense\noom_kill many\n"), None);
    assert_eq!(events(&leaf, own), Some(OutOfMemory::Limit(120 * MIB)));
    assert_eq!(events(&leaf, machine), Some(OutOfMemory::Machine));
    assert_eq!(events(&free, own), Some(OutOfMemory::Machine));
}

#[test]
fn the_end_gives_the_group_back() {
    let fake = Fake::new("memory pids");
    let groups = fake.open().unwrap();
    drop(groups.leaf("t1", limits()).unwrap());
    groups.close();
    let own = fake.own();
    assert!(children(&own).is_empty());
    assert_eq!(said(own.join(SUBTREE)), "-memory -pids");
    assert_eq!(said(own.join(PROCS)), "0");
    // What others had given before stays given.
    fs::write(own.join(SUBTREE), "memory").unwrap();
    fake.open().unwrap().close();
    assert_eq!(said(own.join(SUBTREE)), "-pids");
}
