use std::path::PathBuf;

use super::*;
use crate::{
    runtime::picture::{self, Subject},
    tui::Settings,
};

fn recorded() -> Tape {
    Tape::recorded(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/rehearsal/run.jsonl")).unwrap()
}

fn frame(player: &Player) -> String {
    let (now, moment) = (player.now(), Some(player.moment()));
    let nowhere = PathBuf::from("/nonexistent");
    let subject = Subject { state: player.state(), now, logs: &nowhere, stage: &nowhere, moment };
    picture::text(&picture::draw(subject, Settings::default(), (120, 40), &[], &[]).unwrap())
}

#[test]
fn the_way_to_a_moment_makes_no_difference() {
    let mut forward = Player::new(recorded());
    let events = forward.moment().events;
    assert!(events > APART, "a tape that is short shows nothing");
    let mut jumping = Player::new(recorded());
    jumping.turn(Turn::End);
    // Far ahead, far back, and back again by one, in no order.
    let mut places: Vec<usize> = (0..24).map(|n| n * 7_919 % events).collect();
    let mut frames = Vec::new();
    for place in places.clone() {
        jumping.go(place);
        jumping.now = jumping.tape.time(place.saturating_sub(1)).unwrap();
        frames.push((place, jumping.state().clone(), frame(&jumping)));
    }
    places.sort_unstable();
    for place in places {
        forward.go(place);
        forward.now = forward.tape.time(place.saturating_sub(1)).unwrap();
        let (_, state, drawn) = frames.iter().find(|(at, ..)| *at == place).unwrap();
        assert!(forward.state() == state, "another state at event {place}");
        assert_eq!(&frame(&forward), drawn, "another frame at event {place}");
    }
}

#[test]
fn keys_go_where_they_say_and_stop_at_both_ends() {
    let mut player = Player::new(recorded());
    let Moment { begin, end, events, .. } = player.moment();
    assert!(!player.turn(Turn::StepBack) && player.moment().event == 0);
    assert!(!player.turn(Turn::StepOn) && player.moment().event == 1);
    assert!(player.turn(Turn::StepBack));
    player.turn(Turn::SeekOn);
    assert_eq!(player.now(), begin + SEEK);
    let there = player.moment().event;
    assert!(player.turn(Turn::SeekBack) && player.now() == begin);
    player.turn(Turn::SeekOn);
    assert_eq!(player.moment().event, there);
    player.turn(Turn::End);
    assert_eq!((player.now(), player.moment().event), (end, events));
    assert!(!player.turn(Turn::SeekOn) && player.now() == end);
    for _ in 0..40 {
        player.turn(Turn::Faster);
    }
    assert_eq!(player.moment().speed, *SPEEDS.end());
    // Play at the end begins anew.
    assert!(player.turn(Turn::Play));
    assert_eq!((player.now(), player.moment().playing), (begin, true));
}

#[tokio::test(start_paused = true)]
async fn a_playing_tape_reaches_its_end_and_holds() {
    let mut player = Player::new(recorded());
    player.turn(Turn::Faster);
    player.turn(Turn::Play);
    let whole = player.moment().end.duration_since(player.moment().begin);
    let began = Instant::now();
    while player.moment().playing {
        player.plays().await;
    }
    let took = began.elapsed().as_secs_f64();
    assert!((took - whole.as_secs_f64() / 2.0).abs() < 0.2, "twice as fast: {took} of {whole}");
    assert_eq!(player.moment().event, player.moment().events);
}
