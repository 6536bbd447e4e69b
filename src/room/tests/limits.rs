//! Stories of limits: who stops, for how long, and who lets work go on.

use super::*;
use crate::model::limit::{LimitKind, LimitSource, Window, WindowName, WindowStatus, Windows};

const FIVE_HOURS: LimitKind = LimitKind::Window(WindowName::FiveHour);

/// marie and anga share an account, fabien has a login of his own.
fn setup(resume: Resume) -> AccountSetup {
    let account = |name: &str, credential, agents: &[&str]| AccountSettings {
        name: name.parse().unwrap(),
        credential,
        agents: agents.iter().map(|name| agent(name)).collect(),
        label: None,
    };
    let accounts = vec![
        account("team", Credential::Login, &["marie", "anga"]),
        account("fabien-login", Credential::Login, &["fabien"]),
    ];
    AccountSetup { resume, accounts, ..AccountSetup::default() }
}

fn opened(pid: u32, resume: Resume) -> Event {
    Event::Opened(Box::new(Opened { pid, rehearsal: false, accounts: setup(resume), ..super::opened() }))
}

/// A story that keeps facts as the runtime does.
struct Limited {
    story: Story,
    journal: Vec<Stamped>,
}

impl Limited {
    fn begin(resume: Resume) -> Self {
        let story = Story { room: State::default(), now: Timestamp::from_second(1_700_000_000).unwrap(), orders: 0 };
        let mut this = Self { story, journal: Vec::new() };
        this.tell(opened(1, resume));
        this.staff();
        this
    }

    fn staff(&mut self) {
        for (pid, name) in (100..).zip(["marie", "anga", "fabien"]) {
            self.tell(Event::Worker(WorkerEvent::Connected { slot: slot(name), pid, running: None }));
        }
    }

    /// Tells it, carries out what must be kept, and gives the rest.
    fn tell(&mut self, event: Event) -> Vec<Effect> {
        if event.is_fact() {
            self.journal.push(Stamped { at: self.story.now, event: event.clone() });
        }
        let (kept, mut rest): (Vec<_>, Vec<_>) =
            self.story.tell(event).into_iter().partition(|effect| matches!(effect, Effect::Keep { .. }));
        for effect in kept {
            if let Effect::Keep { fact } = effect {
                rest.extend(self.tell(*fact));
            }
        }
        rest
    }

    fn later(&mut self, seconds: i64) -> Vec<Effect> {
        self.story.now += SignedDuration::from_secs(seconds);
        self.tell(Event::TimeCame)
    }

    fn order(&mut self, order: Order) -> Answer {
        self.story.orders += 1;
        let id = OrderId(self.story.orders);
        let effects = self.tell(Event::Ordered { id, order });
        let answer =
            effects.into_iter().find_map(|e| if let Effect::Answer { answer, .. } = e { Some(answer) } else { None });
        answer.unwrap()
    }

    fn news(&self, kind: LimitKind, wait: Option<i64>) -> LimitNews {
        LimitNews {
            account: String::new(),
            group: None,
            kind,
            until: wait.map(|wait| self.story.now + SignedDuration::from_secs(wait)),
            estimated: false,
            source: LimitSource::Engine,
            message: "You've hit your limit".into(),
            at: self.story.now,
        }
    }

    /// An attempt of this task meets a limit that clears in `wait`.
    fn meets(&mut self, name: &str, kind: LimitKind, wait: Option<i64>) -> Vec<Effect> {
        let news = Some(Box::new(self.news(kind, wait)));
        let report = Report::Limited { attempt: task(name).attempt(1), windows: None, news };
        let slot = slot(task(name).agent.as_str());
        self.tell(Event::Worker(WorkerEvent::Reported { slot, report }))
    }

