//! Goals: from the operator's words over a checked and approved plan to the report.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Effect, Event, GoalEvent, OrderId, State, Voice, done, event::Orchestrator, failure::Mending, plans::PlanAnswer,
    refuse,
};
use crate::{
    model::{
        AgentName, Approval, Ending, Exchange, Fault, GoalEnd, GoalId, GoalPhase, Plan, TaskRef, Terms, budget::Payer,
        plan::Revision,
    },
    orchestrator::plan,
};

/// Every goal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Goals {
    all: BTreeMap<u64, Goal>,
    /// How the orchestrator works.
    pub orchestrator: Orchestrator,
    #[serde(skip)]
    touched: BTreeSet<GoalId>,
}

/// One goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// Its id.
    pub id: GoalId,
    /// What the operator typed.
    pub text: String,
    /// When.
    pub submitted_at: Timestamp,
    /// Who approves.
    pub approval: Approval,
    /// What else was said about it.
    #[serde(default)]
    pub terms: Terms,
    /// What it did about failures.
    #[serde(default)]
    pub mending: Mending,
    /// What the planner asked and was told, oldest first.
    #[serde(default)]
    pub talk: Vec<Exchange>,
    /// How far it has come.
    pub phase: GoalPhase,
    /// The plan in force, or the one that waits for approval.
    pub plan: Option<Plan>,
    /// What is to be said of the plan, or what was wrong with the model's last answer.
    pub faults: Vec<Fault>,
    /// Every revision so far, the bad ones too, oldest first.
    #[serde(default)]
    pub revisions: Vec<Revision>,
    /// While the queue is brought in line with an edited plan: the plan before it.
    #[serde(default)]
    pub amending: Option<Box<Plan>>,
    /// Its tasks in the queue.
    pub tasks: Vec<TaskRef>,
    /// Its tasks are in the queue.
    pub published: bool,
    /// When the plan was approved.
    pub approved_at: Option<Timestamp>,
    /// The report, relative to the stage.
    pub report: Option<String>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

impl Goal {
    /// Whether its plan, or what follows from a failure, waits for a person.
    pub fn needs_approval(&self) -> bool {
        matches!(self.phase, GoalPhase::AwaitingApproval | GoalPhase::Deciding)
    }

    /// Whether its tasks may start.
    pub fn is_running(&self) -> bool {
        self.phase == GoalPhase::Running
    }
}

impl Goal {
    /// Another agent's task takes the place of one of its own, in the plan too.
    fn follow(&mut self, task: &TaskRef, instead: &TaskRef) {
        for own in self.tasks.iter_mut().filter(|t| *t == task) {
            own.clone_from(instead);
        }
        let Some(plan) = &mut self.plan else { return };
        let Some(planned) = plan.tasks.iter_mut().find(|t| t.reference(&self.id).as_ref() == Some(task)) else {
            return;
        };
        let former = planned.id.clone();
        if let Some(id) = instead.id.as_str().strip_prefix(self.id.as_str()).and_then(|id| id.strip_prefix('-')) {
            id.clone_into(&mut planned.id);
        }
        instead.agent.as_str().clone_into(&mut planned.worker);
        let id = planned.id.clone();
        for dependency in plan.tasks.iter_mut().flat_map(|t| &mut t.dependencies).filter(|d| **d == former) {
            dependency.clone_from(&id);
        }
    }
}

impl Goals {
    /// Every goal, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Goal> {
        self.all.values()
    }

    /// One goal.
    pub fn get(&self, id: &GoalId) -> Option<&Goal> {
        self.all.values().find(|g| &g.id == id)
    }

    /// The newest goal that is not over, else the newest.
    pub fn current(&self) -> Option<&Goal> {
        self.all.values().rev().find(|g| !g.phase.is_over()).or_else(|| self.all.values().next_back())
    }

    pub(super) fn get_mut(&mut self, id: &GoalId) -> Option<&mut Goal> {
        self.all.values_mut().find(|g| &g.id == id)
    }

    /// Looks at this goal again before the next effects go out.
    pub(super) fn touch(&mut self, id: GoalId) {
        self.touched.insert(id);
    }

    /// A planned task is there: one that was thrown away and brought back belongs to its goal again.
    pub(super) fn found(&mut self, id: &GoalId, task: &TaskRef) {
        let Some(goal) = self.get_mut(id).filter(|g| g.published && !g.tasks.contains(task)) else { return };
        let planned: Vec<_> = goal.plan.iter().flat_map(|p| &p.tasks).filter_map(|t| t.reference(id)).collect();
        if planned.contains(task) {
            goal.tasks = planned.into_iter().filter(|t| t == task || goal.tasks.contains(t)).collect();
        }
    }

    /// A task of a goal was withdrawn by somebody: the goal goes on without it.
    pub(super) fn lost(&mut self, task: &TaskRef) {
        for goal in self.all.values_mut().filter(|g| g.tasks.contains(task)) {
            goal.tasks.retain(|t| t != task);
            self.touched.insert(goal.id.clone());
        }
    }
}

