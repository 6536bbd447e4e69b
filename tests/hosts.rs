//! Machines of a benchmark that was killed are taken away by the next one. Needs root and `ip`; else it is skipped.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail loudly, and says that it is skipped")]

#[path = "../benches/hosts/network.rs"]
#[expect(dead_code, reason = "benches/hosts.rs uses the rest")]
mod network;

use std::process::{Command, Stdio};

fn ip(words: &[&str]) -> String {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn there() -> Vec<String> {
    ip(&["netns", "list"]).lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn machines_of_a_run_that_is_dead_are_taken_away_with_what_runs_there_and_those_of_the_living_stay() {
    if !rustix::process::geteuid().is_root() || Command::new("ip").args(["netns", "list"]).output().is_err() {
        eprintln!("SKIPPED: network namespaces need root and `ip`");
        return;
    }
    let mut run = Command::new("true").spawn().unwrap();
    run.wait().unwrap();
    let dead = format!("podium{}", run.id());
    let worker = network::worker(&dead, 0);
    let living = network::worker(&format!("podium{}", std::process::id()), 0);
    let other = format!("podium-test-{}", std::process::id());
    for name in [&dead, &worker, &living, &other] {
        ip(&["netns", "add", name]);
    }
    let mut left = Command::new("ip");
    let mut left = left.args(["netns", "exec", &worker, "sleep", "20"]).stdin(Stdio::null()).spawn().unwrap();
    while ip(&["netns", "pids", &worker]).is_empty() {
        std::thread::yield_now();
    }
    network::sweep();
    let ended = left.try_wait().unwrap().or_else(|| Some(left.wait().unwrap()));
    let found = there();
    for name in [&living, &other] {
        ip(&["netns", "delete", name]);
    }
    assert!(!found.contains(&dead) && !found.contains(&worker), "{found:?}");
    assert!(found.contains(&living) && found.contains(&other), "{found:?}");
    assert!(!ended.unwrap().success(), "it was killed");
}