    /// And ends by it.
    fn fails(&mut self, name: &str, wait: i64) -> Vec<Effect> {
        let until = self.story.now + SignedDuration::from_secs(wait);
        let report = Report::Failed {
            attempt: task(name).attempt(1),
            ending: Ending::Limit { message: "You've hit your limit".into(), until: Some(until) },
            spend: Spend::default(),
            not_before: until,
            at: self.story.now,
        };
        self.tell(Event::Worker(WorkerEvent::Reported { slot: slot(task(name).agent.as_str()), report }))
    }

    /// marie's attempt is rejected for 40 minutes while anga has work waiting.
    fn parked(resume: Resume) -> Self {
        let mut this = Self::begin(resume);
        for name in ["marie/a", "marie/b"] {
            this.story.dropped(name, &[]);
        }
        this.story.started("marie/a", 1);
        assert_eq!(this.meets("marie/a", FIVE_HOURS, Some(2_400)), []);
        assert_eq!(this.fails("marie/a", 2_400), [], "b must not start into a closed window");
        assert_eq!(this.story.dropped("anga/c", &[]), [], "anga works on the same account");
        this
    }

    fn lines(&self) -> Vec<String> {
        self.story.room.lines.iter().map(|line| line.text.clone()).collect()
    }

    fn attempts(&self, name: &str) -> u32 {
        self.story.room.tasks.get(&task(name)).unwrap().record.last_attempt()
    }
}

fn unpark(account: &str, when_clear: bool) -> Order {
    Order::Unpark { account: account.parse().unwrap(), when_clear }
}

fn park(account: &str) -> Order {
    Order::Park { account: account.parse().unwrap() }
}

#[test]
fn a_used_up_window_parks_everybody_on_the_account_and_nobody_else() {
    let mut this = Limited::parked(Resume::On);
    assert_eq!(this.story.why("anga/c"), "anga parked for 40 min: five-hour limit used up");
    assert_eq!(this.story.dropped("fabien/d", &[]), [assign("fabien/d")], "fabien's account is another one");
    this.later(60);
    assert_eq!(this.story.why("marie/b"), "marie parked for 39 min: five-hour limit used up");
    let told = this.lines();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        told[0],
        "team: five-hour limit used up; nothing more starts on marie, anga for 40 min, then work goes on by itself"
    );
}

#[test]
fn with_the_switch_on_work_goes_on_by_itself_at_the_reset_and_not_before() {
    let mut this = Limited::parked(Resume::On);
    assert_eq!(this.story.room.next_wake(), Some(this.story.now + SignedDuration::from_secs(2_400)));
    assert_eq!(this.later(2_399), []);
    assert_eq!(this.later(1), [assign("anga/c"), assign("marie/a")]);
    assert_eq!(this.lines().last().unwrap(), "team: the limit has cleared; work goes on");
    assert_eq!(this.attempts("marie/a"), 1, "the next is the second attempt, and the first has cost none");
}

#[test]
fn with_the_switch_on_ask_a_person_is_asked_once_at_the_reset() {
    let mut this = Limited::parked(Resume::Ask);
    assert_eq!(this.story.why("anga/c"), "anga parked for 40 min: five-hour limit used up; then you are asked");
    assert_eq!(this.story.why("marie/a"), "marie parked for 40 min: five-hour limit used up; then you are asked");
    assert_eq!(this.story.room.needs_you(), []);
    assert_eq!(this.later(2_400), []);
    assert_eq!(this.later(600), []);
    assert_eq!(this.story.room.next_wake(), None, "nothing is waited for but a person");
    assert_eq!(this.story.room.needs_you(), [Need::Account("team".parse().unwrap())]);
    assert_eq!(this.story.why("anga/c"), "anga parked: five-hour limit used up, cleared; `podium resume team`");
    assert_eq!(this.lines().len(), 2, "{:?}", this.lines());
    let effects = this.tell(Event::Ordered { id: OrderId(9), order: Order::Resume { agent: agent("marie") } });
    assert!(effects.contains(&assign("marie/a")) && effects.contains(&assign("anga/c")), "{effects:?}");
}

