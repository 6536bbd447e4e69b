//! Plans: judged when they come, put before a person, changed by hand.
//!
//! Owns the rounds with the planner, what may approve itself, and edits of plans that wait or run. Must not know how a plan
//! is checked. Its one surprise: an edit is decided when it is ordered and applied as a fact of its own, because a
//! replayed journal does not know what ran at that moment.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effect, Event, Goal, GoalEvent, OrderId, State, Voice, done, refuse};
use crate::{
    model::{
        AgentName, Approval, EngineKind, Fault, GoalEnd, GoalId, GoalPhase, MicroUsd, Plan, Severity, Spend, TaskRef,
        TaskSpec,
        budget::Payer,
        plan::{Maker, Revision},
    },
    orchestrator::{
        plan::{self, AgentRule, Edit, Rules, check::softened, cost},
        schedule,
    },
};

/// Rounds in which the model may answer: the plan and two repairs.
pub const ROUNDS: u32 = 3;
/// The same by the rules of version 1.
pub(super) const ROUNDS_V1: u32 = 2;

/// What a planner said.
pub(super) struct PlanAnswer<'a> {
    pub(super) round: u32,
    pub(super) text: &'a str,
    pub(super) model: &'a str,
    pub(super) spend: Spend,
    pub(super) validator: u32,
}

impl Goal {
    /// What a person must say yes to before anything runs, whatever was allowed before.
    pub fn gates(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.severity == Severity::Ask)
    }

    /// What all revisions together have cost to make.
    pub fn planning_cost(&self) -> MicroUsd {
        if self.revisions.is_empty() {
            // Goals of the first version kept the last revision alone.
            return self.plan.as_ref().map_or(MicroUsd(0), |plan| plan.spend.cost);
        }
        self.revisions.iter().map(|revision| revision.spend.cost).sum()
    }

    /// What the queue must do so that it holds the plan in force instead of the one before.
    pub(super) fn amendment(&self) -> Option<Effect> {
        let (former, plan) = (self.amending.as_ref()?, self.plan.as_ref()?);
        let (old, new) = (specs(former, &self.id), specs(plan, &self.id));
        let is_new = |spec: &TaskSpec| !old.get(&spec.task).is_some_and(|known| same(known, spec));
        let withdraw = old.keys().filter(|task| new.get(task).is_none_or(&is_new)).cloned().collect();
        let publish = new.values().filter(|spec| is_new(spec)).cloned().collect();
        Some(Effect::Amend { goal: self.id.clone(), withdraw, publish })
    }

    pub(super) fn revise(&mut self, by: Maker, plan: Option<&Plan>, answer: Option<&PlanAnswer<'_>>, faults: &[Fault]) {
        let revision = self.next_revision();
        self.revisions.push(Revision {
            revision,
            by,
            hash: plan.map(Plan::hash).unwrap_or_default(),
            validator: plan.map_or(crate::model::plan::VALIDATOR, |plan| plan.validator),
            model: answer.map(|answer| answer.model.to_owned()).unwrap_or_default(),
            spend: answer.map(|answer| answer.spend).unwrap_or_default(),
            tasks: plan.map_or(0, |plan| plan.tasks.len()),
            faults: faults.to_vec(),
        });
    }

    pub(super) fn next_revision(&self) -> u32 {
        let before = self.revisions.last().map(|revision| revision.revision);
        before.or_else(|| Some(self.plan.as_ref()?.revision)).unwrap_or(0) + 1
    }
}

fn specs(plan: &Plan, goal: &GoalId) -> BTreeMap<TaskRef, TaskSpec> {
    // A plan that is in force has passed this once.
    let specs = plan::to_tasks(plan, goal).unwrap_or_default();
    specs.into_iter().map(|spec| (spec.task.clone(), spec)).collect()
}

/// Whether two tasks say the same. An urgency that only the critical path gave is no difference.
fn same(a: &TaskSpec, b: &TaskSpec) -> bool {
    let close = a.priority.0.abs_diff(b.priority.0) <= 2;
    let a = TaskSpec { priority: if close { b.priority } else { a.priority }, ..a.clone() };
    a == *b
}

impl State {
    /// What plans are judged by, for one goal.
    pub fn plan_rules(&self, goal: Option<&Goal>) -> Rules {
        let agents = self.agents.iter().map(|agent| AgentRule {
            name: agent.name().clone(),
            model: agent.settings.model.clone(),
            workspace: agent
                .settings
                .workspace
                .strip_prefix(&self.stage)
                .unwrap_or(&agent.settings.workspace)
                .display()
                .to_string(),
            slots: agent.settings.slots,
            one_call: agent.settings.engine == EngineKind::Messages,
        });
        let cap = goal.and_then(|goal| self.cap_of(&Payer::Goal(goal.id.clone())));
        let usual = self.planning.goal_budget.filter(|_| goal.is_none_or(|goal| goal.terms.budget.is_none()));
        Rules {
            agents: agents.collect(),
            cap: plan::CAP,
            depth: plan::DEPTH,
            max_running: self.agents.max_running,
            budget: cap.or(usual),
            models: self.planning.models.clone(),
            tiers: self.planning.tiers.clone(),
        }
    }

