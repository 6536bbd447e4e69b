//! The hidden verb `podium __script STEP…`: a worker with bad manners, for tests and demonstrations.
//!
//! Owns a small list of steps, carried out in the order given. Its one surprise: it is a real program behind the real
//! `command` engine; nothing of podium knows that it is there.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use serde_json::json;

use super::tree;

/// What it can do.
const STEPS: &str = r#"--print TEXT        prints a line
--err TEXT          prints a line on standard error
--echo-stdin        prints what comes in on standard input, to its end
--env               prints the environment, sorted
--write PATH TEXT   writes a file
--sleep SECONDS     waits
--wait-for PATH     waits until there is such a file
--init              prints a stream-json init line
--say TEXT          prints a stream-json assistant line
--tool NAME ARG     prints a stream-json tool call
--stream-json TEXT  prints init, assistant and a result line that ends well
--half-line         prints the beginning of a stream-json line
--flood MB          prints that many megabytes of lines
--ignore-term       does not end on TERM, INT or HUP
--setsid            opens a session of its own
--fork-setsid       leaves a grandchild behind that has its own session, no environment, and ignores TERM
--hold-pipe         the same, and it keeps the output open
--leave             leaves a child behind that ignores TERM and keeps this environment
--daemon            the same from a session of its own that ends at once, as a service does it
--notes FILE        where the steps below, and whoever is left behind, make their notes
--note WORD         notes a line: WORD, task, attempt, process, its start in clock ticks
--alone FILE        locks a file until this and all that it starts are gone; notes "overlap" where it is locked already
--after FILE        notes "early" where there is no such file
--fail-below N      ends with exit 1 if this is an attempt before the Nth
--signal N          ends by that signal
--exit N            ends with that code
"#;

/// Runs the verb with the words after it.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match run(args.map(|a| a.to_string_lossy().into_owned())) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ignored = writeln!(io::stderr(), "podium __script: {error}\n\n{STEPS}");
            ExitCode::from(2)
        }
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_owned())
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> io::Result<T> {
    text.parse().map_err(|error| wrong(&format!("{text:?} is no number: {error}")))
}

fn run(mut args: impl Iterator<Item = String>) -> io::Result<u8> {
    // Registered handlers stay for the life of the process, so the runtime only has to be kept.
    let mut deaf = None;
    let mut locks = Vec::new();
    let mut notes = Notes::default();
    let mut out = io::stdout().lock();
    while let Some(step) = args.next() {
        let mut word = || args.next().ok_or_else(|| wrong(&format!("{step} needs a value")));
        match step.as_str() {
            "--print" => writeln!(out, "{}", word()?)?,
            "--err" => writeln!(io::stderr(), "{}", word()?)?,
            "--echo-stdin" => {
                let mut text = Vec::new();
                io::stdin().read_to_end(&mut text)?;
                out.write_all(&text)?;
            }
            "--env" => {
                let mut all: Vec<_> = std::env::vars_os().collect();
                all.sort();
                for (name, value) in all {
                    writeln!(out, "{}={}", name.display(), value.display())?;
                }
            }
            "--write" => {
                let path = word()?;
                std::fs::write(path, word()?)?;
            }
            "--sleep" => {
                out.flush()?;
                let seconds: f64 = number(&word()?)?;
                sleep(seconds);
            }
            "--wait-for" => {
                out.flush()?;
                let path = word()?;
                while !std::path::Path::new(&path).exists() {
                    sleep(0.02);
                }
            }
            "--init" => writeln!(out, "{}", init())?,
            "--say" => writeln!(out, "{}", said(&json!([{"type": "text", "text": word()?}])))?,
            "--tool" => {
                let name = word()?;
                let input = json!({"command": word()?});
                let blocks = json!([{"type": "tool_use", "id": "t1", "name": name, "input": input}]);
                writeln!(out, "{}", said(&blocks))?;
            }
            "--stream-json" => {
                let text = word()?;
                writeln!(out, "{}", init())?;
                writeln!(out, "{}", said(&json!([{"type": "text", "text": &text}])))?;
                writeln!(out, "{}", result(&text))?;
            }
            "--half-line" => write!(out, "{{\"type\":\"assist")?,
            "--flood" => {
                let megabytes: u64 = number(&word()?)?;
                let line = format!("{}\n", "flood ".repeat(170));
                for _ in 0..megabytes * 1024 * 1024 / line.len() as u64 {
                    out.write_all(line.as_bytes())?;
                }
            }
            "--ignore-term" => deaf = Some(ignore_signals()?),
            "--setsid" => {
                let _session = rustix::process::setsid()?;
            }
            "--fork-setsid" => leave_behind(&notes, true, Stdio::null)?,
            "--hold-pipe" => leave_behind(&notes, true, Stdio::inherit)?,
            "--leave" => leave_behind(&notes, false, Stdio::null)?,
            "--daemon" => daemonise(&notes)?,
            "--notes" => notes.file = Some(word()?),
            "--note" => notes.take(&word()?)?,
            "--alone" => match lock(Path::new(&word()?))? {
                Some(held) => locks.push(held),
                None => notes.take("overlap")?,
            },
            "--after" => {
                if !Path::new(&word()?).exists() {
                    notes.take("early")?;
                }
            }
            "--fail-below" => {
                let least: u32 = number(&word()?)?;
                let attempt = std::env::var("PODIUM_ATTEMPT").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
                if attempt < least {
                    out.flush()?;
                    writeln!(io::stderr(), "attempt {attempt} fails on purpose")?;
                    return Ok(1);
                }
            }
            "--signal" => {
                out.flush()?;
                let number: i32 = number(&word()?)?;
                let signal = rustix::process::Signal::from_named_raw(number).ok_or_else(|| wrong("no such signal"))?;
                rustix::process::kill_process(rustix::process::getpid(), signal)?;
            }
            "--exit" => {
                out.flush()?;
                return number(&word()?);
            }
            _ => return Err(wrong(&format!("unknown step {step}"))),
        }
        out.flush()?;
    }
    drop((deaf, locks));
    Ok(0)
}

