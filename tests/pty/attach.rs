//! An agent's own CLI in the screen's terminal, at home, and the screen as it was afterwards.

use super::*;

#[tokio::test]
async fn an_agents_own_cli_gets_the_terminal_at_home_with_nothing_of_ours_and_gives_the_screen_back() {
    let stage = Stage::new(REHEARSAL);
    let claude = stage.dir.path().join("bin/claude");
    // Says what it was given, spoils the terminal, and dies in the middle of it.
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && { echo 2.1.330; exit; }\n\
        echo; echo \"home is $HOME\"; echo \"config is $CLAUDE_CONFIG_DIR\"; echo \"key is [$ANTHROPIC_API_KEY] [$SECRET]\"\n\
        printf '\\033[?1049h\\033[?25l'; printf 'in its own screen'; /bin/stty raw -echo\n\
        k=$(/usr/bin/head -c1); /usr/bin/env > \"$HOME/env\"; kill -9 $$\n";
    fs::write(&claude, script).unwrap();
    fs::set_permissions(&claude, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let claude = claude.to_str().unwrap();
    let mut screen =
        stage.open_with(WIDE, &[], &[("CLAUDE_COMMAND", claude), ("SECRET", "of-ours"), ("MARIE_API_KEY", "sk-ours")]);
    screen.see("┌ Agents").await;
    screen.press(&format!("{TAB}{TAB}{TAB}{TAB}L")).await;
    screen.see("in its own screen").await;
    let raw = String::from_utf8_lossy(&screen.raw()).into_owned();
    assert!(raw.contains("key is [] []"), "nothing of ours passes");
    screen.press("x").await;
    screen.see("ended with signal: 9").await;
    screen.see("┌ Agents").await;
    screen.press("\u{c}").await;
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
    screen.press(&format!("{TAB}{TAB}{TAB}{TAB}L")).await;
    screen.see("the Claude CLI (claude) is not found").await;
    screen.see("┌ Agents").await;
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
}
