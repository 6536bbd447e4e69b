//! Eyes and hands: where the operator looks, what is under the hand, what is being written.
//!
//! Owns focus, selection, scrolling, popups, the composer, the log on screen. Must not know how anything is carried out:
//! keys come in, wishes go out. Its one surprise: nothing selected by hand means "whatever runs", so a fresh screen
//! follows the work by itself, and touching anything pins it.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use jiff::{SignedDuration, Timestamp};
use nucleo_matcher::{
    Config, Matcher, Utf32Str,
    pattern::{CaseMatching, Normalization, Pattern},
};
use ratatui::layout::Position;

use super::{
    Action, Connection, Entry, Leave, LogTarget, Settings, Wish,
    action::VERBS,
    composer::{self, Composer, Typed},
    draw,
    keymap::{self, Chord},
    layout::{self, Layout, Pane, Wanted},
    log::Log,
    popup::Popup,
    text::one_line,
    theme::Theme,
    views::{
        Scene, agents,
        log::margin,
        tasks::{self, Row, RowKey},
    },
};
use crate::{
    model::{AgentName, EndState, GoalId, GoalPhase, TaskRef, text::scrub},
    room::{Answer, Line, Need, Order, State, tasks::Phase},
};

/// The most of a report that is shown.
const REPORT_LIMIT: usize = 400_000;

/// Something to tell the operator, until the next key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub text: String,
    /// Whether it says that something did not work.
    pub bad: bool,
    /// When the room was first seen with it on screen.
    since: Option<Timestamp>,
}

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
    /// The row chosen by hand, and where it was last.
    row: Option<RowKey>,
    row_at: usize,
    filter: String,
    agent: Option<AgentName>,
    subject: Subject,
    line: Option<Line>,
    limits_scroll: usize,
    log: Log,
    popups: Vec<Popup>,
    message: Option<Message>,
    link: Connection,
    need: Option<Need>,
    mouse: bool,
    matcher: Matcher,
}

