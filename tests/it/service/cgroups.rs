//! Control groups of agents, on the machine's own cgroup v2. Where it cannot be written
//! the service says why, and agents run and are ended as without.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth::process::Identity;
use nix::sys::signal::Signal;

use super::harness::{Chat, Service, signal};
use crate::support::wait;

const ON: &str = "[pool]\ncgroups = \"on\"\n[agents.demo]\npids_max = 500\n";
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// The group of a process, as a directory.
fn group_of(pid: i32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    mount().join(path.expect("a group of v2"))
}

fn mount() -> PathBuf {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = text.lines().find(|line| line.contains(" - cgroup2 "));
    line.expect("a mount").split(' ').nth(4).unwrap().into()
}

fn pids(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().map(|pid| pid.parse().unwrap()).collect()
}

async fn removed(group: &Path) {
    let there = || group.exists();
    wait::until("the removal of a group", GONE_WITHIN, there, |there| {
        !*there
    })
    .await;
}

/// Runs an agent that lets go of a process without our mark, which no descent leads to
/// once its guard is gone.
async fn leak(service: &Service) -> (Chat, i32, Vec<Identity>) {
    let chat = service.chat().await;
    let script = "run (env -i setsid sleep 1013 >/dev/null 2>&1 &); sleep 0.3";
    let task = service.say(&chat, script).await;
    assert_eq!(service.outcome(&task).await, "ok");
    let agent = service.agent_pid(&chat).await;
    let members = pids(&group_of(agent)).into_iter().filter_map(Identity::of);
    (chat, agent, members.collect())
}

/// The agent's guard.
fn shim_of(agent: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.unwrap().trim().parse().unwrap()
}

async fn as_without(service: Service, told: &str) {
    let why = told.strip_prefix("not enforced: ").expect("a reason");
    println!("not used here: {why}");
    assert!(why.len() > 10, "{why}");
    assert!(
        service.log().contains("no control groups, although"),
        "it is said"
    );
    let chat = service.chat().await;
    let task = service.say(&chat, "leak\nsay x").await;
    assert_eq!(service.outcome(&task).await, "ok");
    let agent = service.agent_pid(&chat).await;
    signal(agent, Signal::SIGKILL);
    let left = || service.processes();
    wait::until("an empty tree", GONE_WITHIN, left, Vec::is_empty).await;
}

#[tokio::test]
async fn agents_live_in_groups_of_their_own_and_end_with_them() {
    let mut service = Service::with_config(Some(ON)).await;
    let health = service.get("/api/health").await;
    let told = health["kernel_limits"].as_str().expect("a line").to_owned();
    let Some(enforced) = told.strip_prefix("enforced: ") else {
        return as_without(service, &told).await;
    };
    println!("used here: {enforced}");
    assert!(enforced.contains("kill"), "{told}");
    let hearth = group_of(service.pid());
    assert!(hearth.ends_with("hearth"), "{hearth:?}");
    let node = fs::read_to_string(service.home.join("node")).unwrap();
    let agents = hearth.with_file_name(format!("agents-{}", node.trim().replace('-', "")));
    assert!(agents.is_dir(), "{agents:?}");

    // One that escaped everything else ends with its group, whoever is killed.
    let (chat, agent, members) = leak(&service).await;
    let leaf = group_of(agent);
    assert_eq!(leaf.parent(), Some(&*agents));
    assert!(
        members.len() >= 2,
        "the agent and what it left: {members:?}"
    );
    let shim = shim_of(agent);
    assert_eq!(group_of(shim), hearth, "the guard stays outside");
    let there = enforced.split(';').next().unwrap_or_default();
    if there.contains("pids") {
        assert_eq!(fs::read_to_string(leaf.join("pids.max")).unwrap(), "500\n");
    }
    signal(shim, Signal::SIGKILL);
    let alive = || members.iter().filter(|it| it.is_alive()).count();
    wait::until("the end of a group", GONE_WITHIN, alive, |alive| {
        *alive == 0
    })
    .await;
    removed(&leaf).await;

    // The chat goes on in another; an agent's own death takes its group away too.
    let task = service.say(&chat, "say again").await;
    assert_eq!(service.outcome(&task).await, "ok");
    let agent = service.agent_pid(&chat).await;
    let leaf = group_of(agent);
    signal(agent, Signal::SIGKILL);
    removed(&leaf).await;

    // A life that ends hard leaves its groups to the next one, which empties them.
    let (_, agent, members) = leak(&service).await;
    let (leaf, shim) = (group_of(agent), shim_of(agent));
    signal(shim, Signal::SIGSTOP);
    service.kill().await;
    signal(shim, Signal::SIGKILL);
    assert!(leaf.exists());
    let mut service = service.again().await;
    assert!(!leaf.exists(), "before it is ready");
    assert_eq!(members.iter().filter(|it| it.is_alive()).count(), 0);

    // One that is asked to leave gives all of it back.
    let chat = service.chat().await;
    let task = service.say(&chat, "say x").await;
    assert_eq!(service.outcome(&task).await, "ok");
    assert!(service.terminate().await.success());
    assert!(!agents.exists());
    // Another Hearth of this group may live there.
    assert!(!hearth.exists() || !pids(&hearth).is_empty());
}
