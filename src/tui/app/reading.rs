//! Which logs are read, and what is done with their lines: scope, attempts, ranges, marks, copies, programs that show
//! them.

use std::path::Path;

use super::App;
use crate::{
    model::{
        LogId, LogScope,
        log::{LogFrom, LogHit, LogPart, LogRange, LogReading, Show},
    },
    room::State,
    tui::{Action, Guest, Wish, layout::Pane},
};

/// How many logs are read together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Breadth {
    /// One attempt.
    #[default]
    Attempt,
    /// All attempts of the task.
    Task,
    /// Everything of the agent.
    Agent,
    /// Everything.
    All,
}

impl App {
    /// Shows the log otherwise. Where it is not on screen now it is said how, or it would be a riddle later.
    pub(super) fn read_otherwise(&mut self, action: Action, state: &State) {
        let (columns, height) = self.log_size(state);
        match action {
            Action::Follow => {
                self.pin(state);
                self.log.toggle_follow(columns, height);
            }
            Action::Kinds => {
                self.pin(state);
                self.log.read_as(|reading| reading.show = reading.show.next());
            }
            Action::Raw => {
                self.pin(state);
                self.log.read_as(|reading| reading.raw = !reading.raw);
            }
            Action::Wrap => self.log.toggle_wrap(),
            _ => return,
        }
        if self.layout(state).is_some_and(|layout| layout.log.is_none()) {
            let reading = self.log.reading();
            let now = match action {
                Action::Follow if self.log.follows() => "its end as it grows",
                Action::Follow => "where it stands",
                Action::Kinds => reading.and_then(|reading| reading.show.word()).unwrap_or("everything"),
                Action::Raw if reading.is_some_and(|reading| reading.raw) => "every line as it was written",
                Action::Raw => "lines as they are meant",
                _ if self.log.wraps() => "long lines wrapped",
                _ => "long lines cut",
            };
            let text = format!("the log ({}) shows {now}", self.key_of(Action::LogView));
            self.say(&text, false);
        }
    }

    /// The logs of what is selected: of its running attempt, else its last; or as many as were asked for.
    pub fn wanted_logs(&self, state: &State) -> Option<LogScope> {
        if let Some(log) = &self.pinned {
            return Some(LogScope::One(log.clone()));
        }
        if self.breadth == Breadth::All {
            return Some(LogScope::All);
        }
        let task = self.subject(state)?;
        match self.breadth {
            Breadth::Attempt => {}
            Breadth::Task => return Some(LogScope::Task(task)),
            Breadth::Agent | Breadth::All => return Some(LogScope::Agent(task.agent)),
        }
        let chosen = self.attempt.as_ref().filter(|(of, _)| *of == task).map(|(_, n)| *n);
        let found = state.tasks.find(&task);
        if let Some(n) = chosen {
            let log = found.and_then(|f| f.record.attempts.iter().find(|a| a.n == n).map(|a| a.log.clone()));
            let attempt = task.attempt(n);
            return Some(LogScope::One(LogId::of(&attempt, &log.unwrap_or_else(|| attempt.log()))));
        }
        if let Some(held) = state.agents.holder(&task).and_then(|s| s.held.as_ref())
            && let (Some(n), Some(log)) = (held.attempt, &held.log)
        {
            return Some(LogScope::One(LogId::of(&task.attempt(n), log)));
        }
        let found = found?;
        let last = found.record.attempts.last()?;
        Some(LogScope::One(LogId::of(&task.attempt(last.n), &last.log)))
    }

    /// The logs that are shown lie elsewhere now: they are read anew.
    pub fn read_anew(&mut self) {
        self.log.turn_to(None, LogFrom::End);
    }

