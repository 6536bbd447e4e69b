//! Eyes and hands: where the operator looks, what is under the hand, what is being written.
//!
//! Owns focus, selection, scrolling, popups, the composer, the log on screen. Must not know how anything is carried out:
//! keys come in, wishes go out. Its one surprise: nothing selected by hand means "whatever runs", so a fresh screen
//! follows the work by itself, and touching anything pins it.

mod acts;
mod asking;
mod calling;
mod finding;
mod inbox;
mod keeping;
mod listing;
mod looking;
mod marking;
mod moving;
mod ordering;
mod plan_view;
mod planning;
mod reading;
mod replying;
mod talking;
mod typing;
mod visiting;

pub use acts::{Act, Acts, Stands};
pub use keeping::Habits;
pub use plan_view::PlanView;
pub use planning::Editing;
pub use replying::spots;

use std::collections::BTreeSet;

use crossterm::event::{KeyEvent, KeyEventKind, MouseButton, MouseEvent, MouseEventKind};
use jiff::{SignedDuration, Timestamp};
use moving::Travel;
use nucleo_matcher::{Config, Matcher};
use ratatui::layout::Position;

use super::{
    Action, Connection, Document, Guest, Settings, Wish,
    action::Place,
    attached::Attached,
    composer::{self, Composer},
    find::Finder,
    keymap::Chord,
    layout::{self, Layout, Pane, Shape, Wanted},
    log::Log,
    popup::Popup,
    replay::{self, Moment},
    text::one_line,
    views::{
        agents,
        log::margin,
        tasks::{Arranger, RowKey, Rows, Table},
    },
};
use crate::{
    model::{AgentName, Item, LogId, LogPlace, TaskRef, Terms, server::Holder, text::scrub},
    room::{Answer, Line, Need, Order, State, attention::Herald},
};

/// The most of a file that is shown.
const REPORT_LIMIT: usize = 400_000;

/// Something to tell the operator, until the next key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub text: String,
    /// Whether it says that something did not work.
    pub bad: bool,
    /// It stays until the next key, however long that takes.
    stays: bool,
    /// When the room was first seen with it on screen.
    since: Option<Timestamp>,
}

impl Message {
    fn new(text: &str, bad: bool) -> Self {
        Self { text: one_line(text).into_owned(), bad, stays: false, since: None }
    }
}

/// Something just done that one key takes back.
#[derive(Debug)]
struct Undo {
    /// What was done.
    done: String,
    /// The orders that take it back.
    orders: Vec<Order>,
    /// When the room was first seen with it done.
    since: Option<Timestamp>,
}

/// How long something can be taken back by a key; longer by `podium restore`.
const UNDO: SignedDuration = SignedDuration::from_secs(30);

/// How long a message stays when nobody presses a key.
const MESSAGE: SignedDuration = SignedDuration::from_secs(8);

/// What the log follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Task,
    Agent,
}

/// The operator's eyes and hands.
pub struct App {
    settings: Settings,
    size: (u16, u16),
    focus: Pane,
    zoom: bool,
    composing: bool,
    composer: Composer,
    /// What `u` takes back.
    undo: Option<Undo>,
    /// What was ordered, and what became of it.
    acts: Acts,
    /// What the next verb is about.
    marked: BTreeSet<Item>,
    /// The task whose whole text is being read, to be edited.
    fetching: Option<TaskRef>,
    /// The task whose text is in the composer, and what stood there before.
    editing: Option<(Editing, String)>,
    /// What was last sent of a plan, in case the room says no.
    sent: Option<(Editing, String)>,
    /// The row chosen by hand, and where it was last.
    row: Option<RowKey>,
    row_at: usize,
    table: Table,
    arranger: Arranger,
    plan_view: PlanView,
    agent: Option<AgentName>,
    subject: Subject,
    line: Option<Line>,
    /// The row under the hand in the limits' pane.
    limits_row: usize,
    log: Log,
    breadth: reading::Breadth,
    /// A log that was gone to although it is not the selected task's.
    pinned: Option<LogId>,
    /// The attempt that was chosen by hand, and of which task.
    attempt: Option<(TaskRef, u32)>,
    find: Finder,
    /// The hit whose neighbours have been asked for.
    beside_of: Option<LogPlace>,
    popups: Vec<Popup>,
    message: Option<Message>,
    link: Connection,
    /// Whose room it is, where it is another stage's.
    whose: Option<Holder>,
    need: Option<Need>,
    /// What is put off, and until when.
    snoozed: Vec<(Need, Timestamp)>,
    herald: Herald,
    mouse: bool,
    shape: Shape,
    /// The moment that is shown, of a run that is over.
    pub(super) moment: Option<Moment>,
    /// An agent's own CLI, which has the keys.
    attached: Option<Attached>,
    matcher: Matcher,
}

