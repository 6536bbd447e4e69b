//! Screens on other machines: the room's end of their tunnels, while the server is the room's.
//!
//! Owns who is let in, and how many. Must not know what is said: a tunnel leads to the room's own socket, as any screen's
//! connection does, or to whoever reads the stage's files for it. Its one surprise: a connection of its own. A snapshot that is
//! on its way never stands before a beat that keeps the room's hold on the server.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use tokio::{
    net::UnixStream,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::hands;
use crate::{
    attach::{
        far, socket_path,
        tunnel::{self, Caller, Hello, Lane, To, Welcome},
    },
    model::{server::Holder, text},
    queue::{
        file::FileQueue,
        nats::{self, Address},
    },
};

/// Tunnels at once, two for each screen.
const MOST: usize = 64;
/// How long the last words of a room that leaves may take.
const LAST: Duration = Duration::from_secs(1);
/// How long to wait before the server is called again.
const AGAIN: Duration = Duration::from_secs(1);

/// What screens on other machines are led to.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) address: Address,
    pub(super) stage: PathBuf,
    pub(super) queue: FileQueue,
}

/// A door that is kept open while the server is the room's.
pub(super) struct Kept {
    end: CancellationToken,
    task: JoinSet<()>,
}

impl Kept {
    /// Lets nobody in any more, and those who are here hear the room's last words. Its socket is closed already.
    pub(super) async fn close(mut self) {
        self.end.cancel();
        let _late = timeout(LAST, self.task.join_next()).await;
    }
}

impl Door {
    /// Lets screens in while the server is `held`.
    pub(super) fn keep(self, held: watch::Receiver<Option<Holder>>) -> Kept {
        let (end, mut task) = (CancellationToken::new(), JoinSet::new());
        task.spawn(self.stand(held, end.clone()));
        Kept { end, task }
    }

    async fn stand(self, mut held: watch::Receiver<Option<Holder>>, end: CancellationToken) {
        loop {
            let holder = tokio::select! {
                () = end.cancelled() => return,
                // One that was given up is not taken again: the room leaves.
                holder = changes(&mut held, Option::is_some) => holder,
            };
            let Some(holder) = holder else { continue };
            tokio::select! {
                opened = self.open(&holder, &end) => match opened {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::debug!(error = format!("{error:#}"), "no screens are let in from other machines");
                        sleep(AGAIN).await;
                    }
                },
                // Whoever has the server now lets them in.
                _gone = changes(&mut held, Option::is_none) => {}
            }
        }
    }

    /// Lets screens in until the end.
    async fn open(&self, holder: &Holder, end: &CancellationToken) -> anyhow::Result<()> {
        let client = nats::connect(&self.address, "room").await?;
        let mut hellos = client.subscribe(tunnel::HELLO).await?;
        let mut tunnels = Tunnels::default();
        loop {
            let message = tokio::select! {
                () = end.cancelled() => break,
                message = hellos.next() => message.context("the connection is closed")?,
            };
            tunnels.reap();
            if let Err(error) = self.let_in(&client, holder, &message, &mut tunnels).await {
                tracing::warn!(error = format!("{error:#}"), "a screen on another machine was not let in");
            }
        }
        // Whoever reads files hears nothing more; the room's socket says goodbye.
        while tunnels.to_room.join_next().await.is_some() {}
        client.flush().await?;
        Ok(())
    }

    async fn let_in(
        &self,
        client: &Client,
        holder: &Holder,
        message: &Message,
        tunnels: &mut Tunnels,
    ) -> anyhow::Result<()> {
        let (Some(reply), Some(caller)) = (message.reply.clone(), tunnel::read::<Caller>(message)) else {
            anyhow::bail!("this is no hello");
        };
        let refusal = caller.refusal(holder);
        let refusal = refusal.or_else(|| (tunnels.count() >= MOST).then(|| "the room has too many screens".to_owned()));
        if let Some(why) = refusal {
            client.publish(reply, far::write(&Welcome::Bye(why.clone()))).await?;
            anyhow::bail!("{why}");
        }
        let hello = tunnel::read::<Hello>(message).filter(|hello| far::is_name(&hello.screen));
        let hello = hello.context("this is no hello of a screen")?;
        let way = far::name().context("no random name")?;
        let says = client.subscribe(tunnel::subject(&way)).await?;
        let stream = match hello.to {
            To::Room => UnixStream::connect(socket_path(&self.stage)).await.context("could not call the room")?,
            To::Files => {
                let (ours, theirs) = UnixStream::pair()?;
                let (stage, queue) = (self.stage.clone(), self.queue.clone());
                tunnels.reading.spawn(async move {
                    if let Err(error) = hands::serve(&stage, queue, theirs).await {
                        tracing::debug!(error = format!("{error:#}"), "files are read for a screen no more");
                    }
                });
                ours
            }
        };
        let welcome = Welcome::Open { way, room: holder.clone() };
        // By the connection that has subscribed: who hears the answer is heard.
        client.publish(reply, far::write(&welcome)).await?;
        let lane = Lane::new(client.clone(), tunnel::subject(&hello.screen), says);
        let (host, pid, to) = (text::first_line(&caller.host, 60), hello.pid, hello.to);
        let set = match to {
            To::Room => &mut tunnels.to_room,
            To::Files => &mut tunnels.to_files,
        };
        set.spawn(async move {
            tracing::info!(host, pid, ?to, "a screen on another machine is here");
            let parted = lane.carry(stream).await;
            tracing::info!(host, pid, ?to, %parted, "a screen on another machine has gone");
        });
        Ok(())
    }
}

/// Tunnels that are open. What ends them all is that this goes.
#[derive(Debug, Default)]
struct Tunnels {
    to_room: JoinSet<()>,
    to_files: JoinSet<()>,
    /// Who reads the files at their ends.
    reading: JoinSet<()>,
}

impl Tunnels {
    fn count(&self) -> usize {
        self.to_room.len() + self.to_files.len()
    }

    /// Forgets those that have ended.
    fn reap(&mut self) {
        for set in [&mut self.to_room, &mut self.to_files, &mut self.reading] {
            while set.try_join_next().is_some() {}
        }
    }
}

/// Waits until the hold is so; for ever where nobody says it any more.
async fn changes(
    held: &mut watch::Receiver<Option<Holder>>,
    is_so: impl FnMut(&Option<Holder>) -> bool,
) -> Option<Holder> {
    let holder = held.wait_for(is_so).await.map(|holder| holder.clone());
    match holder {
        Ok(holder) => holder,
        Err(_gone) => std::future::pending().await,
    }
}
