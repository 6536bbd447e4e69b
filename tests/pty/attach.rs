//! An agent's own CLI in a pane, at home, and the screen as it was afterwards.

use super::*;

/// Keys that go to the first agent and open its CLI.
const ATTACH: &str = "\t\t\t\tL";
const CTRL_Q: &str = "\u{11}";

/// A CLI that is this shell script.
fn cli(stage: &Stage, script: &str) -> String {
    let claude = stage.dir.path().join("bin/claude");
    let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && {{ echo 2.1.330; exit; }}\n{script}");
    fs::write(&claude, script).unwrap();
    fs::set_permissions(&claude, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    claude.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_agents_own_cli_runs_in_a_pane_at_home_with_nothing_of_ours() {
    let stage = Stage::new(REHEARSAL);
    // Says what it was given, spoils its terminal, and dies in the middle of it.
    let claude = cli(
        &stage,
        "echo; echo \"home is $HOME\"; echo \"config is $CLAUDE_CONFIG_DIR\"; echo \"key is [$ANTHROPIC_API_KEY] [$SECRET]\"\n\
        printf '\\033[?1049h\\033[?25l'; printf 'in its own screen'; /bin/stty raw -echo\n\
        k=$(/usr/bin/head -c3 | /usr/bin/od -An -tx1); echo \"typed:$k\"; /usr/bin/env > \"$HOME/env\"; kill -9 $$\n",
    );
    let vars = [("CLAUDE_COMMAND", claude.as_str()), ("SECRET", "of-ours"), ("MARIE_API_KEY", "sk-ours")];
    let mut screen = stage.open_with(WIDE, &[], &vars);
    screen.see("┌ Agents").await;
    screen.press(ATTACH).await;
    screen.see("in its own screen").await;
    screen.see("marie's own CLI · ctrl-q closes it").await;
    screen.see("podium").await;
    // None of these is a key of ours there, not even the one that leaves.
    screen.press("q\u{3}?").await;
    screen.see("typed: 71 03 3f").await;
    screen.see("claude ended with signal: 9").await;
    screen.press("q").await;
    screen.see("┌ Agents").await;
    screen.see_no("typed:").await;
    screen.assert_drawn_whole().await;
    let found = find(stage.dir.path(), "env").expect("it was at home");
    let env = fs::read_to_string(&found).unwrap();
    let home = found.parent().unwrap().display().to_string();
    assert!(env.contains(&format!("HOME={home}")) && home.contains("marie"), "{env}");
    assert!(env.contains("CLAUDE_CONFIG_DIR="), "{env}");
    assert!(!env.contains("of-ours") && !env.contains("sk-ours"), "{env}");
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
    stage.nothing_left().await;
}

#[tokio::test]
async fn a_cli_has_the_size_of_its_pane_and_is_ended_with_all_it_started_when_its_pane_is_closed() {
    let stage = Stage::new(REHEARSAL);
    let claude = cli(
        &stage,
        "trap 'echo no' INT TERM HUP; /usr/bin/setsid /bin/sleep 1000 &\n\
        echo $! > \"$HOME/helper\"; echo $$ > \"$HOME/leader\"\n\
        while :; do echo \"size $(/bin/stty size)\"; /bin/sleep 0.1; done\n",
    );
    let mut screen = stage.open_with(WIDE, &[], &[("CLAUDE_COMMAND", &claude)]);
    screen.see("┌ Agents").await;
    screen.press(ATTACH).await;
    screen.see(&format!("size {} {}", WIDE.1 - 2, WIDE.0)).await;
    screen.resize(100, 30);
    screen.see("size 28 100").await;
    screen.press(CTRL_Q).await;
    screen.see("ctrl-q again ends it").await;
    screen.press("x").await;
    screen.see_no("ctrl-q again ends it").await;
    screen.press(CTRL_Q).await;
    screen.see("ctrl-q again ends it").await;
    screen.press(CTRL_Q).await;
    screen.see("┌ Agents").await;
    for name in ["helper", "leader"] {
        let pid = fs::read_to_string(find(stage.dir.path(), name).unwrap()).unwrap();
        assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists(), "the {name} is gone");
    }
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
    stage.nothing_left().await;
}

#[tokio::test]
async fn a_screen_that_is_closed_ends_the_cli_in_its_pane() {
    let stage = Stage::new(REHEARSAL);
    let claude = cli(&stage, "echo $$ > \"$HOME/leader\"; echo here I am; exec /bin/sleep 1000\n");
    let mut screen = stage.open_with(WIDE, &[], &[("CLAUDE_COMMAND", &claude)]);
    screen.see("┌ Agents").await;
    screen.press(ATTACH).await;
    screen.see("here I am").await;
    screen.signal(Signal::TERM);
    let (_status, left) = screen.ended().await;
    assert!(!left.contains("here I am"), "the terminal is as it was: {left}");
    let pid = fs::read_to_string(find(stage.dir.path(), "leader").unwrap()).unwrap();
    assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
    assert!(stage.run(&["stop"]).await.status.success());
    stage.nothing_left().await;
}

#[tokio::test]
async fn the_real_cli_is_shown_in_the_pane_and_answers_keys() {
    let Some(real) = real_cli::cli() else { return };
    let stage = Stage::new(REHEARSAL);
    // It has been here before, so that it asks nothing of anybody; and nothing listens where it would call.
    let script = format!(
        "echo '{{\"hasCompletedOnboarding\":true,\"theme\":\"dark\",\"customApiKeyResponses\":\
         {{\"approved\":[\"rehearsal\"]}},\"projects\":{{\"'\"$HOME\"'\":\
         {{\"hasTrustDialogAccepted\":true}}}}}}' > \"$CLAUDE_CONFIG_DIR/.claude.json\"\n\
         exec /usr/bin/env ANTHROPIC_BASE_URL=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9 \
         ANTHROPIC_API_KEY=rehearsal CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 '{}'\n",
        Path::new(&real).display()
    );
    let claude = cli(&stage, &script);
    let mut screen = stage.open_with(WIDE, &[], &[("CLAUDE_COMMAND", &claude)]);
    screen.see("┌ Agents").await;
    screen.press(ATTACH).await;
    screen.until_within(Duration::from_mins(1), "the prompt of the CLI", |s| s.contains("❯")).await;
    screen.press("how are you").await;
    screen.see("how are you").await;
    screen.press(CTRL_Q).await;
    screen.see("ctrl-q again ends it").await;
    screen.press(CTRL_Q).await;
    screen.see("┌ Agents").await;
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
    stage.nothing_left().await;
}

/// The first file of this name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    entries
        .iter()
        .find(|path| path.is_file() && path.ends_with(name))
        .cloned()
        .or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find(path, name)))
}

#[tokio::test]
async fn without_the_cli_it_is_said_what_is_missing() {
    let stage = Stage::new(REHEARSAL);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("┌ Agents").await;
    screen.press(ATTACH).await;
    screen.see("the Claude CLI (claude) is not found").await;
    screen.see("┌ Agents").await;
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
}
