//! Plans for real: bad answers of a planner repaired, mended or put before a person; edits by verbs, before and while a goal
//! runs; a room whose only way to a model is the CLI's own login.

use std::{fs, os::unix::fs::PermissionsExt as _};

use podium::room::Goal;
use serde_json::{Value, json};

use crate::common::{Stage, cli::cli};

const REHEARSAL: &str = "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0\n";

fn codes(plan: &Value) -> Vec<&str> {
    let mut codes: Vec<&str> = plan["faults"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap()).collect();
    codes.dedup();
    codes
}

#[tokio::test]
async fn whatever_a_planner_answers_is_repaired_mended_or_put_before_a_person() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    let mut n = 0;
    let mut ask = |words: &str, wanted: i32| {
        n += 1;
        let goal = format!("Write a letter and check the page. {words}");
        stage.run(&["run", "--approve", "never", &goal]).exits(wanted);
        let shown = stage.run(&["show", &format!("g{n}"), "--json"]).exits(0).json();
        let makers: Vec<String> = shown["plan"]["revisions"]
            .as_array()
            .map(|each| each.iter().map(|r| r["by"].as_str().unwrap().to_owned()).collect())
            .unwrap_or_default();
        (shown, makers.join(" "))
    };
    let (plain, makers) = ask("", 0);
    assert_eq!((&*makers, codes(&plain["plan"]).len()), ("planner", 0), "{plain:#}");
    assert_eq!(ask("[[rehearse:plan-fenced]]", 0).1, "planner", "a fence is no fault");
    for (word, code) in [
        ("plan-prose", "P01"),
        ("plan-cut", "P01"),
        ("plan-empty", "P01"),
        ("plan-language", "P01"),
        ("plan-version", "P01"),
        ("plan-many", "P02"),
        ("plan-strangers", "P04"),
        ("plan-circle", "P06"),
        ("plan-above", "P08"),
    ] {
        let (shown, makers) = ask(&format!("[[rehearse:{word}*2]]"), 0);
        assert_eq!(makers, "planner planner planner", "{word}: {shown:#}");
        let first = &shown["plan"]["revisions"][0];
        assert!(codes(first).contains(&code), "{word}: {first:#}");
        assert!(codes(&shown["plan"]).is_empty(), "{word}: {shown:#}");
    }
    // Three bad answers: what needs no guess is mended and asks; the rest is one task, and nobody runs it unasked.
    let (shown, makers) = ask("[[rehearse:plan-loose*3]]", 0);
    assert_eq!(makers, "planner planner planner salvage");
    assert!(shown["plan"]["gated"].as_bool().unwrap() && codes(&shown["plan"]).contains(&"P05"), "{shown:#}");
    let (shown, makers) = ask("[[rehearse:plan-clash*3]]", 0);
    assert_eq!(makers, "planner planner planner salvage");
    assert!(codes(&shown["plan"]).contains(&"P09"), "{shown:#}");
    let (shown, makers) = ask("[[rehearse:plan-strangers*3]]", 1);
    assert_eq!((&*makers, &shown["state"]), ("planner planner planner fallback", &json!("failed")));
    for word in ["plan-injected", "plan-risky"] {
        let (shown, _) = ask(&format!("[[rehearse:{word}]]"), 0);
        assert!(codes(&shown["plan"]).contains(&"P14") && shown["plan"]["gated"] == true, "{word}: {shown:#}");
    }
    stage.close().await;
}

#[tokio::test]
async fn goals_of_every_kind_are_text() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    for goal in ["😀😀😀", "Clear \u{1b}[2J\u{1b}]52;c;aGk=\u{7} the </goal> hall", &"word ".repeat(20_000)] {
        let shown = stage.run(&["run", "--approve", "never", goal, "--json"]).exits(0).json();
        assert_eq!(shown["state"], "planned");
        assert!(!shown["text"].as_str().unwrap().contains('\u{1b}'));
    }
    stage.run(&["run", " "]).exits(2);
    stage.close().await;
}

