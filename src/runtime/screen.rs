//! The screen's loop: keys, the room's events and log lines in; frames and orders out.
//!
//! It draws from a replica and from `tui::App`, at most one frame per `FRAME`, at once after a key. Losing the room
//! changes a mark on screen and nothing else: the last picture stays, and the loop calls again until a room answers.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use crossterm::event::{Event as TerminalEvent, EventStream, KeyEventKind};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::logs::Follow;
use crate::{
    attach::{
        AttachError,
        client::{Link, News},
    },
    claude::log::{Kind, LogLine},
    model::Clock,
    room::Order,
    tui::{self, App, Connection, Entry, Leave, LogTarget, Wish, terminal},
};

/// The shortest time between two frames that no key asked for.
const FRAME: Duration = Duration::from_millis(33);
/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(60);
/// Words of the room that are taken in before keys and the clock are looked at again.
const NEWS: usize = 256;
/// The part of a long log that is read when it is opened.
const TAIL: u64 = 4 * 1024 * 1024;
/// A room that has said nothing for so long, not even that it is there, is shown as not responding.
const QUIET: Duration = Duration::from_secs(6);
/// How often a lost room is called again.
const CALL: Duration = Duration::from_millis(300);

/// What the loop hears from its own tasks.
enum Heard {
    Entries(LogTarget, Vec<Entry>),
    Skipped(LogTarget, u64),
    Report(String, Result<String, String>),
}

/// Runs the screen on a connected room until the operator leaves or the terminal goes away.
pub async fn run(
    link: Link,
    stage: &Path,
    settings: tui::Settings,
    draft: &str,
    clock: Clock,
) -> anyhow::Result<Leave> {
    let mut term = signal(SignalKind::terminate()).context("could not listen for signals")?;
    let mut hup = signal(SignalKind::hangup()).context("could not listen for signals")?;
    let mut int = signal(SignalKind::interrupt()).context("could not listen for signals")?;
    let mut screen = terminal::enter().context("could not take the terminal")?;
    let _given_back = terminal::Guard;
    let mut app = App::new(settings);
    let size = screen.size().context("could not read the terminal's size")?;
    app.resize(size.width, size.height);
    if !draft.is_empty() {
        app.compose(draft);
    }
    let (tell, mut heard) = mpsc::channel(16);
    let mut link = link;
    link.be_patient();
    let mut eyes = Screen {
        stage: stage.to_owned(),
        link,
        room: Room::Up,
        app,
        clock,
        orders: HashMap::new(),
        tell,
        reading: JoinSet::new(),
        log: None,
        calling: JoinSet::new(),
        dirty: true,
        clear: false,
    };
    eyes.observe().await;
    let mut keys = EventStream::new();
    let mut drawn = Instant::now().checked_sub(FRAME).unwrap_or_else(Instant::now);
    let mut second = Instant::now();
    loop {
        if eyes.dirty && drawn.elapsed() >= FRAME {
            eyes.draw(&mut screen).context("could not draw")?;
            drawn = Instant::now();
            second = drawn + Duration::from_secs(1);
        }
        let ticks = eyes.app.ticks(eyes.link.state());
        let quiet = Instant::now() + QUIET.saturating_sub(eyes.link.silent_for());
        tokio::select! {
            key = keys.next() => {
                let Some(Ok(event)) = key else { return Ok(Leave::Detach) };
                if let Some(leave) = eyes.input(event).await {
                    return eyes.leave(leave, &mut screen).await;
                }
                // What the hand did is seen at once.
                drawn = drawn.checked_sub(FRAME).unwrap_or(drawn);
            }
            news = eyes.link.next(), if eyes.room != Room::Lost => eyes.news(news).await,
            () = sleep_until(quiet), if eyes.room == Room::Up => eyes.falls_silent(),
            Some(word) = heard.recv() => eyes.hear(word),
            Some(called) = eyes.calling.join_next(), if eyes.room == Room::Lost => eyes.called(called.ok().flatten()).await,
            () = sleep_until(drawn + FRAME), if eyes.dirty => {}
            () = sleep_until(second), if ticks && !eyes.dirty => eyes.dirty = true,
            _ = term.recv() => return Ok(Leave::Detach),
            _ = hup.recv() => return Ok(Leave::Detach),
            _ = int.recv() => return Ok(Leave::Detach),
        }
    }
}

