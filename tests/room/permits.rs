//! Requests of the real Claude Code CLI, answered by verbs: what it asks for is done or not, and it goes on.

use std::ffi::OsString;

use super::*;

/// A rehearsal in which marie is the real CLI and must ask.
fn asking(cli: OsString, room: &str) -> Stage {
    let toml = format!(
        "[room]\n{room}\n[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0.0\n[agents.marie]\nengine = \"claude\"\n\
         permissions = \"ask\"\n[agents.anga]\nslots = 0\n[agents.fabien]\nslots = 0\n"
    );
    let mut stage = Stage::bare(&toml);
    stage.env.insert("CLAUDE_COMMAND".to_owned(), cli);
    stage
}

/// What waits for an answer, once something does.
async fn asked(stage: &Stage) -> Value {
    let end = tokio::time::Instant::now() + Duration::from_mins(1);
    loop {
        // Between two cores there is nobody to be asked.
        let asks = stage.run(&["status", "--json"]).json()["asks"].clone();
        if let Some(first) = asks.get(0) {
            return first.clone();
        }
        assert!(tokio::time::Instant::now() < end, "nothing is asked for: {:#}", stage.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_real_cli_asks_for_is_done_when_it_is_allowed_and_not_when_it_is_denied() {
    let Some(cli) = cli() else { return };
    let mut stage = asking(cli, "");
    stage.serve().await;
    for (id, verb, by) in [("yes", "approve", "person"), ("no", "deny", "person")] {
        stage.run(&["submit", "--agent", "marie", "--id", id, "Plan a junior class."]).exits(0);
        let ask = asked(&stage).await;
        assert_eq!((&ask["task"], &ask["tool"]), (&json!(format!("marie/{id}")), &json!("Write")), "{ask:#}");
        assert!(ask["input"].as_str().unwrap().contains(&format!("{id}.md")), "{ask:#}");
        let needs = stage.status()["needs_you"].clone();
        assert_eq!(needs[0], json!({ "kind": "permission", "id": ask["id"] }));
        stage.run(&[verb, ask["id"].as_str().unwrap()]).exits(0);
        let result = stage.result(&format!("marie/{id}")).await;
        assert_ended(&result, "done", 1);
        let made = stage.path.join(format!("workspaces/dance/{id}.md"));
        assert_eq!(made.exists(), verb == "approve", "{}", made.display());
        let answers = stage.status()["answers"].clone();
        let last = answers.as_array().unwrap().last().unwrap();
        assert_eq!((&last["allowed"], &last["by"]), (&json!(verb == "approve"), &json!(by)), "{last:#}");
    }
    let late = stage.run(&["approve", "p1"]).exits(3);
    assert!(late.err.contains("p1 does not wait"), "{late:#?}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_a_no_and_three_noes_pause_the_task() {
    let Some(cli) = cli() else { return };
    let mut stage = asking(cli, "attended = false");
    stage.serve().await;
    let text = "Plan a junior class. [[rehearse:insist]]";
    stage.run(&["submit", "--agent", "marie", "--id", "stubborn", text]).exits(0);
    let task: TaskRef = "marie/stubborn".parse().unwrap();
    stage
        .until("a task that was denied too often is paused", |s| {
            let found = s.tasks.get(&task)?;
            (s.tasks.phase(found) == podium::room::tasks::Phase::Paused).then_some(())
        })
        .await;
    let status = stage.status();
    assert_eq!(status["needs_you"], json!([{ "kind": "paused", "id": "marie/stubborn" }]), "{status:#}");
    let answers = status["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 3, "{answers:#?}");
    assert!(answers.iter().all(|a| a["by"] == "unattended" && a["tool"] == "Bash"), "{answers:#?}");
    assert!(!stage.path.join("workspaces/dance/again-1.txt").exists());
    stage.run(&["cancel", "marie/stubborn"]).exits(0);
    assert_ended(&stage.result("marie/stubborn").await, "cancelled", 1);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_answers_is_denied_and_a_dead_core_is_told_again() {
    let Some(cli) = cli() else { return };
    let mut stage = asking(cli, "ask_timeout = \"4s\"");
    stage.serve().await;
    stage.run(&["submit", "--agent", "marie", "--id", "late", "Plan a junior class."]).exits(0);
    let first = asked(&stage).await;
    // The next core hears of it from the worker.
    let core = i32::try_from(stage.status()["core_pid"].as_i64().unwrap()).unwrap();
    let core = rustix::process::Pid::from_raw(core).unwrap();
    rustix::process::kill_process(core, rustix::process::Signal::KILL).unwrap();
    let again = asked(&stage).await;
    assert_eq!((&first["task"], &first["input"]), (&again["task"], &again["input"]));
    let result = stage.result("marie/late").await;
    assert_ended(&result, "done", 1);
    assert!(!stage.path.join("workspaces/dance/late.md").exists());
    let answers = stage.status()["answers"].clone();
    assert_eq!(answers[0]["by"], "nobody", "{answers:#}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_real_cli_wants_to_know_is_answered_by_a_verb() {
    let Some(cli) = cli() else { return };
    let mut stage = asking(cli, "");
    stage.serve().await;
    stage.run(&["submit", "--agent", "marie", "--id", "ask", "Plan a junior class. [[rehearse:question]]"]).exits(0);
    let ask = asked(&stage).await;
    assert_eq!(ask["questions"][0]["text"], "Which room is the class in?", "{ask:#}");
    assert_eq!(ask["questions"][1]["choices"][1]["label"], "Routine, first half");
    let id = ask["id"].as_str().unwrap();
    let refused = stage.run(&["approve", id]).exits(3);
    assert!(refused.err.contains("is a question"), "{refused:#?}");
    stage.run(&["answer", id, "studio 2", "1,2"]).exits(0);
    // What it does next is asked for as always; the answer has reached the model by then.
    let write = asked(&stage).await;
    assert_eq!(write["tool"], "Write");
    let log = stage.run(&["logs", "--task", "marie/ask"]).exits(0).out;
    let told =
        "\"Which room is the class in?\"=\"Studio 2\", \"What goes into the plan?\"=\"Warm-up, Routine, first half\"";
    assert!(log.contains(told), "{log}");
    stage.run(&["approve", write["id"].as_str().unwrap()]).exits(0);
    assert_ended(&stage.result("marie/ask").await, "done", 1);
    let answers = stage.status()["answers"].clone();
    assert_eq!(answers[0]["answers"], json!(["Studio 2", "Warm-up, Routine, first half"]), "{answers:#}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_agent_of_the_real_cli_is_named_where_it_asks() {
    let Some(cli) = cli() else { return };
    let mut stage = asking(cli, "");
    stage.serve().await;
    let text = "Plan a junior class. [[rehearse:subagent-acts]]";
    stage.run(&["submit", "--agent", "marie", "--id", "two", text]).exits(0);
    let mut seen = Vec::new();
    // The CLI asks whether it may start a sub-agent, then the sub-agent asks for its tool, then the agent for its own.
    while !stage.path.join("workspaces/dance/two.md").exists() {
        let ask = asked(&stage).await;
        seen.push((ask["tool"].as_str().unwrap().to_owned(), ask["subagent"].as_str().map(str::to_owned)));
        stage.run(&["approve", ask["id"].as_str().unwrap()]).exits(0);
        let id = ask["id"].clone();
        stage
            .until("the answer is taken", |s| {
                s.asks.open().iter().all(|open| json!(open.id.to_string()) != id).then_some(())
            })
            .await;
        if seen.last().unwrap().0 == "Write" {
            break;
        }
    }
    assert_ended(&stage.result("marie/two").await, "done", 1);
    let of = Some("general-purpose: Second look".to_owned());
    assert!(seen.contains(&("Bash".to_owned(), of)), "{seen:?}");
    assert!(seen.contains(&("Write".to_owned(), None)), "{seen:?}");
    assert!(stage.path.join("workspaces/dance/second-look.txt").exists());
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_real_cli_takes_back_leaves_the_inbox_with_a_word_and_a_late_answer_is_refused() {
    let Some(cli) = cli() else { return };
    let mut stage = asking(cli, "");
    // A hook of the agent's own home decides while the question is already on its way to a person.
    let decision = r#"{"hookSpecificOutput":{"hookEventName":"PermissionRequest","decision":{"behavior":"allow"}}}"#;
    let hook = json!({ "hooks": { "PermissionRequest": [{ "matcher": "Write", "hooks": [
        { "type": "command", "command": format!("sleep 3; echo '{decision}'") } ] }] } });
    let config = stage.path.join(".podium/homes/marie/config");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("settings.json"), hook.to_string()).unwrap();
    stage.serve().await;
    stage.run(&["submit", "--agent", "marie", "--id", "hooked", "Plan a junior class."]).exits(0);
    let ask = asked(&stage).await;
    assert_eq!(ask["tool"], "Write", "{ask:#}");
    assert_ended(&stage.result("marie/hooked").await, "done", 1);
    assert!(stage.path.join("workspaces/dance/hooked.md").exists(), "the hook has allowed it");
    let status = stage.status();
    assert!(status["asks"].as_array().unwrap().is_empty() && status["needs_you"].as_array().unwrap().is_empty());
    let late = stage.run(&["approve", ask["id"].as_str().unwrap()]).exits(3);
    assert!(late.err.contains("taken it back"), "{late:#?}");
    let log = stage.run(&["logs", "--task", "marie/hooked"]).exits(0).out;
    assert!(log.contains("takes back what it asked for: Write"), "{log}");
    stage.close().await;
}
