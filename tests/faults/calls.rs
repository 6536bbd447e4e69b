//! F1, F2, F3: the life again and again, with one system call of it killed or refused each time.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::process::PTracer;

use super::{
    law,
    life::{Life, open},
};

/// Calls that change what is on disk. A kill before any other call finds the same files as before the next of these.
const CHANGING: [&str; 17] = [
    "openat",
    "write",
    "pwrite64",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "ftruncate",
    "fallocate",
];

/// Calls that make what was written last.
const SYNCING: [&str; 3] = ["fsync", "fdatasync", "syncfs"];

/// Calls that only look.
const LOOKING: [&str; 9] =
    ["read", "pread64", "stat", "lstat", "fstat", "newfstatat", "statx", "getdents64", "readlink"];

/// How many lives are lived at once.
const AT_ONCE: usize = 3;

/// How long a life may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Whether every case is tried, not only a part of them.
pub(super) fn all() -> bool {
    std::env::var("PODIUM_FAULTS").is_ok_and(|value| value == "all")
}

/// Whether a tool is there. Without it a test is skipped at a desk and fails where CI is set.
pub(super) fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{tool} must be there in CI");
        println!("SKIPPED: there is no {tool}; run ./test, or install it");
    }
    found
}

/// What a process of its own does.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// The whole life.
    Life,
    /// Only the mending that a start begins with.
    Recover,
}

/// One call that is not carried out.
#[derive(Debug, Clone)]
struct Fault {
    call: String,
    /// Which of these calls, from 1.
    when: u32,
    /// As `strace` has it: `signal=KILL`, `error=EIO`.
    how: &'static str,
    /// All that follow as well.
    on: bool,
}

impl Fault {
    fn text(&self) -> String {
        format!("{}:{}:when={}{}", self.call, self.how, self.when, if self.on { "+" } else { "" })
    }
}

/// What came of a process.
struct Lived {
    diary: Vec<String>,
    trace: Vec<String>,
    status: ExitStatus,
}

impl Lived {
    /// Whether the fault was met.
    fn met(&self) -> bool {
        self.status.code().is_none() || self.trace.iter().any(|line| line.contains("(INJECTED)"))
    }
}

/// Not a test of its own: the process that lives.
#[test]
fn process_that_lives() {
    let Some(stage) = std::env::var_os("PODIUM_TEST_STAGE").map(PathBuf::from) else { return };
    let diary = PathBuf::from(std::env::var_os("PODIUM_TEST_DIARY").unwrap());
    let recover_only = std::env::var_os("PODIUM_TEST_RECOVER").is_some();
    // No I/O driver: its wake-ups would be calls of the thread that is watched.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    runtime
        .block_on(async {
            let strace = tokio::task::spawn_blocking(let_strace_in).await.unwrap();
            let queue = tokio::task::spawn_blocking(move || open(&stage).or_else(|_| open(&stage))).await.unwrap();
            if let Ok(queue) = queue {
                let mut life = Life::new(queue, diary);
                if recover_only { life.recover().await } else { life.live().await }
            }
            strace
        })
        .map(|mut strace| {
            drop(runtime);
            strace.wait().unwrap()
        });
}

/// Has this thread traced, where that is asked for.
fn let_strace_in() -> Option<Child> {
    let trace = std::env::var_os("PODIUM_TEST_TRACE")?;
    let own = fs::read_link("/proc/thread-self").unwrap();
    // Only a kernel that asks for it knows this call.
    rustix::process::set_ptracer(PTracer::Any).ok();
    let mut command = Command::new("strace");
    command.arg("-p").arg(own.file_name().unwrap()).arg("-o").arg(trace).args(["-e", "trace=%file,%desc"]);
    if let Some(fault) = std::env::var_os("PODIUM_TEST_FAULT") {
        let mut inject = std::ffi::OsString::from("inject=");
        inject.push(fault);
        command.arg("-e").arg(inject);
    }
    let mut strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(strace.stderr.take().unwrap());
    while !said.contains("attached") {
        said.clear();
        // It may come while this is being read, and then its fault meets this very call.
        if let Ok(read) = stderr.read_line(&mut said) {
            assert!(read > 0, "strace did not attach");
        }
    }
    // What it says later finds a reader until this process ends.
    strace.stderr = Some(stderr.into_inner());
    Some(strace)
}

