//! The Claude CLI as a person uses it, in an agent's own home: for its login, or for a look round.
//!
//! Owns which variables pass. Its one surprise: nothing of the caller's passes but what a terminal, a language, a browser
//! and a proxy need; a key that lies in the caller's environment would be another account than the agent's.

use std::{ffi::OsString, path::Path, process::Command};

use super::prepare_home;
use crate::model::Ending;

/// Variables that a person's own session may need besides those that name its home.
const PASSED: [&str; 17] = [
    "PATH",
    "TERM",
    "COLORTERM",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "NO_COLOR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "BROWSER",
    "SSH_CONNECTION",
    "HTTPS_PROXY",
    "NO_PROXY",
    "NODE_EXTRA_CA_CERTS",
];

/// The program in this home, with an environment that was built; its folders are made where they are missing.
pub fn command(program: &Path, home: &Path, var: impl Fn(&str) -> Option<OsString>) -> Result<Command, Ending> {
    prepare_home(home)?;
    let mut command = Command::new(program);
    command.env_clear().current_dir(home.join("home"));
    command.envs(PASSED.iter().filter_map(|name| Some((*name, var(name)?))));
    command.env("HOME", home.join("home")).env("CLAUDE_CONFIG_DIR", home.join("config"));
    command.env("CLAUDE_CODE_TMPDIR", home.join("tmp")).env("DISABLE_AUTOUPDATER", "1");
    Ok(command)
}
