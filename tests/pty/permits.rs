//! A request of the real Claude Code CLI in the room's inbox, answered by keys.

use super::*;

/// A stage in which marie is the real CLI and must ask, and its screen; `None` where there is no CLI.
async fn opened() -> Option<(Stage, Terminal)> {
    let cli = real_cli::cli()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let stage = Stage::new(
        "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0.0\n[agents.marie]\nengine = \"claude\"\n\
         permissions = \"ask\"\n[agents.anga]\nslots = 0\n[agents.fabien]\nslots = 0\n",
    );
    let (cli, path) = (cli.to_str().unwrap(), path.to_str().unwrap());
    let mut screen = stage.open_with(SMALL, &[], &[("CLAUDE_COMMAND", cli), ("PATH", path)]);
    screen.see("Nothing to do yet").await;
    Some((stage, screen))
}

/// Leaves the screen and stops everything.
async fn close(stage: Stage, mut screen: Terminal) {
    screen.press(CTRL_C).await;
    screen.see("stop everything").await;
    screen.press("s").await;
    let (status, _) = screen.ended().await;
    assert!(status.success());
    stage.nothing_left().await;
}

#[tokio::test]
async fn what_an_agent_wants_to_know_is_chosen_and_written_by_keys() {
    let Some((stage, mut screen)) = opened().await else { return };
    stage.drop_task("marie", "class", "Plan a junior class. [[rehearse:question]]");
    screen.see("marie/class asks: Which room").await;
    screen.press("n").await;
    screen.see("in your own words").await;
    screen.see("Room for 14, and mirrors").await;
    screen.press("j").await;
    screen.press("\r").await;
    screen.see("[ ] Warm-up").await;
    screen.press(" ").await;
    screen.see("[x] Warm-up").await;
    screen.press("o").await;
    screen.see("answer p1").await;
    screen.press("a long bow").await;
    screen.press("\r").await;
    screen.see("marie/class asks for Write").await;
    let log = std::fs::read_to_string(stage.root().join("logs/marie/class.1.log")).unwrap();
    let told = r#"\"Which room is the class in?\"=\"Studio 2\", \"What goes into the plan?\"=\"Warm-up, a long bow\""#;
    assert!(log.contains(told), "the model was told: {log}");
    screen.press("n").await;
    screen.see("class.md").await;
    screen.press("a").await;
    stage.until("it is done", |s| s["counts"]["done"] == 1).await;
    close(stage, screen).await;
}

#[tokio::test]
async fn what_an_agent_asks_for_is_shown_as_data_and_answered_by_a_key() {
    let Some((stage, mut screen)) = opened().await else { return };
    let nasty = "Plan a junior class.";
    stage.drop_task("marie", "class", nasty);
    screen.see("marie/class asks for Write").await;
    screen.press("I").await;
    screen.see("may it").await;
    // A list moves: the first a shows what is asked for, the second one allows it.
    screen.press("a").await;
    screen.see("Arguments").await;
    screen.see("class.md").await;
    assert!(!stage.root().join("workspaces/dance/class.md").exists(), "not before it is allowed");
    screen.press("a").await;
    screen.see("allowed: Write").await;
    stage.until("it is done", |s| s["counts"]["done"] == 1).await;
    assert!(stage.root().join("workspaces/dance/class.md").exists());
    // And a no.
    stage.drop_task("marie", "second", nasty);
    screen.see("marie/second asks for Write").await;
    screen.press("n").await;
    screen.see("marie/second wants to use Write").await;
    screen.press("d").await;
    screen.see("denied: Write").await;
    stage.until("it is done without", |s| s["counts"]["done"] == 2).await;
    assert!(!stage.root().join("workspaces/dance/second.md").exists());
    close(stage, screen).await;
}
