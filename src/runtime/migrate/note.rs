//! How far a move of a stage's queue is: `.podium/moved.json`.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The step that is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Tasks are sent to the server; all are still here.
    Sending,
    /// All are there; what is here is set aside.
    SettingAside,
    /// The queue lies on the server.
    Away,
    /// Parcels come from the server; none of it is in the folders yet.
    Coming,
    /// They are put in their places.
    Placing,
    /// All is here; what lies on the server is set aside.
    Parting,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Names the move.
    pub id: String,
    /// The server, without what is secret.
    pub server: String,
    /// The next step.
    pub phase: Phase,
    /// Since when.
    pub at: Timestamp,
}

/// A stage whose queue is not here, or not all of it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.sentence())]
pub struct StageMoved(Note);

fn path(stage: &Path) -> PathBuf {
    stage.join(".podium").join("moved.json")
}

impl Note {
    /// Reads it; `None` where no move is under way.
    pub fn read(stage: &Path) -> anyhow::Result<Option<Self>> {
        let path = path(stage);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("could not read {}", path.display())),
        };
        serde_json::from_slice(&bytes).map(Some).with_context(|| format!("could not understand {}", path.display()))
    }

    /// Writes it, durably.
    pub fn write(&self, stage: &Path) -> anyhow::Result<()> {
        let path = path(stage);
        let fresh = path.with_extension("tmp");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            sync_folder(&path)
        };
        write().with_context(|| format!("could not write {}", path.display()))
    }

    /// Goes on to the next step.
    pub(super) fn next(&mut self, phase: Phase, stage: &Path) -> anyhow::Result<()> {
        self.phase = phase;
        self.write(stage)
    }

    /// Takes it away: the stage is as any other.
    pub(super) fn remove(stage: &Path) -> anyhow::Result<()> {
        let path = path(stage);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(&path).with_context(|| format!("could not sync {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("could not remove {}", path.display())),
        }
    }

    /// Refuses a room on a stage whose queue is elsewhere.
    pub fn none(stage: &Path) -> anyhow::Result<()> {
        Self::read(stage)?.map_or(Ok(()), |note| Err(StageMoved(note).into()))
    }

    /// What it means for a room.
    pub fn sentence(&self) -> String {
        let Self { server, at, .. } = self;
        match self.phase {
            Phase::Sending => format!(
                "a move of this stage's queue to {server} was cut short; `podium migrate --to {server}` goes on with it, \
                 `podium migrate --to files` gives it up"
            ),
            Phase::SettingAside => format!(
                "this stage's queue is being moved to {server}; `podium migrate --to {server}` goes on with it, \
                 `podium migrate --to files` brings it home"
            ),
            Phase::Away => format!(
                "this stage's queue lies on {server} since {at:.0}; `podium migrate --to files` brings it home, here or on \
                 another machine"
            ),
            Phase::Coming | Phase::Placing | Phase::Parting => format!(
                "this stage's queue is being brought home from {server}; `podium migrate --to files` goes on with it"
            ),
        }
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