    pub(super) fn is_planning(&self, id: &GoalId, round: u32) -> bool {
        self.goals.get(id).is_some_and(|g| g.phase == GoalPhase::Planning { round })
    }

    pub(super) fn plan_answered(&mut self, id: &GoalId, answer: &PlanAnswer<'_>, effects: &mut Vec<Effect>) {
        let PlanAnswer { round, text, .. } = *answer;
        if !self.is_planning(id, round) {
            return;
        }
        if self.goals.get(id).is_some_and(|goal| goal.mending.rest.is_some()) {
            return self.replan_answered(id, answer, effects);
        }
        if self.hears_questions(id, answer) {
            return;
        }
        let (plan, faults) = self.judge(id, answer);
        let last = if answer.validator == 1 { ROUNDS_V1 } else { ROUNDS };
        let Some(goal) = self.goals.get_mut(id) else { return };
        goal.revise(Maker::Planner, plan.as_ref(), Some(answer), &faults);
        let sound = !faults.iter().any(|fault| fault.severity == Severity::Repair);
        match plan {
            Some(plan) if sound => {
                goal.plan = Some(plan);
                goal.faults = faults;
                self.plan_stands(id, effects);
            }
            _ if round < last => {
                goal.faults.clone_from(&faults);
                goal.phase = GoalPhase::Planning { round: round + 1 };
                self.ask_plan(id, round + 1, Some((text.to_owned(), faults)), effects);
            }
            plan => self.plan_given_up(id, plan.filter(|plan| plan.validator > 1), faults, effects),
        }
    }

    /// The plan, if the answer can be read as one, and everything that is to be said of it.
    fn judge(&self, id: &GoalId, answer: &PlanAnswer<'_>) -> (Option<Plan>, Vec<Fault>) {
        let goal = self.goals.get(id);
        let revision = goal.map_or(1, Goal::next_revision);
        let PlanAnswer { round, text, model, spend, validator } = *answer;
        let read = if validator == 1 { plan::read_v1 } else { plan::read };
        match read(text, revision, model, spend) {
            Err(faults) => (None, faults),
            Ok(made) => {
                let faults = match validator {
                    1 => plan::check_v1(&made, &self.agents.names()),
                    _ if round > 1 => softened(plan::check(&made, &self.plan_rules(goal))),
                    _ => plan::check(&made, &self.plan_rules(goal)),
                };
                (Some(made), faults)
            }
        }
    }

    /// The planner had its rounds: what code can mend without guessing, else the goal as one task.
    fn plan_given_up(&mut self, id: &GoalId, plan: Option<Plan>, faults: Vec<Fault>, effects: &mut Vec<Effect>) {
        let rules = self.plan_rules(self.goals.get(id));
        if let Some((mended, notes)) = plan.and_then(|plan| plan::salvage(&plan, &rules).ok()) {
            let Some(goal) = self.goals.get_mut(id) else { return };
            let mended = Plan { revision: goal.next_revision(), spend: Spend::default(), ..mended };
            goal.revise(Maker::Salvage, Some(&mended), None, &notes);
            goal.plan = Some(mended);
            goal.faults = notes;
            return self.plan_stands(id, effects);
        }
        let enabled: Vec<AgentName> = self.agents.names();
        let Some(goal) = self.goals.get_mut(id) else { return };
        let count = faults.len();
        let first = faults.first().map(ToString::to_string).unwrap_or_default();
        // Never run what nobody checked: what is left is the goal as one task, and a person says yes to it.
        let revision = goal.next_revision();
        let single = enabled.first().map(|agent| plan::single_task(&goal.told(), agent, revision));
        goal.revise(Maker::Fallback, single.as_ref(), None, &[]);
        let unattended = goal.approval != Approval::Ask;
        goal.plan = single;
        goal.faults = faults;
        goal.phase = GoalPhase::AwaitingApproval;
        let many = if count == 1 { "1 fault".to_owned() } else { format!("{count} faults") };
        let text = format!("the plan has {many} after every repair ({first}); one task is offered instead");
        self.say(Voice::Plan, Some(id.clone()), text);
        if unattended {
            self.end_goal(id, GoalEnd::Failed, &format!("no valid plan: {first}"));
        }
    }