impl App {
    /// A screen that has not seen anything yet.
    pub fn new(settings: Settings) -> Self {
        let mouse = settings.mouse;
        let words = settings.words.join(" · ");
        let message = Some(words).filter(|words| !words.is_empty());
        Self {
            settings,
            size: (80, 24),
            focus: Pane::Tasks,
            zoom: false,
            composing: false,
            composer: Composer::default(),
            undo: None,
            acts: Acts::default(),
            marked: BTreeSet::new(),
            fetching: None,
            editing: None,
            sent: None,
            row: None,
            row_at: 0,
            table: Table::default(),
            arranger: Arranger::default(),
            plan_view: PlanView::default(),
            agent: None,
            subject: Subject::Task,
            line: None,
            limits_row: 0,
            log: Log::default(),
            breadth: reading::Breadth::default(),
            pinned: None,
            attempt: None,
            find: Finder::default(),
            beside_of: None,
            popups: Vec::new(),
            message: message.map(|text| Message::new(&text, true)),
            link: Connection::Connected,
            whose: None,
            need: None,
            snoozed: Vec::new(),
            herald: Herald::default(),
            mouse,
            shape: Shape::default(),
            moment: None,
            attached: None,
            matcher: Matcher::new(Config::DEFAULT),
        }
    }

    /// Puts a goal into the composer, ready to be sent.
    pub fn compose(&mut self, text: &str) {
        self.composer.set(text);
        self.composing = true;
    }