#[test]
fn with_the_switch_off_it_stays_parked_until_it_is_resumed() {
    let mut this = Limited::parked(Resume::Off);
    assert_eq!(this.story.why("anga/c"), "anga parked for 40 min: five-hour limit used up; then it waits for you");
    assert_eq!(this.later(30_000), []);
    let effects = this.tell(Event::Ordered { id: OrderId(9), order: unpark("team", false) });
    assert!(effects.contains(&assign("marie/a")) && effects.contains(&assign("anga/c")), "{effects:?}");
}

#[test]
fn a_resume_can_be_planned_and_taken_back_and_done_at_once() {
    let mut this = Limited::parked(Resume::Off);
    let planned = this.order(unpark("team", true));
    let Answer::Done { text, .. } = planned else { panic!("{planned:?}") };
    assert_eq!(text, "team goes on by itself when its limit clears, in 40 min");
    this.later(60);
    let Answer::Done { text, .. } = this.order(park("team")) else { panic!() };
    assert_eq!(text, "team stays parked until it is resumed");
    assert_eq!(this.later(5_000), [], "the plan was taken back");

    // The same with the switch on: what goes on by itself can be held.
    let mut this = Limited::parked(Resume::On);
    this.order(park("team"));
    assert_eq!(this.later(5_000), []);
    assert_eq!(this.story.room.needs_you(), [Need::Account("team".parse().unwrap())]);

    // Before the reset, because a person knows better: the task that met the limit does not wait for it either.
    let mut this = Limited::parked(Resume::On);
    let effects = this.tell(Event::Ordered { id: OrderId(9), order: unpark("team", false) });
    assert!(effects.contains(&assign("marie/a")), "{effects:?}");
    assert!(
        matches!(this.order(unpark("nobody", false)), Answer::Refused { reason } if reason.contains("team, fabien-login"))
    );
}

#[test]
fn a_pause_is_taken_back_before_the_account_is_resumed() {
    let mut this = Limited::parked(Resume::On);
    this.order(Order::Pause { agent: agent("marie") });
    assert_eq!(this.later(2_400), [assign("anga/c")], "marie is paused for another reason");
    let mut this = Limited::parked(Resume::On);
    this.order(Order::Pause { agent: agent("marie") });
    let Answer::Done { text, .. } = this.order(Order::Resume { agent: agent("marie") }) else { panic!() };
    assert_eq!(text, "marie is not paused any more; team is parked: five-hour limit used up");
    assert_eq!(this.story.why("marie/b"), "marie parked for 40 min: five-hour limit used up");
}

#[test]
fn a_reset_that_moves_is_told_with_what_was_said_before() {
    let mut this = Limited::parked(Resume::On);
    this.story.dropped("fabien/d", &[]);
    let account = "team".parse().unwrap();
    let until = |this: &Limited| this.story.room.accounts.parked(&account).unwrap().until.unwrap();
    let first = until(&this);
    // Half a minute is no move.
    this.meets("marie/a", FIVE_HOURS, Some(2_430));
    assert_eq!((until(&this), this.lines().len()), (first, 1));
    this.later(60);
    this.meets("marie/a", FIVE_HOURS, Some(4_140));
    let parked = this.story.room.accounts.parked(&account).unwrap().clone();
    assert_eq!((parked.said, parked.estimated), (Some(first), true));
    assert_eq!(this.lines().last().unwrap(), "team: the limit now clears in 69 min, 39 min was said before");
    assert_eq!(this.story.why("marie/b"), "marie parked for about 69 min: five-hour limit used up");
    assert_eq!(this.later(2_400), [], "the first end does not count any more");
    // And earlier again.
    this.meets("marie/a", FIVE_HOURS, Some(120));
    assert_eq!(this.later(119), []);
    assert_eq!(this.later(1), [assign("anga/c"), assign("marie/a")]);
    // Met again at once: the same limit, its end elsewhere.
    this.story.started("anga/c", 1);
    this.meets("anga/c", FIVE_HOURS, Some(900));
    let parked = this.story.room.accounts.parked(&account).unwrap();
    assert!(parked.estimated && parked.said.is_some(), "{parked:?}");
}