/// Whether the room is heard through `link`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Up,
    /// It is connected and says nothing.
    Silent,
    /// The link holds the last picture.
    Lost,
}

struct Screen {
    stage: PathBuf,
    link: Link,
    room: Room,
    app: App,
    clock: Clock,
    orders: HashMap<u64, Order>,
    tell: mpsc::Sender<Heard>,
    /// The one log being read, and reports.
    reading: JoinSet<()>,
    log: Option<AbortHandle>,
    /// The call for a lost room.
    calling: JoinSet<Option<Link>>,
    dirty: bool,
    clear: bool,
}

impl Screen {
    fn draw(&mut self, screen: &mut terminal::Screen) -> std::io::Result<()> {
        if std::mem::take(&mut self.clear) {
            // Not `clear`: that asks the terminal where its cursor is, and the answer goes to the key reader.
            let size = screen.size()?;
            screen.resize(size.into())?;
        }
        self.dirty = false;
        let now = self.clock.now();
        self.app.pass(now);
        screen.draw(|frame| tui::draw(self.link.state(), &self.app, now, frame))?;
        Ok(())
    }

    async fn input(&mut self, event: TerminalEvent) -> Option<Leave> {
        self.dirty = true;
        let wishes = match event {
            TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => self.app.key(key, self.link.state()),
            TerminalEvent::Paste(text) => {
                self.app.paste(&text);
                Vec::new()
            }
            TerminalEvent::Resize(columns, rows) => {
                self.app.resize(columns, rows);
                Vec::new()
            }
            TerminalEvent::Mouse(mouse) => self.app.mouse(mouse, self.link.state()),
            TerminalEvent::Key(_) | TerminalEvent::FocusGained | TerminalEvent::FocusLost => Vec::new(),
        };
        let leave = self.grant(wishes).await;
        if leave.is_none() {
            self.observe().await;
        }
        leave
    }

    async fn observe(&mut self) {
        let wishes = self.app.observe(self.link.state());
        // Looking never leaves.
        let _stays = self.grant(wishes).await;
    }

    async fn grant(&mut self, wishes: Vec<Wish>) -> Option<Leave> {
        for wish in wishes {
            match wish {
                Wish::Order(order) => self.order(order).await,
                Wish::Quit(leave) => return Some(leave),
                Wish::ReadLog(target) => {
                    if let Some(former) = self.log.take() {
                        former.abort();
                    }
                    while self.reading.try_join_next().is_some() {}
                    self.log = target.map(|t| self.reading.spawn(follow(self.stage.clone(), t, self.tell.clone())));
                }
                Wish::ReadReport { path } => {
                    let (file, tell) = (self.stage.join(&path), self.tell.clone());
                    self.reading.spawn(async move {
                        let text = tokio::fs::read_to_string(file).await.map_err(|error| error.to_string());
                        let _left = tell.send(Heard::Report(path, text)).await;
                    });
                }
                Wish::Copy(text) => {
                    if let Err(error) = terminal::copy(&text) {
                        self.app.say(&format!("could not copy: {error}"), true);
                    }
                }
                Wish::Redraw => self.clear = true,
                Wish::Mouse(on) => {
                    if let Err(error) = terminal::mouse(on) {
                        self.app.say(&format!("could not switch the mouse: {error}"), true);
                    }
                }
            }
        }
        None
    }

    async fn order(&mut self, order: Order) {
        if self.room == Room::Lost {
            self.app.say("not sent: the room is not reachable", true);
            return;
        }
        match self.link.send(order.clone()).await {
            Ok(ticket) => drop(self.orders.insert(ticket, order)),
            Err(error) => self.lost(&error),
        }
    }

    fn falls_silent(&mut self) {
        self.room = Room::Silent;
        self.dirty = true;
        let silent = jiff::SignedDuration::try_from(self.link.silent_for()).unwrap_or_default();
        let now = self.clock.now();
        let since = now.saturating_sub(silent).unwrap_or(now);
        self.app.connection(Connection::Silent { since, pid: self.link.state().pid });
    }

