//! The screen's loop: keys, the room's events and log lines in; frames and orders out.
//!
//! It draws from a replica and from `tui::App`, at most one frame per `FRAME`, at once after a key. Losing the room
//! changes a mark on screen and nothing else: the last picture stays, and the loop calls again until a room answers.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use crossterm::event::{Event as TerminalEvent, EventStream, KeyEventKind};
use futures_util::{FutureExt as _, StreamExt as _};
use tempfile::NamedTempFile;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    documents,
    feed::Feed,
    guest::{Home, Visit, Visitor},
    keep::Keeper,
    line::Line,
    logs::{self, Eyes},
    refs, visits,
};
use crate::{
    attach::{
        AttachError,
        client::{Link, News},
    },
    logs::{context, copy},
    model::{
        AgentName, Clock, LogPlace,
        log::{LogHit, LogPart, LogRange, TimedLine},
    },
    room::Order,
    tui::{
        self, App, Connection, Document, Guest, Leave, Search, Turn, Wish,
        composer::{Entry, Template},
        terminal,
    },
};

/// The shortest time between two frames that no key asked for.
const FRAME: Duration = Duration::from_millis(33);
/// Words of the room that are taken in before keys and the clock are looked at again.
const NEWS: usize = 256;
/// Lines before and after a hit that are shown beside a list of hits.
const BESIDE: usize = 6;
/// Where copies of logs go, below the stage.
const COPIES: &str = ".podium/copies";
/// A room that has said nothing for so long, not even that it is there, is shown as not responding.
const QUIET: Duration = Duration::from_secs(6);
/// How often a lost room is called again.
const CALL: Duration = Duration::from_millis(300);

/// What the loop hears from its own tasks.
enum Heard {
    Log(u64, LogPart),
    Found(u64, logs::News),
    Beside(LogPlace, Vec<TimedLine>, usize),
    Copied(Option<Guest>, std::io::Result<copy::Copied>),
    Document(Document, Result<String, String>),
    Listed(String, Vec<Entry>),
    Templates(Vec<Template>),
}

/// What a screen begins with.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The stage's folder.
    pub stage: PathBuf,
    /// How it looks.
    pub settings: tui::Settings,
    /// Text that waits in the composer.
    pub composed: Option<String>,
    /// Where the operator's own templates lie.
    pub templates: Option<PathBuf>,
    /// It is remembered with the stage.
    pub keeps: bool,
    /// Where each agent's own CLI is at home.
    pub homes: BTreeMap<AgentName, Home>,
}

