//! The room's hold on its NATS server: taken when it opens, kept by beats, given up when it leaves; and what is seen of the
//! server meanwhile.
//!
//! Owns who this room is to other rooms. Must not know tasks. Its one surprise: a room that finds a hold of its own stage takes
//! it over at once. The lock of a stage is one open file on one running kernel, and whoever held it there is gone.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{lock, migrate, record};
use crate::{
    engines::tree,
    model::{
        Clock,
        server::{Away, Hold, Holder, Server, taken},
    },
    queue::{
        QueueError,
        nats::{self, NatsQueue, Unfit, shown},
    },
};

/// Beats per hold, as many as a task's lease has.
const BEATS: u32 = 6;
/// How often the connection is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often a server is asked whether it syncs and how many copies are current.
const CHECK: Duration = Duration::from_mins(1);
/// How long giving it up may take; after that it runs out by itself.
const GIVING_UP: Duration = Duration::from_secs(2);

/// Another room has the server.
#[derive(Debug, thiserror::Error)]
#[error("{}; `podium` here opens its screen", taken(.address, .by))]
pub struct ServerTaken {
    address: String,
    by: Holder,
}

/// Which room of a stage this is; its deputies read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    room: String,
    /// The running kernel, and the file on it that a room locks.
    boot: String,
    device: u64,
    inode: u64,
}

fn identity_path(stage: &Path) -> std::path::PathBuf {
    stage.join(".podium").join("server.json")
}

/// The name of the room whose deputies ask.
pub(super) fn room_name(stage: &Path) -> anyhow::Result<String> {
    let path = identity_path(stage);
    let bytes = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
    let identity: Identity =
        serde_json::from_slice(&bytes).with_context(|| format!("could not understand {}", path.display()))?;
    Ok(identity.room)
}

/// Names this room. The stage's lock is held: a former room with the same lock file under the same kernel is this one's
/// predecessor, and gone.
fn identify(stage: &Path) -> anyhow::Result<String> {
    let path = lock::path(stage);
    let about = fs::metadata(&path).with_context(|| format!("could not look at {}", path.display()))?;
    let path = identity_path(stage);
    let before = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Identity>(&bytes).ok());
    let mut own = Identity { room: String::new(), boot: tree::boot_id(), device: about.dev(), inode: about.ino() };
    if let Some(before) = before {
        let is_same =
            !own.boot.is_empty() && (&before.boot, before.device, before.inode) == (&own.boot, own.device, own.inode);
        if is_same {
            return Ok(before.room);
        }
    }
    own.room = crate::attach::far::name().context("no random name")?;
    record::replace(&path, &own).with_context(|| format!("could not write {}", path.display()))?;
    Ok(own.room)
}

/// A room's hold on its server.
pub(super) struct Keeper {
    settings: nats::Settings,
    clock: Clock,
    holder: Holder,
    queue: Option<NatsQueue>,
    /// Works over it, and so not where a stage's whole queue lies; a move of that queue may.
    is_room: bool,
    server: Server,
    /// The newest revision seen of the hold, ours or another's.
    revision: u64,
    tried: Instant,
    checked: Instant,
    /// Who we are, while it is ours.
    held: watch::Sender<Option<Holder>>,
}

/// What came of a look at whose it is.
enum Seen {
    Ours(u64),
    Other(Holder, u64),
    Occupied(migrate::QueueThere),
}

impl Keeper {
    /// Asks for the server. One that is away is waited for; one that another room keeps is refused.
    pub(super) async fn begin(
        settings: &nats::Settings,
        guardian: u32,
        clock: Clock,
        is_room: bool,
    ) -> anyhow::Result<Self> {
        let holder = Holder {
            room: identify(&settings.stage)?,
            host: settings.host.clone(),
            stage: settings.stage.display().to_string(),
            pid: guardian,
            since: clock.now(),
        };
        let now = Instant::now();
        let mut keeper = Self {
            server: Server::new(shown(&settings.address.url)),
            settings: settings.clone(),
            clock,
            holder,
            queue: None,
            is_room,
            revision: 0,
            tried: now,
            checked: now,
            held: watch::Sender::new(None),
        };
        match NatsQueue::open(settings.clone()).await {
            Ok(queue) => keeper.connected(queue).await,
            Err(unfit @ Unfit::Unreachable(..)) => {
                tracing::warn!("{unfit}; work elsewhere waits for it");
                keeper.away(unfit.to_string());
                return Ok(keeper);
            }
            Err(unfit) => return Err(unfit.into()),
        }
        if let Some(queue) = keeper.queue()
            && let Ok(Some(there)) = keeper.occupied(&queue).await
        {
            return Err(there.into());
        }
        // A room that is there beats in this time.
        let until = Instant::now() + keeper.beat() * 2 + LOOK;
        loop {
            keeper.step().await;
            match &keeper.server.hold {
                Hold::Taken { by } => {
                    let (address, by) = (keeper.server.address.clone(), by.clone());
                    return Err(ServerTaken { address, by }.into());
                }
                Hold::Quiet { .. } if keeper.server.away.is_none() && Instant::now() < until => {}
                Hold::Quiet { .. } | Hold::Held | Hold::Unknown | Hold::Occupied { .. } => return Ok(keeper),
            }
            sleep(keeper.beat() / 5).await;
        }
    }