/// The process that lives on `stage`, with a fault or without; its diary and trace go to `root`.
pub(super) fn process(root: &Path, stage: &Path, fault: Option<&str>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["calls::process_that_lives", "--exact", "--nocapture", "--test-threads=1"])
        .env("PODIUM_TEST_STAGE", stage)
        .env("PODIUM_TEST_DIARY", root.join("diary"))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    if let Some(fault) = fault {
        command.env("PODIUM_TEST_TRACE", root.join("trace")).env("PODIUM_TEST_FAULT", fault);
    }
    command
}

/// Has a process live on a stage, with a fault or without.
fn live(root: &Path, part: Part, fault: Option<&Fault>) -> Lived {
    let mut command = process(root, &root.join("stage"), fault.map(Fault::text).as_deref());
    command.env("PODIUM_TEST_TRACE", root.join("trace"));
    if matches!(part, Part::Recover) {
        command.env("PODIUM_TEST_RECOVER", "1");
    }
    let ended = assert_cmd::Command::from_std(command).timeout(PATIENCE).output().unwrap();
    Lived { diary: lines(&root.join("diary")), trace: lines(&root.join("trace")), status: ended.status }
}

/// The lines of a file; none where there is none.
pub(super) fn lines(path: &Path) -> Vec<String> {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).lines().map(str::to_owned).collect()
}

/// A folder with an empty stage.
fn root() -> tempfile::TempDir {
    let root = tempfile::Builder::new().prefix("podium-faults-").tempdir().unwrap();
    fs::create_dir(root.path().join("stage")).unwrap();
    root
}

/// The calls of a trace, in order, each with which of its kind it is.
fn calls(trace: &[String]) -> Vec<(String, u32)> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let names = trace.iter().filter_map(|line| line.split_once('(').map(|(name, _)| name));
    names
        .map(|name| {
            let count = counts.entry(name).or_default();
            *count += 1;
            (name.to_owned(), *count)
        })
        .collect()
}

/// Every call of a whole life of these kinds, of all where none is named, each with a fault.
fn faults(kinds: &[&str], how: &'static str, on: bool) -> Vec<Fault> {
    let root = root();
    let lived = live(root.path(), Part::Life, None);
    assert_eq!(lived.diary.last().map(String::as_str), Some("the end"), "{:#?}", lived.diary);
    let calls = calls(&lived.trace);
    println!("a life is {} calls", calls.len());
    let fits = |(call, _): &(String, u32)| kinds.is_empty() || kinds.contains(&&**call);
    calls.into_iter().filter(fits).map(|(call, when)| Fault { call, when, how, on }).collect()
}

/// A part of the cases: every `stride`th, from a seeded start; all where that is asked for.
fn part<T>(cases: Vec<T>, stride: usize) -> Vec<T> {
    if all() || stride <= 1 {
        return cases;
    }
    let seed = std::env::var("PODIUM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: usize = seed.unwrap_or_else(|| usize::try_from(std::process::id()).unwrap());
    println!("PODIUM_SEED={seed}");
    cases.into_iter().enumerate().filter(|(at, _)| at % stride == seed % stride).map(|(_, case)| case).collect()
}

/// Tries every case, some at once, and tells all that broke the law.
fn each<T: Sync + std::fmt::Debug>(cases: &[T], check: impl Fn(&T) -> Result<bool, String> + Sync) {
    let (next, met, broken) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match check(case) {
                        Ok(true) => drop(met.fetch_add(1, Ordering::Relaxed)),
                        Ok(false) => {}
                        Err(why) => broken.lock().unwrap().push(format!("{case:?}: {why}")),
                    }
                }
            });
        }
    });
    let (met, broken) = (met.into_inner(), broken.into_inner().unwrap());
    println!("{} cases, {met} faults met, {} broke the law", cases.len(), broken.len());
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(met * 10 >= cases.len() * 9, "only {met} of {} faults were met", cases.len());
}

