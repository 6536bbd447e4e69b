//! Faults: a life of the file queue that is killed or refused at every system call, on disks that are full, broken,
//! read-only or cut from power. What was answered with yes must be there afterwards, once, and the work must go on.
//!
//! A life runs in a process of its own (`process_that_lives`), which lets `strace` in on the one thread that makes the
//! file calls. `PODIUM_FAULTS=all` tries every case; otherwise a seeded part of them is tried.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests; what goes wrong must stop them")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "that is how a test speaks")]

mod calls;
mod disks;
mod full;
mod law;
mod life;
#[path = "../common/outcome.rs"]
mod outcome;
mod power;
mod whole;
