//! What is ordered, about what, and what is asked before.

use std::time::Duration;

use super::App;
use crate::{
    model::{AgentName, Changes, EndState, EngineKind, GoalId, GoalPhase, Item, TaskRecord, TaskRef},
    room::{Order, Plan, State, tasks::Phase},
    tui::{
        Wish,
        layout::Pane,
        popup::{Popup, Way},
        text,
        views::{limits, tasks::Row},
    },
};

/// How much longer one key lets a silent attempt live.
const LONGER: Duration = Duration::from_mins(10);

/// Said where a verb is about an agent.
const NO_AGENT: &str = "no agent is selected: go to one of the agents, or to a task";

impl App {
    /// The goal the verbs are about, if the operator looks at one.
    pub(super) fn goal_here(&self, state: &State) -> Option<GoalId> {
        match self.popups.last() {
            Some(Popup::Plan { goal, .. } | Popup::Document { goal: Some(goal), .. }) => return Some(goal.clone()),
            Some(_) => return None,
            None => {}
        }
        if self.focus == Pane::Orchestrator {
            let line = self.selected_line(state).and_then(|at| state.lines.get(at));
            return line.and_then(|l| l.goal.clone());
        }
        None
    }

    pub(super) fn plan_here(&mut self, state: &State) -> Option<GoalId> {
        let waits = |goal: &crate::room::Goal| goal.needs_approval() || goal.asks();
        let here = self.goal_here(state).filter(|g| state.goals.get(g).is_some_and(waits));
        if here.is_some() {
            return here;
        }
        let mut waiting = state.goals.iter().filter(|g| waits(g));
        match (waiting.next(), waiting.next()) {
            (None, _) => {
                self.say("no plan waits for approval", true);
                None
            }
            (Some(goal), None) => Some(goal.id.clone()),
            (Some(goal), Some(_)) => {
                // Several wait: show which one before saying yes to it.
                self.open_plan(goal.id.clone(), state);
                None
            }
        }
    }

    pub(super) fn approve(&mut self, state: &State) -> Vec<Wish> {
        if let Some(answered) = self.answer(state, |ask| Order::Permit { ask, always: false }) {
            return answered;
        }
        let Some(goal) = self.plan_here(state) else { return Vec::new() };
        if self.answer_here(&goal, state) {
            return Vec::new();
        }
        self.popups.retain(|p| !matches!(p, Popup::Plan { .. }));
        vec![Wish::Order(Order::Approve { goal, ceiling: None })]
    }

    pub(super) fn deny(&mut self, state: &State) -> Vec<Wish> {
        if let Some(answered) = self.answer(state, |ask| Order::Forbid { ask }) {
            return answered;
        }
        if let Some(goal) = self.plan_here(state) {
            let asks = state.goals.get(&goal).is_some_and(crate::room::Goal::asks);
            let is_open = state.goals.get(&goal).is_some_and(|g| g.tasks.is_empty());
            let then = if is_open { "The goal ends there." } else { "The report is written with what there is." };
            let question = if asks {
                format!("Leave the question of {goal} unanswered? {then}")
            } else {
                format!("Deny the plan of {goal}? {then}")
            };
            self.popups.push(Popup::Confirm { question, orders: vec![Order::Deny { goal }] });
        }
        Vec::new()
    }

    pub(super) fn retry(&mut self, state: &State) -> Vec<Wish> {
        if let Some(item) = self.removed_here(state) {
            return vec![Wish::Order(Order::Restore { item })];
        }
        let tasks = self.about(state);
        let [task] = tasks.as_slice() else { return self.many(&tasks, |app| app.retry_all(&tasks, state)) };
        let task = task.clone();
        let Some(entry) = state.tasks.find(&task) else { return Vec::new() };
        let order = Order::Retry { task: task.clone(), changes: Box::default() };
        match state.tasks.phase(&entry) {
            Phase::Asking | Phase::Failed | Phase::Dropped | Phase::Retrying => return vec![Wish::Order(order)],
            Phase::Paused => return vec![Wish::Order(Order::ResumeTask { task })],
            Phase::Done => {
                let question = format!("Run {task} again? It is done; its result makes room for a new one.");
                self.popups.push(Popup::Confirm { question, orders: vec![order] });
            }
            phase @ (Phase::Running | Phase::Ready | Phase::Waiting) => {
                self.say(&format!("{task} is {}: there is nothing to retry", phase.word()), true);
            }
        }
        Vec::new()
    }

    /// Says that nothing is selected, or does it for many.
    fn many(&mut self, tasks: &[TaskRef], act: impl FnOnce(&mut Self) -> Vec<Wish>) -> Vec<Wish> {
        if tasks.is_empty() {
            self.no_task();
            return Vec::new();
        }
        act(self)
    }