#[tokio::test]
async fn a_risk_stops_an_automatic_yes_and_a_ceiling_comes_with_a_persons() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    let asked = stage.run(&["run", "--approve", "auto", "Write a letter. [[rehearse:plan-risky]]"]).exits(3);
    assert!(asked.out.contains("needs a yes: P14") && asked.err.contains("waits for a person"), "{asked:#?}");
    let said = stage.run(&["approve", "g1", "--ceiling", "2.50"]).exits(0);
    assert!(said.out.contains("g1 is approved up to $2.50"), "{said:#?}");
    stage.run(&["wait", "g1", "--timeout", "30s"]).exits(0);
    stage.run(&["approve", "g1", "--ceiling", "nothing"]).exits(2);
    stage.close().await;
}

#[tokio::test]
async fn a_plan_is_shown_and_edited_by_verbs_before_it_runs() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    stage
        .run(&["run", "--detach", "--approve", "ask", "Write a letter, then check the page and draft a flyer."])
        .exits(0);
    let goal = "g1".parse().unwrap();
    stage.until("the plan", |s| s.goals.get(&goal)?.needs_approval().then_some(())).await;
    let shown = stage.run(&["plan", "g1"]).exits(0);
    for part in ["write-letter", "→ check-page", "after write-letter", "tok $", "revision 1"] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    let plan = stage.run(&["plan", "g1", "--json"]).exits(0).json();
    assert_eq!((&plan["steps"][0], &plan["revision"]), (&json!(["write-letter"]), &json!(1)), "{plan:#}");
    assert!(plan["estimate"]["usd"]["high"].as_f64().unwrap() > 0.0 && plan["hash"].as_str().unwrap().len() == 64);

    let set = ["plan", "g1", "--set", "draft-flyer.agent=marie", "--set", "draft-flyer.priority=high", "--set"];
    stage.run(&[&set[..], &["draft-flyer.timeout=90s", "--set", "draft-flyer.effort=low", "--json"]].concat()).exits(0);
    let plan = stage.run(&["plan", "g1", "--json"]).exits(0).json();
    let flyer = &plan["tasks"][2];
    assert_eq!((&flyer["worker"], &flyer["priority"], &flyer["timeout"]), (&json!("marie"), &json!(2), &json!(90)));

    let refused = stage.run(&["plan", "g1", "--set", "draft-flyer.agent=zoe"]).exits(3);
    assert!(refused.err.contains("P04 tasks[2].worker"), "{refused:#?}");
    let refused = stage.run(&["plan", "g1", "--drop", "write-letter"]).exits(3);
    assert!(refused.err.contains("rewire"), "{refused:#?}");
    stage.run(&["plan", "g1", "--drop", "write-letter", "--rewire"]).exits(0);
    assert!(stage.run(&["plan", "g1", "--set", "draft-flyer.mood=good"]).exits(2).err.contains("no field mood"));

    // The editor gets the whole plan and what it leaves is checked whole.
    let editor = stage.path.join("editor.sh");
    fs::write(&editor, "#!/bin/sh\nsed -i 's/\"title\": \"Check the page\"/\"title\": \"Look at it\"/' \"$1\"\n")
        .unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    stage.env.insert("EDITOR".to_owned(), editor.clone().into_os_string());
    stage.run(&["plan", "g1", "--edit"]).exits(0);
    let plan = stage.run(&["plan", "g1", "--json"]).exits(0).json();
    assert_eq!(plan["tasks"][0]["title"], "Look at it", "{plan:#}");
    fs::write(&editor, "#!/bin/sh\necho '{\"tasks\": [{\"id\": \"a\", \"mood\": 1}]}' > \"$1\"\n").unwrap();
    let wrong = stage.run(&["plan", "g1", "--edit"]).exits(2);
    assert!(wrong.err.contains("a field `mood` that no plan has"), "{wrong:#?}");

    stage.run(&["plan", "g1", "--merge", "check-page,draft-flyer"]).exits(0);
    let plan = stage.run(&["plan", "g1", "--json"]).exits(0).json();
    let makers: Vec<&str> = plan["revisions"].as_array().unwrap().iter().map(|r| r["by"].as_str().unwrap()).collect();
    assert_eq!((plan["tasks"].as_array().unwrap().len(), makers.len()), (1, 5), "{makers:?}");
    stage.run(&["approve", "g1"]).exits(0);
    stage.run(&["wait", "g1", "--timeout", "30s"]).exits(0);
    stage.close().await;
}

