//! A request of the real Claude Code CLI in the room's inbox, answered by keys.

use super::*;

#[tokio::test]
async fn what_an_agent_asks_for_is_shown_as_data_and_answered_by_a_key() {
    let Some(cli) = real_cli::cli() else { return };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let stage = Stage::new(
        "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0.0\n[agents.marie]\nengine = \"claude\"\n\
         permissions = \"ask\"\n[agents.anga]\nslots = 0\n[agents.fabien]\nslots = 0\n",
    );
    let (cli, path) = (cli.to_str().unwrap(), path.to_str().unwrap());
    let mut screen = stage.open_with(SMALL, &[], &[("CLAUDE_COMMAND", cli), ("PATH", path)]);
    screen.see("Nothing to do yet").await;
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
    screen.press(CTRL_C).await;
    screen.see("stop everything").await;
    screen.press("s").await;
    let (status, _) = screen.ended().await;
    assert!(status.success());
    stage.nothing_left().await;
}