    /// The terminal has this many columns and rows now.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.size = (columns, rows);
        let size = self.attached_size();
        if let Some(attached) = &mut self.attached {
            attached.resize(size);
        }
    }

    /// The room is heard, or not.
    pub fn connection(&mut self, link: Connection) {
        self.link = link;
    }

    /// It is this room that is shown; `None` = that of the operator's own stage.
    pub fn belongs(&mut self, whose: Option<Holder>) {
        if whose.is_some() {
            // It asks whether to stop everything, and that is not this operator's to say.
            self.popups.retain(|popup| !matches!(popup, Popup::Leave { .. }));
        }
        self.whose = whose;
    }

    /// Whose room is shown, where it is another stage's.
    pub fn whose(&self) -> Option<&Holder> {
        self.whose.as_ref()
    }

    /// Says something to the operator.
    pub fn say(&mut self, text: &str, bad: bool) {
        self.message = Some(Message::new(text, bad));
    }

    /// Says a text of ours that names keys ([`super::keymap::Keys::told`]).
    fn say_told(&mut self, text: &str, bad: bool) {
        self.say(&self.settings.keys.told(text), bad);
    }

    /// The room has answered an order.
    pub fn answered(&mut self, order: &Order, answer: &Answer) {
        self.told(order, answer);
        match answer {
            Answer::Done { .. } => {}
            Answer::Refused { .. } => {
                // What was written must not be lost because the room said no.
                if let Order::Retry { task, changes } = order
                    && let Some(text) = &changes.description
                {
                    return self.edit(task.clone(), text);
                }
                if let (Order::EditPlan { .. }, Some((editing, text))) = (order, self.sent.take()) {
                    return self.write(editing, &text);
                }
                if let Order::Answer { goal, text } = order {
                    return self.write(Editing::Answer(goal.clone()), text);
                }
                let text = match order {
                    Order::Goal { text, terms: Terms { follows: Some(goal), .. }, .. } => {
                        return self.write(Editing::FollowUp(goal.clone()), text);
                    }
                    Order::Goal { text, .. } => Some(text.clone()),
                    Order::Task { spec, .. } => Some(format!("@{} {}", spec.task.agent, spec.description)),
                    Order::Workflow { .. }
                    | Order::Approve { .. }
                    | Order::Answer { .. }
                    | Order::Deny { .. }
                    | Order::EditPlan { .. }
                    | Order::Retry { .. }
                    | Order::RetryOn { .. }
                    | Order::Cancel { .. }
                    | Order::Prioritise { .. }
                    | Order::Extend { .. }
                    | Order::Remove { .. }
                    | Order::Restore { .. }
                    | Order::CancelGoal { .. }
                    | Order::Permit { .. }
                    | Order::Reply { .. }
                    | Order::Forbid { .. }
                    | Order::PauseTask { .. }
                    | Order::ResumeTask { .. }
                    | Order::Restart { .. }
                    | Order::StopAgent { .. }
                    | Order::StartAgent { .. }
                    | Order::Pause { .. }
                    | Order::Resume { .. }
                    | Order::Park { .. }
                    | Order::Unpark { .. }
                    | Order::Limit { .. }
                    | Order::Stop { .. } => None,
                };
                if let Some(text) = text
                    && self.composer.is_empty()
                {
                    self.composer.set(&text);
                }
            }
        }
    }

    /// The room has changed: says which log to read now.
    pub fn observe(&mut self, state: &State) -> Vec<Wish> {
        if let Some(message) = &mut self.message {
            let since = *message.since.get_or_insert(state.now);
            if !message.stays && state.now.duration_since(since) > MESSAGE {
                self.message = None;
            }
        }
        if let Some(undo) = &mut self.undo {
            undo.since.get_or_insert(state.now);
        }
        self.pass(state.now);
        let mut wishes = self.follow_acts(state);
        wishes.extend(self.watch_logs(state));
        wishes.extend(self.look_beside());
        wishes
    }

    /// Time passes: what could be taken back no longer can.
    pub fn pass(&mut self, now: Timestamp) {
        self.undo.take_if(|undo| undo.since.is_some_and(|since| now.duration_since(since) > UNDO));
    }

    /// What was done that `u` takes back, and the seconds left for that.
    pub fn undo(&self, now: Timestamp) -> Option<(&str, i64)> {
        let undo = self.undo.as_ref()?;
        let left = UNDO - now.duration_since(undo.since?);
        Some((undo.done.as_str(), left.as_secs())).filter(|(_, left)| *left > 0)
    }

    /// A file has been read, or could not be.
    pub fn document_read(&mut self, document: &Document, read: Result<&str, &str>) {
        let read = match read {
            Ok(text) => Ok(crate::model::text::clip(&scrub(text), REPORT_LIMIT).into_owned()),
            Err(why) => Err(one_line(why).into_owned()),
        };
        for popup in &mut self.popups {
            if let Popup::Document { document: shown, text, .. } = popup
                && shown == document
            {
                *text = Some(read.clone());
            }
        }
    }

    /// Text was pasted: it is text wherever it goes, never keys.
    pub fn paste(&mut self, text: &str) -> Vec<Wish> {
        self.message = None;
        if let Some(wishes) = self.attached_paste(text) {
            return wishes;
        }
        match self.popups.last_mut() {
            None => {
                self.composing = true;
                if !self.composer.insert(text) {
                    self.say(
                        &format!("a text has {} characters at most: the rest was left out", composer::LIMIT),
                        true,
                    );
                }
            }
            Some(Popup::Search { query, tasks }) => {
                query.push_str(&one_line(text));
                if *tasks {
                    self.table.filter.clone_from(query);
                }
            }
            // What is pasted is searched for with the next key, enter included.
            Some(Popup::Palette { query, .. } | Popup::Find { query, .. }) => query.push_str(&one_line(text)),
            Some(
                Popup::Help { .. }
                | Popup::Leave { .. }
                | Popup::Confirm { .. }
                | Popup::Plan { .. }
                | Popup::Task { .. }
                | Popup::Agent { .. }
                | Popup::Retry { .. }
                | Popup::Files { .. }
                | Popup::Inbox { .. }
                | Popup::Permit { .. }
                | Popup::Acts { .. }
                | Popup::Document { .. },
            ) => self.say("close this first: pasted text goes into the goal", true),
        }
        self.refresh_palette();
        Vec::new()
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent, state: &State) -> Vec<Wish> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        self.message = None;
        let wishes = self.route(key, state);
        let mut wishes = self.heard(wishes, state);
        wishes.extend(self.observe(state));
        wishes
    }

    fn route(&mut self, key: KeyEvent, state: &State) -> Vec<Wish> {
        if let Some(wishes) = self.attached_key(key) {
            return wishes;
        }
        let chord = Chord::of(key);
        if chord.is("ctrl-c") {
            return self.leave();
        }
        match self.popups.last() {
            Some(Popup::Palette { .. }) => return self.palette_key(chord, state),
            Some(Popup::Leave { stop }) => {
                let stop = *stop;
                return self.leave_key(chord, stop);
            }
            Some(Popup::Confirm { .. }) => return self.confirm_key(chord),
            Some(Popup::Search { .. }) => return self.search_key(chord, state),
            Some(Popup::Retry { .. }) => return self.retry_key(chord, state),
            Some(Popup::Find { .. }) => return self.find_key(chord, state),
            None if self.composing => return self.compose_key(key, state),
            Some(
                Popup::Help { .. }
                | Popup::Plan { .. }
                | Popup::Task { .. }
                | Popup::Agent { .. }
                | Popup::Files { .. }
                | Popup::Inbox { .. }
                | Popup::Permit { .. }
                | Popup::Acts { .. }
                | Popup::Document { .. },
            )
            | None => {}
        }
        let taped = self.moment.and_then(|_| self.settings.keys.action_in(chord, Place::Replay));
        match taped.or_else(|| self.settings.keys.action(chord, self.places())) {
            Some(action) => self.perform(action, state),
            None => Vec::new(),
        }
    }

    /// The places with keys of their own that have them now, the first before the others.
    pub fn places(&self) -> &'static [Place] {
        match self.popups.last() {
            Some(Popup::Plan { .. }) => &[Place::Planning],
            Some(Popup::Task { .. }) => &[Place::Page],
            Some(Popup::Agent { .. }) => &[Place::AgentPage, Place::Page],
            Some(Popup::Permit { reply: Some(_), .. }) => &[Place::Choosing],
            Some(Popup::Permit { .. } | Popup::Inbox { .. }) => &[Place::Asking],
            Some(_) => &[],
            None => match self.focus {
                Pane::Log if self.log.pattern().is_some() => &[Place::Found, Place::Reading],
                Pane::Log => &[Place::Reading],
                Pane::Tasks => &[Place::Listing],
                Pane::Agents | Pane::Limits | Pane::Orchestrator => &[],
            },
        }
    }

    /// Does what a verb says.
    pub fn act(&mut self, action: Action, state: &State) -> Vec<Wish> {
        let wishes = self.perform(action, state);
        let mut wishes = self.heard(wishes, state);
        wishes.extend(self.observe(state));
        wishes
    }

    /// Refuses orders here while nobody would hear them, so that what was written comes back.
    fn heard(&mut self, wishes: Vec<Wish>, state: &State) -> Vec<Wish> {
        self.note_sent(&wishes, state);
        let reason = match (&self.link, self.moment) {
            (_, Some(_)) => "this is a replay: nothing can be ordered",
            // What is ordered while it opens is kept for it.
            (Connection::Opening | Connection::Connected, None) => return wishes,
            (Connection::Silent { .. } | Connection::Lost { .. }, None) => "not sent: there is no word from the room",
            (Connection::Left { .. }, None) => "not sent: the room has left",
        };
        let (orders, rest) = wishes.into_iter().partition::<Vec<_>, _>(|w| matches!(w, Wish::Order(_)));
        for wish in orders {
            if let Wish::Order(order) = wish {
                self.answered(&order, &Answer::Refused { reason: reason.to_owned() });
            }
        }
        rest
    }

    fn perform(&mut self, action: Action, state: &State) -> Vec<Wish> {
        match action {
            Action::FocusNext => self.step(true),
            Action::FocusPrevious => self.step(false),
            Action::Open => return self.open(state),
            Action::Back => return self.back(),
            Action::Up => self.travel(Travel::Rows(-1), state),
            Action::Down => self.travel(Travel::Rows(1), state),
            Action::PageUp => self.travel(Travel::Pages(-1), state),
            Action::PageDown => self.travel(Travel::Pages(1), state),
            Action::Top => self.travel(Travel::Start, state),
            Action::Bottom => self.travel(Travel::End, state),
            Action::Stage => self.view(None),
            Action::TasksView => self.view(Some(Pane::Tasks)),
            Action::LogView => {
                if let Some(Popup::Task { task, .. }) = self.popups.last() {
                    self.row = Some(RowKey::Task(task.clone()));
                    self.subject = Subject::Task;
                } else if let Some(Popup::Agent { agent, .. }) = self.popups.last() {
                    self.agent = Some(agent.clone());
                    self.subject = Subject::Agent;
                }
                self.view(Some(Pane::Log));
            }
            Action::LimitsView => self.view(Some(Pane::Limits)),
            Action::PlanView => {
                match state.goals.iter().find(|g| g.needs_approval() || g.asks()).or_else(|| state.goals.current()) {
                    Some(goal) => self.open_plan(goal.id.clone(), state),
                    None => {
                        self.say(&format!("there is no goal yet: {} writes one", self.key_of(Action::Compose)), true);
                    }
                }
            }
            Action::Zoom => self.zoom = !self.zoom,
            Action::Wider => self.reshape(state, 2, 0),
            Action::Narrower => self.reshape(state, -2, 0),
            Action::Taller => self.reshape(state, 0, 1),
            Action::Shorter => self.reshape(state, 0, -1),
            Action::Compose => {
                self.popups.clear();
                self.composing = true;
            }
            Action::Palette => {
                self.popups.push(Popup::Palette { query: String::new(), hits: Vec::new(), selected: 0 });
                self.refresh_palette();
            }
            Action::Help => self.popups.push(Popup::Help { scroll: 0 }),
            Action::Search => {
                let tasks = self.focus == Pane::Tasks && self.popups.is_empty();
                if !tasks {
                    self.popups.clear();
                    self.focus = Pane::Log;
                }
                let query = if tasks { self.table.filter.clone() } else { String::new() };
                self.popups.push(Popup::Search { query, tasks });
            }
            Action::SearchAll => {
                self.popups.clear();
                self.popups.push(Popup::Find { query: self.find.pattern().to_owned(), selected: 0 });
                return self.search_all();
            }
            Action::SearchNext => self.next_hit(true, state),
            Action::SearchPrevious => self.next_hit(false, state),
            Action::Follow | Action::Kinds | Action::Raw | Action::Wrap => self.read_otherwise(action, state),
            Action::Leftwards => self.sideways(false),
            Action::Rightwards => self.sideways(true),
            Action::Broaden => self.broaden(state),
            Action::AttemptBefore => self.step_attempt(false, state),
            Action::AttemptAfter => self.step_attempt(true, state),
            Action::Range => self.range(state),
            Action::Mark => self.mark(state),
            Action::NextMark => self.next_mark(state),
            Action::Pager => return self.open_log(Guest::Pager, state),
            Action::Editor => return self.open_log(Guest::Editor, state),
            Action::NextNeed => self.next_need(state),
            Action::Inbox => self.open_inbox(state),
            Action::Blocker => self.go_to_blocker(state),
            Action::Snooze => self.snooze(state),
            Action::Unsnooze => self.unsnooze(),
            Action::MarkTask => self.toggle_mark(state),
            Action::MarkAll => self.mark_all(state),
            Action::Acts => self.popups.push(Popup::Acts { scroll: 0 }),
            Action::Sort => self.sort(),
            Action::Group => self.group(),
            Action::Fold => self.fold(true, state),
            Action::Unfold => self.fold(false, state),
            Action::HideEnded => self.hide_ended(),
            Action::WideGraph => self.plan_view.wide = !self.plan_view.wide,
            Action::Timeline => self.plan_view.timeline = !self.plan_view.timeline,
            Action::Files => return self.open_files(state),
            Action::Report => return self.open_report(state),
            Action::FollowUp => self.follow_up(state),
            Action::Approve => return self.approve(state),
            Action::Deny => return self.deny(state),
            Action::Always => return self.allow_always(state),
            Action::Choose => self.choose_here(state),
            Action::OwnWords => self.own_words(state),
            Action::ApproveUpTo => self.ask_ceiling(state),
            Action::EditPlanned => self.edit_planned(false, state),
            Action::AddPlanned => self.edit_planned(true, state),
            Action::MergePlanned => self.merge_planned(state),
            Action::Retry => return self.retry(state),
            Action::RetryHow => return self.retry_how(state),
            Action::Extend => return self.extend(state),
            Action::Sooner => return self.hurry(state, true),
            Action::Later => return self.hurry(state, false),
            Action::Remove => {
                if self.drop_planned(state).is_none() {
                    return self.remove(state);
                }
            }
            Action::Undo => return self.take_back(),
            Action::Dead => self.show_dead(state),
            Action::Trash => self.show_trash(state),
            Action::Cancel => return self.cancel(state),
            Action::Pause => return self.pause(state),
            Action::Restart => return self.restart(),
            Action::StopAgent => return self.stop_agent(false, state),
            Action::DrainAgent => return self.stop_agent(true, state),
            Action::StartAgent => return self.start_agent(state),
            Action::PauseTask => return self.pause_one(state),
            Action::Attach => return self.attach(state),
            Action::CloseAttached | Action::AttachedUp | Action::AttachedDown => {
                let text = format!("no agent's own CLI is open: {} opens one", self.key_of(Action::Attach));
                self.say(&text, true);
            }
            Action::Copy => return self.copy(state),
            Action::Mouse => {
                self.mouse = !self.mouse;
                let on = format!("the mouse moves focus; {} gives it back", self.key_of(Action::Mouse));
                self.say(if self.mouse { &on } else { "the mouse selects text" }, false);
                return vec![Wish::Mouse(self.mouse)];
            }
            Action::Play
            | Action::StepOn
            | Action::StepBack
            | Action::SeekOn
            | Action::SeekBack
            | Action::Faster
            | Action::Slower
            | Action::TapeStart
            | Action::TapeEnd => match replay::turn(action).filter(|_| self.moment.is_some()) {
                Some(turn) => return vec![Wish::Turn(turn)],
                None => self.say("this is a room at work: `podium replay` shows runs that are over", true),
            },
            Action::Redraw => return vec![Wish::Redraw],
            Action::Leave => {
                if self.popups.is_empty() {
                    return self.leave();
                }
                self.popups.pop();
            }
        }
        Vec::new()
    }

    /// Takes the mouse: focus, selection, wheel. Positions outside the screen are nobody's.
    pub fn mouse(&mut self, event: MouseEvent, state: &State) -> Vec<Wish> {
        if let Some(wishes) = self.attached_mouse(event) {
            return wishes;
        }
        let Some(layout) = self.layout(state) else { return Vec::new() };
        let at = Position { x: event.column, y: event.row };
        let hit = Pane::ALL.into_iter().find_map(|p| layout.pane(p).filter(|a| a.contains(at)).map(|a| (p, a)));
        let rows = match event.kind {
            MouseEventKind::ScrollUp => -3,
            MouseEventKind::ScrollDown => 3,
            MouseEventKind::Down(MouseButton::Left) => 0,
            MouseEventKind::Down(_)
            | MouseEventKind::Up(_)
            | MouseEventKind::Drag(_)
            | MouseEventKind::Moved
            | MouseEventKind::ScrollLeft
            | MouseEventKind::ScrollRight => return Vec::new(),
        };
        if rows != 0 {
            if self.popups.is_empty()
                && let Some((pane, _)) = hit
            {
                self.composing = false;
                self.look_at(pane);
            }
            self.travel(Travel::Rows(rows), state);
        } else if self.popups.is_empty() {
            if layout.composer.contains(at) {
                self.composing = true;
            } else if let Some((pane, area)) = hit {
                self.composing = false;
                self.look_at(pane);
                let row = usize::from(at.y.saturating_sub(area.y + 1));
                self.click(pane, row, usize::from(area.height.saturating_sub(2)), state);
            }
        }
        self.observe(state)
    }

    fn click(&mut self, pane: Pane, row: usize, height: usize, state: &State) {
        match pane {
            Pane::Tasks => {
                let all = self.rows(state);
                let shown = super::views::window(all.len(), self.selected_row(&all), height.saturating_sub(1));
                if let Some(at) = row.checked_sub(1).map(|r| shown.start + r).filter(|at| shown.contains(at)) {
                    self.choose(&all, at);
                }
            }
            Pane::Agents => {
                let agents: Vec<_> = state.agents.names();
                let rows = (height / agents::ROWS).max(1);
                let shown = super::views::window(agents.len(), self.selected_agent(state), rows);
                if let Some(name) = agents.get(shown.start + row / agents::ROWS) {
                    self.agent = Some(name.clone());
                }
            }
            Pane::Limits => {
                let rows = self.limits_page(state);
                let shown = super::views::window(rows.len(), self.limits_row.min(rows.len().saturating_sub(1)), height);
                self.limits_row = (shown.start + row).min(rows.len().saturating_sub(1));
            }
            Pane::Log | Pane::Orchestrator => {}
        }
    }

    // What drawing asks for.

    /// The key that does something now.
    fn key_of(&self, action: Action) -> String {
        self.settings.keys.first(action).to_owned()
    }

    /// How the screen looks.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The pane with the keys.
    pub fn focus(&self) -> Pane {
        self.focus
    }

    /// Whether keys write.
    pub fn is_composing(&self) -> bool {
        self.composing
    }

    /// The composer.
    pub fn composer(&self) -> &Composer {
        &self.composer
    }

    /// What the composer's text is of, where it is no goal.
    pub fn editing(&self) -> Option<&Editing> {
        self.editing.as_ref().map(|(editing, _)| editing)
    }

    /// What lies over the stage, the top last.
    pub fn popups(&self) -> &[Popup] {
        &self.popups
    }

    /// How the tasks are arranged.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The rows of the tasks' table.
    pub fn rows<'a>(&self, state: &'a State) -> Rows<'a> {
        self.arranger.rows(state, &self.table)
    }

    /// How plans are shown.
    pub fn plan_view(&self) -> &PlanView {
        &self.plan_view
    }

    /// Whether the terminal reports the mouse.
    pub fn has_mouse(&self) -> bool {
        self.mouse
    }

    /// The log on screen.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Something to tell the operator.
    pub fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }

    /// Whether the room is heard.
    pub fn link(&self) -> &Connection {
        &self.link
    }

    /// The row under the hand in the limits' pane.
    pub fn limits_row(&self) -> usize {
        self.limits_row
    }

    /// The prompt and the text of a search that is being typed.
    pub fn searching(&self) -> Option<(&'static str, &str)> {
        match self.popups.last() {
            Some(Popup::Search { query, tasks: true }) => Some(("tasks holding: ", query)),
            Some(Popup::Search { query, tasks: false }) => Some(("search the log: /", query)),
            Some(_) | None => None,
        }
    }

    /// Which of the rows is under the hand.
    pub fn selected_row(&self, rows: &Rows<'_>) -> usize {
        rows.selected(self.row.as_ref(), self.row_at)
    }

    /// Which agent is under the hand.
    pub fn selected_agent(&self, state: &State) -> usize {
        self.agent.as_ref().and_then(|name| state.agents.iter().position(|a| a.name() == name)).unwrap_or(0)
    }

    /// Which of the orchestrator's lines is under the hand.
    pub fn selected_line(&self, state: &State) -> Option<usize> {
        let last = state.lines.len().checked_sub(1)?;
        let chosen = self.line.as_ref().and_then(|line| state.lines.iter().rposition(|l| l == line));
        Some(chosen.unwrap_or(last))
    }

    /// What the layout depends on.
    pub fn wanted_layout(&self, state: &State, size: (u16, u16)) -> Wanted {
        let columns = usize::from(size.0.saturating_sub(6).max(10));
        let agents = u16::try_from(state.agents.iter().count() * agents::ROWS + 2).unwrap_or(u16::MAX);
        Wanted {
            focus: self.focus,
            zoom: self.zoom,
            composer: self.composer.rows(columns),
            writing: self.composing,
            ask: state.goals.current().is_some()
                || !state.asks.open().is_empty()
                || state.goals.orchestrator.trouble.is_some(),
            agents,
            shape: self.shape,
        }
    }

    fn layout(&self, state: &State) -> Option<Layout> {
        layout::of(self.size, self.wanted_layout(state, self.size))
    }

    /// Columns of text and rows of the log's pane.
    fn log_size(&self, state: &State) -> (usize, usize) {
        let area = self.layout(state).and_then(|l| l.log).unwrap_or_default();
        let width = usize::from(area.width.saturating_sub(2));
        let margin = margin(width, self.log.reading());
        (width.saturating_sub(margin).max(1), usize::from(area.height.saturating_sub(2)))
    }

    /// Whether something on screen counts seconds, so that it should be drawn again each second; otherwise the clock
    /// alone moves, once a minute.
    pub fn ticks(&self, state: &State) -> bool {
        self.undo.is_some()
            || self.has_news()
            || self.snoozed(state.now) > 0
            || state.agents.running() > 0
            || state.next_wake().is_some()
            || state.goals.current().is_some_and(|g| !g.phase.is_over())
            || matches!(self.link, Connection::Silent { .. })
    }
}