    /// Turns the log to what is wanted now, and tells what has to be read.
    pub(super) fn watch_logs(&mut self, state: &State) -> Vec<Wish> {
        let wanted = self.wanted_logs(state);
        let shown = self.log.reading().map(|reading| &reading.scope);
        if wanted.as_ref() != shown && !self.somebody_reads(wanted.as_ref()) {
            let former = self.log.reading().map(|reading| (reading.raw, reading.show));
            let (raw, show) = former.unwrap_or_default();
            let reading = wanted.map(|scope| LogReading { scope, raw, show });
            let nothing = reading.is_none();
            self.log.turn_to(reading, LogFrom::End);
            if nothing {
                return vec![Wish::ReadLog(None)];
            }
        }
        self.log.ask().map(|ask| Wish::ReadLog(Some(ask))).into_iter().collect()
    }

    /// Whether the next attempt of the same task must not take the page away.
    fn somebody_reads(&self, wanted: Option<&LogScope>) -> bool {
        let shown = self.log.reading().map(|reading| &reading.scope);
        let (Some(LogScope::One(wanted)), Some(LogScope::One(shown))) = (wanted, shown) else { return false };
        let chosen = self.attempt.as_ref().is_some_and(|(_, n)| wanted.attempt == Some(*n));
        !self.log.follows()
            && (&wanted.agent, &wanted.task) == (&shown.agent, &shown.task)
            && !chosen
            && self.pinned.is_none()
    }

    /// A part of a log has been read.
    pub fn log_read(&mut self, ask: u64, part: LogPart, state: &State) {
        let (columns, height) = self.log_size(state);
        self.log.take(ask, part, columns, height);
    }

    pub(super) fn broaden(&mut self, state: &State) {
        self.pinned = None;
        self.pin(state);
        self.breadth = match self.breadth {
            Breadth::Attempt => Breadth::Task,
            Breadth::Task => Breadth::Agent,
            Breadth::Agent => Breadth::All,
            Breadth::All => Breadth::Attempt,
        };
        let word = match self.breadth {
            Breadth::Attempt => "one attempt",
            Breadth::Task => "all attempts of the task, in the order of their time",
            Breadth::Agent => "everything of this agent, in the order of its time",
            Breadth::All => "everything of all agents, in the order of its time",
        };
        self.say(word, false);
    }

    /// Goes to the attempt before the one that is shown, or after it.
    pub(super) fn step_attempt(&mut self, forward: bool, state: &State) {
        self.pin(state);
        let Some(task) = self.subject(state) else { return self.say("nothing is selected", true) };
        let mut numbers: Vec<u32> =
            state.tasks.find(&task).map(|t| t.record.attempts.iter().map(|a| a.n).collect()).unwrap_or_default();
        let held = state.agents.holder(&task).and_then(|s| s.held.as_ref()?.attempt);
        numbers.extend(held.filter(|n| !numbers.contains(n)));
        let shown = match self.log.reading().map(|reading| &reading.scope) {
            Some(LogScope::One(log)) => log.attempt,
            Some(LogScope::Task(_) | LogScope::Agent(_) | LogScope::All) | None => None,
        };
        let shown = shown.or(numbers.last().copied()).unwrap_or(0);
        let next = if forward {
            numbers.iter().copied().filter(|n| *n > shown).min()
        } else {
            numbers.iter().copied().filter(|n| *n < shown).max()
        };
        let Some(next) = next else {
            let word = if forward { "this is the last attempt" } else { "this is the first attempt that is known" };
            return self.say(word, false);
        };
        (self.pinned, self.breadth) = (None, Breadth::Attempt);
        // The last one is followed by the next, as if nobody had chosen.
        self.attempt = (numbers.iter().max() != Some(&next)).then_some((task, next));
        self.log.to_end();
    }