impl App {
    /// A screen that has not seen anything yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            size: (80, 24),
            focus: Pane::Tasks,
            zoom: false,
            composing: false,
            composer: Composer::default(),
            row: None,
            row_at: 0,
            filter: String::new(),
            agent: None,
            subject: Subject::Task,
            line: None,
            limits_scroll: 0,
            log: Log::default(),
            popups: Vec::new(),
            message: None,
            link: Connection::Connected,
            need: None,
            mouse: false,
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
    }

    /// The room is heard, or not.
    pub fn connection(&mut self, link: Connection) {
        self.link = link;
    }

    /// Says something to the operator.
    pub fn say(&mut self, text: &str, bad: bool) {
        self.message = Some(Message { text: one_line(text).into_owned(), bad, since: None });
    }

    /// The room has answered an order.
    pub fn answered(&mut self, order: &Order, answer: &Answer) {
        match answer {
            Answer::Done { text, .. } => self.say(text, false),
            Answer::Refused { reason } => {
                self.say(reason, true);
                // What was written must not be lost because the room said no.
                let text = match order {
                    Order::Goal { text, .. } => Some(text.clone()),
                    Order::Task { spec, .. } => Some(format!("@{} {}", spec.task.agent, spec.description)),
                    Order::Approve { .. }
                    | Order::Deny { .. }
                    | Order::Retry { .. }
                    | Order::Cancel { .. }
                    | Order::CancelGoal { .. }
                    | Order::Pause { .. }
                    | Order::Resume { .. }
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
            if state.now.duration_since(since) > MESSAGE {
                self.message = None;
            }
        }
        let wanted = self.wanted_log(state);
        if wanted.as_ref() == self.log.target() {
            return Vec::new();
        }
        // Somebody reads: the next attempt of the same task must not take the page away.
        if let (Some(wanted), Some(shown)) = (&wanted, self.log.target())
            && !self.log.follows()
            && wanted.attempt.task == shown.attempt.task
        {
            return Vec::new();
        }
        self.log.turn_to(wanted.clone());
        vec![Wish::ReadLog(wanted)]
    }

    /// The log of what is selected: its running attempt, else its last.
    pub fn wanted_log(&self, state: &State) -> Option<LogTarget> {
        let task = self.subject(state)?;
        if let Some(held) = state.agents.holder(&task).and_then(|s| s.held.as_ref())
            && let (Some(n), Some(log)) = (held.attempt, &held.log)
        {
            return Some(LogTarget { attempt: task.attempt(n), path: log.clone() });
        }
        let last = state.tasks.get(&task)?.record.attempts.last()?;
        Some(LogTarget { attempt: task.attempt(last.n), path: last.log.clone() })
    }

    /// Entries of a log have been read; those of another log than the wanted one are dropped.
    pub fn log_appended(&mut self, target: &LogTarget, entries: Vec<Entry>) {
        if self.log.target() == Some(target) {
            self.log.append(entries);
        }
    }

    /// Reading of a log began this many bytes into it.
    pub fn log_skipped(&mut self, target: &LogTarget, bytes: u64) {
        if self.log.target() == Some(target) {
            self.log.skip(bytes);
        }
    }

    /// A report has been read.
    pub fn report_read(&mut self, path: &str, text: &str) {
        let clean = scrub(text);
        self.report(path, &Ok(crate::model::text::clip(&clean, REPORT_LIMIT).into_owned()));
    }

    /// A report could not be read.
    pub fn report_failed(&mut self, path: &str, why: &str) {
        self.report(path, &Err(one_line(why).into_owned()));
    }

    fn report(&mut self, path: &str, result: &Result<String, String>) {
        for popup in &mut self.popups {
            if let Popup::Report { path: shown, text, .. } = popup
                && shown == path
            {
                *text = Some(result.clone());
            }
        }
    }

    /// Text was pasted: it is text wherever it goes, never keys.
    pub fn paste(&mut self, text: &str) {
        self.message = None;
        match self.popups.last_mut() {
            None => {
                self.composing = true;
                self.composer.insert(text);
            }
            Some(Popup::Search { query, tasks }) => {
                query.push_str(&one_line(text));
                if *tasks {
                    self.filter.clone_from(query);
                }
            }
            Some(Popup::Palette { query, .. }) => query.push_str(&one_line(text)),
            Some(
                Popup::Help { .. }
                | Popup::Leave { .. }
                | Popup::Confirm { .. }
                | Popup::Plan { .. }
                | Popup::Task { .. }
                | Popup::Agent { .. }
                | Popup::Report { .. },
            ) => self.say("close this first: pasted text goes into the goal", true),
        }
        self.refresh_palette();
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent, state: &State) -> Vec<Wish> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        self.message = None;
        let mut wishes = self.route(key, state);
        wishes.extend(self.observe(state));
        wishes
    }

    fn route(&mut self, key: KeyEvent, state: &State) -> Vec<Wish> {
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
            None if self.composing => return self.compose_key(key, state),
            Some(
                Popup::Help { .. }
                | Popup::Plan { .. }
                | Popup::Task { .. }
                | Popup::Agent { .. }
                | Popup::Report { .. },
            )
            | None => {}
        }
        let found = self.focus == Pane::Log && self.popups.is_empty() && self.log.pattern().is_some();
        match keymap::action(chord, found) {
            Some(action) => self.perform(action, state),
            None => Vec::new(),
        }
    }

    /// Does what a verb says.
    pub fn act(&mut self, action: Action, state: &State) -> Vec<Wish> {
        let mut wishes = self.perform(action, state);
        wishes.extend(self.observe(state));
        wishes
    }

    fn perform(&mut self, action: Action, state: &State) -> Vec<Wish> {
        match action {
            Action::FocusNext => self.step(true),
            Action::FocusPrevious => self.step(false),
            Action::Open => return self.open(state),
            Action::Back => self.back(),
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
            Action::PlanView => match state.goals.iter().find(|g| g.needs_approval()).or_else(|| state.goals.current())
            {
                Some(goal) => self.open_plan(goal.id.clone()),
                None => self.say("there is no goal yet: g writes one", true),
            },
            Action::Zoom => self.zoom = !self.zoom,
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
                let query = if tasks { self.filter.clone() } else { String::new() };
                self.popups.push(Popup::Search { query, tasks });
            }
            Action::SearchNext => self.hit(true, state),
            Action::SearchPrevious => self.hit(false, state),
            Action::Follow => {
                let (columns, height) = self.log_size(state);
                self.pin(state);
                self.log.toggle_follow(columns, height);
            }
            Action::Kinds => {
                self.pin(state);
                self.log.show_next();
            }
            Action::NextNeed => self.next_need(state),
            Action::Report => return self.open_report(state),
            Action::Approve => return self.approve(state),
            Action::Deny => self.deny(state),
            Action::Retry => return self.retry(state),
            Action::Cancel => self.cancel(state),
            Action::Pause => return self.pause(state),
            Action::Copy => return self.copy(state),
            Action::Mouse => {
                self.mouse = !self.mouse;
                let word = if self.mouse { "the mouse moves focus; m gives it back" } else { "the mouse selects text" };
                self.say(word, false);
                return vec![Wish::Mouse(self.mouse)];
            }
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
                let all = tasks::all(state, &self.filter);
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
            Pane::Limits | Pane::Log | Pane::Orchestrator => {}
        }
    }

    // What drawing asks for.

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

    /// What lies over the stage, the top last.
    pub fn popups(&self) -> &[Popup] {
        &self.popups
    }

    /// What narrows the tasks; empty for all.
    pub fn filter(&self) -> &str {
        &self.filter
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

    /// Rows of the limits' pane that are scrolled away.
    pub fn limits_scroll(&self) -> usize {
        self.limits_scroll
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
    pub fn selected_row(&self, rows: &[Row<'_>]) -> usize {
        tasks::selected(rows, self.row.as_ref(), self.row_at)
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
            ask: state.goals.current().is_some() || state.goals.orchestrator.trouble.is_some(),
            agents,
        }
    }

    fn layout(&self, state: &State) -> Option<Layout> {
        layout::of(self.size, self.wanted_layout(state, self.size))
    }

    /// Columns of text and rows of the log's pane.
    fn log_size(&self, state: &State) -> (usize, usize) {
        let area = self.layout(state).and_then(|l| l.log).unwrap_or_default();
        let width = usize::from(area.width.saturating_sub(2));
        (width.saturating_sub(margin(width)).max(1), usize::from(area.height.saturating_sub(2)))
    }

    // Moving.

    fn look_at(&mut self, pane: Pane) {
        self.focus = pane;
        match pane {
            Pane::Agents => self.subject = Subject::Agent,
            Pane::Tasks => self.subject = Subject::Task,
            Pane::Limits | Pane::Log | Pane::Orchestrator => {}
        }
    }

    fn step(&mut self, forward: bool) {
        if self.popups.is_empty() {
            self.look_at(self.focus.step(forward));
        }
    }

    fn view(&mut self, pane: Option<Pane>) {
        self.popups.clear();
        self.composing = false;
        self.zoom = pane.is_some();
        self.look_at(pane.unwrap_or(Pane::Tasks));
    }

    fn back(&mut self) {
        if self.popups.pop().is_some() {
            return;
        }
        if self.log.pattern().is_some() {
            // An empty pattern cannot be wrong.
            let _ok = self.log.search("");
        } else if !self.filter.is_empty() {
            self.filter.clear();
        } else if self.zoom {
            self.zoom = false;
        } else {
            self.line = None;
            self.row = None;
            self.look_at(Pane::Tasks);
        }
    }

    fn travel(&mut self, travel: Travel, state: &State) {
        let height = self.height(state);
        if let Some(popup) = self.popups.last() {
            let (len, scene) = (self.popup_len(popup, state), usize::from(self.size.1).saturating_sub(6));
            match self.popups.last_mut() {
                Some(Popup::Plan { goal, selected }) => {
                    let tasks = state.goals.get(goal).and_then(|g| g.plan.as_ref()).map_or(0, |p| p.tasks.len());
                    *selected = travel.from(*selected, tasks, scene);
                }
                Some(popup) => {
                    if let Some(scroll) = popup.scroll_mut() {
                        *scroll = travel.from(*scroll, len.saturating_sub(scene) + 1, scene);
                    }
                }
                None => {}
            }
            return;
        }
        match self.focus {
            Pane::Tasks => {
                let all = tasks::all(state, &self.filter);
                let to = travel.from(self.selected_row(&all), all.len(), height);
                self.choose(&all, to);
            }
            Pane::Agents => {
                let names = state.agents.names();
                let to = travel.from(self.selected_agent(state), names.len(), height / agents::ROWS);
                self.agent = names.get(to).cloned();
            }
            Pane::Limits => self.limits_scroll = travel.from(self.limits_scroll, 60, height),
            Pane::Log => {
                self.pin(state);
                let (columns, height) = self.log_size(state);
                let page = isize::try_from(height.saturating_sub(1).max(1)).unwrap_or(1);
                match travel {
                    Travel::Rows(n) => self.log.scroll(n, columns, height),
                    Travel::Pages(n) => self.log.scroll(n * page, columns, height),
                    Travel::Start => self.log.to_start(columns, height),
                    Travel::End => self.log.to_end(),
                }
            }
            Pane::Orchestrator => {
                if let Some(at) = self.selected_line(state) {
                    let to = travel.from(at, state.lines.len(), height);
                    // At the end it follows what is said next.
                    self.line = state.lines.get(to).filter(|_| to + 1 < state.lines.len()).cloned();
                }
            }
        }
    }

    fn height(&self, state: &State) -> usize {
        let area = self.layout(state).and_then(|l| l.pane(self.focus)).unwrap_or_default();
        usize::from(area.height.saturating_sub(3)).max(1)
    }

    fn popup_len(&self, popup: &Popup, state: &State) -> usize {
        let scene = Scene { state, app: self, now: state.now, theme: Theme::new(false) };
        draw::page(&scene, popup, self.size).map_or(0, |p| p.lines.len())
    }

    fn choose(&mut self, rows: &[Row<'_>], at: usize) {
        if let Some(row) = rows.get(at) {
            self.row = Some(row.key());
            self.row_at = at;
            self.subject = Subject::Task;
        }
    }

    /// Keeps what is shown where it is, although nobody chose it by hand.
    fn pin(&mut self, state: &State) {
        match self.subject {
            Subject::Task if self.row.is_none() => {
                let all = tasks::all(state, &self.filter);
                let at = self.selected_row(&all);
                self.choose(&all, at);
            }
            Subject::Agent if self.agent.is_none() => {
                self.agent = state.agents.names().first().cloned();
            }
            Subject::Task | Subject::Agent => {}
        }
    }

    /// The task the log and the verbs are about.
    fn subject(&self, state: &State) -> Option<TaskRef> {
        if let Some(task) = self.popups.iter().rev().find_map(|p| match p {
            Popup::Task { task, .. } => Some(task),
            Popup::Help { .. }
            | Popup::Palette { .. }
            | Popup::Leave { .. }
            | Popup::Confirm { .. }
            | Popup::Plan { .. }
            | Popup::Agent { .. }
            | Popup::Report { .. }
            | Popup::Search { .. } => None,
        }) {
            return Some(task.clone());
        }
        match self.subject {
            Subject::Task => self.chosen_task(state),
            Subject::Agent => {
                let agent = state.agents.iter().nth(self.selected_agent(state))?;
                let held = agent.slots.iter().filter_map(|s| s.held.as_ref()).max_by_key(|h| h.since);
                held.map(|h| h.task.clone()).or_else(|| {
                    let of = state.tasks.iter().filter(|t| t.record.task().agent == *agent.name());
                    let last =
                        of.filter_map(|t| Some((t.record.attempts.last()?.started_at, t))).max_by_key(|(at, _)| *at);
                    last.map(|(_, t)| t.record.task().clone())
                })
            }
        }
    }

    fn chosen_task(&self, state: &State) -> Option<TaskRef> {
        if let Some(RowKey::Task(task)) = &self.row
            && state.tasks.get(task).is_some()
        {
            return Some(task.clone());
        }
        let all = tasks::all(state, &self.filter);
        match all.get(self.selected_row(&all))? {
            Row::Task(task, _) => Some(task.record.task().clone()),
            Row::Rejected(_) => None,
        }
    }

    fn next_need(&mut self, state: &State) {
        let needs = state.needs_you();
        let at = self.need.as_ref().and_then(|need| needs.iter().position(|n| n == need));
        let next = at.map_or(0, |at| (at + 1) % needs.len().max(1));
        let Some(need) = needs.get(next).cloned() else {
            return self.say("nothing waits for you", false);
        };
        self.popups.clear();
        self.composing = false;
        match &need {
            Need::Plan(goal) => self.open_plan(goal.clone()),
            Need::Failed(task) => {
                self.filter.clear();
                self.row = Some(RowKey::Task(task.clone()));
                self.look_at(Pane::Tasks);
                self.popups.push(Popup::Task { task: task.clone(), scroll: 0 });
            }
        }
        self.need = Some(need);
    }

    // Looking.

    fn open_plan(&mut self, goal: GoalId) {
        self.popups.retain(|p| !matches!(p, Popup::Plan { .. }));
        self.popups.push(Popup::Plan { goal, selected: 0 });
    }

    fn open(&mut self, state: &State) -> Vec<Wish> {
        match self.popups.last() {
            Some(Popup::Plan { goal, selected }) => {
                let task = state.goals.get(goal).filter(|g| g.published).and_then(|g| {
                    let tasks = &g.plan.as_ref()?.tasks;
                    tasks.get((*selected).min(tasks.len().saturating_sub(1)))?.reference(&g.id)
                });
                match task.filter(|t| state.tasks.get(t).is_some()) {
                    Some(task) => self.popups.push(Popup::Task { task, scroll: 0 }),
                    None => self.say("this task is not in the queue", true),
                }
                return Vec::new();
            }
            Some(
                Popup::Help { .. }
                | Popup::Palette { .. }
                | Popup::Leave { .. }
                | Popup::Confirm { .. }
                | Popup::Task { .. }
                | Popup::Agent { .. }
                | Popup::Report { .. }
                | Popup::Search { .. },
            ) => return Vec::new(),
            None => {}
        }
        match self.focus {
            Pane::Tasks | Pane::Log => {
                if let Some(task) = self.subject(state) {
                    self.popups.push(Popup::Task { task, scroll: 0 });
                } else {
                    let all = tasks::all(state, &self.filter);
                    if let Some(Row::Rejected(file)) = all.get(self.selected_row(&all)) {
                        self.say(&format!("{}: {}", file.path, file.reason), true);
                    } else if let Some(goal) = state.goals.iter().find(|g| g.needs_approval()) {
                        self.open_plan(goal.id.clone());
                    }
                }
            }
            Pane::Agents => {
                if let Some(agent) = state.agents.iter().nth(self.selected_agent(state)) {
                    self.popups.push(Popup::Agent { agent: agent.name().clone(), scroll: 0 });
                }
            }
            Pane::Limits => self.zoom = !self.zoom,
            Pane::Orchestrator => {
                let line = self.selected_line(state).and_then(|at| state.lines.get(at));
                match line.and_then(|l| l.goal.as_ref()).and_then(|g| state.goals.get(g)) {
                    Some(goal) => match &goal.report {
                        Some(path) => return self.show_report(&goal.id.clone(), &path.clone()),
                        None => self.open_plan(goal.id.clone()),
                    },
                    None => self.say("this line belongs to no goal", true),
                }
            }
        }
        Vec::new()
    }

    fn open_report(&mut self, state: &State) -> Vec<Wish> {
        let of = match self.popups.last() {
            Some(Popup::Plan { goal, .. }) => {
                state.goals.get(goal).and_then(|g| Some((g.id.clone(), g.report.clone()?)))
            }
            Some(_) | None => None,
        };
        let newest = || state.goals.iter().rev().find_map(|g| Some((g.id.clone(), g.report.clone()?)));
        if let Some((goal, path)) = of.or_else(newest) {
            self.show_report(&goal, &path)
        } else {
            self.say("no goal has a report yet", true);
            Vec::new()
        }
    }

    fn show_report(&mut self, goal: &GoalId, path: &str) -> Vec<Wish> {
        self.popups.retain(|p| !matches!(p, Popup::Report { .. }));
        self.popups.push(Popup::Report { goal: goal.clone(), path: path.to_owned(), text: None, scroll: 0 });
        vec![Wish::ReadReport { path: path.to_owned() }]
    }

    fn copy(&mut self, state: &State) -> Vec<Wish> {
        let text = match self.popups.last() {
            Some(Popup::Report { text: Some(Ok(text)), .. }) => Some(text.clone()),
            Some(Popup::Plan { goal, .. }) => state.goals.get(goal).map(|g| g.text.clone()),
            Some(Popup::Task { task, .. }) => {
                let outcome = state.tasks.get(task).and_then(|t| t.record.outcome.as_ref());
                Some(outcome.map_or_else(|| task.to_string(), |o| o.summary.clone()))
            }
            Some(_) => None,
            None => self.subject(state).map(|t| t.to_string()),
        };
        if let Some(text) = text {
            self.say("copied", false);
            vec![Wish::Copy(text)]
        } else {
            self.say("there is nothing to copy here", true);
            Vec::new()
        }
    }

    // Ordering.

    /// The goal the verbs are about, if the operator looks at one.
    fn goal_here(&self, state: &State) -> Option<GoalId> {
        match self.popups.last() {
            Some(Popup::Plan { goal, .. } | Popup::Report { goal, .. }) => return Some(goal.clone()),
            Some(_) => return None,
            None => {}
        }
        if self.focus == Pane::Orchestrator {
            let line = self.selected_line(state).and_then(|at| state.lines.get(at));
            return line.and_then(|l| l.goal.clone());
        }
        None
    }

    fn plan_here(&mut self, state: &State) -> Option<GoalId> {
        let here = self.goal_here(state).filter(|g| state.goals.get(g).is_some_and(crate::room::Goal::needs_approval));
        if here.is_some() {
            return here;
        }
        let mut waiting = state.goals.iter().filter(|g| g.needs_approval());
        match (waiting.next(), waiting.next()) {
            (None, _) => {
                self.say("no plan waits for approval", true);
                None
            }
            (Some(goal), None) => Some(goal.id.clone()),
            (Some(goal), Some(_)) => {
                // Several wait: show which one before saying yes to it.
                self.open_plan(goal.id.clone());
                None
            }
        }
    }

    fn approve(&mut self, state: &State) -> Vec<Wish> {
        let Some(goal) = self.plan_here(state) else { return Vec::new() };
        self.popups.retain(|p| !matches!(p, Popup::Plan { .. }));
        vec![Wish::Order(Order::Approve { goal })]
    }

    fn deny(&mut self, state: &State) {
        if let Some(goal) = self.plan_here(state) {
            let question = format!("Deny the plan of {goal}? The goal ends there.");
            self.popups.push(Popup::Confirm { question, order: Order::Deny { goal } });
        }
    }

    fn retry(&mut self, state: &State) -> Vec<Wish> {
        let Some(task) = self.subject(state) else {
            self.say("no task is selected", true);
            return Vec::new();
        };
        let Some(entry) = state.tasks.get(&task) else { return Vec::new() };
        let order = Order::Retry { task: task.clone(), description: None };
        match state.tasks.phase(entry) {
            Phase::Failed | Phase::Dropped | Phase::Retrying => return vec![Wish::Order(order)],
            Phase::Done => {
                let question = format!("Run {task} again? It is done; its result makes room for a new one.");
                self.popups.push(Popup::Confirm { question, order });
            }
            phase @ (Phase::Running | Phase::Ready | Phase::Waiting) => {
                self.say(&format!("{task} is {}: there is nothing to retry", phase.word()), true);
            }
        }
        Vec::new()
    }

    fn cancel(&mut self, state: &State) {
        if let Some(goal) = self.goal_here(state).and_then(|g| state.goals.get(&g)) {
            return match &goal.phase {
                GoalPhase::Ended { .. } => self.say(&format!("{} is over: {}", goal.id, goal.phase.word()), true),
                GoalPhase::Planning { .. }
                | GoalPhase::AwaitingApproval
                | GoalPhase::Running
                | GoalPhase::Synthesising => {
                    let open = goal.tasks.iter().filter_map(|t| state.tasks.get(t));
                    let open = open.filter(|t| t.record.outcome.is_none()).count();
                    let tasks = super::text::many(open, "task");
                    let question = format!("End goal {} and {tasks} that have not ended?", goal.id);
                    self.popups.push(Popup::Confirm { question, order: Order::CancelGoal { goal: goal.id.clone() } });
                }
            };
        }
        let Some(task) = self.subject(state) else { return self.say("no task is selected", true) };
        let Some(entry) = state.tasks.get(&task) else { return };
        if let Some(outcome) = &entry.record.outcome {
            let word = if outcome.state == EndState::Done { "done" } else { outcome.state.word() };
            return self.say(&format!("{task} has ended already: {word}"), true);
        }
        let what = match state.tasks.phase(entry) {
            Phase::Running => "Its attempt is ended with everything it started.",
            Phase::Failed | Phase::Ready | Phase::Retrying | Phase::Waiting | Phase::Done | Phase::Dropped => {
                "It will not start; what depends on it is skipped."
            }
        };
        let question = format!("Cancel {task}? {what}");
        self.popups.push(Popup::Confirm { question, order: Order::Cancel { task } });
    }

    fn pause(&mut self, state: &State) -> Vec<Wish> {
        let name = match self.popups.last() {
            Some(Popup::Agent { agent, .. }) => Some(agent.clone()),
            Some(_) | None if self.focus == Pane::Agents => {
                state.agents.iter().nth(self.selected_agent(state)).map(|a| a.name().clone())
            }
            Some(_) | None => self.subject(state).map(|t| t.agent),
        };
        match name.and_then(|n| state.agents.get(&n)) {
            Some(agent) if agent.paused => vec![Wish::Order(Order::Resume { agent: agent.name().clone() })],
            Some(agent) => vec![Wish::Order(Order::Pause { agent: agent.name().clone() })],
            None => {
                self.say("no agent is selected", true);
                Vec::new()
            }
        }
    }

    // Writing.

    fn compose_key(&mut self, key: KeyEvent, state: &State) -> Vec<Wish> {
        match self.composer.key(key) {
            Typed::Edited => {}
            Typed::Leave => self.composing = false,
            Typed::Tab(forward) => {
                self.composing = false;
                self.look_at(self.focus.step(forward));
            }
            Typed::Send => match composer::order(&self.composer.text(), state) {
                Ok(order) => {
                    self.composer.take();
                    // The next thing wanted is a yes to the plan, and that is a key, not a letter of another goal.
                    self.composing = false;
                    return vec![Wish::Order(order)];
                }
                Err(why) => self.say(&why, true),
            },
        }
        Vec::new()
    }

    fn search_key(&mut self, chord: Chord, state: &State) -> Vec<Wish> {
        let Some(Popup::Search { query, tasks }) = self.popups.last_mut() else { return Vec::new() };
        match chord.code {
            KeyCode::Esc => {
                if *tasks {
                    self.filter.clear();
                }
                self.popups.pop();
            }
            KeyCode::Enter => {
                let (query, tasks) = (std::mem::take(query), *tasks);
                self.popups.pop();
                if tasks {
                    self.filter = query;
                    return Vec::new();
                }
                match self.log.search(&query) {
                    Err(why) => {
                        let why = why.to_string();
                        let last = why.lines().last().unwrap_or_default().trim().to_owned();
                        self.say(&format!("not a pattern: {last}"), true);
                    }
                    Ok(()) if query.is_empty() => {}
                    // The newest hit first: it is the one nearest to what is on screen.
                    Ok(()) => self.hit(false, state),
                }
            }
            KeyCode::Backspace => {
                query.pop();
            }
            KeyCode::Char('u') if chord.modifiers == KeyModifiers::CONTROL => query.clear(),
            KeyCode::Char(c) if chord.modifiers.is_empty() && query.len() < 500 && !c.is_control() => query.push(c),
            _ => {}
        }
        // The tasks narrow while the text is typed.
        if let Some(Popup::Search { query, tasks: true }) = self.popups.last() {
            self.filter.clone_from(query);
        }
        Vec::new()
    }

    fn hit(&mut self, forward: bool, state: &State) {
        self.pin(state);
        let (columns, height) = self.log_size(state);
        if !self.log.next_hit(forward, columns, height) {
            self.say("nothing matches", true);
        }
    }

    fn palette_key(&mut self, chord: Chord, state: &State) -> Vec<Wish> {
        let Some(Popup::Palette { query, hits, selected }) = self.popups.last_mut() else { return Vec::new() };
        match chord.code {
            KeyCode::Esc => {
                self.popups.pop();
            }
            KeyCode::Enter => {
                let action = hits.get(*selected).and_then(|n| VERBS.get(*n)).map(|v| v.action);
                self.popups.pop();
                return action.map(|a| self.perform(a, state)).unwrap_or_default();
            }
            KeyCode::Up => *selected = selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Tab => *selected = (*selected + 1).min(hits.len().saturating_sub(1)),
            KeyCode::Backspace if query.pop().is_none() => {
                self.popups.pop();
            }
            KeyCode::Backspace => self.refresh_palette(),
            KeyCode::Char('u') if chord.modifiers == KeyModifiers::CONTROL => {
                query.clear();
                self.refresh_palette();
            }
            KeyCode::Char(c) if chord.modifiers.is_empty() && query.len() < 200 && !c.is_control() => {
                query.push(c);
                self.refresh_palette();
            }
            _ => {}
        }
        Vec::new()
    }

    fn refresh_palette(&mut self) {
        let Some(Popup::Palette { query, hits, selected }) = self.popups.last_mut() else { return };
        let pattern = Pattern::parse(query, CaseMatching::Ignore, Normalization::Smart);
        let mut letters = Vec::new();
        let mut scored: Vec<(u32, usize)> = VERBS
            .iter()
            .enumerate()
            .filter_map(|(n, verb)| {
                let by_name = pattern.score(Utf32Str::new(verb.name, &mut letters), &mut self.matcher);
                let by_help = pattern.score(Utf32Str::new(verb.help, &mut letters), &mut self.matcher);
                // A name is worth more than a word in the sentence.
                by_name.map(|s| s * 4 + 1_000).max(by_help).map(|s| (s, n))
            })
            .collect();
        if !query.is_empty() {
            scored.sort_by_key(|(score, n)| (std::cmp::Reverse(*score), *n));
        }
        *hits = scored.into_iter().map(|(_, n)| n).collect();
        *selected = 0;
    }

    // Leaving.

    fn leave(&mut self) -> Vec<Wish> {
        // A second Ctrl+C takes the default: the agents go on.
        if matches!(self.popups.last(), Some(Popup::Leave { .. })) {
            return vec![Wish::Quit(Leave::Detach)];
        }
        self.popups.push(Popup::Leave { stop: false });
        Vec::new()
    }

    fn leave_key(&mut self, chord: Chord, stop: bool) -> Vec<Wish> {
        match chord.code {
            KeyCode::Esc | KeyCode::Char('n') => {
                self.popups.pop();
            }
            KeyCode::Enter if stop => return vec![Wish::Quit(Leave::StopEverything)],
            KeyCode::Enter | KeyCode::Char('d' | 'q') => return vec![Wish::Quit(Leave::Detach)],
            KeyCode::Char('s') => return vec![Wish::Quit(Leave::StopEverything)],
            KeyCode::Up | KeyCode::Down | KeyCode::Tab | KeyCode::BackTab | KeyCode::Char('j' | 'k') => {
                if let Some(Popup::Leave { stop }) = self.popups.last_mut() {
                    *stop = !*stop;
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn confirm_key(&mut self, chord: Chord) -> Vec<Wish> {
        match chord.code {
            KeyCode::Char('y') => {
                if let Some(Popup::Confirm { order, .. }) = self.popups.pop() {
                    self.popups.retain(|p| !matches!(p, Popup::Plan { .. }));
                    return vec![Wish::Order(order)];
                }
            }
            KeyCode::Esc | KeyCode::Char('n' | 'q') => {
                self.popups.pop();
            }
            _ => {}
        }
        Vec::new()
    }

    /// Whether something on screen counts seconds, so that it should be drawn again each second; otherwise the clock
    /// alone moves, once a minute.
    pub fn ticks(&self, state: &State) -> bool {
        state.agents.running() > 0
            || state.next_wake().is_some()
            || state.goals.current().is_some_and(|g| !g.phase.is_over())
    }
}

/// A way through a list.
#[derive(Debug, Clone, Copy)]
enum Travel {
    Rows(isize),
    Pages(isize),
    Start,
    End,
}

impl Travel {
    fn from(self, at: usize, len: usize, height: usize) -> usize {
        let last = len.saturating_sub(1);
        let page = isize::try_from(height.max(2) - 1).unwrap_or(1);
        match self {
            Self::Rows(n) => at.saturating_add_signed(n).min(last),
            Self::Pages(n) => at.saturating_add_signed(n * page).min(last),
            Self::Start => 0,
            Self::End => last,
        }
    }
}
