//! What becomes of a goal whose tasks have failed for good: it stops, goes on, is planned anew, or asks.
//!
//! Owns those decisions, each of which is a line in the orchestrator's pane. Must not know attempts: whether a task is
//! tried again is its worker's to say, and one that waits for a limit has not failed. Its one surprise: what is missing is planned
//! anew only when everything else of the goal has ended, so that two failures cost one plan and the planner sees all there is.

use serde::{Deserialize, Serialize};

use super::{
    Effect, Event, Goal, GoalEvent, State, Voice,
    plans::{PlanAnswer, ROUNDS, ROUNDS_V1},
};
use crate::{
    model::{
        Approval, EndState, Ending, Fault, GoalId, GoalPhase, OnFailure, Plan, PlanTask, Severity, TaskRef, plan::Maker,
    },
    orchestrator::{
        plan::{self, Rules, check::softened},
        replan,
    },
};

/// How goals are configured to fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// What happens where a goal does not say.
    pub on_failure: OnFailure,
    /// How often a goal may be planned anew.
    pub replans: u32,
}

/// What is being planned anew, and what was known when that was decided: a replay does not know how tasks ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rest {
    /// How often it was planned anew, this time included.
    pub replan: u32,
    /// Plan ids of tasks that are done and stay.
    pub done: Vec<String>,
    /// Tasks that failed for good.
    pub failed: Vec<TaskRef>,
}

/// What a goal did about failures so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mending {
    /// How often it was planned anew.
    pub replans: u32,
    /// What is being planned anew just now.
    pub rest: Option<Rest>,
    /// Plan ids of tasks that others took the place of.
    pub replaced: Vec<String>,
    /// Those tasks, for what they cost.
    pub former: Vec<TaskRef>,
    /// The report is written with what there is.
    pub concluded: bool,
}

impl State {
    /// What happens to a goal when a task of it has failed for good.
    pub fn on_failure(&self, goal: &Goal) -> OnFailure {
        goal.terms.on_failure.unwrap_or(self.goals.orchestrator.failure.on_failure)
    }

    /// Tasks of a goal that failed for good. What a person cancelled, or what was skipped because of another, did not.
    fn failed_of(&self, goal: &Goal) -> Vec<TaskRef> {
        let bad =
            |task: &&TaskRef| self.tasks.end_state(task).is_some_and(Self::is_bad) && !self.tasks.is_coming_back(task);
        goal.tasks.iter().filter(bad).cloned().collect()
    }

    /// What follows for the rest of its goal when this task has failed for good, as the end of a sentence.
    pub(super) fn consequence(&self, task: &TaskRef) -> Option<String> {
        let goal = self.tasks.get(task).and_then(|t| self.goals.get(t.record.spec.goal.as_ref()?))?;
        if !goal.tasks.contains(task) {
            return None;
        }
        let id = &goal.id;
        Some(match self.on_failure(goal) {
            OnFailure::Stop => format!("nothing more of {id} starts (on_failure = stop)"),
            OnFailure::Continue | OnFailure::Ask => format!("what needs it is skipped, the rest of {id} goes on"),
        })
    }

    /// Keeps what has not started of a goal that stops at the first failure from starting.
    pub(super) fn stop_after_failure(&mut self, id: &GoalId, effects: &mut Vec<Effect>) {
        let Some(goal) = self.goals.get(id) else { return };
        if !goal.is_running() || self.on_failure(goal) != OnFailure::Stop {
            return;
        }
        let Some(failed) = self.failed_of(goal).into_iter().next() else { return };
        let ending = Ending::DependencyFailed { dependency: failed.to_string() };
        for task in goal.tasks.clone() {
            if self.tasks.give_up(&task, &ending.sentence()) {
                effects.push(Effect::EndTask { id: None, task, ending: ending.clone() });
            }
        }
    }

    /// Everything of a goal has ended: whether the report waits, because what failed is planned anew or a person is asked.
    pub(super) fn mends(&mut self, id: &GoalId, effects: &mut Vec<Effect>) -> bool {
        let Some(goal) = self.goals.get(id) else { return false };
        let failed = self.failed_of(goal);
        if failed.is_empty() || goal.mending.concluded || goal.terms.solo.is_some() {
            return false;
        }
        let used_up = goal.mending.replans >= self.goals.orchestrator.failure.replans;
        let cannot = used_up || self.goals.orchestrator.trouble.is_some() || !self.within_ceiling(goal);
        match self.on_failure(goal) {
            OnFailure::Stop => false,
            OnFailure::Continue if cannot => {
                if used_up && goal.mending.replans > 0 {
                    let text = format!(
                        "{id} was planned anew {} times: the report says what is missing",
                        goal.mending.replans
                    );
                    self.say(Voice::Room, Some(id.clone()), text);
                }
                false
            }
            OnFailure::Continue => {
                self.plan_anew(id, failed, effects);
                true
            }
            OnFailure::Ask => {
                let names = names(&failed);
                if let Some(goal) = self.goals.get_mut(id) {
                    goal.phase = GoalPhase::Deciding;
                }
                let text = format!(
                    "{names} failed: approve {id} to plan anew what is missing, deny it for a report of what there is, or retry"
                );
                self.say(Voice::Room, Some(id.clone()), text);
                true
            }
        }
    }

