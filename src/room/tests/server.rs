//! A room whose agent works elsewhere, and its NATS server.

use super::*;
use crate::model::server::{Away, Hold, Holder};

pub(super) fn server(hold: Hold) -> Server {
    Server { hold, ..Server::new("host:4222".into()) }
}

fn other() -> Holder {
    Holder {
        room: "0f".into(),
        host: "studio-2".into(),
        stage: "/other".into(),
        pid: 7,
        since: Timestamp::from_second(1_700_000_000).unwrap(),
    }
}

/// Marie works elsewhere.
pub(super) fn tell(story: &mut Story, server: Server) -> Vec<Effect> {
    story.tell(Event::Server { server: Box::new(server) })
}

pub(super) fn elsewhere(story: &mut Story) {
    story.room.agents.each(|agent| agent.settings.elsewhere = agent.name().as_str() == "marie");
    tell(story, server(Hold::Held));
}

fn word(story: &Story) -> &'static str {
    story.room.word(story.room.agents.get(&agent("marie")).unwrap())
}

fn assigned(name: &str) -> Effect {
    Effect::Assign { slot: slot(name.split('/').next().unwrap()), task: task(name) }
}

#[test]
fn while_the_server_is_away_nothing_starts_over_it_what_runs_is_marked_and_others_go_on() {
    let mut story = Story::staffed();
    elsewhere(&mut story);
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    let away = Away { since: story.now, why: "the connection was lost".into() };
    let gone = Server { away: Some(away), ..server(Hold::Held) };
    assert_eq!(tell(&mut story, gone.clone()), []);
    let line = story.room.lines.back().unwrap().text.clone();
    assert!(line.contains("host:4222 has been away since 2023-11-14T22:13:20Z: the connection was lost"), "{line}");
    // The same once more is no news.
    assert_eq!((tell(&mut story, gone), story.room.lines.len()), (vec![], story.room.lines.len()));
    let marie = story.room.agents.get(&agent("marie")).unwrap();
    assert_eq!((story.room.stale_since(marie), marie.running()), (Some(story.now), 1), "it is shown on, as old");
    story.now += SignedDuration::from_secs(30);
    let why = story.room.why(&task("marie/a"), story.now).unwrap();
    assert!(why.to_string().starts_with("as of 30 s ago, the NATS server is away"), "{why}");
    assert_eq!(story.dropped("anga/x", &[]), [assigned("anga/x")], "who works here does not notice");
    // What ended just before is not replaced.
    story.report("marie", Report::NotStarted { task: task("marie/a"), reason: "no".into() });
    assert_eq!((story.dropped("marie/b", &[]), word(&story)), (vec![], "not ready"));
    let effects = tell(&mut story, server(Hold::Held));
    assert!(effects.contains(&assigned("marie/b")) || effects.contains(&assigned("marie/a")), "{effects:?}");
    assert_eq!(story.room.lines.back().unwrap().text, "the NATS server is there; work elsewhere goes on");
}

#[test]
fn a_room_whose_server_is_another_s_ends_its_deputies_starts_none_and_says_whose_it_is() {
    let mut story = Story::staffed();
    elsewhere(&mut story);
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    let effects = tell(&mut story, server(Hold::Taken { by: other() }));
    assert_eq!(effects, [Effect::StopWorker { slot: slot("marie"), drain: false }]);
    let line = story.room.lines.back().unwrap().text.clone();
    assert!(
        line.contains("belongs to the room on studio-2 (process 7, stage /other), open since 2023-11-14"),
        "{line}"
    );
    let effects = story.worker(WorkerEvent::Exited { slot: slot("marie"), pid: 100, how: "exit 0".into() });
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::SpawnWorker { .. })), "{effects:?}");
    assert_eq!(word(&story), "not ready");
    // One that says hello now is sent away.
    let effects = story.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 200, running: None });
    assert!(effects.contains(&Effect::StopWorker { slot: slot("marie"), drain: false }), "{effects:?}");
    story.worker(WorkerEvent::Exited { slot: slot("marie"), pid: 200, how: "exit 0".into() });
    let effects = tell(&mut story, server(Hold::Held));
    assert!(matches!(effects[..], [Effect::SpawnWorker { .. }]), "{effects:?}");
}

#[test]
fn a_room_that_waits_for_its_server_starts_only_who_works_here() {
    let mut story = Story { room: State::default(), now: Timestamp::from_second(1_700_000_000).unwrap(), orders: 0 };
    tell(&mut story, server(Hold::Quiet { by: other() }));
    let mut opened = opened();
    opened.agents[0].settings.elsewhere = true;
    let effects = story.tell(Event::Opened(Box::new(opened)));
    let spawned = |effect: &Effect| matches!(effect, Effect::SpawnWorker { slot, .. } if slot.agent != agent("marie"));
    assert_eq!((effects.len(), effects.iter().all(spawned)), (2, true), "{effects:?}");
    assert_eq!(tell(&mut story, server(Hold::Held)).len(), 1);
}
