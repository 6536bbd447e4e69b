//! Which process made a half-written file, and whether that very process still runs.
//!
//! Knows names and processes, no tasks. Its one surprise: a process id is told together with the start of its process
//! and of the machine, since after a reboot another process has the number.

use std::{
    fs,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open, test_kill_process},
};

/// A process by its number, its start and its machine's start; what the system did not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pid: u32,
    /// Field 22 of `/proc/{pid}/stat`.
    start: Option<u64>,
    /// The first part of the boot's id.
    boot: Option<String>,
}

/// A name for a half-written file that no other writer uses: `{stem}.{pid}-{start}-{boot}.{count}`.
pub(super) fn temporary(stem: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static OWN: OnceLock<String> = OnceLock::new();
    let own = OWN.get_or_init(|| Owner::of(std::process::id()).tag());
    format!("{stem}.{own}.{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Which start of the machine this is; empty where the system does not say.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// When a process started, in clock ticks since the machine did. Its name stands in brackets and may hold anything.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

impl Owner {
    /// The process that has this number now.
    fn of(pid: u32) -> Self {
        let boot = boot_id().split('-').next().filter(|boot| !boot.is_empty()).map(str::to_owned);
        Self { pid, start: start_of(pid), boot }
    }

    /// The process that made a [`temporary`] name; earlier versions gave its number alone.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let mut parts = name.rsplit('.');
        parts.next()?.parse::<u64>().ok()?;
        let mut tag = parts.next()?.splitn(3, '-');
        let pid = tag.next()?.parse().ok()?;
        let start = tag.next().and_then(|start| start.parse().ok());
        Some(Self { pid, start, boot: tag.next().filter(|boot| !boot.is_empty()).map(str::to_owned) })
    }

    fn tag(&self) -> String {
        let start = self.start.map(|start| start.to_string()).unwrap_or_default();
        format!("{}-{start}-{}", self.pid, self.boot.as_deref().unwrap_or_default())
    }

    /// Whether that process still runs. One that was killed and that nobody has reaped yet does not.
    pub(super) fn lives(&self) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        // Held while the rest is compared, so that the number cannot pass to another meanwhile.
        let held = pidfd_open(pid, PidfdFlags::empty());
        let runs = match &held {
            Ok(held) => !matches!(poll(&mut [PollFd::new(held, PollFlags::IN)], Some(&Timespec::default())), Ok(1..)),
            Err(Errno::SRCH) => false,
            Err(_) => test_kill_process(pid) != Err(Errno::SRCH),
        };
        let now = Self::of(self.pid);
        runs && is_same(self.boot.as_ref(), now.boot.as_ref()) && is_same(self.start.as_ref(), now.start.as_ref())
    }
}

/// Two words about one thing agree; where one is missing there is nothing to hold against it.
fn is_same<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_tells_who_made_it_also_with_dots_and_dashes_in_the_stem() {
        let own = Owner::of(std::process::id());
        assert!(own.start.is_some() && own.boot.is_some());
        assert_eq!(Owner::of_name(&temporary(".exit-a.b.1-2")), Some(own));
        assert_eq!(Owner::of_name(".new-t.12.0"), Some(Owner { pid: 12, start: None, boot: None }));
        for other in ["build-42.json", "a.b.c", "x", ".canary"] {
            assert_eq!(Owner::of_name(other), None, "{other}");
        }
    }

    #[test]
    fn f10_a_number_that_another_process_has_now_names_nobody() {
        let own = Owner::of(std::process::id());
        assert!(own.lives());
        assert!(Owner { start: None, boot: None, ..own.clone() }.lives(), "an older name says less");
        assert!(!Owner { start: own.start.map(|start| start + 1), ..own.clone() }.lives());
        assert!(!Owner { boot: Some("0badb007".to_owned()), ..own }.lives());
    }
}
