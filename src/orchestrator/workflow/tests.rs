use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    model::{
        DoneWhen, Effort, Estimates, PlanTask, Priority, Severity,
        plan::{Input, Range, Requirement},
    },
    orchestrator::plan::{self, Rules},
};

fn rules() -> Rules {
    Rules { cap: CAP, depth: CAP, ..Rules::new(["marie", "anga", "fabien"].map(|name| name.parse().unwrap())) }
}

fn read(file: &Value, given: &[(&str, &str)]) -> Result<Made, Vec<Fault>> {
    let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    make(&Workflow::read(&file.to_string())?, &given)
}

fn messages(result: Result<Made, Vec<Fault>>) -> Vec<String> {
    result.unwrap_err().iter().map(ToString::to_string).collect()
}

fn to_mend(plan: &Plan) -> Vec<String> {
    let faults = plan::check(plan, &rules());
    faults.iter().filter(|f| f.severity == Severity::Repair).map(ToString::to_string).collect()
}

#[test]
fn an_older_file_becomes_a_plan_that_passes_its_checks() {
    let file = json!({"name": "Demo", "tasks": [
        {"id": "1", "agent": "marie", "action": "marie_create_student_profile", "params": {"age": 15, "style": "jazz"}},
        {"id": 2, "agent": "anga", "action": "code_review"},
        {"id": "3", "agent": "fabien", "action": "create_campaign", "dependencies": ["1", 2]}]});
    let made = read(&file, &[]).unwrap();
    assert_eq!(made.text, "Demo");
    let [profile, review, campaign] = &made.plan.tasks[..] else { panic!("{:?}", made.plan) };
    assert_eq!(
        (&*profile.title, &*profile.objective),
        ("Create student profile", "Create student profile.\n\nParameters:\n- age: 15\n- style: jazz")
    );
    assert_eq!((&*review.id, &*review.worker, &*review.objective), ("2", "anga", "Code review."));
    assert_eq!(campaign.dependencies, ["1", "2"]);
    let whole = |id: &str| Input { dependency: id.into(), what: "its result".into() };
    assert_eq!(campaign.inputs, [whole("1"), whole("2")], "whoever waits gets what it waited for");
    assert_eq!(to_mend(&made.plan), [""; 0]);
    assert!(made.plan.synthesis.is_empty(), "one task ends it");
}

#[test]
fn markers_are_filled_from_the_nearest_place_and_results_become_references() {
    let file = json!({"name": "For {{param.child}}", "params": {"child": "nobody", "age": 9}, "tasks": [
        {"id": "look", "agent": "marie", "title": "Look at {{ param.child }}", "description": "Age {{param.age}}. \\{{kept}} {{param.own}}",
         "params": {"own": "of {{param.child}}", "aside": "x"}},
        {"id": "tell", "agent": "fabien", "description": "Write from {{tasks.look.summary}} and {{tasks.look.artifacts}}."}]});
    let made = read(&file, &[("child", "Mira {{param.age}}")]).unwrap();
    assert_eq!(made.text, "For Mira {{param.age}}", "a value brings no marker of its own");
    let [look, tell] = &made.plan.tasks[..] else { panic!("{:?}", made.plan) };
    assert_eq!(look.title, "Look at Mira {{param.age}}");
    assert_eq!(look.objective, "Age 9. {{kept}} of Mira {{param.age}}\n\nParameters:\n- aside: x");
    assert_eq!(tell.objective, "Write from the summary of `look` and the files that `look` made.");
    assert_eq!(tell.dependencies, ["look"], "a result that is taken is waited for");
    assert_eq!(tell.inputs, [Input { dependency: "look".into(), what: "its summary and the files it made".into() }]);
    assert_eq!(to_mend(&made.plan), [""; 0]);
}