#[tokio::test]
async fn a_running_goal_is_edited_in_the_queue_too() {
    let mut stage = Stage::scripted(REHEARSAL);
    stage.serve().await;
    let gate = stage.gate();
    stage.steps("g1-write-letter", &["--wait-for", gate.to_str().unwrap(), "--print", "It is written."]);
    stage.steps("g1-check-page", &["--print", "It is checked."]);
    stage
        .run(&["run", "--detach", "--approve", "auto", "Write a letter, then check the page and draft a flyer."])
        .exits(0);
    stage.child("marie/g1-write-letter").await;
    let stuck = stage.run(&["plan", "g1", "--set", "write-letter.title=Other"]).exits(3);
    assert!(stuck.err.contains("runs or has ended"), "{stuck:#?}");
    stage.run(&["plan", "g1", "--drop", "draft-flyer", "--set", "check-page.title=Look at the page"]).exits(0);
    let goal = "g1".parse().unwrap();
    let settled = |goal: &Goal| (goal.published && goal.amending.is_none() && goal.tasks.len() == 2).then_some(());
    stage.until("the queue to follow", |s| settled(s.goals.get(&goal)?)).await;
    assert!(!stage.path.join("tasks/fabien/g1-draft-flyer.json").exists());
    stage.open_gate();
    stage.run(&["wait", "g1", "--timeout", "30s"]).exits(0);
    let shown = stage.run(&["show", "g1", "--json"]).exits(0).json();
    assert_eq!((&shown["state"], shown["task_states"].as_array().unwrap().len()), (&json!("done"), 2), "{shown:#}");
    assert!(shown["task_states"].to_string().contains("Look at the page"), "{shown:#}");
    stage.close().await;
}

/// A program that answers like the CLI: a plan where a schema is given, else words.
const CLI: &str = r#"#!/bin/sh
case "$1" in --version) echo "9.9.9 (Claude Code)"; exit 0;; esac
cat > "$HOME/asked"
printf '%s\n' "$*" >> "$HOME/arguments"
echo '{"type":"system","subtype":"init","session_id":"s","tools":["StructuredOutput"],"model":"opus","cwd":"/","claude_code_version":"9.9.9"}'
case "$*" in
*--json-schema*) printf '%s%s%s\n' '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"session_id":"s","result":"","total_cost_usd":0.01,"usage":{"input_tokens":10,"output_tokens":5},"structured_output":' 'PLAN' '}';;
*) echo '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"session_id":"s","result":"The letter is written [letter].","total_cost_usd":0.01,"usage":{"input_tokens":10,"output_tokens":5}}';;
esac
"#;

#[tokio::test]
async fn a_room_with_nothing_but_a_login_of_the_cli_plans_and_reports_through_it() {
    let plan = json!({"schema_version": 2, "summary": "One letter.", "requirements": [{"id": "r1", "text": "A letter"}],
        "synthesis": "", "tasks": [{"id": "letter", "worker": "marie", "title": "Write the letter",
        "objective": "Write a letter of welcome.", "inputs": [], "output": "One page.", "boundaries": "No prices.",
        "dependencies": [], "done_when": ["It is one page"], "serves": ["r1"], "effort": "medium", "model_tier": "standard",
        "estimates": {"minutes": {"low": 1, "high": 2}, "tokens": {"low": 1000, "high": 2000}}, "side_effects": [],
        "idempotent": true, "can_wait": false, "review": false}]});
    let mut stage = Stage::scripted("");
    let cli = stage.path.join("claude.sh");
    fs::write(&cli, CLI.replace("PLAN", &plan.to_string())).unwrap();
    fs::set_permissions(&cli, fs::Permissions::from_mode(0o755)).unwrap();
    stage.env.insert("CLAUDE_COMMAND".to_owned(), cli.into_os_string());
    let home = std::path::Path::new(&stage.env["XDG_DATA_HOME"]).join("podium/auth-homes/orchestrator");
    fs::create_dir_all(home.join("config")).unwrap();
    let login = r#"{"claudeAiOauth":{"accessToken":"invented","refreshToken":"invented"}}"#;
    fs::write(home.join("config/.credentials.json"), login).unwrap();
    stage.serve().await;
    let ran = stage.run(&["run", "--approve", "auto", "Welcome the new pupils."]).exits(0);
    assert!(ran.out.contains("The letter is written [letter#1]."), "{ran:#?}");
    let shown = stage.run(&["show", "g1", "--json"]).exits(0).json();
    assert_eq!((&shown["state"], &shown["plan"]["model"]), (&json!("done"), &json!("opus")), "{shown:#}");
    assert!(shown["plan"]["estimate"]["planning_cost_usd"].as_f64().unwrap() > 0.009, "{shown:#}");
    let arguments = fs::read_to_string(home.join("home/arguments")).unwrap();
    assert!(arguments.lines().all(|line| line.contains("--tools= ")), "{arguments}");
    stage.close().await;
}

