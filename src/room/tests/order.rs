//! Stories of who starts first: lanes, age, urgency, shared places, and what an operator says.

use super::*;
use crate::orchestrator::learned::{ENOUGH, Kind};

impl Story {
    fn waiting(&mut self, name: &str, priority: u8) -> Vec<Effect> {
        let mut spec = TaskSpec::new(task(name), "Do it.");
        spec.priority = Priority(priority);
        self.later(1);
        let record = TaskRecord::new(spec, self.now);
        self.seen(record)
    }

    /// Ends whatever runs, one after the other, and tells in which order tasks were started.
    fn run_all(&mut self, mut effects: Vec<Effect>) -> Vec<String> {
        let mut given = Vec::new();
        loop {
            let started = effects.iter().filter_map(|effect| {
                if let Effect::Assign { task, .. } = effect { Some(task.to_string()) } else { None }
            });
            given.extend(started);
            let holding = |room: &State| {
                let slots = room.agents.iter().flat_map(|a| a.slots.clone());
                slots.filter_map(|s| s.held).min_by_key(|held| held.since).map(|held| held.task.to_string())
            };
            let Some(name) = holding(&self.room) else { return given };
            self.started(&name, 1);
            effects = self.ended(&name, EndState::Done);
        }
    }

    fn paused(&mut self, name: &str) {
        self.order(Order::Pause { agent: agent(name) });
    }

    fn resumed(&mut self, name: &str) -> Vec<Effect> {
        self.order(Order::Resume { agent: agent(name) })
    }

    /// What `Keep` asks for happens.
    fn kept(&mut self, effects: &[Effect]) -> Event {
        let Some(Effect::Keep { fact }) = effects.first() else { panic!("{effects:?}") };
        let fact = (**fact).clone();
        assert!(fact.is_fact());
        self.tell(fact.clone());
        fact
    }
}

#[test]
fn g10_work_of_the_middle_lane_is_not_starved_between_a_full_high_and_a_full_low_one() {
    let mut story = Story::staffed();
    story.paused("marie");
    story.waiting("marie/middle", 5);
    for n in 0..40 {
        story.waiting(&format!("marie/high-{n}"), 1);
        story.waiting(&format!("marie/low-{n}"), 8);
    }
    let effects = story.resumed("marie");
    let given = story.run_all(effects);
    assert_eq!(given.len(), 81);
    assert_eq!(given.iter().position(|name| name == "marie/middle"), Some(9));
}

#[test]
fn where_few_may_run_at_once_the_most_urgent_goes_first_whoever_s_it_is_and_nobody_is_left_out() {
    let mut story = Story::staffed();
    story.room.agents.max_running = 1;
    for name in ["marie", "anga", "fabien"] {
        story.paused(name);
    }
    story.waiting("fabien/last", 8);
    story.waiting("fabien/first", 0);
    for n in 0..20 {
        story.waiting(&format!("marie/m{n}"), 2);
    }
    for name in ["marie", "anga"] {
        story.resumed(name);
    }
    // marie's first was handed out when she was resumed; from then on it is fabien's turn.
    story.started("marie/m0", 1);
    assert_eq!(story.resumed("fabien").len(), 1, "only the answer: the one place is taken");
    let effects = story.ended("marie/m0", EndState::Done);
    assert_eq!(effects, [assign("fabien/first")]);
    let given = story.run_all(effects);
    assert_eq!(given.iter().position(|name| name == "fabien/last"), Some(8), "{given:?}");
}

#[test]
fn a_priority_is_changed_while_the_task_waits_and_a_new_room_knows_it() {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    story.waiting("marie/b", 5);
    story.waiting("marie/c", 5);
    let effects = story.order(Order::Prioritise { task: task("marie/c"), priority: Priority(2) });
    let fact = story.kept(&effects);
    assert_eq!(story.why("marie/b"), "1 ahead on marie, which does a");
    let spec = story.room.tasks.get(&task("marie/c")).unwrap().record.spec.clone();
    assert_eq!(
        (story.room.tasks.priority(&spec), spec.priority),
        (Priority(2), Priority(5)),
        "its file stays as it is"
    );
    story.started("marie/a", 1);
    assert_eq!(story.ended("marie/a", EndState::Done), [assign("marie/c")]);

    // What the journal holds is heard before the queue's tasks are.
    let mut next = Story::begin();
    next.tell(fact);
    next.dropped("marie/a", &[]);
    next.dropped("marie/b", &[]);
    next.dropped("marie/c", &[]);
    next.worker(WorkerEvent::Spawned { slot: slot("marie"), epoch: 1, pid: 100 });
    let effects = next.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 100, running: None });
    assert_eq!(effects, [assign("marie/c")]);

    // With its end it is forgotten: a retry is as urgent as its file says.
    next.started("marie/c", 1);
    next.ended("marie/c", EndState::Failed);
    assert_eq!(next.room.tasks.priority(&spec), Priority(5));
    let effects = next.order(Order::Prioritise { task: task("marie/c"), priority: Priority(0) });
    assert_eq!(retry::refusal(&effects), "marie/c has ended already: failed");
}