    /// Asks how the task, or what is marked, shall start again, or who shall do it.
    pub(super) fn retry_how(&mut self, state: &State) -> Vec<Wish> {
        let tasks = self.about(state);
        let found = tasks.iter().filter_map(|task| state.tasks.find(task));
        let (mut over, mut sessions) = (false, false);
        for entry in found {
            let phase = state.tasks.phase(&entry);
            let ended = !matches!(phase, Phase::Running | Phase::Ready | Phase::Waiting | Phase::Paused);
            let engine = state.agents.get(&entry.record.task().agent).map(|a| a.settings.engine);
            let session = entry.record.attempts.last().is_some_and(|a| a.session_id.is_some());
            over |= ended;
            sessions |= ended && session && engine == Some(EngineKind::Claude);
        }
        let mut ways = Vec::new();
        if over {
            ways.push(Way::Same);
            ways.extend((tasks.len() == 1).then_some(Way::Edit));
        }
        if sessions {
            ways.push(Way::Resume);
        }
        let others = |name: &AgentName| tasks.iter().any(|task| task.agent != *name);
        ways.extend(state.agents.names().into_iter().filter(others).map(Way::On));
        if ways.is_empty() && !tasks.is_empty() {
            self.say("it has not ended, and there is no other agent to give it to", true);
            return Vec::new();
        }
        self.many(&tasks.clone(), |app| {
            app.popups.push(Popup::Retry { tasks, ways, selected: 0 });
            Vec::new()
        })
    }

    pub(super) fn retry_in(&mut self, tasks: Vec<TaskRef>, way: Way, state: &State) -> Vec<Wish> {
        self.popups.pop();
        let [task] = tasks.as_slice() else { return self.retry_many_in(tasks, &way, state) };
        let task = task.clone();
        let order = match way {
            Way::Same => Order::Retry { task, changes: Box::default() },
            Way::Resume => Order::Retry { task, changes: Box::new(Changes { resume: true, ..Changes::default() }) },
            Way::On(agent) => return self.reassign(vec![task], &agent, state),
            Way::Edit => {
                let text = state.tasks.get(&task).map(|t| t.record.spec.description.clone()).unwrap_or_default();
                if text.len() < TaskRecord::TEXT_LIMIT - '…'.len_utf8() {
                    self.edit(task, &text);
                    return Vec::new();
                }
                // The room knows only the beginning of a long one.
                self.fetching = Some(task.clone());
                return vec![Wish::ReadTask(task)];
            }
        };
        vec![Wish::Order(order)]
    }

    pub(super) fn cancel(&mut self, state: &State) -> Vec<Wish> {
        if let Some(goal) = self.goal_here(state).and_then(|g| state.goals.get(&g)) {
            return match &goal.phase {
                GoalPhase::Ended { .. } => {
                    self.say(&format!("{} is over: {}", goal.id, goal.phase.word()), true);
                    Vec::new()
                }
                GoalPhase::Planning { .. }
                | GoalPhase::Asking { .. }
                | GoalPhase::AwaitingApproval
                | GoalPhase::Deciding
                | GoalPhase::Running
                | GoalPhase::Synthesising => {
                    let open = goal.tasks.iter().filter(|t| state.tasks.knows(t) && state.tasks.end_state(t).is_none());
                    let open = open.count();
                    let tasks = text::many(open, "task");
                    let question = format!("End goal {} and {tasks} that have not ended?", goal.id);
                    let orders = vec![Order::CancelGoal { goal: goal.id.clone() }];
                    self.popups.push(Popup::Confirm { question, orders });
                    Vec::new()
                }
            };
        }
        let tasks = self.about(state);
        let [task] = tasks.as_slice() else { return self.many(&tasks, |app| app.cancel_all(&tasks, state)) };
        let task = task.clone();
        let Some(entry) = state.tasks.find(&task) else { return Vec::new() };
        if let Some(outcome) = &entry.record.outcome {
            let word = if outcome.state == EndState::Done { "done" } else { outcome.state.word() };
            self.say(&format!("{task} has ended already: {word}"), true);
            return Vec::new();
        }
        let what = match state.tasks.phase(&entry) {
            Phase::Running => "Its attempt is ended with everything it started.",
            Phase::Asking
            | Phase::Failed
            | Phase::Ready
            | Phase::Retrying
            | Phase::Waiting
            | Phase::Paused
            | Phase::Done
            | Phase::Dropped => "It will not start; what depends on it is skipped.",
        };
        let question = format!("Cancel {task}? {what}");
        self.popups.push(Popup::Confirm { question, orders: vec![Order::Cancel { task }] });
        Vec::new()
    }

