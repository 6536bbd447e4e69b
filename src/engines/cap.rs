//! The hidden verb `podium __subagent FILE MOST`: a hook of the Claude Code CLI that says no to one sub-agent too many.
//!
//! Owns the count of one attempt. Must not know what sub-agents do: what the CLI tells it on standard input is read and let go. Its one
//! surprise: the count is the length of a file that everybody appends one byte to, so that calls at the same time are counted once each.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde_json::json;

/// Where an attempt counts, below its agent's home.
pub(super) fn counter(home: &Path, session: &str) -> PathBuf {
    home.join("tmp").join(format!("subagents-{session}"))
}

/// A session may be taken up again after this long with its count still known.
const KEPT: Duration = Duration::from_hours(14 * 24);

/// Takes away counts of sessions that are long over.
pub(super) fn tidy(home: &Path) {
    let Ok(entries) = fs::read_dir(home.join("tmp")) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"subagents-")) {
        let age = entry.metadata().and_then(|there| there.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) {
            // Another slot of the same agent may have been quicker.
            let _gone = fs::remove_file(entry.path());
        }
    }
}

/// The CLI's settings by which every call of a tool that starts a sub-agent is asked about first.
pub(super) fn settings(podium: &Path, counter: &Path, most: u32, tools: &str) -> Option<String> {
    let quoted = |path: &Path| Some(format!("'{}'", path.to_str()?.replace('\'', r"'\''")));
    let command = format!("{} __subagent {} {most}", quoted(podium)?, quoted(counter)?);
    let hook = json!({ "matcher": tools.replace(',', "|"), "hooks": [{ "type": "command", "command": command, "timeout": 10 }] });
    Some(json!({ "hooks": { "PreToolUse": [hook] } }).to_string())
}

/// The verb.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(file), Some(most)) = (args.next(), args.next().and_then(|most| most.to_str()?.parse::<u64>().ok()))
    else {
        return ExitCode::from(2);
    };
    let mut asked = Vec::new();
    // A CLI that waits for its question to be read must not wait for ever.
    let _read = io::stdin().lock().take(1 << 20).read_to_end(&mut asked);
    match count(Path::new(&file)) {
        Ok(count) if count <= most => ExitCode::SUCCESS,
        Ok(_) => {
            let reason =
                format!("{most} sub-agents were started for this task, and no more may be: do the rest yourself.");
            let no = json!({ "hookSpecificOutput": { "hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": reason } });
            if writeln!(io::stdout(), "{no}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        // Uncounted is unlimited: 2 tells the CLI not to go on with this call.
        Err(_) => ExitCode::from(2),
    }
}

/// One more; how many that makes.
fn count(file: &Path) -> io::Result<u64> {
    let mut counter = OpenOptions::new().append(true).create(true).open(file)?;
    counter.write_all(b".")?;
    Ok(counter.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_counted_and_the_shell_gets_paths_as_they_are() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("tmp")).unwrap();
        let file = counter(home.path(), "s");
        assert_eq!([count(&file).unwrap(), count(&file).unwrap(), count(&file).unwrap()], [1, 2, 3]);
        let said = settings(Path::new("/it's here/podium"), &file, 2, "Task,Agent").unwrap();
        assert!(said.contains(r"'/it'\\''s here/podium' __subagent '") && said.contains("Task|Agent"), "{said}");
        tidy(home.path());
        assert!(file.exists(), "it is new");
    }
}