#[test]
fn of_two_windows_the_one_that_clears_last_counts_and_a_guess_moves_nothing() {
    let mut this = Limited::parked(Resume::On);
    let account = "team".parse().unwrap();
    this.meets("marie/a", LimitKind::Window(WindowName::SevenDay), Some(90_000));
    let parked = this.story.room.accounts.parked(&account).unwrap().clone();
    assert_eq!(parked.kind, Some(LimitKind::Window(WindowName::SevenDay)));
    this.meets("marie/a", FIVE_HOURS, Some(2_400));
    let mut guess = this.news(LimitKind::Window(WindowName::SevenDay), Some(300));
    guess.estimated = true;
    let report = Report::Limited { attempt: task("marie/a").attempt(1), windows: None, news: Some(Box::new(guess)) };
    this.tell(Event::Worker(WorkerEvent::Reported { slot: slot("marie"), report }));
    let after = this.story.room.accounts.parked(&account).unwrap();
    assert_eq!((after.until, after.kind), (parked.until, parked.kind));
}

#[test]
fn parked_accounts_survive_a_restart_and_so_does_what_was_said_of_them() {
    for (planned, resumes) in [(None, false), (Some(true), true), (Some(false), false)] {
        let mut before = Limited::parked(Resume::Ask);
        match planned {
            None => {}
            Some(true) => drop(before.order(unpark("team", true))),
            Some(false) => drop(before.order(park("team"))),
        }
        before.later(600);
        let mut after = Limited { story: before.story, journal: Vec::new() };
        after.story.room = State::default();
        for fact in &before.journal {
            drop(after.story.room.update(fact.clone()));
        }
        after.tell(opened(7, Resume::Ask));
        after.staff();
        for name in ["marie/b", "anga/c"] {
            assert_eq!(after.story.dropped(name, &[]), [], "{planned:?}");
        }
        assert!(
            after.story.why("anga/c").starts_with("anga parked for 30 min: five-hour limit used up"),
            "{planned:?}"
        );
        let effects = after.later(1_800);
        assert_eq!(effects.contains(&assign("anga/c")), resumes, "{planned:?}: {effects:?}");
    }
}

#[test]
fn a_room_that_was_away_at_the_reset_does_what_it_would_have_done() {
    for (resume, resumes) in [(Resume::On, true), (Resume::Ask, false), (Resume::Off, false)] {
        let before = Limited::parked(Resume::Ask);
        let mut after = Limited { story: before.story, journal: Vec::new() };
        after.story.room = State::default();
        for fact in &before.journal {
            drop(after.story.room.update(fact.clone()));
        }
        after.story.now += SignedDuration::from_hours(9);
        after.tell(opened(7, resume));
        after.staff();
        assert_eq!(after.story.dropped("anga/c", &[]).contains(&assign("anga/c")), resumes, "{resume:?}");
        assert_eq!(after.story.room.needs_you().is_empty(), resumes, "{resume:?}");
    }
}

#[test]
fn one_refused_login_stops_the_account_and_only_a_person_lets_it_go_on() {
    let mut this = Limited::begin(Resume::On);
    for name in ["marie/a", "marie/b", "anga/c"] {
        this.story.dropped(name, &[]);
    }
    this.story.started("marie/a", 1);
    this.story.started("anga/c", 1);
    for name in ["marie/a", "anga/c", "marie/a"] {
        assert_eq!(this.meets(name, LimitKind::Auth, None), []);
    }
    this.story.ended("marie/a", EndState::Failed);
    let told = this.lines();
    let about = told.iter().filter(|line| line.starts_with("team: ")).count();
    assert_eq!(about, 1, "once and not for each: {told:?}");
    assert_eq!(
        this.story.why("marie/b"),
        "marie parked: key or login not accepted; `podium auth marie`, then `podium resume team`"
    );
    assert!(this.story.room.needs_you().contains(&Need::Account("team".parse().unwrap())));
    // Another limit does not mend it, and time does not either.
    this.meets("anga/c", FIVE_HOURS, Some(10));
    assert_eq!(this.later(100_000), []);
    assert!(matches!(this.order(unpark("team", true)), Answer::Refused { .. }));
    let effects = this.tell(Event::Ordered { id: OrderId(9), order: unpark("team", false) });
    assert!(effects.contains(&assign("marie/b")), "{effects:?}");
}