    /// Goes to a line that was found, wherever it is.
    pub(super) fn jump(&mut self, hit: &LogHit, state: &State) {
        self.pin(state);
        self.find.look_at(hit);
        let (columns, height) = self.log_size(state);
        if !self.log.reads(&hit.log) {
            self.pinned = Some((*hit.log).clone());
            let reading = LogReading { scope: LogScope::One((*hit.log).clone()), raw: false, show: Show::All };
            return self.log.turn_to(Some(reading), LogFrom::Hit(hit.place(), hit.text.clone()));
        }
        let hidden = self.log.reading().is_some_and(|r| r.raw || !r.show.has(hit.kind, u8::from(hit.nested)));
        if hidden {
            self.log.read_as(|reading| {
                reading.raw = false;
                reading.show = Show::All;
            });
        }
        self.log.go_to(hit, columns, height);
    }

    pub(super) fn sideways(&mut self, right: bool) {
        if !self.log.sideways(right) {
            self.say_told("lines are wrapped; <wrap> cuts them at the edge", false);
        }
    }

    pub(super) fn mark(&mut self, state: &State) {
        self.pin(state);
        let (columns, height) = self.log_size(state);
        match self.log.toggle_mark(columns, height) {
            Some(true) => self.say_told("marked; <next-mark> goes to the next mark", false),
            Some(false) => self.say("the mark is gone", false),
            None => self.say("there is no line to mark", true),
        }
    }

    pub(super) fn next_mark(&mut self, state: &State) {
        self.pin(state);
        let (columns, height) = self.log_size(state);
        match self.log.next_mark(columns, height) {
            None => self.say_told("there are no marks; <mark> sets one", true),
            Some((log, place)) if !self.log.reads(&log) => {
                self.pinned = Some((*log).clone());
                let scope = LogScope::One((*log).clone());
                let (raw, show) = self.log.reading().map(|r| (r.raw, r.show)).unwrap_or_default();
                self.log.turn_to(Some(LogReading { scope, raw, show }), LogFrom::Around(place));
            }
            Some(_) => {}
        }
    }

    pub(super) fn range(&mut self, state: &State) {
        self.pin(state);
        let (columns, height) = self.log_size(state);
        self.log.toggle_range(columns, height);
        if self.log.has_range() {
            self.say_told("a range begins here: move to its other end, <copy> copies it, <back> gives it up", false);
        }
    }

    /// Copies the range, the line under the hand, or what is seen.
    pub(super) fn copy_lines(&mut self, state: &State) -> Vec<Wish> {
        let (columns, height) = self.log_size(state);
        let Some(reading) = self.log.reading().cloned() else {
            self.say("there is nothing to copy here", true);
            return Vec::new();
        };
        let Some((from, to)) = self.log.chosen(columns, height) else {
            self.say("there is nothing to copy here", true);
            return Vec::new();
        };
        self.log.end_range();
        vec![Wish::CopyLog(LogRange { reading, from: Some(from), to: Some(to), here: None, headed: false })]
    }

    /// Shows the log in a program of the operator's own.
    pub(super) fn open_log(&mut self, guest: Guest, state: &State) -> Vec<Wish> {
        let (columns, height) = self.log_size(state);
        let Some(reading) = self.log.reading().cloned().filter(|_| !self.log.is_empty()) else {
            self.say("there is no log to open", true);
            return Vec::new();
        };
        let here = self.log.place(columns, height);
        self.pin(state);
        self.say("putting the log together…", false);
        vec![Wish::OpenLog(LogRange { reading, from: None, to: None, here, headed: true }, guest)]
    }

    /// Lines were copied into a file and, where `clipboard` says so, into the clipboard.
    pub fn copied(&mut self, lines: usize, path: &Path, clipboard: bool, cut: bool) {
        let lines = crate::tui::text::many(lines, "line");
        let path = path.display();
        let where_to = if clipboard {
            format!("in the clipboard and in {path}")
        } else {
            format!("too long for a clipboard; in {path}")
        };
        let cut = if cut { "; only the beginning, 64 MB" } else { "" };
        self.say(&format!("copied {lines}: {where_to}{cut}"), false);
    }

    /// Whether the log has the keys.
    pub(super) fn is_reading(&self) -> bool {
        self.focus == Pane::Log && self.popups.is_empty()
    }
}
