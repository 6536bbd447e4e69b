//! A stage without a room: what its files say, for people and screens.
//!
//! Owns a state that is fed from the files alone and carries nothing out. Must not write anything. Its one surprise: a
//! screen sees it through the same wire as a room, with every order refused; the files are read again now and then, and
//! once a room answers the screen is sent there.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use anyhow::Context as _;
use futures_util::{SinkExt, StreamExt as _};
use jiff::Timestamp;
use tokio::{net::UnixStream, task::JoinSet};
use tokio_util::codec::{Framed, LinesCodec};

use super::{money, open, serve};
use crate::{
    api,
    attach::{
        client::Link,
        socket_path,
        wire::{self, Ask, Hello, LONGEST_LINE, Tell},
    },
    config::{Config, Env},
    journal::Journal,
    ledger::Rows,
    model::Clock,
    queue::{Change, file::FileQueue},
    room::{Effect, Event, GatewayEvent, OrderId, Stamped, State},
};

/// How often the files are read again for a screen, at the most; very many are read less often.
const AGAIN: Duration = Duration::from_secs(3);
/// How often the screen is told that somebody is there.
const PULSE: Duration = Duration::from_secs(2);

/// A stage's files as a state.
#[derive(Debug)]
pub struct Viewer {
    state: State,
    queue: FileQueue,
    /// What the last look has shown, by what it is about.
    seen: HashMap<String, Change>,
    stage: PathBuf,
    clock: Clock,
}

impl Viewer {
    /// Reads a stage on which no room is open. `why` is what every order is refused with.
    pub async fn open(config: &Config, env: &Env, why: String, clock: Clock) -> anyhow::Result<Self> {
        let control = config.stage.join(".podium");
        let mut state = State::default();
        for fact in Journal::<Stamped>::read(&control.join("journal.jsonl"))? {
            drop(state.update(fact));
        }
        let queue = open::reader(config, clock.clone());
        let mut viewer = Self { state, queue, seen: HashMap::new(), stage: config.stage.clone(), clock };
        drop(viewer.apply(Event::Opened(Box::new(open::picture(config, env, Some(why))))));
        let rows = Rows::new(control.join("ledger"));
        let money = money::fold(&rows, &config.prices, api::full_id(&config.tiers.top), false, viewer.clock.now())?;
        drop(viewer.apply(Event::Gateway(GatewayEvent::Folded { money: Box::new(money) })));
        let _news = viewer.look().await?;
        Ok(viewer)
    }

    /// What there is.
    pub fn into_state(self) -> State {
        self.state
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        self.state.update(Stamped { at: self.clock.now(), event })
    }

    /// Reads the files again; gives what is new.
    async fn look(&mut self) -> anyhow::Result<Vec<Stamped>> {
        let changes = self.queue.view().await.context("could not read the stage's files")?;
        let mut news = Vec::new();
        let mut before = std::mem::take(&mut self.seen);
        for change in changes {
            let of = subject(&change);
            if before.remove(&of).as_ref() != Some(&change) {
                news.push(change.clone());
            }
            self.seen.insert(of, change);
        }
        news.extend(before.into_values().filter_map(gone));
        let at = self.clock.now();
        let news: Vec<Stamped> = news.into_iter().map(|change| stamped(change, at)).collect();
        for event in &news {
            drop(self.state.update(event.clone()));
        }
        Ok(news)
    }