    /// A plan that passed waits for a yes, or has it already.
    pub(super) fn plan_stands(&mut self, id: &GoalId, effects: &mut Vec<Effect>) {
        let Some(goal) = self.goals.get_mut(id) else { return };
        goal.phase = GoalPhase::AwaitingApproval;
        let text = self.describe_plan(id);
        self.say(Voice::Plan, Some(id.clone()), text);
        self.approve_by_itself(id, effects);
    }

    pub(super) fn describe_plan(&self, id: &GoalId) -> String {
        let Some(goal) = self.goals.get(id) else { return String::new() };
        let Some(plan) = &goal.plan else { return String::new() };
        let agents: BTreeSet<_> = plan.tasks.iter().map(|t| t.worker.as_str()).collect();
        let many = |n: usize, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
        let mut text = format!("{} on {}", many(plan.tasks.len(), "task"), many(agents.len(), "agent"));
        if let Some(estimate) = self.estimate(plan) {
            text.extend([", ", &estimate.to_string()]);
        }
        if let Some(usd) = cost::totals(plan, &self.plan_rules(Some(goal))).usd {
            text.extend([", ", &cost::usd_text(usd)]);
        }
        text
    }

    /// What a plan is expected to take with the slots there are.
    pub fn estimate(&self, plan: &Plan) -> Option<schedule::Estimate> {
        schedule::estimate(plan, &self.slots(), self.agents.max_running, self.tasks.learned())
    }

    pub(super) fn approve_by_itself(&mut self, id: &GoalId, effects: &mut Vec<Effect>) {
        let Some(goal) = self.goals.get(id) else { return };
        match goal.approval {
            Approval::Auto { ceiling } => {
                let cost = goal.planning_cost();
                let gates: Vec<String> = goal.gates().map(ToString::to_string).collect();
                let text = if let Some(first) = gates.first() {
                    let more = if gates.len() > 1 { format!(" and {} more", gates.len() - 1) } else { String::new() };
                    format!("a person must approve: {first}{more}")
                } else if cost > ceiling {
                    format!("planning cost {cost}, more than the {ceiling} allowed: a person must approve it")
                } else {
                    return self.start_goal(id, effects);
                };
                self.say(Voice::Plan, Some(id.clone()), text);
            }
            Approval::Never => {
                self.say_who(id);
                self.end_goal(id, GoalEnd::Planned, "only a plan was asked for");
            }
            Approval::Ask => {}
        }
    }

    pub(super) fn approve(
        &mut self,
        order: OrderId,
        id: &GoalId,
        ceiling: Option<MicroUsd>,
        effects: &mut Vec<Effect>,
    ) {
        match self.goals.get_mut(id) {
            None => refuse(effects, order, format!("there is no goal {id}")),
            Some(goal) if goal.asks() => {
                refuse(effects, order, format!("{id} asks something first: answer it"));
            }
            Some(goal) if !goal.needs_approval() => {
                refuse(effects, order, format!("{id} has no plan to approve: it is {}", goal.phase.word()));
            }
            Some(goal) => {
                let under = match ceiling {
                    Some(ceiling) => {
                        goal.approval = Approval::Auto { ceiling };
                        format!(" up to {ceiling}")
                    }
                    None => String::new(),
                };
                let decides = goal.phase == GoalPhase::Deciding;
                done(effects, order, format!("{id} is approved{under}"), vec![id.to_string()]);
                if decides {
                    return self.approve_anew(id, effects);
                }
                self.start_goal(id, effects);
            }
        }
    }

    pub(super) fn deny(&mut self, order: OrderId, id: &GoalId, effects: &mut Vec<Effect>) {
        match self.goals.get(id) {
            None => refuse(effects, order, format!("there is no goal {id}")),
            Some(goal) if !goal.needs_approval() && !goal.asks() => {
                refuse(effects, order, format!("{id} has no plan to deny: it is {}", goal.phase.word()));
            }
            Some(goal) => {
                let decides = goal.phase == GoalPhase::Deciding;
                done(effects, order, format!("{id} is denied"), vec![id.to_string()]);
                if decides || self.is_anew(id) {
                    return self.deny_anew(id);
                }
                let asked = self.goals.get(id).is_some_and(Goal::asks);
                let note = if asked { "what was asked is not answered" } else { "the plan was denied" };
                self.end_goal(id, GoalEnd::Planned, note);
            }
        }
    }

    pub(super) fn edit_plan(&self, order: OrderId, id: &GoalId, base: &str, edits: &[Edit], effects: &mut Vec<Effect>) {
        match self.edited(id, base, edits) {
            Err(reason) => refuse(effects, order, reason),
            Ok((plan, faults)) => {
                let text = format!("the plan of {id} is changed: revision {}", plan.revision);
                let fact = GoalEvent::Edited { id: id.clone(), base: base.to_owned(), plan: Box::new(plan), faults };
                effects.push(Effect::Keep { fact: Box::new(Event::Goal(fact)) });
                done(effects, order, text, vec![id.to_string()]);
            }
        }
    }