/// Runs the screen on a connected room until the operator leaves or the terminal goes away.
pub async fn run(feed: Feed, setup: Setup, clock: Clock) -> anyhow::Result<Leave> {
    let stage = setup.stage;
    let mut term = signal(SignalKind::terminate()).context("could not listen for signals")?;
    let mut hup = signal(SignalKind::hangup()).context("could not listen for signals")?;
    let mut int = signal(SignalKind::interrupt()).context("could not listen for signals")?;
    let mut screen = terminal::enter().context("could not take the terminal")?;
    let _given_back = terminal::Guard;
    let mut app = App::new(setup.settings);
    let keeper = setup.keeps.then(|| Keeper::open(&stage, &mut app));
    let window = Line::open();
    if app.has_mouse() {
        terminal::mouse(true).context("could not switch the mouse")?;
    }
    let size = screen.size().context("could not read the terminal's size")?;
    app.resize(size.width, size.height);
    if let Some(goal) = setup.composed.filter(|goal| !goal.is_empty()) {
        app.compose(&goal);
    }
    let (tell, mut heard) = mpsc::channel(16);
    let logs = eyes_on(feed.folder(&stage), &tell)?;
    if let Some(moment) = feed.moment() {
        app.at_moment(moment);
    }
    let mut eyes = Screen {
        stage,
        templates: setup.templates,
        homes: setup.homes,
        link: feed,
        keeper,
        room: Room::Up,
        app,
        clock,
        orders: HashMap::new(),
        tell,
        reading: JoinSet::new(),
        logs,
        search: Arc::default(),
        guest: None,
        draft: None,
        calling: JoinSet::new(),
        dirty: true,
        clear: false,
    };
    eyes.observe().await;
    // Whoever looks at a run that is over has not been in the room.
    let is_room = eyes.link.moment().is_none();
    if let Some(then) = visits::last(&eyes.stage).filter(|_| is_room) {
        eyes.app.welcome(eyes.link.state(), then);
    }
    let _visit = is_room.then(|| visits::Visit::begin(&eyes.stage, eyes.clock.clone()));
    let mut keys = Some(EventStream::new());
    let mut visit: Option<Visit> = None;
    // When the next frame may be drawn.
    let mut due = Instant::now();
    let mut second = Instant::now();
    // A key was pressed, and what it asked of a log has not been read yet.
    let mut awaited = false;
    loop {
        if let Some(visitor) = eyes.guest.take().filter(|_| visit.is_none()) {
            // The key reader must not take what is meant for the guest.
            keys = None;
            match Visit::begin(visitor) {
                Ok(begun) => visit = Some(begun),
                Err(error) => {
                    eyes.app.say(&format!("{error:#}"), true);
                    screen = terminal::enter().context("could not take the terminal again")?;
                    keys = Some(EventStream::new());
                    eyes.back(&screen)?;
                }
            }
        }
        if eyes.dirty && visit.is_none() && due <= Instant::now() {
            eyes.draw(&mut screen).context("could not draw")?;
            let drawn = Instant::now();
            due = drawn + FRAME;
            second = drawn + Duration::from_secs(1);
        }
        let ticks = eyes.app.ticks(eyes.link.state());
        let quiet = Instant::now() + QUIET.saturating_sub(eyes.link.silent_for());
        tokio::select! {
            key = next_key(&mut keys), if visit.is_none() => {
                let Some(Ok(event)) = key else { return Ok(Leave::Detach) };
                if let Some(leave) = eyes.input(event).await {
                    return eyes.leave(leave, &mut screen).await;
                }
                // What the hand did is seen at once, and the first that is read for it.
                due = Instant::now();
                awaited = true;
            }
            news = eyes.link.next(), if eyes.room != Room::Lost => eyes.news(news).await,
            () = sleep_until(quiet), if eyes.room == Room::Up => eyes.falls_silent(),
            Some(word) = heard.recv() => {
                if matches!(word, Heard::Log(..)) && std::mem::take(&mut awaited) {
                    due = Instant::now();
                }
                eyes.hear(word).await;
            }
            Some(called) = eyes.calling.join_next(), if eyes.room == Room::Lost => eyes.called(called.ok().flatten()).await,
            said = ended(&mut visit), if visit.is_some() => {
                if let Some(former) = visit.take() {
                    screen = former.end().context("could not take the terminal again")?;
                }
                keys = Some(EventStream::new());
                eyes.back(&screen)?;
                let draft = eyes.draft.take();
                match (said, draft) {
                    // What an editor that failed has left is not taken.
                    (Some(said), _) => eyes.app.say(&said, true),
                    (None, Some(draft)) => eyes.take_back(&draft),
                    (None, None) => {}
                }
            }
            () = sleep_until(due), if eyes.dirty && visit.is_none() => {}
            () = sleep_until(second), if ticks && !eyes.dirty => eyes.dirty = true,
            () = window.gone() => return Ok(Leave::Detach),
            _ = term.recv() => return Ok(Leave::Detach),
            _ = hup.recv() => return Ok(Leave::Detach),
            // While a guest has the terminal, Ctrl+C there is meant for it.
            _ = int.recv() => if visit.is_none() { return Ok(Leave::Detach) },
        }
    }
}

/// Starts the thread that reads the logs below a folder.
fn eyes_on(folder: &Path, tell: &mpsc::Sender<Heard>) -> anyhow::Result<Eyes> {
    let told = tell.clone();
    Eyes::open(folder, move |ask, part| told.blocking_send(Heard::Log(ask, part)).is_ok())
        .context("could not start the thread that reads logs")
}

/// Copies into a new folder of the temporary directory, which nobody else can have prepared.
fn copy_elsewhere(stage: &Path, range: &LogRange, gone: &dyn Fn() -> bool) -> std::io::Result<copy::Copied> {
    let folder = tempfile::Builder::new().prefix("podium-copy-").tempdir()?.keep();
    copy::copy(stage, range, &folder, gone)
}

/// Writes a text where an editor finds it, for its owner alone.
fn begin_draft(text: &str) -> std::io::Result<NamedTempFile> {
    let mut draft = tempfile::Builder::new().prefix("podium-").suffix(".md").tempfile()?;
    draft.write_all(text.as_bytes())?;
    draft.flush()?;
    Ok(draft)
}