    /// What is known now.
    pub(super) fn server(&self) -> Server {
        self.server.clone()
    }

    /// Who this room is to others, while the server is its own.
    pub(super) fn held(&self) -> watch::Receiver<Option<Holder>> {
        self.held.subscribe()
    }

    /// The connection, once there is one.
    pub(super) fn queue(&self) -> Option<NatsQueue> {
        self.queue.clone()
    }

    fn beat(&self) -> Duration {
        self.queue.as_ref().map_or(self.settings.lease, NatsQueue::lease_length) / BEATS
    }

    /// Keeps the hold from now on; tells of each change.
    pub(super) fn spawn(self, tell: impl Fn(Server) + Send + 'static) -> Kept {
        let (end, mut task) = (CancellationToken::new(), JoinSet::new());
        task.spawn(self.keep(end.clone(), tell));
        Kept { end, task }
    }

    async fn keep(mut self, end: CancellationToken, tell: impl Fn(Server)) {
        let mut told = self.server.clone();
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                () = sleep(LOOK.min(self.beat())) => {}
            }
            tokio::select! {
                () = end.cancelled() => break,
                () = self.look() => {}
            }
            if self.server != told {
                told = self.server.clone();
                tell(told.clone());
            }
        }
        self.give_up().await;
    }

    /// Gives it up.
    pub(super) async fn give_up(self) {
        if let (Some(queue), Hold::Held) = (&self.queue, &self.server.hold)
            && !matches!(timeout(GIVING_UP, queue.let_go(&self.holder)).await, Ok(Ok(())))
        {
            tracing::warn!("the hold on the NATS server runs out by itself");
        }
    }

    /// One look: the connection, the hold where a beat is due, the promises now and then.
    async fn look(&mut self) {
        let Some(queue) = self.queue.clone() else {
            match NatsQueue::open(self.settings.clone()).await {
                Ok(queue) => {
                    self.connected(queue).await;
                    self.step().await;
                }
                Err(unfit) => self.away(unfit.to_string()),
            }
            return;
        };
        let is_connected = queue.client().connection_state() == async_nats::connection::State::Connected;
        if !is_connected {
            self.away("the connection was lost".to_owned());
            return;
        }
        let is_due = self.server.away.is_some() || self.tried.elapsed() >= self.beat();
        // What another room leaves is taken soon.
        if is_due || self.server.hold != Hold::Held {
            let was_away = self.server.away.is_some();
            self.step().await;
            if self.server.away.is_none() && (was_away || self.checked.elapsed() >= CHECK) {
                self.check(&queue).await;
            }
        }
    }

    async fn connected(&mut self, queue: NatsQueue) {
        self.check(&queue).await;
        self.queue = Some(queue);
    }

    async fn check(&mut self, queue: &NatsQueue) {
        self.checked = Instant::now();
        let report = queue.check().await;
        let warning = report.warning();
        let is_news = self.queue.is_none() || warning != self.server.warning;
        if let Some(warning) = warning.as_ref().filter(|_| is_news) {
            tracing::warn!("{}: {warning}", report.sentence());
        } else if is_news {
            tracing::info!("{}", report.sentence());
        }
        self.server.warning = warning;
    }

    /// One beat, or one look at whose it is.
    async fn step(&mut self) {
        let Some(queue) = self.queue.clone() else { return };
        self.tried = Instant::now();
        match self.ask(&queue).await {
            Ok(Seen::Ours(revision)) => {
                (self.revision, self.server.away) = (revision, None);
                self.now(Hold::Held);
            }
            Ok(Seen::Other(by, revision)) => {
                // Whoever moves it is there. Who took what was ours is there too.
                let was_ours = self.server.hold == Hold::Held;
                let is_first = matches!(self.server.hold, Hold::Unknown | Hold::Occupied { .. });
                let moves = was_ours || !is_first && revision != self.revision;
                let stays = matches!(self.server.hold, Hold::Taken { .. }) && revision == self.revision;
                (self.revision, self.server.away) = (revision, None);
                self.now(if moves || stays { Hold::Taken { by } } else { Hold::Quiet { by } });
            }
            Ok(Seen::Occupied(there)) => {
                self.server.away = None;
                self.now(Hold::Occupied { why: there.to_string() });
            }
            Err(error) => self.away(error.to_string()),
        }
    }

    async fn ask(&mut self, queue: &NatsQueue) -> Result<Seen, QueueError> {
        if self.server.hold == Hold::Held
            && let Some(revision) = queue.hold(&self.holder, self.revision).await?
        {
            return Ok(Seen::Ours(revision));
        }
        if let Some(there) = self.occupied(queue).await? {
            return Ok(Seen::Occupied(there));
        }
        loop {
            let (found, revision) = queue.owner().await?;
            match found {
                Some(other) if other.room != self.holder.room => return Ok(Seen::Other(other, revision)),
                Some(own) if own.pid == self.holder.pid => self.holder.since = own.since,
                Some(_) | None => {}
            }
            if let Some(revision) = queue.hold(&self.holder, revision).await? {
                // From here on no queue can be moved there; one may have come just before.
                let Some(there) = self.occupied(queue).await? else { return Ok(Seen::Ours(revision)) };
                queue.let_go(&self.holder).await?;
                return Ok(Seen::Occupied(there));
            }
        }
    }

    /// Whose whole queue is in the way.
    async fn occupied(&self, queue: &NatsQueue) -> Result<Option<migrate::QueueThere>, QueueError> {
        if self.is_room { migrate::what_lies_there(queue).await } else { Ok(None) }
    }

    fn now(&mut self, hold: Hold) {
        if self.server.hold == hold {
            return;
        }
        self.held.send_replace((hold == Hold::Held).then(|| self.holder.clone()));
        let address = &self.server.address;
        match &hold {
            Hold::Held => tracing::info!(address, "the NATS server is this room's"),
            Hold::Quiet { by } => tracing::warn!(address, "the NATS server was held by {by}; it is waited for"),
            Hold::Taken { by } => tracing::error!("{}", taken(address, by)),
            Hold::Occupied { why } => tracing::error!("{why}"),
            Hold::Unknown => {}
        }
        self.server.hold = hold;
    }

    fn away(&mut self, why: String) {
        if self.server.away.is_none() {
            tracing::warn!(why, "the NATS server is away");
            self.server.away = Some(Away { since: self.clock.now(), why });
        }
    }
}

