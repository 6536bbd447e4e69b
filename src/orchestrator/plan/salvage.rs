//! What code may mend in a plan that the model could not: nothing that needs a guess.
//!
//! A dependency that leads nowhere goes if the task takes nothing from it; one that is named twice goes; two tasks that
//! write the same file get an order. Its one surprise: every such change is a fault of its own that asks a person.

use super::{
    Rules, check,
    check::{Graph, conflicts, softened},
    noted, shown,
};
use crate::model::{Fault, Plan, Severity};

/// The plan as mended, and everything that is to be said about it; the faults it had where that is not enough.
pub fn salvage(plan: &Plan, rules: &Rules) -> Result<(Plan, Vec<Fault>), Vec<Fault>> {
    let mut mended = plan.clone();
    let mut notes = Vec::new();
    let mut note = |code: &str, path: String, message: String| {
        notes.push(noted(code, Severity::Ask, path, format!("mended by podium: {message}")));
    };
    let ids: Vec<String> = plan.tasks.iter().map(|task| task.id.clone()).collect();
    for (i, task) in mended.tasks.iter_mut().enumerate() {
        let mut kept: Vec<String> = Vec::new();
        for dependency in std::mem::take(&mut task.dependencies) {
            let taken = task.inputs.iter().any(|input| input.dependency == dependency);
            let named = [&task.objective, &task.output].iter().any(|text| text.contains(&*dependency));
            let path = format!("tasks[{i}].dependencies");
            if kept.contains(&dependency) {
                note("P05", path, format!("{} was named twice", shown(&dependency)));
            } else if (dependency == task.id || !ids.contains(&dependency)) && !taken && !named {
                note("P05", path, format!("{}, of which it takes nothing, is left out", shown(&dependency)));
            } else {
                kept.push(dependency);
            }
        }
        task.dependencies = kept;
    }
    // Every new edge can settle other conflicts, and must not close a circle: one at a time, from the earlier to the later.
    loop {
        let graph = Graph::read(&mut Vec::new(), &mended.tasks);
        let Some(conflict) = conflicts(&mended, rules, &graph).into_iter().next().filter(|_| graph.is_sound()) else {
            break;
        };
        let first = mended.tasks[conflict.first].id.clone();
        let (path, message) = (
            format!("tasks[{}].dependencies", conflict.second),
            format!(
                "{} waits for {}, which writes the same file",
                shown(&mended.tasks[conflict.second].id),
                shown(&first)
            ),
        );
        note("P09", path, message);
        mended.tasks[conflict.second].dependencies.push(first);
    }
    let faults = softened(check(&mended, rules));
    if faults.iter().any(|fault| fault.severity == Severity::Repair) {
        return Err(softened(check(plan, rules)));
    }
    notes.extend(faults);
    Ok((mended, notes))
}
