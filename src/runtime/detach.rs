//! A room in the background: started as a process of its own session, and waited for until it answers.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::attach::{AttachError, client::Link};

/// How long a room may take to answer its socket; a large stage is read before.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts `podium serve` for this stage in the background and connects to it. `flags` go to the verb as they are.
pub async fn start(stage: &Path, flags: &[OsString]) -> anyhow::Result<Link> {
    let logs = stage.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("could not make {}", logs.display()))?;
    let path = logs.join("podium.log");
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .open(&path)
        .with_context(|| format!("could not open {}", path.display()))?;
    let before = log.seek(SeekFrom::End(0))?;
    let mut child = Command::new(super::open::program()?)
        .arg("serve")
        .arg("--background")
        .arg("--stage")
        .arg(stage)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()
        .context("could not start the room")?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match Link::connect(stage).await {
            Ok(link) => return Ok(link),
            Err(AttachError::NoRoom | AttachError::Closed) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait()? {
            // Somebody else may have been faster: then that room answers.
            if let Ok(link) = Link::connect(stage).await {
                return Ok(link);
            }
            let mut words = String::new();
            log.seek(SeekFrom::Start(before))?;
            log.read_to_string(&mut words)?;
            bail!("the room did not start ({}): {}", super::effects::how(status), words.trim());
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("the room does not answer; see {}", path.display());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Leaves the session of whoever started this process, so that nothing of a terminal reaches it any more.
pub fn leave_session() -> std::io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}
