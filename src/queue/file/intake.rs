//! Setting aside what cannot become a task: never lost, never opened, always with a reason beside it.
//!
//! Its one surprise: ten thousand bad files cost one sync of the file system, so that they do not hold up the good ones.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    disk::{self, FileSystem, Stamp, failed},
    layout::REASON,
    owner, spec,
    store::Store,
};
use crate::{
    model::{AgentName, Rejected, TaskRef},
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
    /// It says what an accepted task says already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// Why a file is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    /// One sentence.
    pub(super) sentence: String,
    /// It says what an accepted task says already.
    pub(super) duplicate: bool,
}

impl From<&str> for Why {
    fn from(sentence: &str) -> Self {
        Self { sentence: sentence.to_owned(), duplicate: false }
    }
}

/// A file that is to be set aside.
#[derive(Debug)]
pub(super) struct Unfit {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// What it was called when it arrived.
    pub(super) name: OsString,
    pub(super) why: Why,
}

/// So many reasons are each made durable by themselves; more share one sync of the file system.
const FEW: usize = 8;

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
        let file = Unfit { path: path.to_owned(), name: name.to_owned(), why: Why::from(reason) };
        Ok(self.reject_all(agent, &[file])?.pop().flatten())
    }

    /// The same for many at once: one answer per file, in the order given.
    pub(super) fn reject_all(&self, agent: &AgentName, files: &[Unfit]) -> Result<Vec<Option<Rejected>>, QueueError> {
        let folder = self.layout.rejected(agent);
        disk::make_folder(&folder, false)?;
        // Opened before anything is written, so that it reports what goes wrong meanwhile.
        let many = if files.len() > FEW { Some(FileSystem::of(&folder)?) } else { None };
        let at = self.now();
        let mut written = Vec::with_capacity(files.len());
        for file in files {
            let name = file.name.to_str().map_or_else(|| disk::escaped(&file.name), str::to_owned);
            let note = Reason { sentence: file.why.sentence.clone(), name, at, duplicate: file.why.duplicate };
            let bytes = serde_json::to_vec_pretty(&note).map_err(|error| failed("write", &folder)(error.into()))?;
            let temporary = self.reason_file(agent, &bytes, many.is_none())?;
            written.push((temporary, bytes));
        }
        if let Some(file_system) = many {
            file_system.sync()?;
        }
        let mut answers = Vec::with_capacity(files.len());
        for (file, (temporary, bytes)) in files.iter().zip(written) {
            answers.push(self.move_aside(agent, file, temporary, &bytes, at)?);
        }
        disk::sync_folder(&folder)?;
        Ok(answers)
    }

    /// Writes a reason where it is not seen yet.
    fn reason_file(&self, agent: &AgentName, bytes: &[u8], sync: bool) -> Result<PathBuf, QueueError> {
        let temporary = self.layout.within(agent, ".tmp").join(owner::temporary("reason"));
        if sync {
            disk::write_synced(&temporary, bytes, false)?;
        } else {
            drop(disk::write_unsynced(&temporary, bytes, false)?);
        }
        Ok(temporary)
    }

    /// Publishes the reason and moves the file beside it, under the first name that is free.
    fn move_aside(
        &self,
        agent: &AgentName,
        file: &Unfit,
        mut temporary: PathBuf,
        reason: &[u8],
        at: Timestamp,
    ) -> Result<Option<Rejected>, QueueError> {
        let folder = self.layout.rejected(agent);
        let escaped = disk::escaped(&file.name);
        let Why { sentence, duplicate } = file.why.clone();
        let mut to = folder.join(&escaped);
        for k in 2_u32.. {
            // The reason first, so that nobody sees the file without it; a reason left alone means nothing.
            let beside = folder.join(reason_name(&to));
            if Stamp::at(&to).is_ok_and(|there| there.is_none()) && disk::publish(&temporary, &beside)? {
                let moved = disk::rename_new(&file.path, &to);
                if !matches!(moved, Ok(true)) {
                    disk::remove_quietly(&beside);
                }
                match moved {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => {
                        tracing::warn!(path = %file.path.display(), %error, "could not set aside");
                        let path = self.layout.shown(&file.path);
                        return Ok(Some(Rejected { path, reason: sentence, at, moved: false, duplicate }));
                    }
                }
            }
            if !temporary.exists() {
                temporary = self.reason_file(agent, reason, true)?;
            }
            to = folder.join(format!("{escaped}.{k}"));
        }
        Ok(Some(Rejected { path: self.layout.shown(&to), reason: sentence, at, moved: true, duplicate }))
    }

    /// Whether a task file is one that we wrote ourselves.
    pub(super) fn is_own(task: &TaskRef, bytes: &[u8]) -> bool {
        let spec = spec::read(bytes, &task.agent, task.id.as_str());
        spec.ok().and_then(|spec| spec::write(&spec).ok()).is_some_and(|own| own == bytes)
    }

    /// What lies in `rejected/`: the names, and of those that are not `known` yet also the reasons.
    pub(super) fn set_aside(
        &self,
        agent: &AgentName,
        known: impl Fn(&str) -> bool,
    ) -> Result<(HashSet<String>, Vec<Rejected>), QueueError> {
        let folder = self.layout.rejected(agent);
        let (mut there, mut fresh) = (HashSet::new(), Vec::new());
        for name in disk::names(&folder)? {
            if name.to_string_lossy().ends_with(REASON) {
                continue;
            }
            let path = self.layout.shown(&folder.join(&name));
            if !known(&path) {
                fresh.push(self.why_aside(&folder, &name, path.clone()));
            }
            there.insert(path);
        }
        Ok((there, fresh))
    }

    /// Why a file lies in `rejected/`.
    fn why_aside(&self, folder: &Path, name: &OsStr, path: String) -> Rejected {
        let beside = folder.join(reason_name(Path::new(name)));
        let note = std::fs::read(&beside).ok().and_then(|bytes| serde_json::from_slice::<Reason>(&bytes).ok());
        let (reason, at, duplicate) = note.map_or_else(
            || ("It was set aside; the reason was not written.".to_owned(), self.now(), false),
            |note| (note.sentence, note.at, note.duplicate),
        );
        Rejected { path, reason, at, moved: true, duplicate }
    }
}

fn reason_name(path: &Path) -> String {
    format!("{}{REASON}", path.file_name().unwrap_or_default().to_string_lossy())
}
