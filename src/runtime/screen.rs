//! The screen's loop: keys, the room's events and log lines in; frames and orders out.
//!
//! It draws from a replica and from `tui::App`, at most one frame per `FRAME`, at once after a key. Losing the room
//! changes a mark on screen and nothing else: the last picture stays, and the loop calls again until a room answers.

mod link;
mod reads;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

use anyhow::Context as _;
use crossterm::event::{Event as TerminalEvent, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tempfile::NamedTempFile;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    caller::{Caller, Met},
    feed::Feed,
    guest::{Visit, Visitor},
    hands::{Asked, Hands, Heard, Here},
    keep::Keeper,
    line::Line,
    logins,
    terminal::{Home, Terminal, Word},
    visits,
};
use crate::{
    model::{AgentName, Clock, server::Holder},
    queue::file::FileQueue,
    room::Order,
    tui::{self, App, Connection, Leave, Wish, terminal},
};

/// The shortest time between two frames that no key asked for.
const FRAME: Duration = Duration::from_millis(33);
/// For so long after a key it is drawn at once what the key has asked for.
const AWAITED: Duration = Duration::from_millis(100);
/// And this soon, so that parts that come together make one frame.
const SOON: Duration = Duration::from_millis(2);
/// A room that has said nothing for so long, not even that it is there, is shown as not responding.
const QUIET: Duration = Duration::from_secs(6);

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
    /// Where the whole text of a task is found.
    pub queue: Option<FileQueue>,
}

/// What waits for a room that is being opened.
pub type Opening = Pin<Box<dyn Future<Output = anyhow::Result<Met>> + Send>>;

/// How a screen was left.
#[derive(Debug)]
pub struct Left {
    /// How.
    pub leave: Leave,
    /// Whose room it showed, where that was not this stage's.
    pub whose: Option<Holder>,
    /// That room had left before.
    pub is_over: bool,
}

/// Runs the screen until the operator leaves or the terminal goes away: on what is there, or on a room that is being
/// opened.
pub async fn run(feed: Feed, opening: Option<Opening>, setup: Setup, clock: Clock) -> anyhow::Result<Left> {
    let stage = setup.stage;
    let signals = Signals::listen().context("could not listen for signals")?;
    let screen = terminal::enter().context("could not take the terminal")?;
    let _given_back = terminal::Guard;
    let mut app = App::new(setup.settings);
    let keeper = setup.keeps.then(|| Keeper::open(&stage, &mut app));
    if app.has_mouse() {
        terminal::mouse(true).context("could not switch the mouse")?;
    }
    let size = screen.size().context("could not read the terminal's size")?;
    app.resize(size.width, size.height);
    if let Some(goal) = setup.composed.filter(|goal| !goal.is_empty()) {
        app.compose(&goal);
    }
    let (tell, heard) = mpsc::channel(16);
    let here = Here::new(&stage, feed.folder(&stage), setup.queue, tell.clone())?;
    if let Some(moment) = feed.moment() {
        app.at_moment(moment);
    }
    let mut eyes = Screen {
        caller: Caller::Here(stage.clone()),
        stage,
        templates: setup.templates,
        homes: setup.homes,
        link: feed,
        keeper,
        room: if opening.is_some() { Room::Opening } else { Room::Up },
        before: None,
        kept: Vec::new(),
        app,
        clock,
        orders: HashMap::new(),
        tell,
        reading: JoinSet::new(),
        hands: Hands::Here(here),
        attached: None,
        guest: None,
        draft: None,
        calling: JoinSet::new(),
        dirty: true,
        signs: false,
        clear: false,
    };
    // Whoever looks at a run that is over has not been in the room.
    let is_room = eyes.link.moment().is_none();
    eyes.before = visits::last(&eyes.stage).filter(|_| is_room);
    match opening {
        Some(opening) => {
            eyes.app.connection(Connection::Opening);
            eyes.calling.spawn(opening);
        }
        None => eyes.arrive().await,
    }
    let _visit = is_room.then(|| visits::Visit::begin(&eyes.stage, eyes.clock.clone()));
    let left = Box::pin(eyes.live(screen, heard, signals)).await;
    eyes.detach().await;
    let Screen { link, hands, caller, app, .. } = eyes;
    // Their streams end, and with them the tunnels.
    drop((link, hands));
    caller.goodbye().await;
    let is_over = matches!(app.link(), Connection::Left { .. });
    Ok(Left { leave: left?, whose: app.whose().cloned(), is_over })
}

/// What ends a screen from outside.
struct Signals {
    term: Signal,
    hup: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
            int: signal(SignalKind::interrupt())?,
        })
    }
}

/// When a frame is due that holds something a key may have asked for: soon, while that is awaited.
fn soon(due: Instant, awaited: Instant) -> Instant {
    let now = Instant::now();
    if now < awaited { due.min(now + SOON) } else { due }
}

