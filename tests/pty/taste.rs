//! Taste in a real terminal: what an operator has chosen, what a terminal lacks, what is kept, and a terminal that goes away.

use super::*;

impl Stage {
    /// Writes a file of the operator's, beside their `podium.toml`.
    fn own(&self, name: &str, text: &str) {
        let path = self.dir.path().join(".config/podium").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[tokio::test]
async fn what_is_wrong_in_the_operators_files_is_said_with_its_line_and_the_rest_is_in_force() {
    let stage = Stage::new(REHEARSAL);
    let text = "theme = \"dusk\"\nmouse = true\n[keys]\nhelp = \"f5\"\nretyr = \"x\"\n";
    stage.own("screen.toml", text);
    stage.own("themes/dusk.toml", "base = \"dark\"\ntext = \"#010203 on #0a0b0c\"\n");
    let mut screen = stage.open_with(WIDE, &[], &[("COLORTERM", "truecolor")]);
    screen.see("screen.toml:5: keys.retyr: there is no such verb; did you mean `retry`?").await;
    let raw = String::from_utf8_lossy(&screen.raw()).into_owned();
    assert!(raw.contains("48;2;10;11;12"), "the theme's ground is everywhere");
    assert!(raw.contains("\u{1b}[?1000h"), "the mouse works from the start");
    screen.press("\u{1b}[15~").await;
    screen.see("Everywhere").await;
    screen.press(ESC).await;
    screen.see_no("Everywhere").await;
    screen.press("?").await;
    screen.quiet().await;
    assert!(!screen.text().contains("Everywhere"), "? is nobody's key now");
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
    let doctor = String::from_utf8(stage.run(&["doctor"]).await.stdout).unwrap();
    assert!(doctor.contains("theme dusk") && doctor.contains("keys.retyr"), "{doctor}");
}

#[tokio::test]
async fn a_poor_terminal_is_drawn_for_with_a_word_and_one_that_cannot_place_text_is_refused() {
    let stage = Stage::new(REHEARSAL);
    let mut screen = stage.open_with(WIDE, &[], &[("TERM", "vt100"), ("LANG", "C")]);
    screen.see("without colours: TERM=vt100 . in ASCII: LANG=C names no UTF-8").await;
    let raw = screen.raw();
    assert!(raw.is_ascii());
    assert_eq!(repertoire(&raw).colors, 0);
    // Twenty columns get a sentence, and can be left.
    screen.resize(20, 24);
    screen.see("podium needs").await;
    screen.press("q").await;
    screen.see("stay").await;
    screen.press("s").await;
    assert!(screen.ended().await.0.success());
    let (status, said) = stage.open_with(WIDE, &[], &[("TERM", "dumb")]).ended().await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("TERM=dumb: this terminal cannot place text"), "{said}");
}

#[tokio::test]
async fn a_draft_and_the_shape_of_the_screen_survive_kill_9() {
    let stage = Stage::new(REHEARSAL);
    let tasks = |text: &str| text.lines().nth(1).and_then(|row| row.find("┌ Tasks"));
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    let before = tasks(&screen.text()).unwrap();
    screen.press(">>").await;
    screen.until("a wider left side", |text| tasks(text).is_some_and(|at| at > before)).await;
    screen.press("ga goal in two\nlines").await;
    screen.see("lines").await;
    screen.quiet().await;
    kill_process(screen.screen(), Signal::KILL).unwrap();
    assert_eq!(screen.ended().await.0.code(), Some(137));
    let mut screen = stage.open(WIDE, &[]);
    screen.see("your draft is back").await;
    screen.see("a goal in two").await;
    screen.until("the same shape", |text| tasks(text).is_some_and(|at| at > before)).await;
    // Sent, it is found again by the next screen.
    screen.press(&format!("g{CTRL_U}@marie say well\r")).await;
    screen.see("say-well").await;
    screen.press("q\r").await;
    assert!(screen.ended().await.0.success());
    let mut screen = stage.open(WIDE, &[]);
    screen.see("say-well").await;
    screen.press("g\u{12}well").await;
    screen.see("Sent before: well").await;
    screen.press(ENTER).await;
    screen.see("@marie say well").await;
    screen.press(CTRL_C).await;
    screen.see("stop everything").await;
    screen.press("s").await;
    assert!(screen.ended().await.0.success());
    stage.nothing_left().await;
}

#[tokio::test]
async fn a_file_of_the_stage_is_completed_and_sent_as_a_path_that_can_be_opened() {
    let stage = Stage::new(REHEARSAL);
    fs::create_dir_all(stage.root().join("notes")).unwrap();
    fs::write(stage.root().join("notes/roster.md"), "Ana, Bo").unwrap();
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    screen.press("g@ma").await;
    screen.see("tab takes it").await;
    screen.press("\tread @no").await;
    screen.see("notes/").await;
    screen.press(TAB).await;
    screen.see("roster.md").await;
    screen.press("\taloud\r").await;
    let status = stage.until("the task", |s| s["counts"]["done"] == 1).await;
    let id = status["tasks"][0]["id"].as_str().unwrap_or_default().to_owned();
    let shown = String::from_utf8(stage.run(&["show", &id, "--json"]).await.stdout).unwrap();
    let path = stage.root().canonicalize().unwrap().join("notes/roster.md").display().to_string();
    assert!(shown.contains(&format!("read {path} aloud")), "{shown}");
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
}

#[tokio::test]
async fn a_storm_of_sizes_ends_in_the_last_one() {
    let stage = Stage::scripted(&["--print", "one"], &[], &[]);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    stage.drop_task("marie", "storm", "Anything");
    screen.see("1 done").await;
    let mut random = Random(7);
    for _ in 0..300 {
        let (columns, rows) = (1 + random.below(250), 1 + random.below(80));
        screen.resize(u16::try_from(columns).unwrap(), u16::try_from(rows).unwrap());
    }
    screen.resize(WIDE.0, WIDE.1);
    screen.see("┌ Agents").await;
    screen.assert_drawn_whole().await;
    // So fast that only the last size is seen, which is the one before, of a terminal that has lost its cells meanwhile.
    let drawing = screen.screen();
    kill_process(drawing, Signal::STOP).unwrap();
    screen.resize(3, 2);
    screen.resize(WIDE.0, WIDE.1);
    kill_process(drawing, Signal::CONT).unwrap();
    screen.see("┌ Agents").await;
    screen.assert_drawn_whole().await;
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
    stage.nothing_left().await;
}

#[tokio::test]
async fn a_terminal_that_goes_away_without_a_hang_up_is_left() {
    let stage = Stage::new(REHEARSAL);
    assert!(stage.run(&["serve", "--detach"]).await.status.success());
    let (pty, pts) = pty_process::open().unwrap();
    pty.resize(pty_process::Size::new(40, 120)).unwrap();
    // In a session of its own, whose terminal this is not: nobody sends it a signal.
    let mut child = pty_process::Command::new("/usr/bin/setsid")
        .args(["-w", PODIUM, "--stage"])
        .arg(stage.root())
        .env_clear()
        .envs(stage.vars())
        .kill_on_drop(true)
        .spawn(pts)
        .unwrap();
    let (mut from, keys) = pty.into_split();
    let mut drawn = Vec::new();
    let see = async {
        let mut part = [0; 8192];
        while !String::from_utf8_lossy(&drawn).contains("Agents") {
            let n = from.read(&mut part).await.unwrap();
            drawn.extend_from_slice(&part[..n]);
        }
    };
    timeout(PATIENCE, see).await.expect("it draws");
    let screens = || stage.processes().into_iter().filter(|(_, words)| words.contains("__screen")).count();
    assert_eq!(screens(), 1);
    drop((from, keys));
    let gone = async {
        while screens() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("it leaves, and does not turn round and round");
    let _reaped = child.wait().await;
    assert_eq!(stage.json(&["status", "--json"]).await["counts"]["failed"], 0, "the room stays");
}

#[tokio::test]
async fn a_goal_is_written_on_in_the_operators_own_editor_and_one_that_fails_changes_nothing() {
    let stage = Stage::new(REHEARSAL);
    let editor = stage.dir.path().join("bin/editor");
    let script =
        "#!/bin/sh\n[ -e \"$0.once\" ] && exit 3\n: > \"$0.once\"\nprintf ' and\\nprint the poster' >> \"$1\"\n";
    fs::write(&editor, script).unwrap();
    fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut screen = stage.open_with(SMALL, &[], &[("EDITOR", editor.to_str().unwrap())]);
    screen.see("Nothing to do yet").await;
    screen.press("gAnnounce the week").await;
    screen.see("› Announce the week").await;
    screen.press("\u{f}").await;
    screen.see("print the poster").await;
    screen.see("› Announce the week and").await;
    screen.press("\u{f}").await;
    screen.see("ended with exit status: 3").await;
    screen.see("print the poster").await;
    screen.press(CTRL_C).await;
    screen.press("s").await;
    assert!(screen.ended().await.0.success());
    stage.nothing_left().await;
}
