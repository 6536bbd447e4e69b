//! What a plan as a whole lacks: `P11` coverage, `P12` outputs that nobody uses, `P13` estimates, budget and contexts,
//! `P15` whether splitting pays.

use std::collections::BTreeSet;

use super::{Graph, Rules, fault, is_blank, schedule, shown, words};
use crate::{
    model::{Fault, Plan, Severity},
    orchestrator::{
        learned::Learned,
        plan::{ENTRIES, cost, noted},
    },
};

/// Splitting pays from this gain on.
const WORTH: f64 = 1.3;
/// Tokens of a context where nobody said.
const CONTEXT: u64 = 200_000;

/// `P11`: every requirement is served, every task serves one.
pub(super) fn check_coverage(faults: &mut Vec<Fault>, plan: &Plan) {
    if plan.requirements.is_empty() {
        return faults.push(fault("P11", "requirements", "says nothing; list what the goal asks for"));
    }
    let mut known = BTreeSet::new();
    for (i, requirement) in plan.requirements.iter().enumerate() {
        let at = format!("requirements[{i}]");
        words(faults, &format!("{at}.text"), &requirement.text, ENTRIES.1, true);
        if is_blank(&requirement.id) || !known.insert(&*requirement.id) {
            faults.push(fault(
                "P11",
                format!("{at}.id"),
                format!("{} is blank or there twice", shown(&requirement.id)),
            ));
        }
        if !plan.tasks.iter().any(|task| task.serves.contains(&requirement.id)) {
            faults.push(fault("P11", at, format!("no task serves {}", shown(&requirement.id))));
        }
    }
    for (i, task) in plan.tasks.iter().enumerate() {
        let at = format!("tasks[{i}].serves");
        if task.serves.is_empty() {
            faults.push(fault("P11", &at, "serves no requirement; leave the task out or say which"));
        }
        for id in task.serves.iter().filter(|id| !known.contains(id.as_str())) {
            faults.push(fault("P11", &at, format!("there is no requirement {}", shown(id))));
        }
    }
}

/// `P12`: what is made is used, and the ends come together.
pub(super) fn check_edges(faults: &mut Vec<Fault>, plan: &Plan, graph: &Graph) {
    for (i, task) in plan.tasks.iter().enumerate() {
        for needed in graph.needs(i) {
            let name = &plan.tasks[needed].id;
            if !task.inputs.iter().any(|input| input.dependency == *name) {
                let message = format!("waits for {} and says nothing of what it takes from it", shown(name));
                faults.push(noted("P12", Severity::Warn, format!("tasks[{i}].inputs"), message));
            }
        }
    }
    let sinks = graph.sinks();
    if sinks.len() > 1 && is_blank(&plan.synthesis) {
        let message =
            format!("says nothing, and {} tasks end the plan side by side; say how they make one answer", sinks.len());
        faults.push(noted("P12", Severity::Warn, "synthesis", message));
    }
}

/// `P13`: what it takes is said, and there is room for it.
pub(super) fn check_estimates(faults: &mut Vec<Fault>, plan: &Plan, rules: &Rules) {
    let mut ask = |path: String, message: String| faults.push(noted("P13", Severity::Ask, path, message));
    for (i, task) in plan.tasks.iter().enumerate() {
        let at = format!("tasks[{i}].estimates");
        let estimates = &task.estimates;
        if estimates.minutes.is_none() {
            ask(format!("{at}.minutes"), "is not said".to_owned());
        }
        let Some(tokens) = estimates.tokens else {
            if estimates.usd.is_none() {
                ask(format!("{at}.tokens"), "is not said, and no cost either".to_owned());
            }
            continue;
        };
        let context = rules.price_of(task).map_or(CONTEXT, |price| price.context);
        // Over several calls an agent reads the same again and again; one call holds everything at once.
        let one_call = rules.agent(&task.worker).is_some_and(|agent| agent.one_call);
        let needed = if one_call { tokens.high } else { tokens.low / 8.0 };
        if needed > context as f64 {
            let model = rules.model_of(task);
            ask(
                format!("{at}.tokens"),
                format!("{tokens} tokens will hardly fit into the {context} that {} holds at once", shown(model)),
            );
        }
    }
    let totals = cost::totals(plan, rules);
    if let (Some(usd), Some(budget)) = (totals.usd, rules.budget)
        && usd.high > budget.dollars()
    {
        ask("tasks".to_owned(), format!("may cost up to ${:.2}, and {budget} are allowed", usd.high));
    }
}

/// `P15`: whether more than one agent at a time gains anything.
pub(super) fn check_worth(faults: &mut Vec<Fault>, plan: &Plan, rules: &Rules, graph: &Graph) {
    let workers: BTreeSet<&str> = plan.tasks.iter().map(|task| &*task.worker).collect();
    let [worker] = workers.into_iter().collect::<Vec<_>>()[..] else { return };
    if plan.tasks.len() < 2 || graph.sinks().is_empty() {
        return;
    }
    let Some(estimate) = schedule::estimate(plan, &rules.slots(), rules.max_running, &Learned::default()) else {
        return;
    };
    let tokens: f64 = plan.tasks.iter().filter_map(|task| Some(task.estimates.tokens?.high)).sum();
    let context = plan.tasks.first().and_then(|task| rules.price_of(task)).map_or(CONTEXT, |price| price.context);
    if estimate.ceiling() < WORTH && tokens <= context as f64 {
        let message = format!(
            "all {} tasks are {worker}'s, and no order is more than {:.1} times faster than one after another: one task would \
             be cheaper",
            plan.tasks.len(),
            estimate.ceiling().max(1.0)
        );
        faults.push(noted("P15", Severity::Suggest, "tasks", message));
    }
}
