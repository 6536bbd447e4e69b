//! The bell and a word on the desktop, in the bytes that reach a terminal; and the summary of the next visit.

use super::*;

#[tokio::test]
async fn a_failure_rings_once_and_the_next_visit_begins_with_what_happened() {
    let stage = Stage::scripted(&["--exit", "4"], &["--exit", "4"], &["--print", "done"]);
    let toml = fs::read_to_string(stage.root().join("podium.toml")).unwrap();
    fs::write(stage.root().join("podium.toml"), format!("[attention]\ndesktop = \"osc9\"\n{toml}")).unwrap();
    let mut screen = stage.open(SMALL, &[]);
    screen.see("Nothing to do yet").await;
    for n in 0..6 {
        stage.drop_task(["marie", "anga"][n % 2], &format!("bad-{n}"), "Fail.");
    }
    screen.see("6 need you").await;
    let calls = |raw: &[u8]| raw.windows(4).filter(|part| part == b"\x1b]9;").count();
    let wait = async {
        while calls(&screen.raw()) == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("somebody is called");
    screen.quiet().await;
    let raw = screen.raw();
    let bells = raw.split(|byte| *byte == 7).count() - 1;
    assert!((1..=3).contains(&bells) && bells == calls(&raw), "{bells} bells, {} calls", calls(&raw));
    screen.press(CTRL_C).await;
    screen.press("d").await;
    let (status, _) = screen.ended().await;
    assert!(status.success());
    stage.drop_task("fabien", "good", "Do it.");
    stage.until("it is done meanwhile", |s| s["counts"]["done"] == 1).await;
    let mut screen = stage.open(SMALL, &[]);
    screen.see("since you last looked").await;
    screen.see("1 done").await;
    screen.press(CTRL_C).await;
    screen.press("s").await;
    let (status, _) = screen.ended().await;
    assert!(status.success());
}