async fn next_key(keys: &mut Option<EventStream>) -> Option<std::io::Result<TerminalEvent>> {
    keys.as_mut()?.next().await
}

async fn ended(visit: &mut Option<Visit>) -> Option<String> {
    visit.as_mut()?.ended().await
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
    templates: Option<PathBuf>,
    link: Feed,
    room: Room,
    app: App,
    keeper: Option<Keeper>,
    clock: Clock,
    orders: HashMap<u64, Order>,
    tell: mpsc::Sender<Heard>,
    /// Files, copies, searches.
    reading: JoinSet<()>,
    /// What reads for the log view.
    logs: Eyes,
    /// Ends the search that runs.
    search: Arc<AtomicBool>,
    homes: BTreeMap<AgentName, Home>,
    /// Who wants the terminal.
    guest: Option<Visitor>,
    /// The text that a guest changes.
    draft: Option<NamedTempFile>,
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
        let now = self.link.now(&self.clock);
        self.app.pass(now);
        if let Some(notice) = self.app.call(self.link.state(), now).filter(|_| self.link.moment().is_none()) {
            let title = format!("podium {}", self.link.state().name);
            // A terminal that has gone is noticed by the frame that follows.
            let _gone = terminal::call(self.app.settings().attention, &title, &notice.text);
        }
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
        self.keep();
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
                Wish::ReadLog(ask) => self.logs.read(ask),
                Wish::Search(asked) => self.find(asked),
                Wish::Beside(hit) => self.look_beside(*hit),
                Wish::CopyLog(range) => self.copy(range, None),
                Wish::OpenLog(range, guest) => self.copy(range, Some(guest)),
                Wish::EditText(text) => match begin_draft(&text) {
                    Ok(draft) => {
                        self.guest = Some(Visitor::Reads(Guest::Editor, draft.path().to_owned(), 1));
                        self.draft = Some(draft);
                    }
                    Err(error) => self.app.say(&format!("could not write the text for the editor: {error}"), true),
                },
                Wish::Read(document) => {
                    let (stage, tell) = (self.stage.clone(), self.tell.clone());
                    self.reading.spawn_blocking(move || {
                        let read = documents::read(&stage, &document);
                        let _left = tell.blocking_send(Heard::Document(document, read));
                    });
                }
                Wish::Copy(text) => {
                    if let Err(error) = terminal::copy(&text) {
                        self.app.say(&format!("could not copy: {error}"), true);
                    }
                }
                Wish::List(folder) => {
                    let (stage, tell) = (self.stage.clone(), self.tell.clone());
                    self.reading.spawn_blocking(move || {
                        let entries = refs::list(&stage, &folder);
                        let _left = tell.blocking_send(Heard::Listed(folder, entries));
                    });
                }
                Wish::ReadTemplates => {
                    let folders = [Some(self.stage.join("templates")), self.templates.clone()];
                    let tell = self.tell.clone();
                    self.reading.spawn_blocking(move || {
                        let folders: Vec<_> = folders.iter().flatten().map(PathBuf::as_path).collect();
                        let _left = tell.blocking_send(Heard::Templates(refs::templates(&folders)));
                    });
                }
                Wish::Attach(agent) => match self.homes.get(&agent).cloned() {
                    Some(home) => self.guest = Some(Visitor::AtHome(home)),
                    None => self.app.say(&format!("{agent} has no home here"), true),
                },
                Wish::Turn(turn) => self.turn(turn),
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

    fn keep(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.look(&self.app);
        }
    }

    /// Moves the tape.
    fn turn(&mut self, turn: Turn) {
        let turned = self.link.turn(turn).map_err(anyhow::Error::from).and_then(|elsewhere| {
            if elsewhere {
                self.logs = eyes_on(self.link.folder(&self.stage), &self.tell)?;
                self.app.read_anew();
            }
            Ok(())
        });
        if let Err(error) = turned {
            self.app.say(&format!("could not go there: {error:#}"), true);
        }
        if let Some(moment) = self.link.moment() {
            self.app.at_moment(moment);
        }
    }

    fn find(&mut self, asked: Option<Search>) {
        self.search.store(true, Ordering::Relaxed);
        while self.reading.try_join_next().is_some() {}
        let Some(asked) = asked else { return };
        self.search = Arc::default();
        let folder = self.link.folder(&self.stage).to_owned();
        let (stage, stop, tell) = (folder, self.search.clone(), self.tell.clone());
        self.reading.spawn_blocking(move || {
            let id = asked.id;
            logs::find(&stage, &asked, &stop, &|news| tell.blocking_send(Heard::Found(id, news)).is_ok());
        });
    }

    fn look_beside(&mut self, hit: LogHit) {
        let (stage, tell) = (self.link.folder(&self.stage).to_owned(), self.tell.clone());
        self.reading.spawn_blocking(move || {
            let place = hit.place();
            let (lines, here) = context(&stage, &hit.log, &place, &hit.text, BESIDE);
            let _left = tell.blocking_send(Heard::Beside(place, lines, here));
        });
    }

    fn copy(&mut self, range: LogRange, guest: Option<Guest>) {
        let (stage, tell) = (self.link.folder(&self.stage).to_owned(), self.tell.clone());
        self.reading.spawn_blocking(move || {
            let gone = || tell.is_closed();
            let copied = copy::copy(&stage, &range, &stage.join(COPIES), &gone)
                // A stage that cannot be written to still has logs that can be read.
                .or_else(|_| copy_elsewhere(&stage, &range, &gone));
            let _left = tell.blocking_send(Heard::Copied(guest, copied));
        });
    }

    fn copied(&mut self, guest: Option<Guest>, copied: std::io::Result<copy::Copied>) {
        match (copied, guest) {
            (Err(error), _) => self.app.say(&format!("could not copy: {error}"), true),
            (Ok(copied), Some(guest)) => self.guest = Some(Visitor::Reads(guest, copied.path, copied.here)),
            (Ok(copied), None) => {
                let set = copied.text.as_deref().is_some_and(|text| terminal::copy(text).is_ok());
                let path = copied.path.strip_prefix(&self.stage).unwrap_or(&copied.path);
                self.app.copied(copied.lines, path, set, copied.cut);
            }
        }
    }

    /// The editor has ended: what it left is the text.
    fn take_back(&mut self, draft: &NamedTempFile) {
        match fs::read_to_string(draft.path()) {
            Ok(text) => self.app.text_edited(&text),
            Err(error) => self.app.say(&format!("could not read the edited text: {error}"), true),
        }
    }

    /// The terminal was taken again: everything is drawn anew, in the size that it has now.
    fn back(&mut self, screen: &terminal::Screen) -> anyhow::Result<()> {
        let size = screen.size().context("could not read the terminal's size")?;
        self.app.resize(size.width, size.height);
        if self.app.has_mouse()
            && let Err(error) = terminal::mouse(true)
        {
            self.app.say(&format!("could not switch the mouse: {error}"), true);
        }
        (self.dirty, self.clear) = (true, true);
        Ok(())
    }

    async fn order(&mut self, order: Order) {
        if self.room == Room::Lost {
            self.app.say("not sent: the room is not reachable", true);
            return;
        }
        match self.link.send(refs::resolve(&self.stage, order.clone())).await {
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
        if let Some(moment) = self.link.moment() {
            self.app.at_moment(moment);
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
                    // What was refused is back in the composer.
                    self.keep();
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
                self.link = Feed::room(link);
                self.room = Room::Up;
                self.dirty = true;
                self.app.connection(Connection::Connected);
                self.observe().await;
            }
            None => self.call(),
        }
    }

    async fn hear(&mut self, word: Heard) {
        self.dirty = true;
        match word {
            Heard::Log(ask, part) => self.app.log_read(ask, part, self.link.state()),
            Heard::Found(id, logs::News::Hits(hits)) => {
                self.app.found(id, hits, self.link.state());
                self.observe().await;
            }
            Heard::Found(id, logs::News::Read(bytes)) => self.app.searched(id, bytes),
            Heard::Found(id, logs::News::Ended(sum)) => self.app.search_ended(id, sum),
            Heard::Beside(place, lines, here) => self.app.beside_read(place, lines, here),
            Heard::Copied(guest, copied) => self.copied(guest, copied),
            Heard::Document(document, read) => {
                self.app.document_read(&document, read.as_deref().map_err(String::as_str));
            }
            Heard::Listed(folder, entries) => self.app.folder_read(folder, entries, self.link.state()),
            Heard::Templates(templates) => self.app.templates_read(templates),
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
