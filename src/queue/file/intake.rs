//! Setting aside what cannot become a task: never lost, never opened, always with a reason beside it.

use std::{ffi::OsStr, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    disk::{self, failed},
    layout::REASON,
    store::Store,
};
use crate::{
    model::{AgentName, Rejected},
    queue::QueueError,
};

/// `{name}.reason.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Reason {
    #[serde(rename = "reason")]
    sentence: String,
    /// The name it arrived under; bytes that are not UTF-8 as `%XX`.
    name: String,
    at: Timestamp,
}

impl Store {
    /// Moves `path` to `rejected/` with its reason; where that fails it stays and is listed; `None` where it
    /// is gone. `name` is what it was called when it arrived.
    pub(super) fn reject(
        &self,
        agent: &AgentName,
        path: &Path,
        name: &OsStr,
        reason: &str,
    ) -> Result<Option<Rejected>, QueueError> {
        let folder = self.layout.rejected(agent);
        disk::make_folder(&folder, false)?;
        let escaped = disk::escaped(name);
        let at = self.now();
        let note = Reason { sentence: reason.into(), name: name.to_str().map_or(escaped.clone(), str::to_owned), at };
        let bytes = serde_json::to_vec_pretty(&note).map_err(|error| failed("write", &folder)(error.into()))?;
        let mut to = folder.join(&escaped);
        for k in 2_u32.. {
            // The reason first, so that nobody sees the file without it; a reason left alone means nothing.
            let beside = folder.join(reason_name(&to));
            let temporary = self.layout.within(agent, ".tmp").join(disk::temporary("reason"));
            disk::write_synced(&temporary, &bytes, false)?;
            if disk::publish(&temporary, &beside)? {
                let moved = disk::rename_new(path, &to);
                if !matches!(moved, Ok(true)) {
                    disk::remove_quietly(&beside);
                }
                match moved {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "could not set aside");
                        let path = self.layout.shown(path);
                        return Ok(Some(Rejected { path, reason: reason.into(), at, moved: false }));
                    }
                }
            }
            to = folder.join(format!("{escaped}.{k}"));
        }
        disk::sync_folder(&folder)?;
        Ok(Some(Rejected { path: self.layout.shown(&to), reason: reason.into(), at, moved: true }))
    }

    /// Everything that lies in `rejected/`.
    pub(super) fn set_aside(&self, agent: &AgentName) -> Result<Vec<Rejected>, QueueError> {
        let folder = self.layout.rejected(agent);
        let mut all = Vec::new();
        for name in disk::names(&folder)? {
            let path = folder.join(&name);
            if name.to_string_lossy().ends_with(REASON) {
                continue;
            }
            let beside = folder.join(reason_name(&path));
            let note = std::fs::read(&beside).ok().and_then(|bytes| serde_json::from_slice::<Reason>(&bytes).ok());
            let (reason, at) = note.map_or_else(
                || ("It was set aside; the reason was not written.".to_owned(), self.now()),
                |note| (note.sentence, note.at),
            );
            all.push(Rejected { path: self.layout.shown(&path), reason, at, moved: true });
        }
        Ok(all)
    }
}

fn reason_name(path: &Path) -> String {
    format!("{}{REASON}", path.file_name().unwrap_or_default().to_string_lossy())
}