#[test]
fn a_refused_key_is_tried_again_only_by_a_room_that_was_started_anew() {
    let keyed = |pid| {
        let Event::Opened(mut opened) = opened(pid, Resume::On) else { panic!() };
        opened.accounts.accounts[0].credential = Credential::Key;
        Event::Opened(opened)
    };
    for (pid, goes_on) in [(1, false), (7, true)] {
        let mut this = Limited::begin(Resume::On);
        this.tell(keyed(1));
        this.staff();
        this.story.dropped("marie/a", &[]);
        this.story.started("marie/a", 1);
        this.meets("marie/a", LimitKind::Billing, None);
        this.tell(keyed(pid));
        assert_eq!(this.story.room.parked(&agent("marie")).is_none(), goes_on, "guardian {pid}");
    }
}

#[test]
fn the_gateway_s_word_counts_for_the_account_whose_key_it_puts_on() {
    let Event::Opened(mut opened) = opened(1, Resume::Ask) else { panic!() };
    opened.accounts.accounts[0].credential = Credential::Key;
    opened.accounts.accounts[0].label = Some(String::new());
    let mut this = Limited::begin(Resume::Ask);
    this.tell(Event::Opened(opened));
    this.staff();
    let limit = |this: &Limited, kind, wait| LimitNews { source: LimitSource::Gateway, ..this.news(kind, wait) };
    let met = limit(&this, LimitKind::TierCap, Some(7_200));
    assert_eq!(this.tell(Event::Gateway(GatewayEvent::Limited { limit: met })), []);
    assert_eq!(this.story.dropped("marie/a", &[]), []);
    assert_eq!(
        this.story.why("marie/a"),
        "marie parked for 2 h 0 min: monthly cap of the account's tier reached; then you are asked"
    );
    assert_eq!(this.story.dropped("fabien/d", &[]), [assign("fabien/d")]);
    // A yes opens it at the gateway too.
    let effects = this.tell(Event::Ordered { id: OrderId(9), order: unpark("team", false) });
    assert!(effects.contains(&Effect::Reopen { label: String::new() }) && effects.contains(&assign("marie/a")));
    // What a person must mend is mended when a call of it is answered well.
    let met = limit(&this, LimitKind::Billing, None);
    this.tell(Event::Gateway(GatewayEvent::Limited { limit: met }));
    assert!(this.story.room.parked(&agent("anga")).is_some_and(Parked::needs_mending));
    this.tell(Event::Gateway(GatewayEvent::Opened { account: String::new() }));
    assert!(this.story.room.parked(&agent("anga")).is_none());
    // Another account's word is not taken for this one's.
    let other = LimitNews { account: "fabien".into(), ..limit(&this, LimitKind::TierCap, Some(7_200)) };
    this.tell(Event::Gateway(GatewayEvent::Limited { limit: other }));
    assert!(this.story.room.parked(&agent("anga")).is_none());
}