    fn within_ceiling(&self, goal: &Goal) -> bool {
        match goal.approval {
            Approval::Auto { ceiling } => self.spend_of(goal).cost < ceiling,
            Approval::Ask | Approval::Never => true,
        }
    }

    /// Decides that what is missing is planned anew.
    fn plan_anew(&self, id: &GoalId, failed: Vec<TaskRef>, effects: &mut Vec<Effect>) {
        let Some(goal) = self.goals.get(id) else { return };
        let ended = |task: &PlanTask| {
            task.reference(id).is_some_and(|task| self.tasks.end_state(&task) == Some(EndState::Done))
        };
        let done = goal.plan.iter().flat_map(|p| &p.tasks).filter(|t| ended(t)).map(|t| t.id.clone()).collect();
        let rest = Rest { replan: goal.mending.replans + 1, done, failed };
        let fact = Event::Goal(GoalEvent::Replanning { id: id.clone(), rest });
        effects.push(Effect::Keep { fact: Box::new(fact) });
    }

    /// It was decided that what is missing is planned anew.
    pub(super) fn replanning(&mut self, id: &GoalId, rest: Rest, effects: &mut Vec<Effect>) {
        let most = self.goals.orchestrator.failure.replans.max(rest.replan);
        let Some(goal) = self.goals.get_mut(id) else { return };
        if !matches!(goal.phase, GoalPhase::Running | GoalPhase::Deciding) {
            return;
        }
        goal.phase = GoalPhase::Planning { round: 1 };
        goal.mending.replans = rest.replan;
        let text =
            format!("{} failed: what is missing is planned anew ({} of {most})", names(&rest.failed), rest.replan);
        goal.mending.rest = Some(rest);
        self.say(Voice::Plan, Some(id.clone()), text);
        self.ask_anew(id, 1, None, effects);
    }

    /// Asks the planner for what is missing.
    pub(super) fn ask_anew(
        &self,
        id: &GoalId,
        round: u32,
        repair: Option<(String, Vec<Fault>)>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(goal) = self.goals.get(id) else { return };
        if let Some(plan) = goal.plan.clone() {
            let (goal, text) = (id.clone(), goal.told());
            effects.push(Effect::Replan { goal, text, round, repair, plan: Box::new(plan) });
        }
    }

    /// The planner has answered what could take the place of what failed.
    pub(super) fn replan_answered(&mut self, id: &GoalId, answer: &PlanAnswer<'_>, effects: &mut Vec<Effect>) {
        let PlanAnswer { round, text, model, spend, validator } = *answer;
        let rules = Rules { cap: plan::HARD_CAP, ..self.plan_rules(self.goals.get(id)) };
        let names = self.agents.names();
        let Some(goal) = self.goals.get_mut(id) else { return };
        let (Some(old), Some(rest)) = (&goal.plan, &goal.mending.rest) else { return };
        let read = if validator == 1 { plan::read_v1 } else { plan::read };
        let made = read(text, goal.next_revision(), model, spend);
        if let Some(nothing) = made.as_ref().ok().filter(|made| made.tasks.is_empty()) {
            let why = crate::model::text::first_line(&nothing.summary, 200);
            return self.conclude(id, &format!("nothing can take its place: {why}"));
        }
        let joined = made.and_then(|made| replan::join(old, &rest.done, &goal.mending.replaced, made));
        let (joined, faults) = match joined {
            Err(faults) => (None, faults),
            Ok(joined) => {
                let faults = match validator {
                    1 => plan::check_v1(&joined, &names),
                    _ if round > 1 => softened(plan::check(&joined, &rules)),
                    _ => plan::check(&joined, &rules),
                };
                (Some(joined), faults)
            }
        };
        goal.revise(Maker::Planner, joined.as_ref(), Some(answer), &faults);
        let sound = !faults.iter().any(|fault| fault.severity == Severity::Repair);
        let last = if validator == 1 { ROUNDS_V1 } else { ROUNDS };
        match joined {
            Some(joined) if sound => {
                self.put_anew(id, joined, faults);
                self.approve_by_itself(id, effects);
            }
            _ if round < last => {
                goal.phase = GoalPhase::Planning { round: round + 1 };
                self.ask_anew(id, round + 1, Some((text.to_owned(), faults)), effects);
            }
            _ => {
                let first = faults.first().map(ToString::to_string).unwrap_or_default();
                self.conclude(id, &format!("no valid plan of what is missing: {first}"));
            }
        }
    }

