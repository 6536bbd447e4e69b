//! Changes of a plan by keys: a task's text in the composer, one more task, one less, two made one, a ceiling.
//!
//! Its one surprise: what is sent names the plan that was looked at. If it has changed meanwhile the room says so, and the
//! text comes back.

use super::App;
use crate::{
    model::{AskId, GoalId, MicroUsd, Plan, PlanTask, TaskRef},
    orchestrator::plan::{Edit, cost, form},
    room::{Goal, Order, State},
    tui::{
        Wish,
        popup::{Popup, Replying},
        views::plan,
    },
};

/// What the composer's text is of, where it is no goal.
#[derive(Debug, Clone, PartialEq)]
pub enum Editing {
    /// A task that starts again with it.
    Task(TaskRef),
    /// A task of a plan.
    Planned {
        /// Of which goal.
        goal: GoalId,
        /// The plan that was looked at.
        base: String,
        /// The task as it was.
        task: Box<PlanTask>,
        /// It is to be added.
        new: bool,
    },
    /// The most that a goal may cost.
    Ceiling(GoalId),
    /// What a goal's planner wants to know.
    Answer(GoalId),
    /// A goal that follows up on this one.
    FollowUp(GoalId),
    /// Own words in answer to what an agent wants to know.
    Reply {
        /// Which request.
        ask: AskId,
        /// Which of its questions.
        at: usize,
        /// What is answered so far.
        reply: Replying,
    },
}

impl Editing {
    /// What is being written, for the hint line.
    pub fn name(&self) -> String {
        match self {
            Self::Task(task) => format!("retry {task}"),
            Self::Planned { goal, new: true, .. } => format!("a task for {goal}"),
            Self::Planned { goal, task, .. } => format!("{} of {goal}", task.id),
            Self::Ceiling(goal) => format!("most dollars for {goal}"),
            Self::Answer(goal) => format!("answer {goal}"),
            Self::FollowUp(goal) => format!("follow up on {goal}"),
            Self::Reply { ask, .. } => format!("answer {ask}"),
        }
    }
}

impl App {
    /// The plan on top, and the task under the hand.
    fn planned<'a>(&self, state: &'a State) -> Option<(&'a Goal, &'a Plan, Option<&'a PlanTask>)> {
        let Some(Popup::Plan { goal, selected }) = self.popups.last() else { return None };
        let goal = state.goals.get(goal)?;
        let plan = goal.plan.as_ref()?;
        let task = plan.tasks.get((*selected).min(plan.tasks.len().saturating_sub(1)));
        Some((goal, plan, task))
    }

    /// Opens the task under the hand, or a new one, as a text.
    pub(super) fn edit_planned(&mut self, new: bool, state: &State) {
        let Some((goal, plan, Some(task))) = self.planned(state) else {
            return self.say_told("open a plan first: <plan> shows the newest", true);
        };
        let task = if new {
            PlanTask {
                id: "new-task".to_owned(),
                worker: task.worker.clone(),
                serves: plan.requirements.first().map(|requirement| requirement.id.clone()).into_iter().collect(),
                ..PlanTask::default()
            }
        } else {
            task.clone()
        };
        let text = form::write(&task);
        let editing = Editing::Planned { goal: goal.id.clone(), base: plan.hash(), task: Box::new(task), new };
        self.write(editing, &text);
    }

    /// Asks for the most that the goal may cost, with what it is expected to cost at most already written.
    pub(super) fn ask_ceiling(&mut self, state: &State) {
        let Some(id) = self.plan_here(state) else { return };
        if self.answer_here(&id, state) {
            return;
        }
        let Some(goal) = state.goals.get(&id) else { return };
        let most = goal.plan.as_ref().and_then(|plan| cost::totals(plan, &state.plan_rules(Some(goal))).usd);
        self.write(Editing::Ceiling(id), &most.map(|usd| format!("{:.2}", usd.high)).unwrap_or_default());
    }

    /// Asks whether the task under the hand shall go; `None` where no plan is on top.
    pub(super) fn drop_planned(&mut self, state: &State) -> Option<()> {
        let (goal, plan, task) = self.planned(state)?;
        let task = task?.id.clone();
        let waits = plan.tasks.iter().filter(|t| t.dependencies.contains(&task)).count();
        let what = match waits {
            0 => "Nothing waits for it.".to_owned(),
            n => format!("What waits for it ({n}) waits for what it waited for."),
        };
        let question = format!("Leave {task} out of the plan of {}? {what}", goal.id);
        let edits = vec![Edit::Drop { task, rewire: true }];
        let order = Order::EditPlan { goal: goal.id.clone(), base: plan.hash(), edits };
        self.popups.push(Popup::Confirm { question, orders: vec![order] });
        Some(())
    }

    /// Makes one task of the one under the hand and the one above it.
    pub(super) fn merge_planned(&mut self, state: &State) {
        let above = self.planned(state).and_then(|(goal, plan, task)| {
            let task = task?;
            // The one above it on the screen, which is not always the one before it in the plan.
            let rows = plan::rows(state, &goal.id, self.plan_view());
            let at = rows.iter().position(|row| plan.tasks.get(row.task).is_some_and(|t| t.id == task.id))?;
            let above = rows.get(at.checked_sub(1)?)?.task;
            Some((goal, plan, plan.tasks.get(above)?, task))
        });
        let Some((goal, plan, above, task)) = above else {
            return self.say("go to a task of a plan that has another above it", true);
        };
        let question = format!("Make one task of {} and {}, {}'s?", above.id, task.id, above.worker);
        let edits = vec![Edit::Merge { tasks: vec![above.id.clone(), task.id.clone()] }];
        let order = Order::EditPlan { goal: goal.id.clone(), base: plan.hash(), edits };
        self.popups.push(Popup::Confirm { question, orders: vec![order] });
    }

    /// Sends what was written of a plan; a sentence where it cannot be read.
    pub(super) fn send_planned(&mut self, editing: &Editing, text: &str) -> Result<Vec<Wish>, String> {
        match editing {
            Editing::Task(_) | Editing::Reply { .. } => Ok(Vec::new()),
            Editing::Answer(_) | Editing::FollowUp(_) => Ok(Self::talked(editing, text).into_iter().collect()),
            Editing::Ceiling(goal) => {
                let dollars: Option<f64> = text.trim().trim_start_matches('$').parse().ok();
                let dollars = dollars.filter(|n| n.is_finite() && *n > 0.0).ok_or("dollars, such as 2.50")?;
                let ceiling = Some(MicroUsd::from_dollars(dollars));
                Ok(vec![Wish::Order(Order::Approve { goal: goal.clone(), ceiling })])
            }
            Editing::Planned { goal, base, task, new } => {
                let to = Box::new(form::read(text, task)?);
                let edit = if *new { Edit::Add { task: to } } else { Edit::Change { task: task.id.clone(), to } };
                self.sent = Some((editing.clone(), text.to_owned()));
                self.reopen_plan(goal.clone());
                let order = Order::EditPlan { goal: goal.clone(), base: base.clone(), edits: vec![edit] };
                Ok(vec![Wish::Order(order)])
            }
        }
    }
}