#[test]
fn a_throttle_an_overload_and_a_forbidden_request_park_nobody() {
    let mut this = Limited::begin(Resume::Off);
    this.story.dropped("marie/a", &[]);
    this.story.dropped("marie/b", &[]);
    this.story.started("marie/a", 1);
    for kind in [LimitKind::Throttle, LimitKind::Rate, LimitKind::Overloaded, LimitKind::Forbidden] {
        this.meets("marie/a", kind, Some(5));
    }
    assert_eq!(this.lines(), [""; 0]);
    let report = Report::Failed {
        attempt: task("marie/a").attempt(1),
        ending: Ending::Limit { message: "slow down".into(), until: None },
        spend: Spend::default(),
        not_before: this.story.now + SignedDuration::from_secs(30),
        at: this.story.now,
    };
    let effects = this.tell(Event::Worker(WorkerEvent::Reported { slot: slot("marie"), report }));
    assert_eq!(effects, [assign("marie/b")], "the task waits, the account does not");
}

#[test]
fn an_engine_that_tells_no_windows_parks_by_how_its_attempt_ended() {
    let mut this = Limited::begin(Resume::On);
    this.story.dropped("marie/a", &[]);
    this.story.started("marie/a", 1);
    this.fails("marie/a", 120);
    this.story.dropped("marie/b", &[]);
    assert_eq!(this.story.why("marie/b"), "marie parked for 2 min: You've hit your limit");
    assert_eq!(this.later(120), [assign("marie/a")]);
}

#[test]
fn an_account_can_be_parked_by_hand_and_a_clock_that_is_set_moves_its_end() {
    let mut this = Limited::begin(Resume::On);
    this.order(park("team"));
    assert_eq!(this.story.dropped("marie/a", &[]), []);
    assert_eq!(this.story.why("marie/a"), "marie parked: parked by hand; `podium resume team`");
    let effects = this.tell(Event::Ordered { id: OrderId(9), order: unpark("team", false) });
    assert!(effects.contains(&assign("marie/a")), "{effects:?}");

    let mut this = Limited::parked(Resume::On);
    this.story.now += SignedDuration::from_hours(3);
    this.tell(Event::ClockSet { by: SignedDuration::from_hours(3) });
    assert_eq!(this.story.why("anga/c"), "anga parked for 40 min: five-hour limit used up");
}

#[test]
fn windows_and_refusals_are_known_by_account() {
    let mut this = Limited::begin(Resume::On);
    this.story.dropped("marie/a", &[]);
    this.story.started("marie/a", 1);
    let window = Window { used: Some(420), resets_at: None, status: Some(WindowStatus::Allowed) };
    let windows = Windows { five_hour: Some(window), at: Some(this.story.now), ..Windows::default() };
    let report =
        Report::Limited { attempt: task("marie/a").attempt(1), windows: Some(Box::new(windows.clone())), news: None };
    this.story.report("marie", report);
    let room = &this.story.room;
    assert_eq!(room.accounts.windows(&room.accounts.of(&agent("anga"))), Some(&windows), "anga's are the same");
    assert_eq!(room.accounts.windows(&room.accounts.of(&agent("fabien"))), None);

    let retrying = |this: &Limited, n| {
        let at = this.story.now + SignedDuration::from_secs(8);
        let retrying = Some(Box::new(report::Retrying { n, of: 10, why: "529".into(), status: Some(529), at }));
        Report::Active {
            attempt: task("marie/a").attempt(1),
            activity: Activity { doing: "waits".into(), retrying, ..Activity::default() },
        }
    };
    this.story.report("marie", retrying(&this, 3));
    assert_eq!(this.story.why("marie/a"), "retrying 3 of 10: 529, next in 8 s");
    this.story.now += SignedDuration::from_secs(5);
    assert_eq!(this.story.why("marie/a"), "retrying 3 of 10: 529, next in 3 s");
    this.story.report("marie", retrying(&this, 4));
    assert_eq!(this.story.room.accounts.refused(529, this.story.now), 2);
    assert_eq!(this.story.room.accounts.refused(429, this.story.now), 0);
    this.story.now += SignedDuration::from_secs(58);
    assert_eq!(this.story.room.accounts.refused(529, this.story.now), 1, "of the last minute");
    assert_eq!(this.story.why("marie/a"), "waits");
}