#[tokio::test]
async fn the_second_plan_reads_its_prefix_from_the_cache_and_the_ledger_says_so() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    for goal in ["Write a letter.", "Check the page, then draft a flyer."] {
        stage.run(&["run", "--approve", "never", goal]).exits(0);
    }
    let usage = stage.run(&["usage", "--by", "goal", "--json"]).exits(0).json();
    let of = |goal: &str, field: &str| {
        let group = usage["groups"].as_array().unwrap().iter().find(|group| group["name"] == goal);
        group.unwrap_or_else(|| panic!("{goal}: {usage:#}"))[field].as_u64().unwrap()
    };
    let (written, read) = (of("g1", "cache_creation_input_tokens"), of("g2", "cache_read_input_tokens"));
    assert!(written > 1_000 && read == written, "{written} written, {read} read");
    stage.close().await;
}

#[tokio::test]
async fn a_goal_that_cannot_even_be_planned_for_its_price_is_refused() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    let ran = stage.run(&["run", "--approve", "auto", "--budget", "0.000001", "Write a letter."]).exits(3);
    assert!(ran.err.contains("budget"), "{ran:#?}");
    assert_eq!(stage.run(&["show", "g1", "--json"]).exits(0).json()["state"], "failed");
    stage.close().await;
}

#[tokio::test]
async fn a_tier_of_a_plan_is_the_model_that_the_stage_names_for_it() {
    let mut stage = Stage::bare(&format!("{REHEARSAL}[tiers]\nsmall = \"sonnet\"\n"));
    stage.serve().await;
    stage.run(&["run", "--detach", "--approve", "ask", "Write a letter."]).exits(0);
    let goal = "g1".parse().unwrap();
    stage.until("the plan", |s| s.goals.get(&goal)?.needs_approval().then_some(())).await;
    stage.run(&["plan", "g1", "--set", "write-letter.tier=light"]).exits(0);
    let plan = stage.run(&["plan", "g1", "--json"]).exits(0).json();
    assert_eq!(plan["estimate"]["task_model"]["write-letter"], "sonnet", "{plan:#}");
    stage.run(&["approve", "g1"]).exits(0);
    stage.run(&["wait", "g1", "--timeout", "30s"]).exits(0);
    let shown = stage.run(&["show", "g1-write-letter", "--json"]).exits(0).json();
    assert!(shown["result"]["model"].as_str().unwrap().contains("sonnet"), "{shown:#}");
    stage.close().await;
}

#[tokio::test]
async fn the_real_cli_plans_and_reports() {
    let Some(cli) = cli() else { return };
    let mut stage = Stage::scripted(&format!("{REHEARSAL}[orchestrator]\nengine = \"claude\"\n"));
    stage.env.insert("CLAUDE_COMMAND".to_owned(), cli);
    stage.serve().await;
    let ran = stage.run(&["run", "--approve", "auto", "Write a letter, then check the page.", "--json"]).exits(0);
    let shown = ran.json();
    assert_eq!((&shown["state"], shown["tasks"].as_array().unwrap().len()), (&json!("done"), 2), "{shown:#}");
    assert_eq!(shown["plan"]["revisions"][0]["by"], "planner");
    assert!(codes(&shown["plan"]).is_empty(), "{shown:#}");
    assert!(shown["report_text"].as_str().unwrap().contains("[write-letter#1]"), "{shown:#}");
    // What the CLI asked went through the gateway, for this goal.
    let usage = stage.run(&["usage", "--by", "goal", "--json"]).exits(0).json();
    assert!(usage["groups"][0]["calls"].as_u64().unwrap() >= 2, "{usage:#}");
    // A question comes through the same tool.
    let asked = stage.run(&["run", "--approve", "auto", "Write a note. [[rehearse:plan-asks]]"]).exits(3);
    assert!(asked.out.contains("Who will read it?"), "{asked:#?}");
    stage.close().await;
}
