//! One story for each cause of waiting, with the one sentence that is said. A cause without a story does not compile.

use super::*;

/// A cause, what shows it, and what is said.
pub(crate) struct Fixture {
    pub(crate) cause: &'static str,
    pub(crate) story: Story,
    pub(crate) task: TaskRef,
    pub(crate) sentence: &'static str,
}

macro_rules! causes {
    ($($cause:ident: $name:literal, $sentence:literal, $story:expr;)*) => {
        fn cause(why: &Why) -> &'static str {
            match why {
                $(Why::$cause { .. } => stringify!($cause),)*
            }
        }

        /// All of them.
        pub(crate) fn fixtures() -> Vec<Fixture> {
            let mut all = Vec::new();
            $({
                let mut story = Story::staffed();
                let tell: fn(&mut Story) = $story;
                tell(&mut story);
                all.push(Fixture { cause: stringify!($cause), story, task: task($name), sentence: $sentence });
            })*
            all
        }
    };
}

causes! {
    Doing: "marie/a", "writes the roster", |story| {
        story.dropped("marie/a", &[]);
        story.started("marie/a", 1);
        story.active("marie/a", Activity { doing: "writes the roster".into(), ..Activity::default() });
    };
    Stalling: "marie/a", "silent, ended in 1:30", |story| {
        story.dropped("marie/a", &[]);
        story.started("marie/a", 1);
        let stalls_at = Some(story.now + SignedDuration::from_secs(90));
        story.active("marie/a", Activity { stalls_at, ..Activity::default() });
    };
    Stale: "marie/a", "as of 20 s ago, the NATS server is away: writes the roster", |story| {
        super::server::elsewhere(story);
        story.dropped("marie/a", &[]);
        story.started("marie/a", 1);
        story.active("marie/a", Activity { doing: "writes the roster".into(), ..Activity::default() });
        let away = crate::model::server::Away { since: story.now, why: "the connection was lost".into() };
        let held = super::server::server(crate::model::server::Hold::Held);
        super::server::tell(story, crate::model::server::Server { away: Some(away), ..held });
        story.later(20);
    };
    Wants: "marie/a", "asks for Bash rm -rf build", |story| {
        story.dropped("marie/a", &[]);
        story.started("marie/a", 1);
        let ask = Ask::new("r1", "Bash", "Bash rm -rf build", &serde_json::Value::Null, "");
        story.report("marie", Report::Asked { attempt: task("marie/a").attempt(1), ask: Box::new(ask) });
    };
    Held: "marie/a", "paused by a person", |story| {
        story.dropped("marie/a", &["nobody"]);
        let pause = Some(crate::room::pauses::Pause { why: String::new(), since: story.now, by_room: false });
        story.tell(Event::Task(TaskEvent::Paused { task: task("marie/a"), pause }));
    };
    Cancelling: "marie/a", "being ended", |story| {
        story.dropped("marie/a", &[]);
        story.started("marie/a", 1);
        story.order(Order::Cancel { task: task("marie/a") });
    };
    Starting: "marie/a", "starting", |story| drop(story.dropped("marie/a", &[]));
    Spent: "anga/b", "the day's budget is used up: $5.10 of $5.00; it clears at 00:00 UTC", |story| {
        story.room.budgets.caps.day = Some(MicroUsd(5_000_000));
        story.dropped("marie/a", &[]);
        story.started("marie/a", 1);
        story.pays("marie/a", 510);
        story.dropped("anga/b", &[]);
    };
    Over: "marie/a", "the image is missing", |story| {
        story.dropped("marie/a", &[]);
        story.started("marie/a", 1);
        story.ended("marie/a", EndState::Failed);
    };
    After: "fabien/post", "after roster, quiz", |story| {
        story.dropped("marie/roster", &[]);
        story.dropped("anga/quiz", &[]);
        story.dropped("fabien/post", &["marie/roster", "anga/quiz"]);
    };
    Unknown: "fabien/post", "waiting for anga/quiz, which nobody has submitted yet", |story| {
        story.dropped("fabien/post", &["anga/quiz"]);
    };
    Hopeless: "anga/b", "marie/a did not end well", |story| {
        story.dropped("marie/a", &[]);
        story.dropped("anga/b", &["a"]);
        story.started("marie/a", 1);
        story.ended("marie/a", EndState::Failed);
    };
    Later: "marie/a", "starts in 20 min", |story| {
        let mut spec = TaskSpec::new(task("marie/a"), "Do it.");
        spec.not_before = Some(story.now + SignedDuration::from_mins(20));
        story.seen(TaskRecord::new(spec, story.now));
    };
    Again: "marie/a", "again in 4 s: exit 1: no image", |story| {
        story.dropped("marie/a", &[]);
        story.started("marie/a", 1);
        story.failed("marie/a", Ending::ExitCode { code: 1, message: "no image".into() }, 4);
    };
    Asks: "marie/a", "attempt 1 was lost: retry or cancel it", |story| {
        let mut record = TaskRecord::new(TaskSpec::new(task("marie/a"), "Do it."), story.now);
        record.standing = Standing::Asking { attempt: 1 };
        story.seen(record);
    };
    Trouble: "marie/a", "marie is not ready: no login: podium auth marie", |story| {
        story.room.agents.each(|agent| agent.trouble = Some("no login: podium auth marie".into()));
        story.dropped("marie/a", &[]);
    };
    Paused: "marie/a", "marie is paused", |story| {
        story.order(Order::Pause { agent: agent("marie") });
        story.dropped("marie/a", &[]);
    };
    Stopped: "marie/a", "marie is stopping: a person stopped it", |story| {
        story.order(Order::StopAgent { agent: agent("marie"), drain: false });
        story.dropped("marie/a", &[]);
    };
    Retrying: "marie/a", "retrying 3 of 10: 529, next in 8 s", |story| {
        story.dropped("marie/a", &[]);
        story.started("marie/a", 1);
        let at = story.now + SignedDuration::from_secs(8);
        let retrying = Some(Box::new(report::Retrying { n: 3, of: 10, why: "529".into(), status: Some(529), at }));
        let activity = Activity { doing: "waits".into(), retrying, ..Activity::default() };
        story.report("marie", Report::Active { attempt: task("marie/a").attempt(1), activity });
    };
    Parked: "marie/b", "marie parked for 38 min: 5 h window; then you are asked", |story| {
        story.dropped("marie/a", &[]);
        story.dropped("marie/b", &[]);
        story.started("marie/a", 1);
        let until = Some(story.now + SignedDuration::from_mins(38));
        story.failed("marie/a", Ending::Limit { message: "5 h window".into(), until }, 38 * 60);
    };
    NoWorker: "marie/a", "marie's worker is restarting in 1 s", |story| {
        story.worker(WorkerEvent::Exited { slot: slot("marie"), pid: 100, how: "signal 9".into() });
        story.dropped("marie/a", &[]);
    };
    Full: "anga/b", "1 attempt runs already, no more may at once", |story| {
        story.room.agents.max_running = 1;
        story.dropped("marie/a", &[]);
        story.dropped("anga/b", &[]);
    };
    Next: "marie/c", "1 ahead on marie, which does a", |story| {
        for name in ["marie/a", "marie/b", "marie/c"] {
            story.dropped(name, &[]);
        }
    };
    NoAgent: "paul/a", "there is no agent paul", |story| drop(story.dropped("paul/a", &[]));
    Hindered: "marie/a", "the disk said no; again in 1 s", |story| {
        story.dropped("marie/a", &[]);
        story.report("marie", Report::NotStarted { task: task("marie/a"), reason: "the disk said no".into() });
    };
    Leaving: "marie/b", "the room is leaving and starts nothing more", |story| {
        story.dropped("marie/a", &[]);
        story.dropped("marie/b", &[]);
        story.order(Order::Stop { drain: true });
    };
    NoRoom: "marie/a", "no room is open", |story| {
        let offline = Some("READ-ONLY: because".into());
        story.tell(Event::Opened(Box::new(Opened { offline, ..opened() })));
        story.dropped("marie/a", &[]);
        assert_eq!(story.room.next_wake(), None, "nothing is to be done");
    };
}

impl Story {
    fn active(&mut self, name: &str, activity: Activity) {
        let attempt = task(name).attempt(1);
        let who = attempt.task.agent.to_string();
        self.report(&who, Report::Active { attempt, activity });
    }

    fn failed(&mut self, name: &str, ending: Ending, wait: i64) {
        let attempt = task(name).attempt(1);
        let who = attempt.task.agent.to_string();
        let not_before = self.now + SignedDuration::from_secs(wait);
        self.report(&who, Report::Failed { attempt, ending, spend: Spend::default(), not_before, at: self.now });
    }
}

#[test]
fn every_cause_of_waiting_is_one_sentence_with_its_name_and_its_time() {
    for Fixture { cause: wanted, story, task, sentence } in fixtures() {
        let why = story.room.why(&task, story.now).unwrap();
        assert_eq!((cause(&why), why.to_string().as_str()), (wanted, sentence));
        assert!(!sentence.contains('\n'));
    }
}