    /// Asks whether what is selected shall be thrown away.
    pub(super) fn remove(&mut self, state: &State) -> Vec<Wish> {
        if let Some(asked) = self.remove_marked(state) {
            return asked;
        }
        let all = self.rows(state);
        let file = match all.get(self.selected_row(&all)) {
            Some(Row::Rejected(file)) if self.popups.is_empty() && self.focus == Pane::Tasks => Some(file.path.clone()),
            Some(_) | None => None,
        };
        let task = self.subject(state);
        let (name, item) = match (file, task) {
            (Some(path), _) => (path.clone(), Item::File(path)),
            (None, Some(task)) => (task.to_string(), Item::Task(task)),
            (None, None) => {
                self.say("nothing is selected", true);
                return Vec::new();
            }
        };
        if self.removed_here(state).is_some() {
            self.say_told("it is in the trash already; <retry> brings it back", true);
            return Vec::new();
        }
        let back = self.settings.keys.told("<undo> brings it back");
        let question = format!("Remove {name}? It goes to the trash; {back}.");
        self.popups.push(Popup::Confirm { question, orders: vec![Order::Remove { item }] });
        Vec::new()
    }

    /// Parks the account under the hand, or says what becomes of it.
    fn pause_account(&mut self, state: &State) -> Vec<Wish> {
        let rows = self.limits_page(state);
        let Some(limits::Item::Account(account)) = limits::item(&rows, self.limits_row).cloned() else {
            self.say("no account is selected: ↑↓ go to one", true);
            return Vec::new();
        };
        let now = state.now;
        let Some(parked) = state.accounts.parked(&account) else {
            let question = format!("Park {account}? Nothing more starts on it; what runs goes on.");
            self.popups.push(Popup::Confirm { question, orders: vec![Order::Park { account }] });
            return Vec::new();
        };
        let waits = parked.until.is_some_and(|until| until > now) && !parked.needs_mending();
        vec![Wish::Order(match parked.plan(state.accounts.resume) {
            Plan::GoesOn if waits => Order::Park { account },
            Plan::Asks | Plan::Stays if waits => Order::Unpark { account, when_clear: true },
            Plan::GoesOn | Plan::Asks | Plan::Stays => Order::Unpark { account, when_clear: false },
        })]
    }

    /// Takes back what was done last.
    pub(super) fn take_back(&mut self) -> Vec<Wish> {
        let Some(undo) = self.undo.take_if(|undo| undo.since.is_some()) else {
            self.say("there is nothing to undo", true);
            return Vec::new();
        };
        undo.orders.into_iter().map(Wish::Order).collect()
    }

    pub(super) fn extend(&mut self, state: &State) -> Vec<Wish> {
        if let Some(task) = self.subject(state) {
            return vec![Wish::Order(Order::Extend { task, by: LONGER })];
        }
        self.say("no task is selected", true);
        Vec::new()
    }

    /// Moves the selected task a lane up or down.
    pub(super) fn hurry(&mut self, state: &State, sooner: bool) -> Vec<Wish> {
        let tasks = self.about(state);
        let next = |task: &TaskRef| {
            let now = state.tasks.priority(&state.tasks.find(task)?.record.spec);
            let priority = if sooner { now.sooner() } else { now.later() }?;
            Some(Wish::Order(Order::Prioritise { task: task.clone(), priority }))
        };
        let wishes: Vec<Wish> = tasks.iter().filter_map(next).collect();
        if wishes.is_empty() {
            let word = if sooner { "critical" } else { "low" };
            let text =
                tasks.first().map_or_else(|| "no task is selected".to_owned(), |t| format!("{t} is {word} already"));
            self.say(&text, true);
        }
        wishes
    }

    /// The agent that is looked at, or that of the task.
    pub(super) fn agent_meant(&self, state: &State) -> Option<AgentName> {
        match self.popups.last() {
            Some(Popup::Agent { agent, .. }) => Some(agent.clone()),
            Some(_) | None if self.focus == Pane::Agents => {
                state.agents.iter().nth(self.selected_agent(state)).map(|a| a.name().clone())
            }
            Some(_) | None => self.subject(state).map(|t| t.agent),
        }
    }

    /// Opens the own CLI of the agent that is looked at.
    pub(super) fn attach(&mut self, state: &State) -> Vec<Wish> {
        if self.moment.is_some() {
            self.say("this is a replay: its agents are not at home", true);
            return Vec::new();
        }
        let Some(agent) = self.agent_meant(state) else {
            self.say(NO_AGENT, true);
            return Vec::new();
        };
        vec![Wish::Attach(agent)]
    }

    pub(super) fn pause(&mut self, state: &State) -> Vec<Wish> {
        if self.focus == Pane::Limits && self.popups.is_empty() {
            return self.pause_account(state);
        }
        let name = self.agent_meant(state);
        // What its account's limit has left to a person is said yes to with the same key.
        let waits = |name| state.parked(name).is_some_and(|parked| state.account_needs_you(parked, state.now));
        match name.and_then(|n| state.agents.get(&n)) {
            Some(agent) if agent.paused || waits(agent.name()) => {
                vec![Wish::Order(Order::Resume { agent: agent.name().clone() })]
            }
            Some(agent) => vec![Wish::Order(Order::Pause { agent: agent.name().clone() })],
            None => {
                self.say(NO_AGENT, true);
                Vec::new()
            }
        }
    }
}