#[test]
fn a_marker_that_nobody_knows_names_the_nearest_one() {
    let file = |text: &str| {
        json!({"name": "x", "params": {"child": "Mira"}, "tasks": [
            {"id": "look", "agent": "marie", "description": "Look."}, {"id": "tell", "agent": "anga", "description": text}]})
    };
    for (text, near) in [
        ("{{param.chold}}", "did you mean {{param.child}}?"),
        ("{{params.child}}", "did you mean {{param.child}}?"),
        ("{{tasks.lok.summary}}", "did you mean {{tasks.look.summary}}?"),
        ("{{tasks.look.sumary}}", "did you mean {{tasks.look.summary}}?"),
        ("{{task.look.artifacts}}", "did you mean {{tasks.look.artifacts}}?"),
        ("{{tasks.tell.summary}}", "takes the summary of its own task"),
        ("{{worker}}", "there are param.child, tasks.look.summary"),
        ("{{param.child", "is not closed"),
    ] {
        let said = messages(read(&file(text), &[]));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("W01 tasks[1].objective: ") && said[0].contains(near), "{text}: {said:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_with_the_nearest_name() {
    let file = json!({"name": "x", "tsks": [], "tasks": [
        {"id": "a", "agent": "marie", "action": "look", "dependancies": ["b"]},
        {"id": "b", "agent": "anga", "action": "look", "dependencies": ["aa"], "inputs": ["c"], "priority": "soon", "timeout": "5m"},
        7]});
    let said = messages(read(&file, &[("colour", "red")]));
    for part in [
        "has a field `tsks` that no workflow has; did you mean `tasks`?",
        "tasks[0]: has a field `dependancies` that no workflow has; did you mean `dependencies`?",
        "tasks[1].dependencies[0]: there is no task `aa` in this workflow; did you mean `a`?",
        "tasks[1].inputs[0]: there is no task `c`",
        "`soon` is no priority",
        "tasks[1].timeout: should be a whole number",
        "tasks[2]: should be an object",
        "W02 params: nothing uses the value of `colour`",
    ] {
        assert!(said.iter().any(|one| one.contains(part)), "{part}: {said:#?}");
    }
    for (text, part) in [
        ("[]", "should be a JSON object"),
        ("{", "is no JSON"),
        ("{}", "no list named `tasks`"),
        (r#"{"tasks": {}}"#, "should be a list"),
        (r#"{"workflow_version": 2, "tasks": []}"#, "2 is no version"),
    ] {
        let said = messages(Workflow::read(text).and_then(|workflow| make(&workflow, &Values::new())));
        assert!(said.iter().any(|one| one.contains(part)), "{text}: {said:?}");
    }
}

#[test]
fn a_roster_makes_the_workflow_once_for_each_row() {
    let file = json!({"name": "Evaluations", "tasks": [
        {"id": "look", "agent": "marie", "description": "Look at the child.", "params": {"date": "today"}},
        {"id": "write", "agent": "fabien", "description": "Write to the parents of {{param.name}}.", "inputs": ["look"]}]});
    let workflow = Workflow::read(&file.to_string()).unwrap();
    let row = |name: &str, age: &str| Row {
        workflow: workflow.clone(),
        values: [("name", name), ("age", age)].map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
    };
    let made =
        batch("Evaluations", &[row("Mira Sol", "9"), row("Tom", "11"), row("Tom", "12")], &Values::new()).unwrap();
    assert_eq!(made.text, "Evaluations, for 3 rows");
    let ids: Vec<&str> = made.plan.tasks.iter().map(|task| &*task.id).collect();
    assert_eq!(ids, ["look-mira-sol", "write-mira-sol", "look-tom", "write-tom", "look-tom-2", "write-tom-2"]);
    assert_eq!(made.plan.tasks[0].objective, "Look at the child.\n\nParameters:\n- age: 9\n- date: today");
    assert_eq!(made.plan.tasks[3].dependencies, ["look-tom"]);
    assert_eq!(made.plan.tasks[3].inputs[0].dependency, "look-tom");
    assert!(made.plan.tasks[1].objective.contains("the parents of Mira Sol"));
    assert_eq!(to_mend(&made.plan), [""; 0], "rows with the same words are not the same task");
    let wrong = messages(batch("x", &[row("Mira", "9"), Row { values: Values::new(), ..row("", "") }], &Values::new()));
    assert!(wrong[0].contains("row 2 (row2): tasks[1].objective") && wrong[0].contains("{{param.name}}"), "{wrong:?}");
}

#[test]
fn a_thousand_rows_pass_and_one_more_does_not() {
    let file =
        json!({"name": "x", "tasks": [{"id": "look", "agent": "marie", "description": "Look at {{param.name}}."}]});
    let workflow = Workflow::read(&file.to_string()).unwrap();
    let row = |n: usize| Row { workflow: workflow.clone(), values: [("name".to_owned(), format!("child {n}"))].into() };
    let rows: Vec<Row> = (0..=CAP).map(row).collect();
    assert_eq!(to_mend(&batch("x", &rows[..CAP], &Values::new()).unwrap().plan), [""; 0]);
    assert!(to_mend(&batch("x", &rows, &Values::new()).unwrap().plan)[0].starts_with("P02 tasks: 1001 tasks"));
}

#[test]
fn the_shipped_examples_pass_every_check_without_a_word() {
    for (name, text) in [
        ("single", include_str!("../../../assets/examples/single.json")),
        ("fan-out", include_str!("../../../assets/examples/fan-out.json")),
        ("chain", include_str!("../../../assets/examples/chain.json")),
        ("mixed", include_str!("../../../assets/examples/mixed.json")),
    ] {
        let made = make(&Workflow::read(text).unwrap(), &Values::new()).unwrap();
        let faults: Vec<String> = plan::check(&made.plan, &rules()).iter().map(ToString::to_string).collect();
        assert_eq!(faults, [""; 0], "{name}");
    }
}

/// A plan with everything a plan can say.
fn rich() -> Plan {
    let task = PlanTask {
        id: "quiz-".into(),
        worker: "marie".into(),
        title: "Write {{the}} quiz".into(),
        objective: "Ten questions \\{{ and {{param.x}} for\n{{{".into(),
        inputs: vec![Input { dependency: String::new(), what: "the {{class}}".into() }],
        output: "quiz.json".into(),
        boundaries: "Nothing else.".into(),
        dependencies: Vec::new(),
        done_when: vec![
            "It has {{ten}}".into(),
            DoneWhen::Command { argv: vec!["true".into(), "{{".into()] },
            DoneWhen::Json { path: "quiz.json".into(), schema: json!({"type": "array", "{{": "{{"}) },
        ],
        serves: vec!["r1".into()],
        effort: Some(Effort::High),
        model_tier: Some(crate::model::plan::ModelTier::Light),
        model: Some("opus".into()),
        estimates: Estimates {
            minutes: Some(Range { low: 1.0, high: 2.5 }),
            tokens: None,
            usd: Some(Range::point(0.1)),
        },
        side_effects: vec!["Sends a {{letter}}".into()],
        idempotent: false,
        can_wait: true,
        review: true,
        priority: Some(Priority(2)),
        timeout: Some(90),
    };
    let after = PlanTask {
        id: "b".into(),
        dependencies: vec!["quiz-".into()],
        // Waits, and takes nothing: no reader may add what it takes.
        inputs: Vec::new(),
        worker: "anga".into(),
        title: "B".into(),
        objective: "Do b.".into(),
        ..PlanTask::default()
    };
    Plan {
        summary: "Two {{tasks}}.".into(),
        requirements: vec![Requirement { id: "r1".into(), text: "A {{quiz}}".into() }],
        synthesis: String::new(),
        tasks: vec![task, after],
        ..Plan::default()
    }
}

#[test]
fn a_plan_that_was_written_and_read_again_is_the_same_plan() {
    let plan = rich();
    let file = serde_json::to_string_pretty(&write("The {{goal}}\nin two lines", &plan)).unwrap();
    let made = make(&Workflow::read(&file).unwrap(), &Values::new()).unwrap();
    assert_eq!(made.text, "The {{goal}}\nin two lines");
    assert_eq!((made.plan.hash(), made.plan), (plan.hash(), plan));
    // What older programs read.
    let file: Value = serde_json::from_str(&file).unwrap();
    assert_eq!((&file["tasks"][0]["agent"], &file["tasks"][0]["action"]), (&json!("marie"), &json!("write_the_quiz")));
    assert!(file["tasks"][1]["params"].is_object() && file["tasks"][1]["dependencies"][0] == "quiz-");
}

proptest! {
    #[test]
    fn any_text_survives_the_way_into_a_file_and_back(text in "([{}\\\\a .]|param|tasks){0,30}") {
        let mut filler = marks::Filler::new(Vec::new(), &[], "");
        let back = filler.text("", &marks::escaped(&text));
        prop_assert_eq!(back, text);
        prop_assert!(filler.end().1.is_empty());
    }
}
