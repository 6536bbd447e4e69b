//! Plans that come with the order: workflows, which no model wrote.
//!
//! Owns how such a plan is judged: by the rules of every plan, but nobody is asked to mend it, and what a person wrote may be larger
//! and longer than what a model may think up. Its one surprise: where nobody estimated what it takes, a budget of the goal's own
//! is answer enough; the usual one is not.

use super::{Effect, OrderId, State, done, refuse};
use crate::{
    model::{
        Approval, Fault, Plan, Severity, Spend, Terms,
        plan::{Maker, SCHEMA_VERSION, VALIDATOR},
        text,
    },
    orchestrator::{
        plan::{self, Rules, check::softened},
        workflow,
    },
};

/// Faults that a refusal names.
const NAMED: usize = 12;

impl State {
    /// What a workflow's plan is judged by.
    pub fn workflow_rules(&self, terms: &Terms) -> Rules {
        let rules = self.plan_rules(None);
        let budget = crate::model::budget::Caps::or(terms.budget, rules.budget);
        Rules { cap: workflow::CAP, depth: workflow::CAP, budget, ..rules }
    }

    /// Everything that is to be said of a workflow's plan.
    pub fn judge_workflow(&self, plan: &Plan, terms: &Terms) -> Vec<Fault> {
        let mut faults = softened(plan::check(plan, &self.workflow_rules(terms)));
        // Whoever writes the same task twice for two children means it.
        for fault in faults.iter_mut().filter(|fault| fault.code == "P10") {
            fault.severity = Severity::Suggest;
        }
        if terms.budget.is_some_and(|budget| budget.0 > 0) {
            let unsaid = |fault: &&mut Fault| fault.code == "P13" && fault.message.starts_with("is not said");
            for fault in faults.iter_mut().filter(unsaid) {
                fault.severity = Severity::Warn;
            }
        }
        faults.sort_by(|a, b| (a.severity, &a.code).cmp(&(b.severity, &b.code)));
        faults
    }

    pub(super) fn give_plan(
        &mut self,
        order: OrderId,
        text: &str,
        plan: Plan,
        approval: Approval,
        terms: Terms,
        effects: &mut Vec<Effect>,
    ) {
        let text = text::scrub(text).trim().to_owned();
        if text.is_empty() {
            return refuse(effects, order, "the workflow says nothing of what it is for");
        }
        let plan = Plan {
            schema_version: SCHEMA_VERSION,
            validator: VALIDATOR,
            revision: 1,
            model: String::new(),
            spend: Spend::default(),
            ..plan
        };
        let faults = self.judge_workflow(&plan, &terms);
        let bad: Vec<String> =
            faults.iter().filter(|f| f.severity == Severity::Repair).map(ToString::to_string).collect();
        if !bad.is_empty() {
            let more = if bad.len() > NAMED { format!("; and {} more", bad.len() - NAMED) } else { String::new() };
            let first = bad.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
            return refuse(effects, order, format!("the workflow cannot run: {first}{more}"));
        }
        let Some(id) = self.new_goal(order, &text, approval, terms, effects) else { return };
        let many = if plan.tasks.len() == 1 { "1 task".to_owned() } else { format!("{} tasks", plan.tasks.len()) };
        done(effects, order, format!("{id} is a workflow of {many}"), vec![id.to_string()]);
        if let Some(goal) = self.goals.get_mut(&id) {
            goal.revise(Maker::Workflow, Some(&plan), None, &faults);
            goal.faults = faults;
            goal.plan = Some(plan);
        }
        self.plan_stands(&id, effects);
    }
}
