//! The processes of one attempt: found, measured, ended, and seen gone.
//!
//! Owns the process table as `/proc` shows it and the ladder of signals. Must not know engines or tasks. Its one
//! surprise: nothing is signalled by its number alone; the start time read before must still be that of the process
//! behind the descriptor the signal goes through.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::{self, File},
    io::{self, Read as _},
    time::Duration,
};

use rustix::{
    io::Errno,
    param::page_size,
    process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, wait, waitpid},
};
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};

/// The variable that marks every process of an attempt.
pub const COOKIE: &str = "PODIUM_COOKIE";

/// Clock ticks per second in `/proc`; the kernel's promise to programs, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// No environment is longer; the kernel's own limit is a quarter of the stack's.
const LONGEST: u64 = 8 * 1024 * 1024;

/// One row of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// Its session.
    pub session: i32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
    /// It has ended and waits to be reaped.
    pub zombie: bool,
    /// CPU time used, in clock ticks.
    pub ticks: u64,
    /// Resident memory, in bytes; the kernel counts it in steps.
    pub resident: u64,
}

/// Reads one row; `None` when there is no such process any more.
pub fn process(pid: i32) -> Option<Process> {
    // Longer than any row: it comes in one piece, or not at all.
    let mut row = [0; 1024];
    let read = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut row).ok()?;
    // The program's name may hold any bytes.
    parse(pid, &String::from_utf8_lossy(row.get(..read)?))
}

/// Field 22 of `/proc/{pid}/stat`.
pub fn start_ticks(pid: u32) -> Option<u64> {
    process(i32::try_from(pid).ok()?).map(|p| p.start)
}

/// The id of this boot.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|t| t.trim().to_owned()).unwrap_or_default()
}

fn parse(pid: i32, row: &str) -> Option<Process> {
    // The name stands in brackets and may hold anything, brackets too.
    let (_, rest) = row.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
    let ticks = number(7)? + number(0)?;
    let start = number(6)?;
    // After the size of its memory, what of that is resident, in pages.
    let resident = number(1)?.saturating_mul(page_size() as u64);
    Some(Process { pid, parent, session, start, zombie, ticks, resident })
}

fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The children of every thread of a process; `None` where the kernel does not say.
fn children(pid: i32) -> Option<Vec<i32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let list = fs::read_to_string(thread.ok()?.path().join("children")).ok()?;
        children.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Some(children)
}

fn environment(pid: i32) -> Option<Vec<u8>> {
    let mut environment = Vec::with_capacity(8 * 1024);
    // Not the file itself: it would be asked for its size, and says that it has none.
    File::open(format!("/proc/{pid}/environ")).ok()?.take(LONGEST).read_to_end(&mut environment).ok()?;
    Some(environment)
}

/// The children of a process. The kernel says them where it can; otherwise everybody is asked for its parent.
pub fn children_of(pid: i32) -> Vec<Process> {
    match children(pid) {
        Some(children) => children.into_iter().filter_map(process).filter(|p| p.parent == pid).collect(),
        None => table().into_iter().filter(|p| p.parent == pid).collect(),
    }
}

/// Every process there is.
pub fn table() -> Vec<Process> {
    pids().into_iter().filter_map(process).collect()
}

/// How long each step of the ladder waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace {
    /// After INT.
    pub interrupt: Duration,
    /// After TERM.
    pub terminate: Duration,
    /// How long the last sweep may take to see everything gone.
    pub sweep: Duration,
}

impl Default for Grace {
    fn default() -> Self {
        Self { interrupt: Duration::from_secs(5), terminate: Duration::from_secs(5), sweep: Duration::from_secs(30) }
    }
}

impl Grace {
    /// For when somebody waits: a second each.
    #[must_use]
    pub fn short() -> Self {
        Self { interrupt: Duration::from_secs(1), terminate: Duration::from_secs(1), ..Self::default() }
    }
}

/// What a tree uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Resident memory of all its processes, in bytes; shared pages count for each.
    pub rss_bytes: u64,
    /// CPU use since the last look, in percent of one core.
    pub cpu_percent: f32,
    /// A process came or went since the last look.
    pub stirred: bool,
}

/// One attempt's processes.
#[derive(Debug)]
pub struct Tree {
    leader: i32,
    leader_start: u64,
    cookie: Vec<u8>,
    /// Everything below this process belongs to the attempt, because it runs nothing else.
    owner: Option<i32>,
    ticks: BTreeMap<(i32, u64), u64>,
    looked: Option<Instant>,
}

