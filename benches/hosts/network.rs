//! Machines on one machine: network namespaces of our own that reach one another and nothing else.
//!
//! Owns what `ip` makes and takes away again, also where the run that made it was killed: a machine's name has its process in
//! it. Its one surprise: the room's side is a namespace like the workers', so that nothing of this is ever seen in the network
//! that the machine itself has.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// What machines' names begin with; the process follows that made them.
const NAME: &str = "podium";

/// Where the room's machine is reached, from all of them.
pub(crate) const ROOM: &str = "10.213.0.1";

/// The room's machine, and the workers' on a bridge with it.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    workers: usize,
}

impl Network {
    /// Makes them; `None`, and said loudly, where that is not allowed.
    pub(crate) fn new(workers: usize) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOTHING MEASURED: network namespaces need root and `ip` (iproute2)");
            return None;
        }
        sweep();
        let network = Self { name: format!("{NAME}{}", std::process::id()), workers };
        let made = network.room() && (0..workers).all(|n| network.join(n));
        if !made {
            eprintln!("NOTHING MEASURED: `ip` could not make the namespaces; it says why above");
        }
        made.then_some(network)
    }

    /// The name of the room's machine.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn room(&self) -> bool {
        let within = |words: &[&str]| ip(&[&["-n", self.name.as_str()], words].concat());
        ip(&["netns", "add", &self.name])
            && within(&["link", "set", "lo", "up"])
            && within(&["link", "add", "bridge", "type", "bridge"])
            && within(&["address", "add", &format!("{ROOM}/24"), "dev", "bridge"])
            && within(&["link", "set", "bridge", "up"])
    }

    fn join(&self, n: usize) -> bool {
        let (name, wire, at) = (worker(&self.name, n), format!("wire{n}"), format!("10.213.0.{}/24", n + 2));
        let (room, within) =
            (["-n", self.name.as_str()], |words: &[&str]| ip(&[&["-n", name.as_str()], words].concat()));
        ip(&["netns", "add", &name])
            && ip(&[&room[..], &["link", "add", &wire, "type", "veth", "peer", "name", "wire", "netns", &name]].concat())
            && ip(&[&room[..], &["link", "set", &wire, "master", "bridge", "up"]].concat())
            && within(&["address", "add", &at, "dev", "wire"])
            && within(&["link", "set", "wire", "up"])
            && within(&["link", "set", "lo", "up"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Bridge and wires go with them.
        for name in (0..self.workers).map(|n| worker(&self.name, n)).chain([self.name.clone()]) {
            ip(&["netns", "delete", &name]);
        }
    }
}

/// Takes away what runs have left that were killed, and ends what still runs there: it would be measured with the next one.
pub(crate) fn sweep() {
    let listed = said(&["netns", "list"]);
    // Each with a note, where the kernel has given it a number.
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| maker(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())) {
        eprintln!("{name} is of a run that is dead, and is taken away");
        for pid in said(&["netns", "pids", name]).lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            // It may be gone already.
            let _gone = kill_process(pid, Signal::KILL);
        }
        ip(&["netns", "delete", name]);
    }
}

/// The process that made a machine of this name; `None` where it is none of ours.
fn maker(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(NAME)?;
    let (pid, worker) = rest.split_once('-').unwrap_or((rest, "0"));
    worker.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// The name of a worker's machine.
pub(crate) fn worker(room: &str, n: usize) -> String {
    format!("{room}-{n}")
}

/// A program on a machine.
pub(crate) fn on(machine: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", machine]).arg(program);
    command
}

/// What `ip` has to say.
fn said(words: &[&str]) -> String {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}
