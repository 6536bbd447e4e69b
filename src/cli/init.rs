//! `podium init`: makes a stage.

use std::path::PathBuf;

use super::{Call, Exit, json};
use crate::config::Config;

pub(super) fn init(call: &Call, dir: Option<PathBuf>) -> anyhow::Result<Exit> {
    let stage = call.env.cwd.join(dir.or_else(|| call.flags.stage.clone()).unwrap_or_default());
    let config = Config::load(&stage, &call.env, &call.flags)?;
    let laid = config.init()?;
    let stage = std::fs::canonicalize(&stage)?;
    if call.out.is_json() {
        call.out.json(&json::Init { stage: stage.display().to_string(), made: laid.made, kept: laid.kept });
        return Ok(Exit::Done);
    }
    for path in &laid.made {
        call.out.line(&format!("made  {path}"));
    }
    match (laid.made.len(), laid.kept.len()) {
        (0, _) => call.out.line(&format!("{} is a stage already; nothing was changed", stage.display())),
        (_, 0) => call.out.line(&format!("{} is a stage now", stage.display())),
        (_, kept) => {
            let text = format!("{} is a stage now; {kept} were there and were left alone", stage.display());
            call.out.line(&text);
        }
    }
    call.out.note("next: `podium doctor` says what is ready, `podium` opens the control room");
    Ok(Exit::Done)
}