impl Tree {
    /// The tree that grows from `leader`, a child of ours that carries `cookie`.
    ///
    /// With `sole`, every other descendant of this process is counted in as well: orphans that came back to us as
    /// their subreaper, whatever they did to their environment.
    pub fn new(leader: u32, cookie: &str, sole: bool) -> Self {
        let leader = i32::try_from(leader).unwrap_or(0);
        Self {
            leader,
            leader_start: process(leader).map_or(0, |p| p.start),
            cookie: format!("{COOKIE}={cookie}").into_bytes(),
            owner: sole.then(own_pid),
            ticks: BTreeMap::new(),
            looked: None,
        }
    }

    /// The leader's start time, in clock ticks since boot.
    pub fn leader_start(&self) -> u64 {
        self.leader_start
    }

    /// Descendants by parent links; with `marked`, also whoever carries the cookie, and their descendants.
    fn members(&self, marked: bool) -> Vec<Process> {
        let table = table();
        let own = own_pid();
        let mut roots: Vec<i32> = table.iter().filter(|p| Some(p.parent) == self.owner).map(|p| p.pid).collect();
        if table.iter().any(|p| p.pid == self.leader && p.start == self.leader_start) {
            roots.push(self.leader);
        }
        if marked {
            roots.extend(table.iter().map(|p| p.pid).filter(|pid| *pid != own && self.carries_cookie(*pid)));
        }
        let inside = with_descendants(&table, roots, &BTreeSet::from([own]));
        table.into_iter().filter(|p| inside.contains(&p.pid)).collect()
    }

    /// Descendants by parent links, without a look at anybody else's process; `None` where the kernel keeps no lists of
    /// children. Whoever comes or goes meanwhile may be missed: enough to measure by, not to end by.
    fn below(&self) -> Option<Vec<Process>> {
        let own = own_pid();
        let mut open = match self.owner {
            Some(owner) => children(owner)?,
            None => vec![self.leader],
        };
        let mut found = Vec::new();
        while let Some(pid) = open.pop() {
            let Some(process) = process(pid).filter(|p| p.pid != self.leader || p.start == self.leader_start) else {
                continue;
            };
            found.push(process);
            if pid != own {
                open.extend(children(pid).unwrap_or_default());
            }
        }
        Some(found)
    }

    fn carries_cookie(&self, pid: i32) -> bool {
        // Somebody else's environment cannot be read, and is none of ours.
        let Some(environment) = environment(pid) else { return false };
        environment.split(|b| *b == 0).any(|variable| variable == self.cookie)
    }

    /// What it uses now; CPU is counted from the look before.
    #[expect(clippy::cast_possible_truncation, reason = "a percentage")]
    pub fn load(&mut self) -> Load {
        let members = self.below().unwrap_or_else(|| self.members(false));
        let now = Instant::now();
        let seconds = self.looked.map(|before| now.duration_since(before).as_secs_f64());
        self.looked = Some(now);
        let mut used = 0;
        let mut rss_bytes = 0;
        let mut ticks = BTreeMap::new();
        for process in members.iter().filter(|p| !p.zombie) {
            let key = (process.pid, process.start);
            used += process.ticks.saturating_sub(self.ticks.get(&key).copied().unwrap_or(0));
            ticks.insert(key, process.ticks);
            rss_bytes += process.resident;
        }
        let stirred = !ticks.keys().eq(self.ticks.keys());
        self.ticks = ticks;
        let cpu_percent = match seconds {
            Some(seconds) if seconds > 0.0 => (used as f64 / TICKS_PER_SECOND / seconds * 100.0) as f32,
            Some(_) | None => 0.0,
        };
        Load { rss_bytes, cpu_percent, stirred }
    }