impl State {
    pub(super) fn submit_goal(
        &mut self,
        id: OrderId,
        text: &str,
        approval: Approval,
        terms: Terms,
        effects: &mut Vec<Effect>,
    ) {
        let text = crate::model::text::scrub(text).trim().to_owned();
        if text.is_empty() {
            return refuse(effects, id, "the goal is empty");
        }
        if let Some(solo) =
            terms.solo.as_ref().filter(|solo| self.agents.get(solo).is_none() && self.opened_at.is_some())
        {
            let names = super::agents::join(&self.agents.names());
            return refuse(effects, id, format!("there is no agent {solo}; there are {names}"));
        }
        if let Some(former) = &terms.follows
            && let Some(reason) = self.no_follow_up(former)
        {
            return refuse(effects, id, reason);
        }
        if let Some(trouble) = self.goals.orchestrator.trouble.as_ref().filter(|_| terms.solo.is_none()) {
            return refuse(effects, id, format!("the orchestrator cannot plan: {trouble}"));
        }
        let solo = terms.solo.clone();
        let Some(goal) = self.new_goal(id, &text, approval, terms, effects) else { return };
        if let Some(solo) = &solo {
            done(effects, id, format!("{goal} goes to {solo} as one task"), vec![goal.to_string()]);
            return self.plan_solo(&goal, solo, effects);
        }
        done(effects, id, format!("{goal} is being planned"), vec![goal.to_string()]);
        self.ask_plan(&goal, 1, None, effects);
    }

    /// The goal that is being refused just now is none for a replay either: its order is in the journal, and why it was
    /// refused is not.
    pub(super) fn not_taken(&self) -> Option<Effect> {
        let number = self.goals.all.keys().next_back().map_or(1, |n| n + 1);
        let id = GoalId::new(format!("g{number}")).ok()?;
        Some(Effect::Keep { fact: Box::new(Event::Goal(GoalEvent::NotTaken { id })) })
    }

    /// Takes a goal in, without a plan as yet; `None` where that was refused.
    pub(super) fn new_goal(
        &mut self,
        order: OrderId,
        text: &str,
        approval: Approval,
        terms: Terms,
        effects: &mut Vec<Effect>,
    ) -> Option<GoalId> {
        let number = self.goals.all.keys().next_back().map_or(1, |n| n + 1);
        let Ok(id) = GoalId::new(format!("g{number}")) else {
            refuse(effects, order, "no goal id is free");
            return None;
        };
        if let Some(reached) = self.reached(&Payer::Day) {
            refuse(effects, order, reached.to_string());
            effects.extend(self.not_taken());
            return None;
        }
        self.say(Voice::You, Some(id.clone()), text.to_owned());
        let goal = Goal {
            id: id.clone(),
            text: text.to_owned(),
            submitted_at: self.now,
            approval,
            terms,
            mending: Mending::default(),
            talk: Vec::new(),
            phase: GoalPhase::Planning { round: 1 },
            plan: None,
            faults: Vec::new(),
            revisions: Vec::new(),
            amending: None,
            tasks: Vec::new(),
            published: false,
            approved_at: None,
            report: None,
            ended_at: None,
        };
        self.goals.all.insert(number, goal);
        Some(id)
    }

    /// The whole goal as one task of one agent: what a plan is held against.
    fn plan_solo(&mut self, id: &GoalId, agent: &AgentName, effects: &mut Vec<Effect>) {
        let Some(goal) = self.goals.get_mut(id) else { return };
        let mut plan = plan::single_task(&goal.text, agent, 1);
        plan.summary = format!("One task: {agent} does all of it alone, without a plan.");
        goal.plan = Some(plan);
        goal.phase = GoalPhase::AwaitingApproval;
        let text = self.describe_plan(id);
        self.say(Voice::Plan, Some(id.clone()), text);
        self.approve_by_itself(id, effects);
    }

