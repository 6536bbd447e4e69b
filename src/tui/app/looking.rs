//! Opening what is selected, and copying it.

use super::App;
use crate::{
    model::GoalId,
    room::State,
    tui::{
        Wish,
        layout::Pane,
        popup::{Document, Popup},
        text,
        views::{
            files,
            tasks::{self, Row},
        },
    },
};

impl App {
    pub(super) fn open(&mut self, state: &State) -> Vec<Wish> {
        match self.popups.last() {
            Some(Popup::Plan { goal, selected }) => {
                let task = state.goals.get(goal).filter(|g| g.published).and_then(|g| {
                    let tasks = &g.plan.as_ref()?.tasks;
                    tasks.get((*selected).min(tasks.len().saturating_sub(1)))?.reference(&g.id)
                });
                match task.filter(|t| state.tasks.knows(t)) {
                    Some(task) => self.popups.push(Popup::Task { task, scroll: 0 }),
                    None => self.say("this task is not in the queue", true),
                }
                return Vec::new();
            }
            Some(Popup::Inbox { selected }) => {
                let need = self.waiting(state).get(*selected).map(|(need, _)| need.clone());
                if let Some(need) = need {
                    self.go_to_need(&need, state);
                    self.need = Some(need);
                }
                return Vec::new();
            }
            Some(Popup::Files { task, selected }) => {
                let found = files::of(state, task).into_iter().nth(*selected);
                return found.map(|file| self.show(file.title, file.document, None)).unwrap_or_default();
            }
            Some(Popup::Permit { reply: Some(_), .. }) => return self.take_choice(state),
            Some(
                Popup::Help { .. }
                | Popup::Palette { .. }
                | Popup::Leave { .. }
                | Popup::Confirm { .. }
                | Popup::Task { .. }
                | Popup::Agent { .. }
                | Popup::Document { .. }
                | Popup::Permit { .. }
                | Popup::Acts { .. }
                | Popup::Retry { .. }
                | Popup::Search { .. }
                | Popup::Find { .. },
            ) => return Vec::new(),
            None => {}
        }
        match self.focus {
            Pane::Tasks | Pane::Log => {
                if let Some(task) = self.subject(state) {
                    self.popups.push(Popup::Task { task, scroll: 0 });
                } else {
                    let all = self.rows(state);
                    match all.get(self.selected_row(&all)) {
                        Some(Row::Rejected(file)) => self.say(&format!("{}: {}", file.path, file.reason), true),
                        Some(Row::Removed(removed)) => {
                            let back = self.settings.keys.told("<retry> brings it back");
                            let text = format!("{}: {}; {back}", tasks::thrown(removed), removed.title);
                            self.say(&text, false);
                        }
                        Some(Row::Heading { folded, .. }) => self.fold(!folded, state),
                        Some(Row::Task(..)) | None => {
                            if let Some(goal) = state.goals.iter().find(|g| g.needs_approval() || g.asks()) {
                                self.open_plan(goal.id.clone(), state);
                            }
                        }
                    }
                }
            }
            Pane::Agents => {
                if let Some(agent) = state.agents.iter().nth(self.selected_agent(state)) {
                    let agent = agent.name().clone();
                    self.popups.push(Popup::Agent { agent: agent.clone(), scroll: 0, login: None });
                    return vec![Wish::ReadLogin(agent)];
                }
            }
            Pane::Limits => self.zoom = !self.zoom,
            Pane::Orchestrator => {
                let line = self.selected_line(state).and_then(|at| state.lines.get(at));
                match line.and_then(|l| l.goal.as_ref()).and_then(|g| state.goals.get(g)) {
                    Some(goal) => match &goal.report {
                        Some(path) => return self.show_report(&goal.id.clone(), &path.clone()),
                        None => self.open_plan(goal.id.clone(), state),
                    },
                    None => self.say("this line belongs to no goal", true),
                }
            }
        }
        Vec::new()
    }

    pub(super) fn open_report(&mut self, state: &State) -> Vec<Wish> {
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

    pub(super) fn show_report(&mut self, goal: &GoalId, path: &str) -> Vec<Wish> {
        let title = format!("Report on {goal} · {}", text::fit(path, 60));
        self.show(title, Document::Path(path.to_owned()), Some(goal.clone()))
    }

    /// Opens a file.
    fn show(&mut self, title: String, document: Document, goal: Option<GoalId>) -> Vec<Wish> {
        self.popups.retain(|p| !matches!(p, Popup::Document { .. }));
        self.popups.push(Popup::Document { title, document: document.clone(), goal, text: None, scroll: 0 });
        vec![Wish::Read(document)]
    }

    /// Lists what lies on the disk of the task; of an agent, reads its prompt.
    pub(super) fn open_files(&mut self, state: &State) -> Vec<Wish> {
        if let Some(Popup::Agent { agent, .. }) = self.popups.last() {
            let Some(prompt) = state.agents.get(agent).map(|a| a.settings.prompt.display().to_string()) else {
                return Vec::new();
            };
            return self.show(
                format!("The prompt of {agent} · {}", text::fit(&prompt, 60)),
                Document::Path(prompt),
                None,
            );
        }
        match self.subject(state) {
            Some(task) => self.popups.push(Popup::Files { task, selected: 0 }),
            None => self.say("no task is selected", true),
        }
        Vec::new()
    }

    pub(super) fn copy(&mut self, state: &State) -> Vec<Wish> {
        let copied = match self.popups.last() {
            Some(Popup::Document { text: Some(Ok(text)), .. }) => Some(text.clone()),
            Some(Popup::Plan { goal, .. }) => state.goals.get(goal).map(|g| g.text.clone()),
            Some(Popup::Task { task, .. }) => {
                let outcome = state.tasks.find(task).and_then(|t| t.record.outcome.clone());
                Some(outcome.map_or_else(|| task.to_string(), |o| o.summary))
            }
            Some(_) => None,
            None if self.is_reading() => return self.copy_lines(state),
            None => self.subject(state).map(|t| t.to_string()),
        };
        if let Some(text) = copied {
            self.say("copied", false);
            vec![Wish::Copy(text)]
        } else {
            self.say("there is nothing to copy here", true);
            Vec::new()
        }
    }
}