    /// Takes in what was heard and what else has come: looking once for many changes keeps up with any number of them.
    async fn news(&mut self, first: Result<News, AttachError>) {
        let (mut next, mut changed, mut left) = (Some(first), false, NEWS);
        while let Some(news) = next {
            changed |= matches!(news, Ok(News::Changed));
            self.word(news);
            left -= 1;
            next = if self.room != Room::Lost && left > 0 { self.link.next().now_or_never() } else { None };
        }
        if changed {
            self.observe().await;
        }
    }

    fn word(&mut self, news: Result<News, AttachError>) {
        if self.room == Room::Silent && news.is_ok() {
            self.room = Room::Up;
            self.app.connection(Connection::Connected);
            self.dirty = true;
        }
        match news {
            Ok(News::Beat) => return,
            Ok(News::Changed) => {}
            Ok(News::Answered(ticket, answer)) => {
                if let Some(order) = self.orders.remove(&ticket) {
                    self.app.answered(&order, &answer);
                }
            }
            Err(error) => self.lost(&error),
        }
        self.dirty = true;
    }

    fn lost(&mut self, error: &AttachError) {
        self.room = Room::Lost;
        self.dirty = true;
        self.orders.clear();
        self.app.connection(Connection::Lost { since: self.clock.now(), why: error.to_string() });
        self.call();
    }

    fn call(&mut self) {
        let stage = self.stage.clone();
        self.calling.spawn(async move {
            tokio::time::sleep(CALL).await;
            Link::connect(&stage).await.ok()
        });
    }

    async fn called(&mut self, answered: Option<Link>) {
        match answered {
            Some(link) => {
                self.link = link;
                self.link.be_patient();
                self.room = Room::Up;
                self.dirty = true;
                self.app.connection(Connection::Connected);
                self.observe().await;
            }
            None => self.call(),
        }
    }

    fn hear(&mut self, word: Heard) {
        self.dirty = true;
        match word {
            Heard::Entries(target, entries) => self.app.log_appended(&target, entries),
            Heard::Skipped(target, bytes) => self.app.log_skipped(&target, bytes),
            Heard::Report(path, Ok(text)) => self.app.report_read(&path, &text),
            Heard::Report(path, Err(why)) => self.app.report_failed(&path, &why),
        }
    }

    /// Leaves as asked; stopping everything waits until the room says that it has.
    async fn leave(mut self, leave: Leave, screen: &mut terminal::Screen) -> anyhow::Result<Leave> {
        if leave == Leave::StopEverything && self.room != Room::Lost {
            self.order(Order::Stop { drain: false }).await;
            self.app.say("ending what runs…", false);
            self.draw(screen).context("could not draw")?;
            let ended = async {
                while self.link.next().await.is_ok() {
                    // The picture of the room closing is worth seeing.
                    let _unseen = self.draw(screen);
                }
            };
            if tokio::time::timeout(Duration::from_secs(40), ended).await.is_err() {
                anyhow::bail!("the room does not end; see logs/podium.log, or try `podium stop`");
            }
        }
        Ok(leave)
    }
}

/// Reads a log as it grows until it is aborted.
async fn follow(stage: PathBuf, target: LogTarget, tell: mpsc::Sender<Heard>) {
    let path = stage.join(&target.path);
    let opened = tokio::task::spawn_blocking(move || Follow::open(&path, Some(TAIL))).await;
    let (mut follow, skipped) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            let text = format!("the log cannot be read: {error}");
            let entry = Entry { at: None, kind: Kind::Error, depth: 0, text };
            let _left = tell.send(Heard::Entries(target, vec![entry])).await;
            return;
        }
        Err(_aborted) => return,
    };
    if skipped > 0 && tell.send(Heard::Skipped(target.clone(), skipped)).await.is_err() {
        return;
    }
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let lines = follow.read();
            (follow, lines)
        });
        let Ok((back, lines)) = read.await else { return };
        follow = back;
        match lines {
            Ok(Some(lines)) => {
                let entries = lines.into_iter().map(|(at, line)| entry(at, line)).collect();
                // A bounded channel: a flood waits here and not in the screen's memory.
                if tell.send(Heard::Entries(target.clone(), entries)).await.is_err() {
                    return;
                }
            }
            Ok(None) => tokio::time::sleep(LOOK).await,
            Err(_gone) => return,
        }
    }
}

fn entry(at: Option<jiff::Timestamp>, line: LogLine) -> Entry {
    Entry { at, kind: line.kind, depth: line.depth, text: line.text }
}