    pub(super) fn goal_event(&mut self, event: GoalEvent, effects: &mut Vec<Effect>) {
        match event {
            GoalEvent::Answered { id, round, text, model, spend, validator } => {
                let answer = PlanAnswer { round, text: &text, model: &model, spend, validator };
                self.plan_answered(&id, &answer, effects);
            }
            GoalEvent::Edited { id, base, plan, faults } => self.plan_edited(&id, &base, *plan, faults, effects),
            GoalEvent::Amended { id } => self.plan_amended(&id),
            GoalEvent::AmendFailed { id, message } => self.amend_failed(&id, &message),
            GoalEvent::PlanFailed { id, round, message } => {
                if !self.is_planning(&id, round) {
                    return;
                }
                if self.goals.get(&id).is_some_and(|goal| goal.mending.rest.is_some()) {
                    return self.replan_failed(&id, &message);
                }
                self.end_goal(&id, GoalEnd::Failed, &format!("no plan: {message}"));
            }
            GoalEvent::Published { id } => {
                if let Some(goal) = self.goals.get_mut(&id) {
                    goal.published = true;
                }
                self.goals.touch(id);
            }
            GoalEvent::PublishFailed { id, message } => {
                self.end_goal(&id, GoalEnd::Failed, &format!("its tasks could not be queued: {message}"));
            }
            GoalEvent::Reported { id, path, opening, end, done, plain, .. } => {
                let Some(goal) = self.goals.get_mut(&id) else { return };
                goal.report = Some(path.clone());
                let all = goal.tasks.len();
                let how = plain.map(|why| format!(" (written without the model: {why})")).unwrap_or_default();
                self.say(Voice::Report, Some(id.clone()), opening);
                self.end_goal(&id, end, &format!("{done} of {all} tasks done, report {path}{how}"));
            }
            GoalEvent::Retried { id, task, instead } => self.goal_goes_on(id, &task, instead.as_ref()),
            GoalEvent::NotTaken { id } => self.goals.all.retain(|_, goal| goal.id != id),
            GoalEvent::Replanning { id, rest } => self.replanning(&id, rest, effects),
            GoalEvent::ReportFailed { id, message } => {
                self.end_goal(&id, GoalEnd::Failed, &format!("no report: {message}"));
            }
        }
    }

    pub(super) fn cancel_goal(&mut self, order: OrderId, id: &GoalId, effects: &mut Vec<Effect>) {
        match self.goals.get(id) {
            None => return refuse(effects, order, format!("there is no goal {id}")),
            Some(goal) if goal.phase.is_over() => {
                return refuse(effects, order, format!("{id} is over: {}", goal.phase.word()));
            }
            Some(_) => {}
        }
        let tasks = self.goals.get(id).map(|g| g.tasks.clone()).unwrap_or_default();
        for task in tasks {
            if self.tasks.get(&task).is_some_and(|t| t.record.outcome.is_none()) && !self.cancel_held(&task, effects) {
                effects.push(Effect::EndTask { id: None, task, ending: Ending::Cancelled });
            }
        }
        done(effects, order, format!("{id} is being ended"), vec![id.to_string()]);
        self.end_goal(id, GoalEnd::Cancelled, "cancelled");
    }

    pub(super) fn start_goal(&mut self, id: &GoalId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(plan) = self.goals.get(id).and_then(|g| g.plan.clone()) else { return };
        let tasks = match plan::to_tasks(&plan, id) {
            Ok(tasks) => tasks,
            Err(faults) => {
                let first = faults.first().map(ToString::to_string).unwrap_or_default();
                return self.end_goal(id, GoalEnd::Failed, &format!("the plan cannot be queued: {first}"));
            }
        };
        let Some(goal) = self.goals.get_mut(id) else { return };
        let known = std::mem::replace(&mut goal.tasks, tasks.iter().map(|t| t.task.clone()).collect());
        // What is done already is not published again.
        let tasks = tasks.into_iter().filter(|t| !known.contains(&t.task)).collect();
        goal.published = false;
        goal.phase = GoalPhase::Running;
        goal.approved_at.get_or_insert(now);
        self.rank(id);
        effects.push(Effect::Publish { goal: id.clone(), tasks });
    }

