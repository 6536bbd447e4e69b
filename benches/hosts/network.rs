//! Machines on one machine: network namespaces of our own that reach one another and nothing else.
//!
//! Owns what `ip` makes and takes away again. Its one surprise: the room's side is a namespace like the workers', so that
//! nothing of this is ever seen in the network that the machine itself has.

use std::{
    path::Path,
    process::{Command, Stdio},
};

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
        let network = Self { name: format!("podium{}", std::process::id()), workers };
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

fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}