    /// Whether nothing is left below this process: the kernel's own word, exact and in one call. Whatever the attempt
    /// started hangs below it, so nobody can slip through; a look at the table is none the wiser. What has ended is
    /// reaped by it, so ask only once somebody has the leader's status. Always false where this process runs more than
    /// the attempt.
    pub fn is_gone(&self) -> bool {
        while self.owner.is_some() {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Err(Errno::CHILD) => return true,
                Ok(None) | Err(_) => return false,
            }
        }
        false
    }

    /// The numbers of all that live, by parent links and by cookie.
    pub fn alive(&self) -> Vec<i32> {
        self.members(true).into_iter().filter(|p| !p.zombie).map(|p| p.pid).collect()
    }

    /// Asks the leader's session to end, then all of the tree, then makes it. Returns once the leader was reaped.
    pub async fn end_leader(&self, child: &mut Child, grace: Grace) -> io::Result<std::process::ExitStatus> {
        let steps = [(Signal::INT, grace.interrupt), (Signal::TERM, grace.terminate)];
        for (step, patience) in steps {
            for member in self.members(false) {
                // An interrupt is for the engine itself, which ends its own tools; they may have other sessions.
                if !member.zombie && (step != Signal::INT || member.session == self.leader) {
                    signal(&member, step);
                }
            }
            // A child that has not reached its own session yet is still to be told.
            if let Some(leader) = process(self.leader).filter(|p| p.start == self.leader_start && p.session != p.pid) {
                signal(&leader, step);
            }
            if let Ok(status) = timeout(patience, child.wait()).await {
                return status;
            }
        }
        for member in self.members(true).iter().filter(|m| !m.zombie) {
            signal(member, Signal::KILL);
        }
        child.start_kill().ok();
        child.wait().await
    }

    /// Kills and reaps what is left after the leader, until twice in a row nothing is seen. Otherwise the numbers of
    /// those that would not go within `patience`.
    pub async fn sweep(&self, patience: Duration) -> Result<(), Vec<i32>> {
        let end = Instant::now() + patience;
        let mut pause = Duration::from_millis(2);
        let mut empty = 0;
        loop {
            let mut alive = Vec::new();
            for member in self.members(true) {
                if member.zombie {
                    self.reap(&member);
                } else {
                    signal(&member, Signal::KILL);
                    alive.push(member.pid);
                }
            }
            // Reading the table takes a while; what forks and ends meanwhile can slip through one look, not two.
            empty = if alive.is_empty() { empty + 1 } else { 0 };
            if empty == 2 {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(alive);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Takes an orphan's exit status, so that its number becomes free. The leader's is tokio's to take.
    fn reap(&self, zombie: &Process) {
        if zombie.parent == own_pid()
            && zombie.pid != self.leader
            && let Some(pid) = Pid::from_raw(zombie.pid)
        {
            // Somebody may have been faster.
            let _taken = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// Ends what an attempt of an earlier worker left behind: whoever carries `cookie`, and all below.
pub async fn sweep_cookie(cookie: &str, patience: Duration) -> Result<(), Vec<i32>> {
    Tree::new(0, cookie, false).sweep(patience).await
}

/// The attempts of a stage that a process claims to belong to, by its cookie: every process with one, and what follows
/// the stage's id in it.
pub fn marked(table: &[Process], stage_id: &str) -> Vec<(Process, String)> {
    let mark = format!("{COOKIE}={stage_id}:").into_bytes();
    let attempt_of = |process: &Process| {
        let environment = environment(process.pid)?;
        let rest = environment.split(|b| *b == 0).find_map(|variable| variable.strip_prefix(&*mark))?;
        String::from_utf8(rest.to_vec()).ok()
    };
    table.iter().filter(|p| !p.zombie).filter_map(|p| Some((*p, attempt_of(p)?))).collect()
}

/// These processes and everything below them, by parent links; the spared ones and what is below those only are left out.
pub fn with_descendants(
    table: &[Process],
    roots: impl IntoIterator<Item = i32>,
    spared: &BTreeSet<i32>,
) -> HashSet<i32> {
    let mut inside = HashSet::new();
    let mut open: Vec<i32> = roots.into_iter().collect();
    while let Some(pid) = open.pop() {
        if !spared.contains(&pid) && inside.insert(pid) {
            open.extend(table.iter().filter(|p| p.parent == pid).map(|p| p.pid));
        }
    }
    inside
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Signals a process, if it is still the one that was seen.
pub fn signal(seen: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(seen.pid) else { return };
    let still_it = || process(seen.pid).is_some_and(|p| p.start == seen.start);
    match pidfd_open(pid, PidfdFlags::empty()) {
        // The descriptor pins the process; only then is its start time compared.
        Ok(held) if still_it() => drop(pidfd_send_signal(held, signal)),
        Ok(_) | Err(Errno::SRCH) => {}
        Err(_) if still_it() => drop(rustix::process::kill_process(pid, signal)),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_whatever_the_program_is_called() {
        let stat =
            "77 (a) R) (b) S 5 77 70 0 -1 4194560 1 0 0 0 12 30 0 0 20 0 1 0 998877 1000 25 18446744073709551615";
        let resident = 25 * page_size() as u64;
        let expected = Process { pid: 77, parent: 5, session: 70, start: 998_877, zombie: false, ticks: 42, resident };
        assert_eq!(parse(77, stat), Some(expected));
        assert_eq!(parse(77, "77 (x"), None);
    }

    #[test]
    fn this_process_stands_in_the_table_with_its_own_start() {
        let own = own_pid();
        let found = table().into_iter().find(|p| p.pid == own).unwrap();
        assert_eq!(process(own).unwrap().start, found.start);
        assert!(found.resident > 100_000 && !boot_id().is_empty());
    }

    #[test]
    fn a_number_that_now_belongs_to_another_process_is_not_signalled() {
        let mut stranger = process(own_pid()).unwrap();
        stranger.start += 1;
        // It would end this very test.
        signal(&stranger, Signal::KILL);
    }
}