/// Two chains of the same length by steps: `quick` on marie and `slow` on marie, each with a dependent elsewhere.
const TWO_CHAINS: &str = r#"{"summary": "Two chains.", "tasks": [
    {"id": "a-gate", "worker": "marie", "title": "Gate", "description": "Open.", "dependencies": [], "done_when": ["x"], "minutes": 1},
    {"id": "b-quick", "worker": "marie", "title": "Quick", "description": "Read.", "dependencies": ["a-gate"], "done_when": ["x"], "minutes": 90},
    {"id": "c-slow", "worker": "marie", "title": "Slow", "description": "Write.", "dependencies": ["a-gate"], "done_when": ["x"], "minutes": 1},
    {"id": "quick-end", "worker": "anga", "title": "Quick end", "description": "One.", "dependencies": ["b-quick"], "done_when": ["x"], "minutes": 90},
    {"id": "slow-end", "worker": "fabien", "title": "Slow end", "description": "Two.", "dependencies": ["c-slow"], "done_when": ["x"], "minutes": 1}
]}"#;

impl Story {
    /// Tells of tasks of this agent that took so long.
    fn taught(&mut self, name: &str, seconds: i64) {
        for n in 0..ENOUGH {
            let spec = TaskSpec::new(task(&format!("{name}/before-{seconds}-{n}")), "Do it.");
            let mut record = TaskRecord::new(spec, self.now);
            let mut outcome = self.outcome(&record.task().to_string(), EndState::Done);
            outcome.started_at = self.now - SignedDuration::from_secs(seconds);
            record.standing = Standing::Ended;
            record.outcome = Some(outcome);
            self.seen(record);
        }
    }

    fn two_chains(&mut self) {
        let ceiling = MicroUsd(1_000_000);
        self.order(Order::Goal { text: "Announce.".into(), approval: Approval::Auto { ceiling }, budget: None });
        let effects = self.tell(answered(1, TWO_CHAINS));
        let Some(Effect::Publish { tasks, .. }) = effects.last() else { panic!("{effects:?}") };
        for spec in tasks.clone() {
            let record = TaskRecord::new(spec, self.now);
            self.seen(record);
        }
        self.tell(Event::Goal(GoalEvent::Published { id: goal_id() }));
        self.started("marie/g1-a-gate", 1);
    }
}

#[test]
fn the_longer_way_by_what_was_learned_starts_first_and_a_planner_s_guess_does_not_count() {
    // Nobody knows anything: equal steps, so the ids decide, whatever the planner thinks.
    let mut story = Story::staffed();
    story.two_chains();
    assert_eq!(story.ended("marie/g1-a-gate", EndState::Done), [assign("marie/g1-b-quick")]);

    let mut story = Story::staffed();
    story.taught("anga", 10);
    story.taught("fabien", 600);
    story.two_chains();
    assert_eq!(story.ended("marie/g1-a-gate", EndState::Done), [assign("marie/g1-c-slow")]);
    assert_eq!(story.room.tasks.learned().takes(&Kind::new("fabien", None, None)), Some(Duration::from_mins(10)));
}

#[test]
fn every_completion_may_change_what_is_next() {
    let mut story = Story::staffed();
    story.two_chains();
    // While the gate runs, fabien is seen to be slow.
    story.taught("fabien", 600);
    story.taught("anga", 10);
    assert_eq!(story.ended("marie/g1-a-gate", EndState::Done), [assign("marie/g1-c-slow")]);
    let mut replica = State::default();
    let text = serde_json::to_string(&story.room).unwrap();
    serde_json::from_str::<State>(&text).map(|state| replica = state).unwrap();
    for piece in story.room.pieces() {
        replica.add(piece);
    }
    replica.rebuild();
    assert_eq!(replica, story.room, "a screen that comes in the middle has the same order");
}
