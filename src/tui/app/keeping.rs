//! What a screen keeps of its stage for the next one: shape and habits, what is put off, the draft, what was sent; and what it is told
//! for the composer's lists.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::App;
use crate::{
    room::{Need, State},
    tui::{
        composer::{Entry, Template},
        layout::{self, Pane, Shape},
    },
};

/// How the operator has this stage's screen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Habits {
    /// The pane with the keys.
    pub focus: Option<Pane>,
    /// It is shown alone.
    pub zoom: bool,
    /// Where the borders are.
    pub shape: Shape,
    /// Long lines of the log are wrapped.
    pub wrap: Option<bool>,
    /// What is put off, and until when. Not what an agent asks for: its number is the room's, and it does not wait that long.
    pub snoozed: Vec<(Need, Timestamp)>,
}

impl App {
    /// How the screen is now.
    pub fn habits(&self) -> Habits {
        let lasts = |(need, _): &&(Need, Timestamp)| !matches!(need, Need::Permit(_));
        Habits {
            focus: Some(self.focus),
            zoom: self.zoom,
            shape: self.shape,
            wrap: Some(self.log.wraps()),
            snoozed: self.snoozed.iter().filter(lasts).cloned().collect(),
        }
    }

    /// What is being written, of a goal.
    pub fn draft(&self) -> String {
        match &self.editing {
            Some((_, draft)) => draft.clone(),
            None => self.composer.text(),
        }
    }

    /// Takes up where a former screen of this stage was left.
    pub fn take_up(&mut self, habits: Habits, draft: &str, sent: Vec<String>) {
        self.focus = habits.focus.unwrap_or(self.focus);
        self.zoom = habits.zoom;
        self.shape = habits.shape;
        self.snoozed = habits.snoozed;
        if habits.wrap.is_some_and(|wrap| wrap != self.log.wraps()) {
            self.log.toggle_wrap();
        }
        self.composer.remember(sent);
        if !draft.trim().is_empty() {
            self.composer.set(draft);
            if self.message.is_none() {
                self.say(
                    &format!("your draft is back: {} goes on with it", self.key_of(super::Action::Compose)),
                    false,
                );
            }
        }
    }

    /// A folder of the stage was read.
    pub fn folder_read(&mut self, folder: String, entries: Vec<Entry>, state: &State) {
        let names: Vec<_> = state.agents.iter().map(|agent| agent.name().as_str()).collect();
        self.composer.listed(folder, entries, &names);
    }

    /// The templates were read.
    pub fn templates_read(&mut self, templates: Vec<Template>) {
        if self.composing {
            self.composer.templates_read(templates);
        }
    }

    /// Moves the borders, as far as the screen lets them.
    pub(super) fn reshape(&mut self, state: &State, left: i16, tasks: i16) {
        let before = self.layout(state);
        let shape = Shape { left: self.shape.left.saturating_add(left), tasks: self.shape.tasks.saturating_add(tasks) };
        let wanted = layout::Wanted { shape, ..self.wanted_layout(state, self.size) };
        let after = layout::of(self.size, wanted);
        if !before.is_some_and(|layout| layout.all) {
            self.say("the panes share the screen only where all are shown", true);
        } else if before != after {
            self.shape = shape;
        }
    }
}