async fn next_key(keys: &mut Option<EventStream>) -> Option<std::io::Result<TerminalEvent>> {
    keys.as_mut()?.next().await
}

async fn ended(visit: &mut Option<Visit>) -> Option<String> {
    visit.as_mut()?.ended().await
}

async fn printed(attached: &mut Option<Terminal>) -> Word {
    match attached {
        Some(terminal) => terminal.next().await,
        None => std::future::pending().await,
    }
}

/// Whether the room is heard through `link`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// It has not answered yet.
    Opening,
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
    /// Where the room is called again.
    caller: Caller,
    room: Room,
    app: App,
    keeper: Option<Keeper>,
    clock: Clock,
    orders: HashMap<u64, Order>,
    tell: mpsc::Sender<Heard>,
    /// Templates.
    reading: JoinSet<()>,
    /// Whoever reads the files of the room's stage.
    hands: Hands,
    homes: BTreeMap<AgentName, Home>,
    /// An agent's own CLI in its pane.
    attached: Option<Terminal>,
    /// Who wants the terminal.
    guest: Option<Visitor>,
    /// The text that a guest changes.
    draft: Option<NamedTempFile>,
    /// The call for a lost room.
    calling: JoinSet<anyhow::Result<Met>>,
    /// When this screen was left last, until that has been said.
    before: Option<Timestamp>,
    /// Orders for a room that is still opening.
    kept: Vec<Order>,
    dirty: bool,
    /// Workers elsewhere gave signs of life, which are shown to the second.
    signs: bool,
    clear: bool,
}

impl Screen {
    /// Takes in whatever comes first, again and again, until the operator leaves.
    async fn live(
        &mut self,
        mut screen: terminal::Screen,
        mut heard: mpsc::Receiver<Heard>,
        mut signals: Signals,
    ) -> anyhow::Result<Leave> {
        let window = Line::open();
        let mut keys = Some(EventStream::new());
        let mut visit: Option<Visit> = None;
        // When the next frame may be drawn.
        let mut due = Instant::now();
        let mut second = Instant::now();
        // What a key has asked of a log comes in one part or in several: it is drawn soon until then.
        let mut awaited = Instant::now();
        loop {
            if let Some(visitor) = self.guest.take().filter(|_| visit.is_none()) {
                // The key reader must not take what is meant for the guest.
                keys = None;
                match Visit::begin(visitor) {
                    Ok(begun) => visit = Some(begun),
                    Err(error) => {
                        self.app.say(&format!("{error:#}"), true);
                        screen = terminal::enter().context("could not take the terminal again")?;
                        keys = Some(EventStream::new());
                        self.back(&screen)?;
                    }
                }
            }
            if self.dirty && visit.is_none() && due <= Instant::now() {
                let begun = Instant::now();
                self.draw(&mut screen).context("could not draw")?;
                let drawn = Instant::now();
                // However much there is to draw, most of the time is left for keys.
                due = drawn + FRAME.max((drawn - begun) * 3);
                second = drawn + Duration::from_secs(1);
            }
            let ticks = self.app.ticks(self.link.state());
            let quiet = Instant::now() + QUIET.saturating_sub(self.link.silent_for());
            tokio::select! {
                key = next_key(&mut keys), if visit.is_none() => {
                    let Some(Ok(event)) = key else { return Ok(Leave::Detach) };
                    if let Some(leave) = self.input(event).await {
                        return self.leave(leave, &mut screen).await;
                    }
                    // What the hand did is seen at once, and the first that is read for it.
                    due = Instant::now();
                    awaited = Instant::now() + AWAITED;
                }
                news = self.link.next(), if self.room != Room::Lost => self.news(news).await,
                () = sleep_until(quiet), if self.room == Room::Up => self.falls_silent(),
                Some(word) = heard.recv() => {
                    if matches!(word, Heard::Log(..)) {
                        due = soon(due, awaited);
                    }
                    self.hear(word).await;
                }
                Some(called) = self.calling.join_next(), if !self.calling.is_empty() => self.called(called?).await?,
                said = ended(&mut visit), if visit.is_some() => {
                    if let Some(former) = visit.take() {
                        screen = former.end().context("could not take the terminal again")?;
                    }
                    keys = Some(EventStream::new());
                    self.back(&screen)?;
                    let draft = self.draft.take();
                    match (said, draft) {
                        // What an editor that failed has left is not taken.
                        (Some(said), _) => self.app.say(&said, true),
                        (None, Some(draft)) => self.take_back(&draft),
                        (None, None) => {}
                    }
                }
                word = printed(&mut self.attached), if visit.is_none() => {
                    // What a key made the CLI print is seen at once.
                    due = soon(due, awaited);
                    self.attached_said(word).await;
                }
                () = sleep_until(due), if self.dirty && visit.is_none() => {}
                () = sleep_until(second), if (ticks || self.signs) && !self.dirty => self.dirty = true,
                () = window.gone() => return Ok(Leave::Detach),
                _ = signals.term.recv() => return Ok(Leave::Detach),
                _ = signals.hup.recv() => return Ok(Leave::Detach),
                // While a guest has the terminal, Ctrl+C there is meant for it.
                _ = signals.int.recv() => if visit.is_none() { return Ok(Leave::Detach) },
            }
        }
    }