    /// The plan as it would be, and what is to be said of it; or why not.
    fn edited(&self, id: &GoalId, base: &str, edits: &[Edit]) -> Result<(Plan, Vec<Fault>), String> {
        let goal = self.goals.get(id).ok_or_else(|| format!("there is no goal {id}"))?;
        let plan = goal.plan.as_ref().ok_or_else(|| format!("{id} has no plan yet"))?;
        match goal.phase {
            GoalPhase::AwaitingApproval => {}
            GoalPhase::Running if goal.published => {}
            GoalPhase::Running => {
                return Err(format!("the plan of {id} is just being changed or published; try again"));
            }
            GoalPhase::Planning { .. }
            | GoalPhase::Asking { .. }
            | GoalPhase::Deciding
            | GoalPhase::Synthesising
            | GoalPhase::Ended { .. } => {
                return Err(format!("the plan of {id} cannot be changed: it is {}", goal.phase.word()));
            }
        }
        if edits.is_empty() {
            return Err("nothing would be different".to_owned());
        }
        if plan.hash() != base {
            return Err(format!(
                "the plan of {id} has changed meanwhile, it is revision {} now: look again",
                plan.revision
            ));
        }
        let mut edited = plan::edit::apply(plan, edits, &goal.told())?;
        edited.revision = goal.next_revision();
        if edited.hash() == base {
            return Err("nothing would be different".to_owned());
        }
        if goal.phase == GoalPhase::Running {
            self.only_waiting_tasks_move(goal, plan, &edited)?;
        }
        let rules = Rules { cap: plan::HARD_CAP, ..self.plan_rules(Some(goal)) };
        let faults = softened(plan::check(&edited, &rules));
        let bad: Vec<String> =
            faults.iter().filter(|f| f.severity == Severity::Repair).map(ToString::to_string).collect();
        if bad.is_empty() { Ok((edited, faults)) } else { Err(format!("the plan would be wrong: {}", bad.join("; "))) }
    }

    /// What has started stays as it is.
    fn only_waiting_tasks_move(&self, goal: &Goal, former: &Plan, plan: &Plan) -> Result<(), String> {
        let (old, new) = (specs(former, &goal.id), specs(plan, &goal.id));
        let moved = old.iter().filter(|(task, spec)| !new.get(task).is_some_and(|now| same(spec, now)));
        let stuck: Vec<String> =
            moved.filter(|(task, _)| !self.tasks.may_move(task)).map(|(task, _)| task.to_string()).collect();
        if stuck.is_empty() {
            return Ok(());
        }
        Err(format!("{} runs or has ended and stays as it is", stuck.join(", ")))
    }

    pub(super) fn plan_edited(
        &mut self,
        id: &GoalId,
        base: &str,
        plan: Plan,
        faults: Vec<Fault>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(goal) = self.goals.get_mut(id) else { return };
        if goal.plan.as_ref().is_none_or(|former| former.hash() != base) {
            return;
        }
        goal.revise(Maker::Operator, Some(&plan), None, &faults);
        let text = format!("revision {} by hand: {} tasks", plan.revision, plan.tasks.len());
        let former = goal.plan.replace(plan);
        goal.faults = faults;
        if goal.phase == GoalPhase::Running {
            goal.amending = former.map(Box::new);
            goal.published = false;
            effects.extend(goal.amendment());
        }
        self.say(Voice::Plan, Some(id.clone()), text);
    }

    pub(super) fn plan_amended(&mut self, id: &GoalId) {
        let Some(goal) = self.goals.get_mut(id) else { return };
        goal.amending = None;
        goal.published = true;
        let Some(plan) = goal.plan.clone() else { return };
        goal.tasks = plan.tasks.iter().filter_map(|task| task.reference(id)).collect();
        self.rank(id);
        self.goals.touch(id.clone());
    }

    pub(super) fn amend_failed(&mut self, id: &GoalId, message: &str) {
        let Some(goal) = self.goals.get_mut(id) else { return };
        goal.published = true;
        let Some(former) = goal.amending.take() else { return };
        let faults = goal.revisions.iter().rev().nth(1).map(|before| before.faults.clone()).unwrap_or_default();
        goal.faults = faults;
        goal.tasks = former.tasks.iter().filter_map(|task| task.reference(id)).collect();
        goal.plan = Some(*former);
        self.say(Voice::Room, Some(id.clone()), format!("the plan of {id} stays as it was: {message}"));
        self.goals.touch(id.clone());
    }
}