pub(super) fn holds(stage: &Path, diary: &[String]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(law::holds(stage, diary)).map_err(|why| format!("{why}\n{}", diary.join("\n")))
}

/// A life with one fault, and what must hold after it.
fn survives(fault: &Fault) -> Result<bool, String> {
    let root = root();
    let lived = live(root.path(), Part::Life, Some(fault));
    if fault.how.starts_with("error") {
        if lived.status.code() != Some(0) {
            return Err(format!("the life ended by {}", lived.status));
        }
        if !fault.on {
            if lived.diary.last().is_none_or(|line| line != "the end") {
                return Err(format!("it did not go on: {:#?}", lived.diary));
            }
            let left = law::leftovers(&root.path().join("stage"), false);
            if !left.is_empty() && !["unlink", "unlinkat", "rmdir"].contains(&&*fault.call) {
                return Err(format!("left while alive: {left:?}: {:#?}", lived.diary));
            }
        }
    }
    holds(&root.path().join("stage"), &lived.diary)?;
    Ok(lived.met())
}

/// F1 (G3, G6, G7).
#[test]
fn a_life_killed_at_any_call_loses_nothing_and_leaves_nothing() {
    if !has("strace") {
        return;
    }
    let kinds: &[&str] = if all() { &[] } else { &CHANGING };
    let cases = part(faults(kinds, "signal=KILL", false), 3);
    each(&cases, survives);
}

/// F1, the second half: killed, and killed again while that is mended.
#[test]
fn mending_killed_at_any_call_loses_nothing_either() {
    if !has("strace") {
        return;
    }
    let cases = part(faults(&CHANGING, "signal=KILL", false), 23);
    each(&cases, |fault| {
        let root = root();
        live(root.path(), Part::Life, Some(fault));
        let copy = |of: &Path| {
            let copy = tempfile::Builder::new().prefix("podium-faults-").tempdir().unwrap();
            let mut cp = Command::new("cp");
            // A life that was killed at once has no diary yet.
            let from = ["stage", "diary"].map(|name| of.join(name)).into_iter().filter(|path| path.exists());
            assert!(cp.arg("-a").args(from).arg(copy.path()).status().unwrap().success());
            copy
        };
        let whole = copy(root.path());
        let mended = live(whole.path(), Part::Recover, None);
        let kinds = |(call, _): &(String, u32)| CHANGING.contains(&&**call);
        let calls: Vec<_> = calls(&mended.trace).into_iter().filter(kinds).collect();
        for (call, when) in part(calls, 4) {
            let second = Fault { call, when, how: "signal=KILL", on: false };
            let again = copy(root.path());
            let lived = live(again.path(), Part::Recover, Some(&second));
            let before: Vec<String> = lived.diary.into_iter().filter(|line| line != "recovered").collect();
            holds(&again.path().join("stage"), &before).map_err(|why| format!("{second:?}: {why}"))?;
        }
        Ok(true)
    });
}

/// F2 (G15).
#[test]
fn an_error_at_any_call_is_never_a_yes_and_never_an_absence() {
    if !has("strace") {
        return;
    }
    let kinds = [&CHANGING[..], &SYNCING, &LOOKING].concat();
    let cases = part(faults(&kinds, "error=EIO", false), 6);
    each(&cases, survives);
}

/// F2, a disk that is broken from some moment on.
#[test]
fn a_disk_that_breaks_for_good_is_never_a_yes() {
    if !has("strace") {
        return;
    }
    let cases = part(faults(&[&CHANGING[..], &SYNCING].concat(), "error=EIO", true), 12);
    each(&cases, survives);
}

/// F3, first half.
#[test]
fn no_space_at_any_call_is_never_a_yes_and_work_goes_on() {
    if !has("strace") {
        return;
    }
    let cases = part(faults(&[&CHANGING[..], &SYNCING].concat(), "error=ENOSPC", false), 4);
    each(&cases, survives);
}
