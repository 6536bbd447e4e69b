//! Calling the operator: a bell, a word on the desktop; what waits later; what happened since the last visit.

use jiff::{SignedDuration, Timestamp};

use super::App;
use crate::{
    room::{Need, State, attention::Notice},
    tui::{Action, popup::Popup, text},
};

/// How long something that is put off stays away.
const SNOOZE: SignedDuration = SignedDuration::from_mins(15);

impl App {
    /// What is to be said to the operator now, whatever they look at.
    pub fn call(&mut self, state: &State, now: Timestamp) -> Option<Notice> {
        if state.opened_at.is_none() && state.offline.is_none() {
            return None;
        }
        let waiting: Vec<Need> = self.unsnoozed(state, now).collect();
        self.herald.look(&waiting, now);
        let settings = &self.settings;
        self.herald.due(state, now, settings.attention.quiet, &settings.zone)
    }

    /// Whether something waits to be said, so that the screen must look again.
    pub(super) fn has_news(&self) -> bool {
        self.herald.has_news()
    }

    /// Says what has happened since this was last looked at; it stays until the first key.
    pub fn welcome(&mut self, state: &State, then: Timestamp) {
        if let Some(told) = state.since_then(then) {
            let ago = text::age(state.now.duration_since(then));
            self.say(&format!("since you last looked, {ago} ago: {told}"), false);
            if let Some(message) = &mut self.message {
                message.stays = true;
            }
        }
    }

    /// Puts off what is under the hand in the inbox.
    pub(super) fn snooze(&mut self, state: &State) {
        let Some(Popup::Inbox { selected }) = self.popups.last() else { return };
        let waiting = self.waiting(state);
        let Some((need, _)) = waiting.get(*selected) else { return };
        let until = state.now.checked_add(SNOOZE).unwrap_or(Timestamp::MAX);
        // What has come back by itself need not be kept.
        self.snoozed.retain(|(other, until)| other != need && *until > state.now);
        self.snoozed.push((need.clone(), until));
        if let Some(Popup::Inbox { selected }) = self.popups.last_mut() {
            *selected = (*selected).min(waiting.len().saturating_sub(2));
        }
        let key = self.key_of(Action::Unsnooze);
        self.say(&format!("put off for {} min; {key} shows it again", SNOOZE.as_mins()), false);
    }

    /// Shows everything again that was put off.
    pub(super) fn unsnooze(&mut self) {
        let word = if self.snoozed.is_empty() { "nothing is put off" } else { "everything that waits is shown again" };
        self.snoozed.clear();
        self.say(word, false);
    }

    /// How many things are put off.
    pub fn snoozed(&self, now: Timestamp) -> usize {
        self.snoozed.iter().filter(|(_, until)| *until > now).count()
    }

    /// Whether this is put off.
    pub(super) fn is_snoozed(&self, need: &Need, now: Timestamp) -> bool {
        self.snoozed.iter().any(|(other, until)| other == need && *until > now)
    }
}
