//! One agent is stopped, drained and started; the others do not notice.

use super::*;

fn busy() -> Story {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    story.dropped("marie/b", &[]);
    story.started("marie/a", 1);
    story
}

fn stop(story: &mut Story, drain: bool) -> Vec<Effect> {
    story.order(Order::StopAgent { agent: agent("marie"), drain })
}

fn start(story: &mut Story) -> Vec<Effect> {
    story.order(Order::StartAgent { agent: agent("marie") })
}

fn word(story: &Story) -> &'static str {
    story.room.word(story.room.agents.get(&agent("marie")).unwrap())
}

fn exited(story: &mut Story) -> Vec<Effect> {
    story.worker(WorkerEvent::Exited { slot: slot("marie"), pid: 100, how: "exit 0".into() })
}

fn said(effects: &[Effect]) -> (&str, bool) {
    let answer = effects.iter().find_map(|e| if let Effect::Answer { answer, .. } = e { Some(answer) } else { None });
    match answer.unwrap() {
        Answer::Done { text, .. } => (text, true),
        Answer::Refused { reason } => (reason, false),
    }
}

#[test]
fn a_drained_agent_finishes_what_runs_claims_nothing_more_and_starts_again_by_a_word() {
    let mut story = busy();
    let effects = stop(&mut story, true);
    assert_eq!(said(&effects), ("marie is stopped when a has ended", true));
    assert!(effects.contains(&Effect::StopWorker { slot: slot("marie"), drain: true }));
    assert_eq!((word(&story), story.why("marie/b").as_str()), ("draining", "marie is draining: a person stopped it"));
    assert_eq!(said(&stop(&mut story, true)), ("marie is draining already", false));
    assert_eq!(story.ended("marie/a", EndState::Done), [], "nothing more is given to it");
    assert_eq!(exited(&mut story), [], "and nothing is started in its place");
    assert_eq!(word(&story), "stopped");
    story.dropped("anga/c", &[]);
    assert!(story.room.agents.holder(&task("anga/c")).is_some(), "the others work on");
    let effects = start(&mut story);
    assert_eq!(said(&effects), ("marie starts", true));
    assert!(effects.contains(&Effect::SpawnWorker { slot: slot("marie"), epoch: 2 }), "{effects:?}");
    let effects = story.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 200, running: None });
    assert_eq!(effects, [assign("marie/b")]);
    assert_eq!(said(&start(&mut story)), ("marie was not stopped: it is running", false));
}

#[test]
fn a_stop_takes_what_runs_away_and_a_drain_may_become_one() {
    let mut story = busy();
    stop(&mut story, true);
    let effects = stop(&mut story, false);
    assert_eq!(said(&effects), ("marie is stopped; a is taken up again when it starts", true));
    assert!(effects.contains(&Effect::StopWorker { slot: slot("marie"), drain: false }), "{effects:?}");
    assert_eq!(word(&story), "stopping");
    assert_eq!(said(&stop(&mut story, true)), ("marie is stopping already", false));
}

#[test]
fn who_is_stopped_stays_so_when_the_room_opens_anew_and_its_worker_is_told_again() {
    let story = busy();
    let order = Order::StopAgent { agent: agent("marie"), drain: true };
    let fact = Event::Ordered { id: OrderId(9), order };
    assert!(fact.is_fact());
    // The journal is read before anything is known of agents.
    let mut room = State::default();
    let tell = |room: &mut State, event| room.update(Stamped { at: story.now, event });
    tell(&mut room, fact);
    tell(&mut room, Event::Opened(Box::new(opened())));
    let marie = room.agents.get(&agent("marie")).unwrap();
    assert_eq!(room.word(marie), "stopped");
    let hello = WorkerEvent::Connected { slot: slot("marie"), pid: 100, running: Some(task("marie/a").attempt(1)) };
    let effects = tell(&mut room, Event::Worker(hello));
    assert_eq!(effects, [Effect::StopWorker { slot: slot("marie"), drain: true }]);
    let marie = room.agents.get(&agent("marie")).unwrap();
    assert_eq!(room.word(marie), "draining");
}

#[test]
fn the_names_of_sub_agents_are_facts_told_once_and_known_to_the_next_room() {
    let mut story = busy();
    let helper = report::Subagent { id: "h1".into(), name: "second-look: the page".into() };
    let activity = Activity { subagents: vec![helper.clone()], ..Activity::default() };
    let attempt = task("marie/a").attempt(1);
    let active = Report::Active { attempt: attempt.clone(), activity };
    let effects = story.report("marie", active.clone());
    let fact = Event::Helpers { attempt, named: vec![helper] };
    assert!(fact.is_fact());
    assert_eq!(effects, [Effect::Keep { fact: Box::new(fact.clone()) }]);
    assert_eq!(story.report("marie", active), [], "once");
    let mut next = State::default();
    next.update(Stamped { at: story.now, event: fact });
    let tree = next.money.helpers.tree(&task("marie/a"));
    assert_eq!(
        tree.into_iter().map(|(_, id, helper)| (id, helper.name.as_str())).collect::<Vec<_>>(),
        [("h1", "second-look: the page")]
    );
}
