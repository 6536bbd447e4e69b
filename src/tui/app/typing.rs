//! Keys that write: the composer, a search, the palette; and the answers to questions.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use nucleo_matcher::{
    Utf32Str,
    pattern::{CaseMatching, Normalization, Pattern},
};

use super::{App, Editing};
use crate::{
    model::{Changes, TaskRef},
    room::{Order, State},
    tui::{
        Leave, Wish,
        action::{Place, VERBS},
        composer::{self, Typed},
        keymap::Chord,
        popup::{Popup, Way},
    },
};

impl App {
    pub(super) fn compose_key(&mut self, key: KeyEvent, state: &State) -> Vec<Wish> {
        if Chord::of(key).is("ctrl-o") {
            return vec![Wish::EditText(self.composer.text())];
        }
        let names: Vec<_> = state.agents.iter().map(|agent| agent.name().as_str()).collect();
        let typed = self.composer.key(key, &names);
        if let Some(folder) = self.composer.wants() {
            return vec![Wish::List(folder)];
        }
        match typed {
            Typed::Edited => {}
            Typed::Templates => return vec![Wish::ReadTemplates],
            Typed::Leave => {
                self.composing = false;
                let editing = self.editing.clone();
                self.edited();
                if let Some((Editing::Reply { ask, at, reply }, _)) = editing {
                    return self.words_written(ask, at, reply, None, state);
                }
            }
            Typed::Tab(forward) => {
                self.composing = false;
                self.look_at(self.focus.step(forward));
            }
            Typed::Send if self.editing.is_some() => return self.send_edited(state),
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

    /// The operator's editor has given the text back.
    pub fn text_edited(&mut self, text: &str) {
        self.composer.set(text.trim_end());
        self.composing = true;
        self.say("the text is as the editor left it; enter sends it", false);
    }

    /// The whole text of a task was read, or could not be: it is edited, unless the operator has gone on meanwhile.
    pub fn task_read(&mut self, task: &TaskRef, read: Result<&str, &str>) {
        if self.fetching.take_if(|wanted| wanted == task).is_none() {
            return;
        }
        match read {
            Ok(_) if self.composing => self.say(&format!("you write something else: {task} is not edited"), true),
            // What is cut here would be cut from the task.
            Ok(text) if text.chars().count() > composer::LIMIT => {
                let id = &task.id;
                self.say(&format!("its text is too long to edit here: podium retry {id} --edit"), true);
            }
            Ok(text) => self.edit(task.clone(), text),
            Err(why) => self.say(&format!("its text could not be read: {why}"), true),
        }
    }

    /// Opens a task's text; what stood in the composer comes back afterwards.
    pub(super) fn edit(&mut self, task: TaskRef, text: &str) {
        self.write(Editing::Task(task), text);
    }

    /// Opens a text of something else than a goal; what stood in the composer comes back afterwards.
    pub(super) fn write(&mut self, editing: Editing, text: &str) {
        let draft = self.edited().unwrap_or_else(|| self.composer.text());
        self.composer.set(text);
        self.editing = Some((editing, draft));
        self.popups.clear();
        self.composing = true;
    }

    /// Puts back what stood in the composer before a task's text was opened; tells it too.
    fn edited(&mut self) -> Option<String> {
        let (_, draft) = self.editing.take()?;
        self.composer.set(&draft);
        Some(draft)
    }

    fn send_edited(&mut self, state: &State) -> Vec<Wish> {
        let text = self.composer.text().trim().to_owned();
        if text.is_empty() {
            self.say("nothing is left of the text: esc leaves the task as it was", true);
            return Vec::new();
        }
        let Some((editing, _)) = self.editing.clone() else { return Vec::new() };
        if let Editing::Reply { ask, at, reply } = editing {
            self.edited();
            self.composing = false;
            return self.words_written(ask, at, reply, Some(&text), state);
        }
        let Editing::Task(task) = editing else {
            return match self.send_planned(&editing, &text) {
                Ok(wishes) => {
                    self.edited();
                    self.composing = false;
                    wishes
                }
                Err(why) => {
                    self.say(&why, true);
                    Vec::new()
                }
            };
        };
        self.edited();
        self.composing = false;
        let changes = Box::new(Changes { description: Some(text), ..Changes::default() });
        vec![Wish::Order(Order::Retry { task, changes })]
    }

    pub(super) fn retry_key(&mut self, chord: Chord, state: &State) -> Vec<Wish> {
        let Some(Popup::Retry { tasks, ways, selected }) = self.popups.last_mut() else { return Vec::new() };
        let last = ways.len().saturating_sub(1);
        let way = match chord.code {
            KeyCode::Up | KeyCode::Char('k') => {
                *selected = selected.saturating_sub(1);
                return Vec::new();
            }
            KeyCode::Down | KeyCode::Tab | KeyCode::Char('j') => {
                *selected = (*selected + 1).min(last);
                return Vec::new();
            }
            KeyCode::Esc | KeyCode::Char('q') => {
                self.popups.pop();
                return Vec::new();
            }
            KeyCode::Enter => ways.get(*selected).cloned(),
            KeyCode::Char('r' | 'R') => Some(Way::Same),
            KeyCode::Char('e') => Some(Way::Edit),
            KeyCode::Char('s') => ways.iter().find(|way| **way == Way::Resume).cloned(),
            _ => None,
        };
        let tasks = tasks.clone();
        way.map(|way| self.retry_in(tasks, way, state)).unwrap_or_default()
    }

    pub(super) fn search_key(&mut self, chord: Chord, state: &State) -> Vec<Wish> {
        let Some(Popup::Search { query, tasks }) = self.popups.last_mut() else { return Vec::new() };
        match chord.code {
            KeyCode::Esc => {
                let tasks = *tasks;
                self.popups.pop();
                if !tasks {
                    return self.end_search();
                }
                self.table.filter.clear();
            }
            KeyCode::Enter => {
                let (query, tasks) = (std::mem::take(query), *tasks);
                self.popups.pop();
                if tasks {
                    self.table.filter = query;
                    return Vec::new();
                }
                self.search_now(state);
                return Vec::new();
            }
            KeyCode::Backspace => {
                query.pop();
            }
            KeyCode::Char('u') if chord.modifiers == KeyModifiers::CONTROL => query.clear(),
            KeyCode::Char(c) if chord.modifiers.is_empty() && query.len() < 500 && !c.is_control() => query.push(c),
            _ => {}
        }
        // The tasks narrow, and the log is searched, while the text is typed.
        match self.popups.last() {
            Some(Popup::Search { query, tasks: true }) => self.table.filter.clone_from(query),
            Some(Popup::Search { query, tasks: false }) if query != self.find.pattern() => {
                let query = query.clone();
                return self.search_shown(&query);
            }
            Some(_) | None => {}
        }
        Vec::new()
    }

    pub(super) fn palette_key(&mut self, chord: Chord, state: &State) -> Vec<Wish> {
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

    pub(super) fn refresh_palette(&mut self) {
        let Some(Popup::Palette { query, hits, selected }) = self.popups.last_mut() else { return };
        let pattern = Pattern::parse(query, CaseMatching::Ignore, Normalization::Smart);
        let mut letters = Vec::new();
        let mut scored: Vec<(u32, usize)> = VERBS
            .iter()
            .enumerate()
            // Where these have the keys, the palette has none.
            .filter(|(_, verb)| verb.place != Place::Attached)
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

    pub(super) fn leave(&mut self) -> Vec<Wish> {
        // Nothing goes on and nothing can be stopped; or it is for another stage's operator to stop.
        if self.moment().is_some() || self.whose.is_some() {
            return vec![Wish::Quit(Leave::Detach)];
        }
        // A second Ctrl+C takes the default: the agents go on.
        if matches!(self.popups.last(), Some(Popup::Leave { .. })) {
            return vec![Wish::Quit(Leave::Detach)];
        }
        self.popups.push(Popup::Leave { stop: false });
        Vec::new()
    }

    pub(super) fn leave_key(&mut self, chord: Chord, stop: bool) -> Vec<Wish> {
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

    pub(super) fn confirm_key(&mut self, chord: Chord) -> Vec<Wish> {
        match chord.code {
            KeyCode::Char('y') => {
                if let Some(Popup::Confirm { orders, .. }) = self.popups.pop() {
                    if !orders.iter().any(|order| matches!(order, Order::EditPlan { .. })) {
                        self.popups.retain(|p| !matches!(p, Popup::Plan { .. }));
                    }
                    return orders.into_iter().map(Wish::Order).collect();
                }
            }
            KeyCode::Esc | KeyCode::Char('n' | 'q') => {
                self.popups.pop();
            }
            _ => {}
        }
        Vec::new()
    }
}
