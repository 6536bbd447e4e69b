//! What happens to tasks: the queue's changes, and the operator's orders to submit and to cancel one.

use std::collections::BTreeSet;

use super::Task;
use crate::{
    model::{Ending, GoalId, Outcome, Standing, TaskRef, TaskSpec},
    room::{Effect, OrderId, State, TaskEvent, Voice, agents, done, refuse},
};

impl State {
    pub(in crate::room) fn task_event(&mut self, event: TaskEvent, effects: &mut Vec<Effect>) {
        let now = self.now;
        match event {
            TaskEvent::Changed { record } => {
                let task = record.task().clone();
                let goal = record.spec.goal.clone();
                let known = self.tasks.get(&task);
                let news = record.outcome.is_some() && self.tasks.end_state(&task).is_none();
                // A worker's word travels faster than the directory's: an older picture never undoes it.
                let stale = known.is_some_and(|t| {
                    t.record.outcome.is_some()
                        && record.outcome.is_none()
                        && record.last_attempt() > 0
                        && record.last_attempt() <= t.record.last_attempt()
                        && !matches!(record.standing, Standing::Waiting | Standing::Claimed)
                });
                if stale {
                    return;
                }
                let held = self.agents.holder(&task).is_some();
                self.tasks.changed(*record, held, now);
                if news {
                    self.announce(&task);
                }
                if !held && self.tasks.get(&task).is_some_and(Task::is_lost) {
                    effects.push(Effect::Recover { task: task.clone(), cancel: false });
                }
                self.settle(&task, effects);
                if let Some(goal) = goal {
                    self.goals.found(&goal, &task);
                    self.goals.touch(goal);
                }
            }
            TaskEvent::Found { tasks, unread } => {
                let goals: BTreeSet<GoalId> = tasks.iter().filter_map(|(_, past)| past.goal().cloned()).collect();
                self.tasks.found(tasks, unread, now);
                for goal in goals {
                    self.goals.touch(goal);
                }
            }
            TaskEvent::Withdrawn { task } => {
                self.tasks.withdrawn(&task, now);
                self.goals.lost(&task);
            }
            TaskEvent::Prioritised { task, priority } => self.tasks.prioritised(&task, priority),
            TaskEvent::Paused { task, pause } => self.pause_now(&task, pause, effects),
            TaskEvent::Requested { task, request } => self.requested(task, request),
            TaskEvent::Trash { removed } => self.tasks.trash = removed,
            TaskEvent::Rejected { rejected } => self.rejected(rejected),
            TaskEvent::RejectedGone { path } => self.rejected_gone(&path),
            TaskEvent::Polling { why } => self.tasks.polling = why,
            TaskEvent::Space { why } => {
                if self.tasks.space.is_some() != why.is_some() {
                    let text = why.clone().unwrap_or_else(|| "the disk has room again; work goes on".to_owned());
                    self.say(Voice::Room, None, text);
                }
                self.tasks.space = why;
            }
            TaskEvent::Answered { id, answer } => {
                self.retry_answered(id, &answer, effects);
                effects.push(Effect::Answer { id, answer });
            }
        }
    }

    /// A worker reported a result.
    pub(in crate::room) fn task_ended(&mut self, outcome: Outcome) {
        let now = self.now;
        let task = outcome.task.clone();
        self.tasks.ended(outcome, now);
        self.announce(&task);
        if let Some(goal) = self.tasks.get(&task).and_then(|t| t.record.spec.goal.clone()) {
            self.goals.touch(goal);
        }
    }

    fn announce(&mut self, task: &TaskRef) {
        if let Some(outcome) = self.tasks.get(task).and_then(|t| t.record.outcome.as_ref())
            && Self::is_bad(outcome.state)
            && self.opened_at.is_some_and(|opened| outcome.completed_at >= opened)
        {
            let mut text = format!("{task} {}: {}", outcome.state.word(), outcome.ending.sentence());
            let goal = outcome.goal.clone();
            if let Some(then) = self.consequence(task) {
                // It ends in the middle of this one.
                text.truncate(text.trim_end_matches('.').len());
                text.extend(["; ", &then]);
            }
            self.say(Voice::Room, goal, text);
        }
    }

    /// Ends a task that can never start.
    fn settle(&self, task: &TaskRef, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.get(task) else { return };
        if entry.assigned || !matches!(entry.record.standing, Standing::Waiting | Standing::Claimed) {
            return;
        }
        if entry.record.spec.description.trim().is_empty() {
            let message = "description is empty: the task says nothing to do".to_owned();
            effects.push(Effect::EndTask { id: None, task: task.clone(), ending: Ending::Malformed { message } });
        }
    }

    /// Ends tasks whose dependency did not end well, each once.
    pub(in crate::room) fn settle_skipped(&mut self, effects: &mut Vec<Effect>) {
        for (task, dependency) in self.tasks.take_hopeless() {
            effects.push(Effect::EndTask {
                id: None,
                task,
                ending: Ending::DependencyFailed { dependency: dependency.to_string() },
            });
        }
    }

    pub(in crate::room) fn submit_task(
        &mut self,
        id: OrderId,
        mut spec: Box<TaskSpec>,
        rename: bool,
        effects: &mut Vec<Effect>,
    ) {
        if self.agents.get(&spec.task.agent).is_none() {
            let names = agents::join(&self.agents.names());
            return refuse(effects, id, format!("there is no agent {}; there are {names}", spec.task.agent));
        }
        if spec.description.trim().is_empty() {
            return refuse(effects, id, "description is empty: the task says nothing to do");
        }
        if rename {
            spec.task.id = self.tasks.free_id(&spec.task);
        }
        if let Some(cycle) = self.tasks.cycle(&spec) {
            return refuse(effects, id, cycle);
        }
        effects.push(Effect::Submit { id, spec });
    }

    pub(in crate::room) fn cancel(&mut self, id: OrderId, task: &TaskRef, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.find(task) else {
            return refuse(effects, id, format!("there is no task {task}"));
        };
        if let Some(outcome) = &entry.record.outcome {
            let reason = format!("{task} has ended already: {}", outcome.state.word());
            return refuse(effects, id, reason);
        }
        if self.cancel_held(task, effects) {
            done(effects, id, format!("{task} is being ended"), vec![task.to_string()]);
        } else if self.runs_elsewhere(task) {
            refuse(effects, id, format!("{task} is held by a worker that is not connected; try again in a moment"));
        } else {
            effects.push(Effect::EndTask { id: Some(id), task: task.clone(), ending: Ending::Cancelled });
        }
    }
}
