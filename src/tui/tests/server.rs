//! The NATS server on screen: away, another room's, not verified.

use super::*;
use crate::model::{
    Far, SlotId,
    server::{Away, Hold, Server},
};

/// The running room, marie's work on another machine.
fn elsewhere(hold: Hold, away: Option<i64>, warning: Option<&str>) -> Stage {
    let mut stage = sample::elsewhere();
    let far = Far {
        host: "studio-2".into(),
        version: "0.1.0".into(),
        pid: 4711,
        offset_ms: 12,
        load: Some(42),
        heard_at: at(80),
    };
    let slot = SlotId { agent: "marie".parse().unwrap(), index: 0 };
    let report = Report::Far { far: Box::new(far) };
    stage.tell(80, Event::Worker(crate::room::WorkerEvent::Reported { slot, report }));
    let away = away.map(|since| Away { since: at(since), why: "the connection was lost".into() });
    let server = Server { hold, away, warning: warning.map(Into::into), ..Server::new("host:4222".into()) };
    stage.tell(90, Event::Server { server: Box::new(server) });
    stage
}

fn shown(stage: &Stage, keys: &str, size: (u16, u16)) -> String {
    let mut app = looking(stage, size);
    if !keys.is_empty() {
        press(&mut app, &stage.state, keys);
    }
    screen(&stage.state, &app, at(120), size)
}

#[test]
fn a_server_that_is_away_is_said_with_since_when_and_what_is_old_is_marked() {
    let stage = elsewhere(Hold::Held, Some(82), None);
    for (size, name) in [(SMALL, "80x24"), (WIDE, "120x40")] {
        insta::assert_snapshot!(format!("server_away_{name}"), shown(&stage, "", size));
    }
    insta::assert_snapshot!("server_away_limits_80x24", shown(&stage, "5", SMALL));
}

#[test]
fn durability_that_was_not_verified_is_said_where_limits_are() {
    let warning = "durability not verified: no monitoring address is named ([queue] monitor = [\"http://host:8222\"])";
    let stage = elsewhere(Hold::Held, None, Some(warning));
    let limits = shown(&stage, "5 end", SMALL);
    assert!(limits.contains("durability not verified"), "{limits}");
    insta::assert_snapshot!("server_unverified_120x40", shown(&stage, "", WIDE));
    insta::assert_snapshot!("server_unverified_limits_80x24", limits);
}

#[test]
fn a_server_of_another_room_is_named_with_whose_it_is() {
    let by = Holder { room: "0f".into(), host: "studio-3".into(), stage: "/srv/dance".into(), pid: 812, since: at(0) };
    let stage = elsewhere(Hold::Taken { by }, None, None);
    insta::assert_snapshot!("server_taken_120x40", shown(&stage, "", WIDE));
}