    /// A task of this goal starts again.
    fn goal_goes_on(&mut self, id: GoalId, task: &TaskRef, instead: Option<&TaskRef>) {
        let Some(goal) = self.goals.get_mut(&id) else { return };
        if let Some(instead) = instead {
            goal.follow(task, instead);
        }
        if goal.may_go_on() {
            goal.phase = GoalPhase::Running;
            goal.ended_at = None;
            goal.mending.concluded = false;
            self.rank(&id);
            let text = format!("{id} goes on: {} starts again", instead.unwrap_or(task));
            self.say(Voice::Room, Some(id.clone()), text);
        }
        self.goals.touch(id);
    }

    pub(super) fn end_goal(&mut self, id: &GoalId, end: GoalEnd, note: &str) {
        let now = self.now;
        let Some(goal) = self.goals.get_mut(id) else { return };
        if goal.phase.is_over() {
            return;
        }
        goal.phase = GoalPhase::Ended { end, note: note.to_owned() };
        goal.ended_at = Some(now);
        self.unrank(id);
        let Some(goal) = self.goals.get(id) else { return };
        let word = goal.phase.word();
        self.say(Voice::Room, Some(id.clone()), format!("{id} {word}: {note}"));
    }

    /// Looks at every touched goal: when all its tasks have ended, the report is due.
    pub(super) fn drive_goals(&mut self, effects: &mut Vec<Effect>) {
        for id in std::mem::take(&mut self.goals.touched) {
            // A former room may have seen it used up.
            let account = Payer::Goal(id.clone());
            if let Some(reached) = self.reached(&account) {
                self.use_up(&reached, effects);
            }
            self.stop_after_failure(&id, effects);
            let Some(goal) = self.goals.get(&id) else { continue };
            let ended = goal.phase == GoalPhase::Running
                && goal.published
                && goal.tasks.iter().all(|t| self.tasks.has_ended(t));
            if ended && self.mends(&id, effects) {
                continue;
            }
            if ended
                && let Some(goal) = self.goals.get_mut(&id)
                && let Some(plan) = goal.plan.clone()
            {
                goal.phase = GoalPhase::Synthesising;
                let text = goal.told();
                let pays = self.goals.get(&id).and_then(|goal| self.pays(goal)).map(Box::new);
                effects.push(Effect::Synthesise { goal: id, text, plan: Box::new(plan), pays });
            }
        }
    }

    /// Asks again for whatever a former room had asked for and not heard of.
    pub(super) fn resume_goals(&mut self, effects: &mut Vec<Effect>) {
        let open: Vec<Goal> = self.goals.iter().filter(|g| !g.phase.is_over()).cloned().collect();
        for goal in open {
            match &goal.phase {
                GoalPhase::Planning { round } if goal.mending.rest.is_some() => {
                    self.ask_anew(&goal.id, *round, None, effects);
                }
                GoalPhase::Planning { round } => self.ask_plan(&goal.id, *round, None, effects),
                GoalPhase::Asking { .. } | GoalPhase::AwaitingApproval | GoalPhase::Ended { .. } => {}
                // Tasks may have been retried meanwhile: the same is found again where they were not.
                GoalPhase::Deciding => {
                    if let Some(open) = self.goals.get_mut(&goal.id) {
                        open.phase = GoalPhase::Running;
                    }
                    self.goals.touch(goal.id);
                }
                GoalPhase::Running if !goal.published && goal.amending.is_some() => effects.extend(goal.amendment()),
                GoalPhase::Running if !goal.published => {
                    // A plan that was approved has passed this once.
                    let tasks = goal.plan.as_ref().and_then(|p| plan::to_tasks(p, &goal.id).ok()).unwrap_or_default();
                    effects.push(Effect::Publish { goal: goal.id, tasks });
                }
                GoalPhase::Running => self.goals.touch(goal.id),
                GoalPhase::Synthesising => {
                    let pays = self.pays(&goal).map(Box::new);
                    if let Some(plan) = goal.plan.clone() {
                        let text = goal.told();
                        effects.push(Effect::Synthesise { goal: goal.id, text, plan: Box::new(plan), pays });
                    }
                }
            }
        }
    }
}
