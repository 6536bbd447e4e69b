//! A run that is over, in a real terminal: its keys, and that nothing can be ordered.

use super::*;

#[tokio::test]
async fn a_replay_is_played_stepped_and_left_and_orders_nothing() {
    let stage = Stage::new(REHEARSAL);
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/rehearsal");
    let mut screen = stage.open(WIDE, &["replay", recording]);
    screen.see("REPLAY").await;
    screen.see("event 0 of").await;
    screen.press("..").await;
    screen.see("event 2 of").await;
    screen.press(",").await;
    screen.see("event 1 of").await;
    // Far on, and the log is there as it was by then; back, and it is not.
    screen.press("$").await;
    screen.see("CLOSING").await;
    screen.press("4").await;
    screen.see("Rehearsal.").await;
    screen.press("0").await;
    screen.see("event 0 of").await;
    screen.see_no("Rehearsal.").await;
    screen.press("1++++++ ").await;
    screen.see("64×").await;
    screen.until("it plays to its end by itself", |text| text.contains("‖") && !text.contains("event 0 of")).await;
    screen.press("g@marie do something\r").await;
    screen.see("nothing can be ordered").await;
    screen.press("r").await;
    screen.press(ESC).await;
    screen.quiet().await;
    screen.press("q").await;
    let (status, left) = screen.ended().await;
    assert!(status.success(), "{left}");
    assert_eq!(fs::read_dir(stage.root()).unwrap().count(), 1, "the stage is as it was");
}
