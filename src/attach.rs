//! The socket of a stage: what the room, its screens, its clients and its workers say to each other.
//!
//! Owns the wire (one JSON object per line, [`wire`]), the path of the socket, the two ends of a connection, and what carries
//! one to another machine ([`far`], [`tunnel`]). Must not know what an order means: it carries. Its one surprise: the same connection brings a replica its snapshot and then
//! every event, so a client that wants one number still gets the whole picture first.

pub mod client;
pub mod far;
pub mod server;
pub mod tunnel;
pub mod wire;

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::model::id::stage_id;

/// Longest path a Unix socket may have here, in bytes; the kernel's limit is 107.
const LONGEST: usize = 100;

/// The socket of the stage at `stage`. A stage too deep for a socket's path gets one in `/tmp`, named by a hash of the
/// stage's path.
pub fn socket_path(stage: &Path) -> PathBuf {
    let near = stage.join(".podium").join("room.sock");
    if near.as_os_str().len() <= LONGEST {
        return near;
    }
    let uid = rustix::process::getuid().as_raw();
    // Not `TMPDIR`: a service and a login would look in different places.
    Path::new("/tmp").join(format!("podium-{uid}")).join(format!("{}.sock", stage_id(stage)))
}

/// The process of the room that opened the stage last, as it left word.
pub fn room_pid(stage: &Path) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Trace {
        pid: u32,
    }
    let trace = std::fs::read(stage.join(".podium").join("room.json")).ok()?;
    serde_json::from_slice::<Trace>(&trace).ok().map(|trace| trace.pid)
}

/// Why a connection could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Nobody listens.
    #[error("no room is running on this stage")]
    NoRoom,
    /// The operating system said no.
    #[error("could not use the room's socket {path}")]
    Io {
        /// Which socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The room speaks another version.
    #[error("the room is podium {room}, this is podium {own}; stop the room with that version or use it")]
    Version {
        /// The room's.
        room: String,
        /// Ours.
        own: String,
    },
    /// The room is there and says nothing.
    #[error(
        "control room{} not responding for {} s",
        .pid.map(|pid| format!(" {pid}")).unwrap_or_default(),
        client::SILENCE.as_secs()
    )]
    Silent {
        /// Its process id, if it is known.
        pid: Option<u32>,
    },
    /// The room closed the connection.
    #[error("the room closed the connection")]
    Closed,
    /// A line that is no message.
    #[error("the room said something unreadable: {0}")]
    Unreadable(String),
}