    /// A link to what there is, for a screen; it lives as long as the set.
    pub async fn link(self) -> anyhow::Result<(Link, JoinSet<()>)> {
        let (ours, theirs) = UnixStream::pair().context("could not make a pair of sockets")?;
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // The screen hears that it was lost, and calls for a room.
            if let Err(error) = self.serve(ours).await {
                tracing::warn!(error = format!("{error:#}"), "the stage's files are shown no more");
            }
        });
        Ok((Link::over(theirs).await?, serving))
    }

    async fn serve(mut self, stream: UnixStream) -> anyhow::Result<()> {
        let mut wire = Framed::new(stream, LinesCodec::new_with_max_length(LONGEST_LINE));
        let hello = wire.next().await.context("nobody said hello")??;
        let _screen: Hello = serde_json::from_str(&hello)?;
        for line in wire::snapshot_lines(&self.state)? {
            wire.feed(&*line).await?;
        }
        SinkExt::<&str>::flush(&mut wire).await?;
        let mut pulse = tokio::time::interval(PULSE);
        let mut again = tokio::time::Instant::now() + AGAIN;
        loop {
            tokio::select! {
                line = wire.next() => {
                    let Some(line) = line else { return Ok(()) };
                    let Ask { ticket, order } = serde_json::from_str(&line?)?;
                    for effect in self.apply(Event::Ordered { id: OrderId(ticket), order }) {
                        if let Effect::Answer { answer, .. } = effect {
                            wire.send(serde_json::to_string(&Tell::Answer(ticket, answer))?).await?;
                        }
                    }
                }
                _ = pulse.tick() => {
                    // A room has been opened elsewhere meanwhile.
                    if UnixStream::connect(socket_path(&self.stage)).await.is_ok() {
                        return Ok(());
                    }
                    wire.send(serde_json::to_string(&Tell::Beat)?).await?;
                }
                () = tokio::time::sleep_until(again) => {
                    let began = tokio::time::Instant::now();
                    for stamped in self.look().await? {
                        wire.feed(&*wire::event_line(&stamped)?).await?;
                    }
                    SinkExt::<&str>::flush(&mut wire).await?;
                    again = tokio::time::Instant::now() + AGAIN.max(began.elapsed() * 20);
                }
            }
        }
    }
}

fn stamped(change: Change, at: Timestamp) -> Stamped {
    Stamped { at, event: Event::Task(serve::task_event(change)) }
}

/// What a change is about.
fn subject(change: &Change) -> String {
    match change {
        Change::Task(record) => record.task().to_string(),
        Change::Gone(task) | Change::Requested { task, .. } => task.to_string(),
        Change::Rejected(rejected) => rejected.path.clone(),
        Change::RejectedGone(path) => path.clone(),
        Change::Found(..) => "found".to_owned(),
        Change::Trash(_) => "trash".to_owned(),
        Change::Space(_) => "space".to_owned(),
        Change::Polling(_) => "polling".to_owned(),
    }
}

/// What is said of something that was there at the last look.
fn gone(change: Change) -> Option<Change> {
    match change {
        Change::Task(record) => Some(Change::Gone(record.task().clone())),
        Change::Rejected(rejected) => Some(Change::RejectedGone(rejected.path)),
        Change::Found(..)
        | Change::Gone(_)
        | Change::Requested { .. }
        | Change::Trash(_)
        | Change::RejectedGone(_)
        | Change::Space(_)
        | Change::Polling(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        attach::client::News,
        config::Flags,
        room::{Answer, Order},
    };

    #[tokio::test]
    async fn a_screen_sees_the_files_as_they_change_and_every_order_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let stage = dir.path().join("stage");
        let inbox = stage.join("tasks/marie");
        fs::create_dir_all(&inbox).unwrap();
        fs::write(stage.join("podium.toml"), "").unwrap();
        let put = |id: &str| fs::write(inbox.join(format!("{id}.json")), r#"{"description": "Do it."}"#).unwrap();
        put("first");
        let env = Env::at(dir.path(), &[]);
        let config = Config::load(&stage, &env, &Flags::default()).unwrap();
        let clock = Clock::fixed("2026-11-28T12:00:00Z".parse().unwrap());
        let viewer = Viewer::open(&config, &env, "READ-ONLY: because".to_owned(), clock).await.unwrap();
        let (mut link, _serving) = viewer.link().await.unwrap();
        assert_eq!(link.state().offline.as_deref(), Some("READ-ONLY: because"));
        assert_eq!(link.state().tasks.iter().count(), 1);

        let marie = "marie".parse().unwrap();
        for order in [Order::Pause { agent: marie }, Order::Cancel { task: "marie/first".parse().unwrap() }] {
            let refused = Answer::Refused { reason: "READ-ONLY: because".to_owned() };
            assert_eq!(link.order(order).await.unwrap(), refused);
        }
        put("second");
        fs::remove_file(inbox.join("first.json")).unwrap();
        let second = "marie/second".parse().unwrap();
        while link.state().tasks.iter().map(|task| task.record.task()).ne([&second]) {
            assert!(matches!(link.next().await.unwrap(), News::Changed | News::Beat));
        }
        assert_eq!(fs::read_dir(&stage).unwrap().count(), 2, "nothing was made");
        assert_eq!(fs::read_dir(&inbox).unwrap().count(), 1);
    }
}
