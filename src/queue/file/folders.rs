//! Making the queue's folders, also where something else has the name of one.
//!
//! Owns what becomes of that something: in an inbox it is set aside with its reason, elsewhere it stays beside the folder
//! under another name, and what looks at that place lists it. Its one surprise: it goes through a name that no task may
//! have, so that a crash half-way leaves a file that is set aside like any other.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    disk::{self, Stamp, failed},
    store::Store,
};
use crate::{model::AgentName, queue::QueueError};

impl Store {
    /// Makes every folder one agent needs.
    pub(super) fn make_folders(&self, agent: &AgentName) -> Result<(), QueueError> {
        let inbox = self.layout.inbox(agent);
        let mut moved = Vec::new();
        for (path, private) in self.layout.folders(agent) {
            if is_blocked(&path)? {
                moved.push((move_away(&inbox, &path)?, path.clone()));
            }
            disk::make_folder(&path, private)?;
        }
        for (to, path) in moved {
            let reason = format!("{} is a folder of the queue; something else had its name.", self.layout.shown(&path));
            tracing::warn!(reason, to = self.layout.shown(&to), "moved");
            if to.parent() == Some(&inbox) {
                drop(self.reject(agent, &to, path.file_name().unwrap_or_default(), &reason)?);
            }
        }
        Ok(())
    }
}

/// Whether something that is no folder, nor a link to one, has the name of a folder.
fn is_blocked(path: &Path) -> Result<bool, QueueError> {
    let there = Stamp::at(path).or_else(|error| match error.kind() {
        // What holds it is no folder either, and is seen to first.
        std::io::ErrorKind::NotADirectory => Ok(None),
        _ => Err(error),
    });
    if there.map_err(failed("look at", path))?.is_none() {
        return Ok(false);
    }
    match fs::metadata(path) {
        Ok(meta) => Ok(!meta.is_dir()),
        Err(error) => match Errno::from_io_error(&error) {
            // A link that leads nowhere.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(true),
            // A look that fails tells nothing: what was never seen to be something else stays where it is.
            Some(_) | None => Err(failed("look at", path)(error)),
        },
    }
}

/// Gives what lies at `path` a name of its own: in the inbox where it lies there, else beside the folder.
fn move_away(inbox: &Path, path: &Path) -> Result<PathBuf, QueueError> {
    let beside = path.parent().unwrap_or(path);
    let folder = if path != inbox && path.starts_with(inbox) { inbox } else { beside };
    let name = disk::escaped(path.file_name().unwrap_or_default());
    for k in 1_u32.. {
        let to = folder.join(format!("{name}%{k}.json"));
        if disk::rename_new(path, &to).map_err(failed("move", path))? {
            return Ok(to);
        }
    }
    Ok(path.to_owned())
}
