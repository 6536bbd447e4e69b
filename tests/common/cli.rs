//! The real Claude Code CLI, where there is one.

use std::ffi::OsString;

/// The Claude Code CLI, or the reason to skip.
pub(crate) fn cli() -> Option<OsString> {
    let named = std::env::var_os("PODIUM_TEST_CLAUDE").or_else(|| std::env::var_os("CLAUDE_COMMAND"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = podium::engines::claude::locate(named.as_deref(), &path).and_then(|words| words.into_iter().next());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "the Claude Code CLI must be there in CI");
        eprintln!("SKIPPED: there is no Claude Code CLI; run ./test, or set PODIUM_TEST_CLAUDE");
    }
    found
}
