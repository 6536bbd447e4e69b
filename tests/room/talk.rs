//! Talk with the orchestrator for real: what it asks and is told, who would do something, and what follows from a goal that ended.

use serde_json::json;

use crate::common::Stage;

const REHEARSAL: &str = "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0\n";

#[tokio::test]
async fn what_the_orchestrator_asks_is_answered_and_the_plan_knows_it() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    let asked = stage.run(&["run", "--approve", "auto", "Write a letter. [[rehearse:plan-asks]]"]).exits(3);
    assert!(asked.out.contains("Who will read it?") && asked.err.contains("podium answer g1 TEXT"), "{asked:#?}");
    let status = stage.status();
    assert_eq!(status["needs_you"][0], json!({"kind": "question", "id": "g1"}), "{status:#}");
    assert_eq!(status["goals"][0]["state"], "needs_answer");
    assert_eq!(status["goals"][0]["questions"], json!(["Who will read it?", "By when?"]));
    assert!(stage.run(&["status"]).exits(0).out.contains("g1 asks: Who will read it? By when?"));
    assert!(stage.run(&["approve", "g1"]).exits(3).err.contains("answer it"));
    stage.run(&["answer", "g1", " "]).exits(3);

    stage.run(&["answer", "g1", "The parents,", "by Friday."]).exits(0);
    stage.run(&["wait", "g1", "--timeout", "30s"]).exits(0);
    let shown = stage.run(&["show", "g1", "--json"]).exits(0).json();
    let inputs = shown["plan"]["tasks"][0]["inputs"].to_string();
    assert!(inputs.contains("The parents, by Friday."), "{shown:#}");
    assert_eq!((&shown["state"], shown["plan"]["revisions"].as_array().unwrap().len()), (&json!("done"), 2));
    assert!(stage.run(&["answer", "g1", "More."]).exits(3).err.contains("asks nothing"));

    // Nobody has to answer.
    stage.run(&["run", "--approve", "auto", "Write a note. [[rehearse:plan-asks]]"]).exits(3);
    stage.run(&["deny", "g2"]).exits(0);
    assert_eq!(stage.run(&["show", "g2", "--json"]).exits(0).json()["state"], "planned");
    stage.close().await;
}

#[tokio::test]
async fn a_question_waits_for_its_answer_across_a_restart() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    stage.run(&["run", "--approve", "auto", "Write a letter. [[rehearse:plan-asks]]"]).exits(3);
    stage.run(&["stop"]).exits(0);
    stage.serve().await;
    assert_eq!(stage.status()["goals"][0]["state"], "needs_answer");
    stage.run(&["answer", "g1", "The parents."]).exits(0);
    stage.run(&["wait", "g1", "--timeout", "30s"]).exits(0);
    stage.close().await;
}

#[tokio::test]
async fn who_would_do_it_is_said_with_reason_and_price_and_nothing_starts() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    let said = stage.run(&["ask", "Fix the sign-up page"]).exits(0);
    for part in ["anga", "Fix the sign-up page", "why  A rehearsal plan in one task", "$0.", "asking cost $"] {
        assert!(said.out.contains(part), "{part}: {said:#?}");
    }
    let shown = stage.run(&["ask", "Fix the sign-up page", "--json"]).exits(0).json();
    assert_eq!((&shown["tasks"][0]["agent"], &shown["goal"]), (&json!("anga"), &json!("g2")), "{shown:#}");
    assert!(shown["usd"]["high"].as_f64().unwrap() > shown["usd"]["low"].as_f64().unwrap());
    let status = stage.status();
    assert!(status["tasks"].as_array().unwrap().is_empty(), "{status:#}");
    assert_eq!(status["goals"][0]["state"], "planned");
    assert!(status["needs_you"].as_array().unwrap().is_empty(), "{status:#}");
    stage.run(&["ask", " "]).exits(2);
    stage.close().await;
}

#[tokio::test]
async fn what_follows_from_a_goal_is_planned_with_its_report_at_hand() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    stage.run(&["run", "--approve", "auto", "Write a letter."]).exits(0);
    let again = stage.run(&["run", "--approve", "auto", "--follows", "g1", "Shorten it.", "--json"]).exits(0).json();
    assert_eq!((&again["follows"], &again["state"]), (&json!("g1"), &json!("done")), "{again:#}");
    // The stand-in has been shown the report: it says so in its summary.
    let summary = again["plan"]["summary"].as_str().unwrap();
    assert!(summary.contains("after g1"), "{summary}");
    assert!(stage.run(&["run", "--follows", "g7", "x"]).exits(2).err.contains("there is no goal g7"));
    stage.run(&["run", "--approve", "never", "Write a poem."]).exits(0);
    let refused = stage.run(&["run", "--follows", "g3", "Shorten it."]).exits(3);
    assert!(refused.err.contains("g3 has no report to follow up on"), "{refused:#?}");
    stage.close().await;
}