#[expect(clippy::disallowed_methods, reason = "to waste time is this program's purpose")]
fn sleep(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0)));
}

fn ignore_signals() -> io::Result<tokio::runtime::Runtime> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    {
        let _inside = runtime.enter();
        for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
            drop(signal(kind)?);
        }
    }
    Ok(runtime)
}

/// Where notes go, for whoever wants to know what ran when.
#[derive(Debug, Default)]
struct Notes {
    file: Option<String>,
}

impl Notes {
    /// Adds a line, in one piece.
    fn take(&self, word: &str) -> io::Result<()> {
        let path = self.file.as_ref().ok_or_else(|| wrong("--notes comes first"))?;
        let own = |name: &str| std::env::var(name).unwrap_or_else(|_| "-".to_owned());
        let task = format!("{}/{}", own("PODIUM_AGENT"), own("PODIUM_TASK_ID"));
        let pid = std::process::id();
        let start = tree::start_ticks(pid).unwrap_or_default();
        let line = format!("{word} {task} {} {pid} {start}\n", own("PODIUM_ATTEMPT"));
        OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
    }
}

/// Locks a file for this process and whatever it starts; `None` where it is locked already.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
            Ok(Some(file))
        }
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// This program again, with other steps.
fn again() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("__script").stdin(Stdio::null());
    Ok(command)
}

/// Starts another of us that ignores TERM, notes that it was left behind, and stays; a stranger has nothing to know it
/// by: a session of its own, no environment.
fn leave_behind(notes: &Notes, stranger: bool, output: fn() -> Stdio) -> io::Result<()> {
    let mut command = again()?;
    if stranger {
        command.arg("--setsid").env_clear();
    }
    command.arg("--ignore-term");
    if let Some(file) = &notes.file {
        command.args(["--notes", file, "--note", "left"]);
    }
    command.args(["--sleep", "3600"]).stdout(output()).stderr(output()).spawn().map(drop)
}

/// As a service does it: a child with a session of its own, whose child stays when it leaves.
fn daemonise(notes: &Notes) -> io::Result<()> {
    let mut middle = again()?;
    middle.arg("--setsid");
    if let Some(file) = &notes.file {
        middle.args(["--notes", file]);
    }
    middle.arg("--leave").stdout(Stdio::null()).stderr(Stdio::null()).status().map(drop)
}

fn init() -> serde_json::Value {
    json!({"type": "system", "subtype": "init", "session_id": "script", "model": "script", "tools": []})
}

fn said(blocks: &serde_json::Value) -> serde_json::Value {
    let usage = json!({"input_tokens": 10, "output_tokens": 5});
    let message = json!({"id": "m1", "model": "script", "content": blocks, "usage": usage});
    json!({"type": "assistant", "message": message, "session_id": "script"})
}

fn result(text: &str) -> serde_json::Value {
    json!({
        "type": "result", "subtype": "success", "is_error": false, "result": text, "num_turns": 1,
        "session_id": "script", "total_cost_usd": 0.01,
        "modelUsage": {"script": {"inputTokens": 10, "outputTokens": 5}},
    })
}