    /// The new revision waits for its approval.
    fn put_anew(&mut self, id: &GoalId, joined: Plan, notes: Vec<Fault>) {
        let Some(goal) = self.goals.get_mut(id) else { return };
        let stays = |task: &PlanTask| joined.tasks.iter().any(|t| t.id == task.id);
        let gone: Vec<_> = goal.plan.iter().flat_map(|p| &p.tasks).filter(|t| !stays(t)).cloned().collect();
        for task in gone {
            goal.mending.former.extend(task.reference(id));
            goal.mending.replaced.push(task.id);
        }
        let kept = goal.mending.rest.take().map_or(0, |rest| rest.done.len());
        let new = joined.tasks.len().saturating_sub(kept);
        let text = format!("revision {}: new tasks: {new}, finished ones that stay: {kept}", joined.revision);
        goal.plan = Some(joined);
        goal.faults = notes;
        goal.phase = GoalPhase::AwaitingApproval;
        self.say(Voice::Plan, Some(id.clone()), text);
    }

    /// The report is written with what there is.
    pub(super) fn conclude(&mut self, id: &GoalId, why: &str) {
        let Some(goal) = self.goals.get_mut(id) else { return };
        goal.mending.concluded = true;
        goal.mending.rest = None;
        goal.phase = GoalPhase::Running;
        self.say(
            Voice::Plan,
            Some(id.clone()),
            format!("{}; the report says what is missing", why.trim_end_matches('.')),
        );
        self.goals.touch(id.clone());
    }

    /// A person says yes to planning anew what failed.
    pub(super) fn approve_anew(&mut self, id: &GoalId, effects: &mut Vec<Effect>) {
        let failed = self.goals.get(id).map(|goal| self.failed_of(goal)).unwrap_or_default();
        self.plan_anew(id, failed, effects);
    }

    /// Whether a goal's plan stands in the place of one that was run in part.
    pub(super) fn is_anew(&self, id: &GoalId) -> bool {
        self.goals.get(id).is_some_and(|goal| goal.mending.replans > 0 && !goal.tasks.is_empty())
    }

    /// Says what is done about an attempt that failed and is not the last one.
    pub(super) fn say_again(&mut self, task: &TaskRef, n: u32, ending: &Ending, wait: jiff::SignedDuration) {
        let Some(goal) = self.tasks.get(task).and_then(|t| t.record.spec.goal.clone()) else { return };
        let why = ending.sentence();
        let what = match ending {
            Ending::Unproven { .. } => "once more, with more effort".to_owned(),
            Ending::Transient { .. } => format!("again in {}, in its session where it has one", super::why::span(wait)),
            Ending::Limit { .. } => format!("waits {} for the limit, and has not failed", super::why::span(wait)),
            Ending::DayBudget { .. } => "waits for the day's budget, and has not failed".to_owned(),
            Ending::Stopped | Ending::Paused | Ending::SessionGone { .. } => return,
            Ending::Done
            | Ending::NeverStarted { .. }
            | Ending::ExitCode { .. }
            | Ending::Signal { .. }
            | Ending::Deadline { .. }
            | Ending::Killed { .. }
            | Ending::Cancelled
            | Ending::Stalled { .. }
            | Ending::EmptyAnswer
            | Ending::NoResult { .. }
            | Ending::Held { .. }
            | Ending::Unreadable { .. }
            | Ending::Reported { .. }
            | Ending::Budget { .. }
            | Ending::Auth { .. }
            | Ending::Config { .. }
            | Ending::Overflow { .. }
            | Ending::Refused { .. }
            | Ending::RoomLost { .. }
            | Ending::Lost { .. }
            | Ending::DependencyFailed { .. }
            | Ending::Expired { .. }
            | Ending::Malformed { .. } => format!("again in {}", super::why::span(wait)),
        };
        self.say(Voice::Room, Some(goal), format!("{task}, attempt {n}: {why}; {what}"));
    }

    /// A plan of what is missing could not be made.
    pub(super) fn replan_failed(&mut self, id: &GoalId, message: &str) {
        self.conclude(id, &format!("no plan of what is missing: {message}"));
    }

    /// The end of a goal whose new plan a person denied.
    pub(super) fn deny_anew(&mut self, id: &GoalId) {
        self.conclude(id, "what is missing is not planned anew");
    }
}

fn names(tasks: &[TaskRef]) -> String {
    tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