    fn draw(&mut self, screen: &mut terminal::Screen) -> std::io::Result<()> {
        if std::mem::take(&mut self.clear) {
            // Not `clear`: that asks the terminal where its cursor is, and the answer goes to the key reader.
            let size = screen.size()?;
            screen.resize(size.into())?;
        }
        (self.dirty, self.signs) = (false, false);
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
            TerminalEvent::Paste(text) => self.app.paste(&text),
            TerminalEvent::Resize(columns, rows) => {
                self.app.resize(columns, rows);
                // It may have been smaller in between, unseen: what it has lost is drawn anew even where the size is the same.
                self.clear = true;
                if let Some(attached) = &self.attached {
                    attached.resize(self.app.attached_size());
                }
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

    fn keep(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.look(&self.app);
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

    /// Leaves as asked; stopping everything waits until the room says that it has.
    async fn leave(&mut self, leave: Leave, screen: &mut terminal::Screen) -> anyhow::Result<Leave> {
        if leave == Leave::StopEverything && self.room == Room::Opening {
            // There must be somebody to tell.
            self.app.say("the room is opening, to be closed at once…", false);
            self.draw(screen).context("could not draw")?;
            if let Some(called) = self.calling.join_next().await {
                self.called(called?).await?;
            }
        }
        if self.is_guest() {
            // Another stage's room is its own operator's to stop.
            return Ok(Leave::Detach);
        }
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
                Wish::ReadLog(ask) => self.ask(Asked::Log(ask)),
                Wish::Search(asked) => self.ask(Asked::Search(asked)),
                Wish::Beside(hit) => self.ask(Asked::Beside(hit)),
                Wish::CopyLog(range) => self.ask(Asked::Copy(range, None)),
                Wish::OpenLog(range, guest) => self.ask(Asked::Copy(range, Some(guest))),
                Wish::EditText(text) => self.edit(&text),
                Wish::Read(document) => self.ask(Asked::Document(document)),
                Wish::Copy(text) => {
                    if let Err(error) = terminal::copy(&text) {
                        self.app.say(&format!("could not copy: {error}"), true);
                    }
                }
                Wish::List(folder) => self.ask(Asked::List(folder)),
                Wish::ReadTemplates => self.read_templates(),
                Wish::ReadTask(task) => self.ask(Asked::Task(task)),
                Wish::ReadLogin(agent) => {
                    if let Some(whose) = self.app.whose() {
                        let there = format!("its home is on {}", whose.host);
                        self.app.login_read(&agent, &Ok(there));
                    } else if let Some(home) = self.homes.get(&agent) {
                        let read = logins::read(&agent, home, self.clock.now());
                        self.app.login_read(&agent, &read);
                    }
                }
                Wish::Attach(agent) => self.attach(agent),
                Wish::Type(bytes) => {
                    if let Some(attached) = &self.attached {
                        attached.put(bytes);
                    }
                }
                Wish::Detach => {
                    self.detach().await;
                    self.app.attached_ended(None);
                }
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

    /// Opens an agent's own CLI in its pane.
    fn attach(&mut self, agent: AgentName) {
        if let Some(whose) = self.app.whose() {
            let there = format!("{agent}'s own CLI is at home on {}: attach there", whose.host);
            return self.app.say(&there, true);
        }
        let Some(home) = self.homes.get(&agent).cloned() else {
            return self.app.say(&format!("{agent} has no home here"), true);
        };
        match Terminal::open(home, self.app.attached_size()) {
            Ok(terminal) => {
                self.app.attached_to(agent);
                self.attached = Some(terminal);
            }
            Err(error) => self.app.say(&format!("{error:#}"), true),
        }
    }

    async fn attached_said(&mut self, word: Word) {
        self.dirty = true;
        match word {
            Word::Printed(bytes) => {
                let wishes = self.app.attached_printed(&bytes);
                // A program cannot make the operator leave.
                let _stays = self.grant(wishes).await;
            }
            Word::Ended(said) => {
                self.detach().await;
                self.app.attached_ended(said.as_deref());
            }
        }
    }

    /// Ends an agent's own CLI, where one is open.
    async fn detach(&mut self) {
        let Some(attached) = self.attached.take() else { return };
        if let Err(left) = attached.end().await {
            let left: Vec<_> = left.iter().map(i32::to_string).collect();
            self.app.say(&format!("processes of the CLI would not end: {}", left.join(", ")), true);
        }
    }
}