/// A hold that is being kept; dropped, it runs out by itself.
pub(super) struct Kept {
    end: CancellationToken,
    task: JoinSet<()>,
}

impl Kept {
    /// Gives it up.
    pub(super) async fn give_up(mut self) {
        self.end.cancel();
        let _ended = self.task.join_next().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_keeps_its_name_under_the_same_lock_file_and_a_copied_stage_gets_another() {
        let stage = tempfile::tempdir().unwrap();
        let lock = lock::StageLock::take(stage.path()).unwrap().unwrap();
        let first = identify(stage.path()).unwrap();
        drop(lock);
        let lock = lock::StageLock::take(stage.path()).unwrap().unwrap();
        assert_eq!((identify(stage.path()).unwrap(), room_name(stage.path()).unwrap()), (first.clone(), first.clone()));
        let copy = tempfile::tempdir().unwrap();
        let other = lock::StageLock::take(copy.path()).unwrap().unwrap();
        fs::copy(identity_path(stage.path()), identity_path(copy.path())).unwrap();
        assert_ne!(identify(copy.path()).unwrap(), first);
        drop((lock, other));
        // Before a restart of the machine it was another kernel's.
        let text = fs::read_to_string(identity_path(stage.path())).unwrap().replace(&tree::boot_id(), "before");
        fs::write(identity_path(stage.path()), text).unwrap();
        let _lock = lock::StageLock::take(stage.path()).unwrap().unwrap();
        assert_ne!(identify(stage.path()).unwrap(), first);
    }
}
