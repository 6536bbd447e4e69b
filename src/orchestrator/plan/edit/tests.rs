//! Edits by hand, one rule each.

use super::*;

fn task(id: &str, needs: &[&str]) -> PlanTask {
    PlanTask {
        id: id.to_owned(),
        worker: "marie".to_owned(),
        title: id.to_owned(),
        objective: format!("Make {id}."),
        dependencies: needs.iter().map(|n| (*n).to_owned()).collect(),
        inputs: needs.iter().map(|n| Input { dependency: (*n).to_owned(), what: format!("what {n} made") }).collect(),
        serves: vec![id.to_owned()],
        estimates: Estimates::minutes(2.0),
        ..PlanTask::default()
    }
}

fn plan() -> Plan {
    Plan {
        revision: 4,
        tasks: vec![task("a", &[]), task("b", &["a"]), task("c", &["b"]), task("d", &["b", "c"])],
        ..Plan::default()
    }
}

fn edited(edits: &[Edit]) -> Result<Plan, String> {
    apply(&plan(), edits, "The goal")
}

fn shape(plan: &Plan) -> Vec<String> {
    plan.tasks.iter().map(|t| format!("{} after {}", t.id, t.dependencies.join(" "))).collect()
}

#[test]
fn a_dropped_task_hands_its_dependencies_on_or_stays() {
    let drop = |task: &str, rewire| Edit::Drop { task: task.to_owned(), rewire };
    let after = edited(&[drop("b", true)]).unwrap();
    assert_eq!(shape(&after), ["a after ", "c after a", "d after a c"]);
    assert!(after.tasks[1].inputs.iter().any(|i| i.dependency == "a"), "{:?}", after.tasks[1].inputs);
    assert!(!after.tasks.iter().flat_map(|t| &t.inputs).any(|i| i.dependency == "b"));
    assert!(edited(&[drop("b", false)]).unwrap_err().contains("c, d waits for it"));
    assert_eq!(edited(&[drop("d", false)]).unwrap().tasks.len(), 3);
    assert!(edited(&[drop("x", true)]).unwrap_err().contains("no task `x`"));
}

#[test]
fn merged_tasks_are_one_and_their_dependents_follow() {
    let merge = |ids: &[&str]| Edit::Merge { tasks: ids.iter().map(|id| (*id).to_owned()).collect() };
    let after = edited(&[merge(&["b", "c"])]).unwrap();
    assert_eq!(shape(&after), ["a after ", "b after a", "d after b"]);
    assert_eq!(after.tasks[1].objective, "Make b.\nMake c.");
    assert_eq!((after.tasks[1].minutes(), after.tasks[1].serves.len()), (4.0, 2));
    assert!(after.tasks[2].inputs.iter().all(|i| i.dependency == "b"));
    assert!(edited(&[merge(&["b"])]).is_err() && edited(&[merge(&["b", "b"])]).is_err());
}

fn change(id: &str, how: impl FnOnce(&mut PlanTask)) -> Edit {
    let mut to = plan().task(id).unwrap().clone();
    how(&mut to);
    Edit::Change { task: id.to_owned(), to: Box::new(to) }
}

#[test]
fn a_changed_task_keeps_its_place_and_the_plan_is_a_new_revision_that_no_model_made() {
    let after = edited(&[
        change("b", |b| {
            b.id = "beta".into();
            b.worker = "anga".into();
            b.dependencies = Vec::new();
        }),
        Edit::Add { task: Box::new(task("e", &["beta"])) },
    ])
    .unwrap();
    assert_eq!(shape(&after), ["a after ", "beta after ", "c after beta", "d after beta c", "e after beta"]);
    assert!(after.tasks[1].inputs.is_empty(), "nothing is taken from what it does not wait for");
    assert_eq!(after.tasks[2].inputs[0].dependency, "beta");
    assert_eq!((after.revision, &*after.model), (5, ""));
    assert_eq!(edited(&[Edit::Single { agent: "anga".parse().unwrap() }]).unwrap().tasks[0].objective, "The goal");
}

#[test]
fn one_bad_change_leaves_everything_as_it_was() {
    let edits = [change("a", |a| a.title = "New".into()), Edit::Drop { task: "nobody".into(), rewire: true }];
    assert!(edited(&edits).is_err());
}
